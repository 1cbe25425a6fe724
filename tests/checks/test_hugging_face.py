"""GPT-2 and Llama under the rules: supported; with one rule dropped: refuted, and named.

The models are those of the example small_models.py. Controls are the documentation's, in folded
style: a multiplier that a plain module does not have is in a start, a rate and an epsilon.
"""

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: models are not checked")
pytest.importorskip(
    "transformers", reason="transformers is not installed: nothing of its is checked"
)

from translimit.checks import TorchModel, coordinate_check  # noqa: E402
from translimit.core import Verdict  # noqa: E402
from translimit.describe import Size  # noqa: E402
from translimit.examples import small_models  # noqa: E402
from translimit.scaling import rules  # noqa: E402

BASE = Size(head_dim=8, heads=4, layers=2)
SIZES = {"head_dim": (8, 16, 32, 64), "heads": (4, 8, 16, 32), "layers": (2, 4, 8, 16)}
#: What a sentence about a role names, in each family.
NAMES = {
    "gpt2": {"key": "attn.c_attn", "out": "attn.c_proj", "readout": "lm_head"},
    "llama": {"key": "self_attn.k_proj", "out": "self_attn.o_proj", "readout": "lm_head"},
}


@dataclass(frozen=True)
class Control:
    """One rule dropped, the coordinate that shows it after some updates, and who is named."""

    optimizer: str
    axis: str
    coordinate: str
    step: int
    named: str
    alpha_L: float = 1.0


CONTROLS = {
    "hidden-rate": Control("adamw", "head_dim", "learned_key_change", 2, "key"),
    "hidden-rate-heads": Control("adamw", "heads", "learned_key_change", 2, "key"),
    "readout-rate": Control("adamw", "head_dim", "output_change", 1, "readout"),
    "logit-scale": Control("adamw", "head_dim", "learned_score_change", 2, "score scale"),
    "no-residual": Control("adamw", "layers", "stream_change", 2, "out"),
    "depth-rate": Control("adamw", "layers", "stream_change", 2, "key", alpha_L=0.5),
    "global-rate": Control("sgd", "head_dim", "output_change", 1, "readout"),
    "global-rate-heads": Control("sgd", "heads", "output_change", 1, "readout"),
    "readout-rate-sgd": Control("sgd", "head_dim", "output_change", 1, "readout"),
    "no-residual-sgd": Control("sgd", "layers", "stream_change", 2, "out"),
    "depth-rate-sgd": Control("sgd", "layers", "learned_key_change", 2, "key"),
}


def drop(made: TorchModel, trial, name: str) -> TorchModel:
    """The model without one rule: other rates, other starts or another score scale."""
    m_d = trial.size.width / trial.base.width
    m_L = trial.size.layers / trial.base.layers
    kind, sgd = name.removesuffix("-heads").removesuffix("-sgd"), name.endswith("-sgd")
    (old,) = made.optimizers
    numbers = {id(p): group for group in old.param_groups for p in group["params"]}
    groups = []
    for parameter_name, parameter in made.model.named_parameters():
        role = made.role_table[parameter_name][0]
        group = {
            k: v for k, v in numbers[id(parameter)].items() if k in ("lr", "eps", "weight_decay")
        }
        if kind == "hidden-rate" and role.is_hidden_matrix:
            group["lr"] *= m_d
        elif kind == "readout-rate" and role.value == "readout":
            group["lr"] *= m_d if sgd else m_d**0.5
        elif kind == "no-residual" and role.ends_branch:
            group["lr"] *= m_L**2 if sgd else m_L
            parameter.data.mul_(m_L)
        elif kind == "depth-rate" and role.in_block:
            group["lr"] *= 1 / m_L if sgd else m_L**0.5
        elif kind == "global-rate":
            group["lr"] /= m_d
        groups.append({"params": [parameter], **group})
    if kind == "logit-scale":
        for module in made.model.modules():
            if isinstance(getattr(module, "scaling", None), float):
                module.scaling = trial.size.head_dim**-0.5
    wrong = type(old)(groups)
    wrong.defaults |= old.defaults
    for group, fixed in zip(wrong.param_groups, groups, strict=True):
        group |= {"betas": (0.9, 0.95), **fixed} if not sgd else fixed
    return TorchModel(
        model=made.model,
        optimizer=wrong,
        batch=made.batch,
        repeated=made.repeated,
        rules=made.rules,
    )


