"""PyTorch models under a check: what is recorded, what is promised, what the linter says."""

import functools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: models are not checked")

from translimit import checks  # noqa: E402
from translimit.checks import Trial, coordinate_check, transfer_sweep  # noqa: E402
from translimit.core import ArgumentError, Verdict  # noqa: E402
from translimit.describe import Role  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from toy import BASE, Toy, batch, loss, roles_of, toy  # noqa: E402

SIZES = (8, 16, 32, 64)


def check(factory, axis="head_dim", sizes=SIZES, **options):
    options = {"base": BASE, "rate": 0.01, "seeds": 4, "steps": (1, 2, 5)} | options
    return coordinate_check(factory, axis, sizes, **options)


@pytest.fixture(scope="module")
def good():
    return check(toy)


def test_what_is_recorded_is_what_the_weights_say():
    trial = Trial(base=BASE, size=replace(BASE, head_dim=16), seed=1, rate=0.01)
    steps = (0, 1, 3)
    recorded = toy(trial).record(steps, trial.size)

    made = toy(trial)  # the same start; everything again from the weights, by hand
    model, examples = (
        made.model.double(),
        tuple(x.double() if x.is_floating_point() else x for x in batch(0)),
    )

    def inputs():
        found = []
        hooks = [
            block.attention.key.register_forward_hook(lambda m, i, o: found.append(i[0]))
            for block in model.blocks
        ]
        output = model(examples[0])
        for hook in hooks:
            hook.remove()
        return [one.detach() for one in found], output.detach()

    start_inputs, start_output = inputs()
    weights = [block.attention.key.weight.detach().clone() for block in model.blocks]
    queries = [block.attention.query.weight.detach().clone() for block in model.blocks]
    for step in range(4):
        if step in steps:
            place = steps.index(step)
            _, output = inputs()
            moved = [
                x @ (block.attention.key.weight - old).T
                for x, block, old in zip(start_inputs, model.blocks, weights, strict=True)
            ]
            rms = torch.stack(moved).square().mean().sqrt().item()
            assert recorded["learned_key_change"][place] == pytest.approx(rms, rel=1e-3, abs=1e-7)
            change = (output - start_output).square().mean().sqrt().item()
            assert recorded["output_change"][place] == pytest.approx(change, rel=1e-3, abs=1e-7)
            logits = []
            for x, block, old_q, old_k in zip(
                start_inputs, model.blocks, queries, weights, strict=True
            ):
                pairs = []
                for q, k in (
                    (block.attention.query.weight, block.attention.key.weight),
                    (old_q, old_k),
                ):
                    heads = [(x @ w.T).unflatten(-1, (2, 16)) for w in (q, k)]
                    pairs.append(block.attention.scaling * torch.einsum("bihn,bjhn->bhij", *heads))
                logits.append(pairs[0] - pairs[1])
            rms = torch.stack(logits).square().mean().sqrt().item()
            assert recorded["learned_score_change"][place] == pytest.approx(rms, rel=1e-3, abs=1e-7)
        made.optimizer.zero_grad()
        loss(model, examples).backward()
        made.optimizer.step()


class Doubled(torch.nn.Module):
    """Another function in training mode, without a random number."""

    def forward(self, x):
        return 2 * x if self.training else x


class Noisy(torch.nn.Module):
    """Noise of its own generator in training mode."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(7)

    def forward(self, x):
        return x + 0.5 * torch.randn(x.shape, generator=self.generator) if self.training else x


class Centred(torch.nn.Module):
    """Takes off a mean that training mode keeps: the same function of the first pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        centred = x - self.mean
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * x.detach().mean() + 0.1
        return centred


