"""JAX models under a check: numbers by probing an optax transform, coordinates by their fields."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from translimit.checks import FactoryError, JaxModel, Trial, coordinate_check
from translimit.checks.jax_model import _Program
from translimit.core import Verdict
from translimit.describe import Role, Size
from translimit.scaling import rules

BASE = Size(head_dim=8, heads=2, layers=1, mlp_ratio=2)
LABELS = {
    "embed": Role.PATCH_EMBEDDING,
    "up": Role.MLP_IN,
    "down": Role.MLP_OUT,
    "readout": Role.READOUT,
}
PIXELS, CLASSES = 5, 4
X = np.random.default_rng(0).standard_normal((8, PIXELS)).astype(np.float32)
Y = np.arange(8) % CLASSES


def normed(h):
    return (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-6)


def forward(p, x):
    h = x @ p["embed"]
    hidden = normed(h) @ p["up"]
    stream = h + jax.nn.gelu(hidden) @ p["down"]
    return {"stream": stream, "hidden": hidden, "output": normed(stream) @ p["readout"]}


def fields(p, batch):
    return forward(p, batch[0])


def loss(p, batch):
    outputs = forward(p, batch[0])["output"]
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1]).mean()


def learned(p, start, batch):
    before = normed(batch[0] @ start["embed"])
    inside = jax.nn.gelu(before @ start["up"])
    end = normed(forward(start, batch[0])["stream"])
    return {
        "mlp_in": before @ p["up"],
        "mlp_out": inside @ p["down"],
        "readout": end @ p["readout"],
    }


def network(trial, wrong=()):
    made = rules(trial.base, trial.size, optimizer="adamw", style="folded")
    d, hidden = trial.size.width, 2 * trial.size.width
    shapes = {"embed": (PIXELS, d), "up": (d, hidden), "down": (hidden, d), "readout": (d, CLASSES)}
    base = {"embed": PIXELS, "up": 16, "down": 32, "readout": 16}
    rng = np.random.default_rng(trial.seed)
    parameters = {
        name: jnp.asarray(
            rng.standard_normal(shape) * base[name] ** -0.5 * made.role(LABELS[name]).init,
            jnp.float32,
        )
        for name, shape in shapes.items()
    }
    parameters["readout"] = 0 * parameters["readout"]

    def transform(name):
        rule = made.role(LABELS[name])
        lr = trial.rate * (1.0 if name in wrong else rule.lr)
        assert rule.eps is not None
        assert rule.wd is not None
        return optax.adamw(lr, b2=0.95, eps=1e-7 * rule.eps, weight_decay=0.1 * rule.wd)

    labels = {name: name for name in parameters}
    return JaxModel(
        parameters=parameters,
        optimizer=optax.multi_transform({n: transform(n) for n in labels}, labels),
        loss=loss,
        fields=fields,
        learned=learned,
        batch=lambda step: (X, Y),
        rules=made,
        labels=LABELS,
    )


def test_rates_epsilons_and_decays_are_read_from_first_updates():
    size = Size(head_dim=32, heads=2, layers=1, mlp_ratio=2)
    made = network(Trial(base=BASE, size=size, seed=0, rate=0.02))
    assert made.rules is not None
    for one in made.numbers(0.02):
        rule = made.rules.role(LABELS[one.name])
        assert one.lr == pytest.approx(rule.lr, rel=1e-3)
        assert one.eps == pytest.approx(1e-7 * (rule.eps or 0), rel=1e-2)
        if one.init > 0:
            assert one.wd == pytest.approx(0.1 * (rule.wd or 0), rel=1e-3)
    plain = JaxModel(
        parameters=made.parameters,
        optimizer=optax.sgd(0.3, momentum=0.9),
        loss=loss,
        fields=made.fields,
        batch=made.batch,
    )
    (one, *_) = plain.numbers(0.1)
    assert one.lr == pytest.approx(3, rel=1e-5)
    assert one.eps is None  # the update is linear in the gradient


def test_the_rules_are_supported_and_a_wrong_rate_is_named():
    sizes, options = (8, 32, 128), {"base": BASE, "rate": 0.01, "seeds": 1, "steps": (1, 3)}
    good = coordinate_check(network, "head_dim", sizes, **options)
    assert good.findings == ()
    off = {
        place: good.exponent(*place).value - promised
        for place, promised in good.expected.items()
        if not good.is_still(*place)
    }
    assert max(map(abs, off.values())) < 0.3, off
    assert good.exponent("update of mlp_in", 3).value == pytest.approx(0, abs=0.2)
    bad = coordinate_check(
        lambda trial: network(trial, ("up",)), "head_dim", sizes, **{**options, "seeds": 1}
    )
    assert bad.overall() is Verdict.refuted
    said = " ".join(bad.lint())
    assert "the mlp_in's learning rate does not change with head_dim" in said
    assert "(up)" in said
    assert bad.exponent("update of mlp_in", 3).value == pytest.approx(1, abs=0.25)


def test_what_is_recorded_is_what_the_functions_say():
    """Fields and maps by themselves, between updates of a loop that records nothing."""
    trial = Trial(base=BASE, size=BASE, seed=1, rate=0.05)
    steps, made = (0, 1, 3), network(trial)
    recorded = made.record(steps, BASE)
    p, state = made.parameters, made.optimizer.init(made.parameters)
    first, maps = fields(p, (X, Y)), learned(p, p, (X, Y))
    for step in range(4):
        if step in steps:
            place = steps.index(step)
            wanted = {f"{n}_change": x - first[n] for n, x in fields(p, (X, Y)).items()}
            now = learned(p, made.parameters, (X, Y))
            wanted |= {f"update of {n}": x - maps[n] for n, x in now.items()}
            wanted |= fields(p, (X, Y))
            for name, value in wanted.items():
                rms = float(np.sqrt(np.mean(np.square(np.asarray(value, np.float64)))))
                assert recorded[name][place] == pytest.approx(rms, rel=1e-3, abs=1e-6), name
        moves, state = made.optimizer.update(jax.grad(loss)(p, (X, Y)), state, p)
        p = optax.apply_updates(p, moves)


def test_fields_share_the_forward_pass_of_the_update():
    """Where XLA sees that they are the same, as without norms: no product more."""

    def outputs(p, batch):
        hidden = jnp.tanh(batch[0] @ p["embed"]) @ p["up"]
        return {"hidden": hidden, "output": jnp.tanh(hidden) @ p["down"] @ p["readout"]}

    def error(p, batch):
        return jnp.square(outputs(p, batch)["output"]).mean()

    made = network(Trial(base=BASE, size=BASE, seed=0, rate=0.01))
    made = replace(made, loss=error, fields=outputs, learned=None)
    p = made.parameters
    given = p, made.optimizer.init(p), p, (X, Y)
    counted = []
    for look in (False, True):
        text = jax.jit(made._step(look=look)).lower(*given).compile().as_text()
        assert text is not None
        counted.append(text.count(" dot("))
    assert counted == [4 + 7, 4 + 7]  # forward; gradients of all weights and of all inputs but X


def test_seeds_share_a_program_and_other_constants_do_not():
    trials = [Trial(base=BASE, size=BASE, seed=seed, rate=0.01) for seed in (0, 1)]
    trials.append(replace(trials[0], rate=0.02))
    compiled = []
    for trial in trials:
        made = network(trial)
        p = made.parameters
        program = _Program(made._step(look=True))
        program(p, made.optimizer.init(p), p, (X, Y))
        compiled.append(*program.compiled.values())
    assert compiled[0] is compiled[1]
    assert compiled[0] is not compiled[2]
    table = np.arange(30_000.0)
    for changed in (0.0, 1.0):  # one other entry of a constant is another program
        table[15_000] = changed
        adds = _Program(functools.partial(jnp.add, jnp.asarray(table)))
        assert float(adds(jnp.zeros(30_000))[15_000]) == changed


def test_batches_may_change_their_shape():
    made = network(Trial(base=BASE, size=BASE, seed=0, rate=0.01))
    uneven = replace(made, batch=lambda step: (X[: 8 - step], Y[: 8 - step]))
    assert np.isfinite(uneven.train(3))


@pytest.mark.usefixtures("as_user")
def test_refusals():
    trial = Trial(base=BASE, size=BASE, seed=0, rate=0.01)
    with pytest.raises(FactoryError, match="pass an optax transform"):
        JaxModel(parameters={}, optimizer=3, loss=loss, fields=loss, batch=loss)  # pyright: ignore
    with pytest.raises(FactoryError, match="batch: got 3; pass a function of the step"):
        JaxModel(parameters={}, optimizer=optax.sgd(1.0), loss=loss, fields=loss, batch=3)  # pyright: ignore
    made = network(trial)
    with pytest.raises(FactoryError, match="labels: has 1 leaves for 4 parameters; pass a role"):
        replace(made, labels={"embed": "query"}).numbers(0.01)
    lonely = JaxModel(
        parameters=made.parameters,
        optimizer=made.optimizer,
        loss=loss,
        fields=lambda p, batch: {"stream": batch[0]},
        batch=made.batch,
    )
    with pytest.raises(FactoryError, match="return at least `output`"):
        lonely.record((0, 1), BASE)
