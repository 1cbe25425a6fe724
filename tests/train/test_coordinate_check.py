"""Coordinate checks: verdicts on planted power laws, and the rules and their controls on digits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from translimit import checks, data, train
from translimit.core import ArgumentError, Verdict, named_key
from translimit.describe import Role, TransformerShape, standard_parameterization
from translimit.experiments.bordelon2024.controls import CONTROLS
from translimit.scaling import rules

SIZES = (4, 8, 16, 32, 64)
STEPS = (0, 1, 10)
BASE = TransformerShape(8, 4, 2, tokens=8, outputs=10, patch_dim=8, mlp_ratio=2.0)


def planted(
    axis: Any = "head_dim", suppressed=False, alpha_A=1.0, alpha_L=1.0, noise=0.03, **errors
):
    """A check whose coordinates are the promised power laws, with errors of their exponents."""
    rng = np.random.default_rng(0)
    expected = checks.expected_exponents(axis, STEPS, suppressed, alpha_A, alpha_L)
    values = {name: np.ones((len(SIZES), len(STEPS), 4)) for name in train.COORDINATES}
    for (name, step), exponent in expected.items():
        power = np.array(SIZES, float) ** (exponent + errors.get(name, 0.0))
        noisy = power[:, None] * np.exp(noise * rng.standard_normal((len(SIZES), 4)))
        values[name][:, STEPS.index(step)] = noisy
    return checks.CoordinateCheck(axis, SIZES, STEPS, values, expected)


def test_the_table_of_promises():
    along = checks.expected_exponents
    adam = along("head_dim", STEPS, False, 0.5, 1.0)
    assert adam["score", 0] == 0.0
    assert adam["output", 0] == -0.5
    assert adam["learned_key_change", 10] == -0.5
    assert adam["learned_score_change", 10] == 0.0
    sgd = along("head_dim", STEPS, True, 1.0, 1.0)
    assert sgd["score", 0] == -0.5
    assert sgd["learned_key_change", 1] == sgd["learned_score_change", 1] == -0.5
    deep = along("layers", STEPS, True, 1.0, 0.5)
    assert deep["learned_key_change", 10] == deep["learned_score_change", 10] == -0.5
    assert ("output", 0) not in deep
    wide = along("heads", STEPS, True, 1.0, 1.0)
    assert set(wide.values()) == {0.0, -0.5}
    # The plain change of the logits mixes two channels: nothing is promised for it.
    assert not any(name == "score_change" for table in (adam, sgd, deep, wide) for name, _ in table)


@pytest.mark.parametrize("axis", checks.AXES)
def test_promised_power_laws_are_supported(axis):
    check = planted(axis)
    assert check.refuted() == []
    verdicts = {check.verdict(*promise) for promise in check.expected}
    assert verdicts == {Verdict.supported}


@pytest.mark.parametrize(
    ("name", "error"),
    [("learned_key_change", 0.97), ("stream_change", 0.5), ("output_change", -0.5)],
)
def test_a_planted_exponent_is_refuted_and_named(name, error):
    check = planted(**{name: error})
    assert check.verdict(name, 10) is Verdict.refuted
    said = check.refuted()
    assert {sentence.split(" after ")[0] for sentence in said} == {name}
    assert all("head_dim" in sentence and "is promised" in sentence for sentence in said)
    found = check.exponent(name, 10)
    assert abs(found.value - error) < 4.5 * found.stderr


def test_a_scattered_exponent_is_underpowered():
    assert planted(noise=1.5).verdict("stream_change", 10) is Verdict.underpowered


def test_a_diverged_network_is_refuted_and_not_an_exception():
    check = planted()
    check.values["stream_change"][3, 2, 1] = np.nan
    assert check.verdict("stream_change", 10) is Verdict.refuted
    assert check.verdict("stream_change", 1) is Verdict.supported
    assert "to no power (a network diverged)" in check.refuted()[0]


def test_questions_that_have_no_answer():
    check = planted()
    with pytest.raises(ArgumentError, match="nothing is promised for 'score_change'"):
        check.verdict("score_change", 10)
    with pytest.raises(ArgumentError, match="'stream_change' was not recorded at step 3; known: "):
        check.exponent("stream_change", 3)


@pytest.mark.parametrize(
    ("axis", "sizes", "match"),
    [
        ("depth", (1, 2, 3), "axis: got 'depth'"),
        ("layers", (1, 2), "at least 3 increasing"),
        ("layers", (1, 3, 2), "at least 3 increasing"),
    ],
)
def test_refusals(axis, sizes, match, as_user):
    with pytest.raises(ArgumentError, match=match):
        train.ensemble_coordinate_check(
            BASE,
            axis,
            sizes,
            lambda shape: standard_parameterization(shape.size),
            data.digit_patches(),
            optimizer=train.Optimizer("sgd"),
            rate=0.1,
            key=named_key(0, "x"),
        )


def test_key_value_heads_follow_the_heads():
    grouped = replace(BASE, kv_heads=2)
    grown = train.resized_shape(grouped, "heads", 16)
    assert (grown.heads, grown.kv_heads) == (16, 8)
    assert train.resized_shape(grouped, "layers", 5).layers == 5


# -- real networks ---------------------------------------------------------------------------------

RATES = {"adamw": 0.01, "sgd": 0.3, "muon": 0.05}
ALONG = {"head_dim": SIZES, "heads": (2, 4, 8, 16), "layers": (2, 4, 8, 16)}


def run(optimizer, axis, alpha_A=1.0, alpha_L=1.0, change=None, rate=None, **options):
    """A check of the rules on digits; key biases, whose gradient is round-off, do not move."""

    def numbers(shape):
        made = rules(BASE.size, shape.size, optimizer=optimizer, alpha_A=alpha_A, alpha_L=alpha_L)
        found = made.applied(standard_parameterization(BASE.size, pixels=8))
        found = found if change is None else change(found, BASE.size)
        return found.changed(Role.KEY_BIAS, lr=0.0)

    arguments = {"seeds": 4, "steps": (0, 1, 2, 5, 10), "sizes": ALONG[axis]} | options
    return train.ensemble_coordinate_check(
        BASE,
        axis,
        parameterize=numbers,
        source=data.digit_patches(),
        optimizer=train.Optimizer(optimizer, eps=1e-12),
        rate=rate or RATES[optimizer],
        key=named_key(0, "coordinate check"),
        alpha_A=alpha_A,
        alpha_L=alpha_L,
        **arguments,
    )


@pytest.mark.slow
def test_adam_along_the_head_dimension():
    check = run("adamw", "head_dim")
    for name in ("stream_change", "output_change", "hidden_change"):
        assert abs(check.exponent(name, 10).value) < 0.1, name
    for name in ("score", "output"):
        assert abs(check.exponent(name, 0).value + 0.5) < 0.1, name
    # The plain change of the logits would be refuted in a right model: it falls.
    assert check.exponent("score_change", 10).value < -0.15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "axis", "alpha_A", "alpha_L", "expected"),
    [
        ("adamw", "head_dim", 0.5, 1.0, -0.5),
        ("sgd", "head_dim", 0.5, 1.0, -1.0),
        ("sgd", "layers", 1.0, 1.0, 0.0),
        ("sgd", "layers", 1.0, 0.5, -0.5),
        ("muon", "layers", 1.0, 0.5, -0.5),
    ],
)
def test_what_keys_learn(optimizer, axis, alpha_A, alpha_L, expected):
    """At small rates: at 0.3 SGD has left its suppressed start after ten steps."""
    rate = {"adamw": 0.003, "sgd": 0.1, "muon": 0.05}[optimizer]
    check = run(optimizer, axis, alpha_A, alpha_L, rate=rate)
    assert abs(check.exponent("learned_key_change", 10).value - expected) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "exponent"), [("sgd", -0.5), ("adamw", 0.0)])
def test_the_first_step(optimizer, exponent):
    """Incoherent under SGD: the square goes like 1/N, not N^-2; not suppressed under Adam."""
    check = run(
        optimizer,
        "head_dim",
        sizes=(8, 16, 32, 64, 128),
        steps=(1,),
        seeds=6,
        rate=0.003 if optimizer == "adamw" else 0.3,
        precision="float64",
    )
    assert abs(check.exponent("learned_score_change", 1).value - exponent) < 0.2
    assert abs(check.exponent("learned_score_head_var", 1).value - 2 * exponent) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
def test_controls_fail_and_name_what_is_wrong(name):
    control = CONTROLS[name]
    check = run(control.optimizer, control.axis, alpha_L=control.alpha_L, change=control.change)
    promised = check.expected[control.coordinate, control.step]
    found = check.exponent(control.coordinate, control.step)
    distance = abs(found.value - promised)
    if not control.bites:
        assert distance < 0.25
        return
    assert distance - 2 * found.stderr > 0.25
    wanted = f"{control.coordinate} after {control.step} updates grows with {control.axis}"
    said = [sentence for sentence in check.refuted() if sentence.startswith(wanted)]
    # Four seeds leave the readout's factor under Adam (+0.34 in exponent) short of 4.5 errors.
    assert bool(said) is (distance - 4.5 * found.stderr > 0.25)
    assert said or name == "readout-adamw"