def toy_with(kind, trial):
    """The small decoder with another module behind its branches, which may be at zero."""
    made = toy(trial)
    for block in made.model.blocks:
        block.dropout = {
            "plain": torch.nn.Identity,
            "dropout": functools.partial(torch.nn.Dropout, 0.5),
            "dropout of zeros": functools.partial(torch.nn.Dropout, 0.5),
            "doubled": Doubled,
            "noisy": Noisy,
            "centred": Centred,
        }[kind]()
        if kind == "dropout of zeros":
            torch.nn.init.zeros_(block.down.weight)
    return made


def by_hand(made, steps):
    """Root mean squares of fields and changes: evaluation between updates that know nothing."""
    model, examples, found, start = made.model, batch(0), {}, {}
    watched = {"stream": [model.blocks[-1]], "output": [model.head]}
    watched["hidden"] = [block.up for block in model.blocks]
    watched["key"] = [block.attention.key for block in model.blocks]
    watched["query"] = [block.attention.query for block in model.blocks]
    for step in range(steps[-1] + 1):
        if step in steps:
            outputs = {name: [] for name in watched}
            hooks = [
                one.register_forward_hook(lambda m, i, o, kept=outputs[name]: kept.append(o))
                for name, modules in watched.items()
                for one in modules
            ]
            with torch.no_grad():
                loss(model.eval(), examples)
            for hook in hooks:
                hook.remove()
            for name, values in outputs.items():
                value = torch.stack(values).double()
                change = value - start.setdefault(name, value)
                found.setdefault(name, []).append(value.square().mean().sqrt().item())
                found.setdefault(f"{name}_change", []).append(change.square().mean().sqrt().item())
        made.optimizer.zero_grad()
        loss(model.train(), examples).backward()
        made.optimizer.step()
    return found


@pytest.mark.parametrize("asked", [None, False])
@pytest.mark.parametrize(
    "kind", ["plain", "dropout", "dropout of zeros", "doubled", "noisy", "centred"]
)
def test_fields_are_those_of_evaluation_mode(kind, asked):
    """Whether they come from the passes of training, or training mode is another function."""
    if asked is False and kind in ("doubled", "noisy"):
        return  # what draws nothing from PyTorch and keeps nothing is only found by asking
    trial, steps = Trial(base=BASE, size=BASE, seed=1, rate=0.05), (0, 1, 3, 6)
    recorded = toy_with(kind, trial).record(steps, BASE, asked)
    assert recorded["apart"] == [float(kind != "plain")] * len(steps)
    if kind == "centred" and asked is False:
        return  # its first pass has changed the mean before it is known
    for name, values in by_hand(toy_with(kind, trial), steps).items():
        assert recorded[name] == pytest.approx(values, rel=1e-4, abs=1e-7), name


def test_a_step_that_is_looked_at_costs_no_pass():
    """A pass an update and one after the last; two more ask a factory's first network."""
    passes, steps = [], (1, 2, 5)

    def factory(trial, kind="plain"):
        made = toy_with(kind, trial)
        made.model.register_forward_pre_hook(lambda model, given: passes.append(model.training))
        return made

    options = {"sizes": SIZES[:3], "seeds": 2, "steps": steps}
    networks, looks = 6, 1 + len(steps)
    first = factory(Trial(base=BASE, size=replace(BASE, head_dim=16), seed=0, rate=0.01))
    assert first.unread() == first.misplaced() == []
    # The first seed of every size but the base's is asked what it reads, and where.
    probes = passes.count(False) * (len(SIZES[:3]) - 1)
    passes.clear()
    check(factory, **options)
    assert passes.count(True) == networks * steps[-1]
    assert passes.count(False) == networks + 2 + probes
    passes.clear()
    # Fields have their own passes; tokens of the first network are counted in one more.
    check(functools.partial(factory, kind="doubled"), **options)
    assert passes.count(True) == networks * steps[-1]
    assert passes.count(False) == networks * looks + 1 + probes
    passes.clear()
    made = factory(Trial(base=BASE, size=BASE, seed=0, rate=0.01))
    made.record((0,), BASE)
    assert passes == [False]