def run(
    monkeypatch, family, axis, dropped="", optimizer="adamw", alpha_L=1.0, sizes=None, seeds=(4, 8)
):
    def asked(base, size, **facts):
        return rules(base, size, **{**facts, "optimizer": optimizer, "alpha_L": alpha_L})

    monkeypatch.setattr(small_models, "rules", asked)
    if optimizer == "sgd":
        monkeypatch.setattr(
            small_models, "optimizer_of", lambda groups, rate: torch.optim.SGD(groups, lr=rate)
        )
    factory = getattr(small_models, family)
    if dropped:
        right = factory

        def factory(trial):
            return drop(right(trial), trial, dropped)

    rate = 0.01 if optimizer == "adamw" else 0.1
    return coordinate_check(
        factory, axis, sizes or SIZES[axis], base=BASE, rate=rate, seeds=seeds, steps=(1, 2, 5, 10)
    )


def assert_named(check, family, control):
    """Refuted as a whole; the coordinate misses its promise; the linter names the parameter."""
    assert check.overall() is Verdict.refuted
    place = control.coordinate, control.step
    assert abs(check.exponent(*place).value - check.expected[place]) > 0.25
    said = " ".join(check.lint())
    assert NAMES[family].get(control.named, control.named) in said


@pytest.mark.parametrize(("family", "axis"), [("gpt2", "heads"), ("llama", "heads")])
def test_the_rules_are_supported(monkeypatch, family, axis):
    check = run(monkeypatch, family, axis, sizes=SIZES[axis][:3])
    assert check.findings == ()
    assert check.overall() is Verdict.supported, check.rows()


@pytest.mark.parametrize(("family", "name"), [("gpt2", "hidden-rate"), ("llama", "no-residual")])
def test_a_dropped_rule_is_refuted_and_named(monkeypatch, family, name):
    control = CONTROLS[name]
    check = run(monkeypatch, family, control.axis, name, sizes=SIZES[control.axis][:3], seeds=2)
    assert_named(check, family, control)


@pytest.mark.slow
@pytest.mark.parametrize("axis", SIZES)
@pytest.mark.parametrize("family", NAMES)
def test_the_rules_are_supported_on_every_axis(monkeypatch, family, axis):
    check = run(monkeypatch, family, axis)
    assert check.findings == ()
    assert check.overall() is Verdict.supported, check.rows()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("family", NAMES)
def test_every_control_is_refuted_and_named(monkeypatch, family, name):
    control = CONTROLS[name]
    check = run(monkeypatch, family, control.axis, name, control.optimizer, control.alpha_L)
    assert_named(check, family, control)


@pytest.mark.slow
def test_a_packed_projection_in_the_wrong_group_is_named(monkeypatch):
    """As a name table does that takes c_attn for a vector: its rate lacks 1 / m_d."""

    def wrong(trial):
        made = small_models.gpt2(trial)
        for group in made.optimizers[0].param_groups:
            if any(p is made.model.transformer.h[0].attn.c_attn.weight for p in group["params"]):
                ends = [b.attn.c_attn.weight for b in made.model.transformer.h]
                rest = [p for p in group["params"] if not any(p is q for q in ends)]
                fixed = {k: v for k, v in group.items() if k != "params"}
                group["params"] = rest
                made.optimizers[0].add_param_group({**fixed, "params": ends, "lr": trial.rate})
                break
        return made

    check = coordinate_check(wrong, "head_dim", SIZES["head_dim"], base=BASE, rate=0.01, seeds=2)
    assert check.overall() is Verdict.refuted
    (sentence,) = check.lint()
    assert "transformer.h.*.attn.c_attn.weight" in sentence
    assert check.exponent("learned_key_change", 2).value > 0.6