def test_the_model_is_left_as_it_was():
    made = toy(Trial(base=BASE, size=BASE, seed=0, rate=0.01))
    made.model.blocks[0].dropout.p = 0.5
    made.model.blocks[1].dropout.eval()
    before = [module.training for module in made.model.modules()]
    made.record((0, 1), BASE)
    assert [module.training for module in made.model.modules()] == before
    for module in made.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not any(hasattr(p, "translimit") for p in made.model.parameters())


def test_the_rules_are_supported(good):
    assert good.findings == ()
    assert good.overall() is Verdict.supported, good.rows()
    assert good.lint() == []
    low, high = good.interval("update of mlp_out", 5)
    assert low < good.exponent("update of mlp_out", 5).value < high
    # One step from a readout of zeros moves the readout only.
    assert good.is_still("stream_change", 1)
    assert not good.is_still("output_change", 1)
    assert good.expected["score", 0] == -0.5


def test_a_wrong_rate_is_named_with_its_parameter():
    def change(role, numbers, parameter, trial):
        if role is Role.READOUT:
            numbers["lr"] *= (trial.size.width / trial.base.width) ** 1.5

    found = check(lambda trial: toy(trial, change), sizes=SIZES[:3], seeds=6)
    assert found.overall() is Verdict.refuted
    (sentence,) = found.lint()
    assert sentence == (
        "the readout's learning rate grows with head_dim^0.50, where the rules have "
        "head_dim^-1.00: it follows another rule (head.weight)"
    )
    assert found.verdict("output_change", 1, 0.25) is Verdict.refuted
    assert found.exponent("output_change", 1).value == pytest.approx(1.5, abs=0.2)


def test_a_lost_multiplier_is_seen_in_the_coordinates_alone():
    """The numbers of all parameters are right; the module multiplies its keys by N^(1/2)."""

    def factory(trial):
        made = toy(trial)
        for block in made.model.blocks:
            block.attention.key.register_forward_hook(
                lambda module, given, output: output * trial.size.head_dim**0.5
            )
        return made

    found = check(factory, sizes=SIZES[:3], seeds=(3, 6, 12))
    assert found.findings == ()
    assert found.overall() is Verdict.refuted
    assert any(sentence.startswith("the start of key is off") for sentence in found.lint())


def test_the_standard_parameterization_is_refuted():
    found = check(toy, standard=True, sizes=SIZES[:3], seeds=1)
    assert found.overall() is Verdict.refuted
    said = " ".join(found.lint())
    assert "blocks.*.attention.query.weight" in said
    assert "the score scale grows with head_dim^-0.50" in said


def test_what_diverges_is_a_verdict():
    def factory(trial):
        made = toy(trial)
        if trial.size.head_dim == 32:
            made = replace(made, loss=lambda model, examples: loss(model, examples) * np.nan)
        return made

    found = check(factory, sizes=(8, 16, 32), seeds=2)
    assert found.overall() is Verdict.refuted
    assert any("a network diverged" in sentence for sentence in found.refuted())


def test_a_sweep_of_rates_and_its_cache():
    calls = []

    def factory(trial):
        calls.append(trial)
        return toy(trial)

    cache = {}
    options = {"base": BASE, "rates": (0.001, 0.01, 100.0), "steps": 4, "seeds": 2, "cache": cache}
    sweep = transfer_sweep(factory, "layers", (2, 4), **options)
    assert sweep.losses.shape == (2, 2, 3)
    assert np.all(np.isfinite(sweep.losses) & (sweep.losses <= 10))
    assert len(calls) == 2 * 2 * 3
    assert {trial.rate for trial in calls} == {0.001, 0.01, 100.0}
    again = transfer_sweep(factory, "layers", (2, 4), **options)
    assert len(calls) == 12  # nothing is computed twice
    np.testing.assert_array_equal(again.losses, sweep.losses)
    (row, _) = sweep.to_json()["sizes"]
    assert row["loss_at_optimum"] == pytest.approx(sweep.losses[0].mean(0).min(), rel=0.05)


@pytest.mark.usefixtures("as_user")
def test_refusals(tmp_path, monkeypatch):
    trial = Trial(base=BASE, size=BASE, seed=0, rate=0.01)

    def without(**changes):
        return lambda trial: replace(toy(trial), **changes)

    place = functools.partial(checks.Places, maps={})

    def raising(trial):
        raise KeyError("no such thing")

    for factory, message in [
        (raising, "factory: raised KeyError: 'no such thing'"),
        (lambda trial: 3, "factory: returned int; return a TorchModel or a JaxModel"),
        (without(rules=None), "rules: the factory's model carries none"),
        (without(loss=lambda model, b: 1 / 0), "loss: raised ZeroDivisionError"),
        (without(loss=lambda model, b: model(b[0])), "loss: returned Tensor"),
        (without(model=3), "model: got int; pass a torch.nn.Module"),
        (without(optimizer=3), "optimizer: got 3; pass a torch.optim.Optimizer, or a list"),
        (without(batch=3), "batch: got 3; pass a function of the step"),
        (
            without(places=place(readout="nose")),
            "places: 'nose' is not a module of the model",
        ),
        (
            without(places=place()),
            "places: no module has a role; name roles or places",
        ),
        (
            without(places=place(readout="blocks")),
            "places: the loss does not call 'blocks'; name modules that it calls",
        ),
        (
            without(model=Toy(replace(BASE, head_dim=6))),
            "model: its keys have 12 entries, no multiple of head_dim = 8; build it with the si",
        ),
        (without(roles={"nothing": Role.KEY}), "'nothing' is not a parameter"),
        (without(rules=toy(replace(trial, size=replace(BASE, heads=4))).rules), "rules: are for"),
    ]:
        with pytest.raises(checks.FactoryError, match="^" if False else None) as caught:
            check(factory, sizes=(8, 16, 32), seeds=1)
        assert message in str(caught.value)
    with pytest.raises(ArgumentError, match="sizes"):
        check(toy, sizes=(8, 16))
    grouped = replace(BASE, heads=4, kv_heads=2)
    for options, message in (
        ({"rate": 0.0}, "rate: got 0.0; pass a positive number"),
        (
            {"axis": "heads", "sizes": (2, 3, 4), "base": grouped},
            "sizes: got 3, and groups of 2 he",
        ),
    ):
        with pytest.raises(ArgumentError, match=message):
            check(toy, **options)
    with pytest.raises(ArgumentError, match=r"rates: got .0.1, 0.2.; pass at least 3 rates"):
        transfer_sweep(toy, "head_dim", (8, 16), base=BASE, rates=(0.1, 0.2), steps=1)
    with pytest.raises(ArgumentError, match="axis"):
        check(toy, axis="width")
    with pytest.raises(ArgumentError, match="seeds"):
        check(toy, seeds=0)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_broken.py").write_text("import nothing_of_this_name\n")
    for name, message in [
        ("mine", "write module:function"),
        ("absent_module:x", "cannot be imported"),
        ("mine_broken:x", "cannot be imported (ModuleNotFoundError"),
        ("math:pi", "is not a function"),
        ("toy:tooy", "did you mean 'toy'?"),
    ]:
        with pytest.raises(checks.FactoryError) as caught:
            checks.load_factory(name)
        assert message in str(caught.value)


def test_places_follow_the_roles():
    model = toy(Trial(base=BASE, size=BASE, seed=0, rate=0.01)).model
    table = {name: (role,) for name, role in roles_of(model).items()}
    found = checks.find_places(model, table)
    assert found.blocks == ("blocks.0", "blocks.1")
    assert found.attentions == ("blocks.0.attention", "blocks.1.attention")
    assert found.maps[Role.KEY] == ("blocks.0.attention.key", "blocks.1.attention.key")
    assert found.readout == "head"
