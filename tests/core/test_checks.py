"""Every class that takes a count, a number or a flag refuses the same bad values by name."""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.attention import FixedSinkhorn, Linear, MultiHead, Sinkhorn, Softmax
from translimit.checks import Trial
from translimit.core import (
    FINITE,
    POSITIVE,
    ArgumentError,
    ArgumentTypeError,
    Bounds,
    at_least,
    require_count,
    require_flag,
    require_number,
    require_real,
)
from translimit.describe import (
    Block,
    Frequencies,
    GaussianHeads,
    ShapedMLP,
    Size,
    TransformerShape,
    WideHeads,
)
from translimit.execute import ProcessPool, run_jobs
from translimit.integrate import AdaptiveODE, FixedODE
from translimit.limits.dmft import Architecture
from translimit.limits.homogenized import OverlapSDE, SphereEuler
from translimit.limits.meanfield import SphereFlow
from translimit.limits.shaped import StructurePreserving
from translimit.models import RandomHeadChain, ResidualAttention
from translimit.scaling import Question
from translimit.train import Optimizer, Schedule, Training

EYE = np.eye(2)
QKV: Any = {"Q": EYE, "K": EYE, "V": EYE}
LAW = WideHeads(dim=4, score_std=1.0)
SIZE = Size(head_dim=8, heads=2, layers=2)

FLAGS = [True, False, np.True_, np.array(True), jnp.array(True)]
WORDS = ["3", None, (), {}, 1j, object]
NO_SCALAR = [[1.0, 2.0], np.ones(2), np.ones((1, 1)), jnp.ones(3)]
pytestmark = [
    pytest.mark.usefixtures("as_user"),
    pytest.mark.filterwarnings("ignore:A JAX array is being set as static"),
]

NO_COUNT = [*FLAGS, *WORDS, *NO_SCALAR, 2.0, np.float64(2), math.inf, Fraction(5, 2)]
NO_FLAG = [0, 1, 1.0, "True", None, np.array(True), jnp.array(True), [True], np.int64(1)]
NO_NUMBER = [*FLAGS, *WORDS, math.nan, np.float32(math.nan), -1.0, np.float64(-1)]
NO_ARRAY = [*NO_SCALAR, Decimal("0.5")]


def refuses(make: Callable[[object], object], name: str, value: object) -> None:
    """An `ArgumentError` about this argument, which also says what may be passed."""
    with pytest.raises(ArgumentError) as found:
        make(value)
    assert found.value.argument == name
    assert found.value.remedy


def one_of(name: str, make: Callable[..., object]) -> tuple[str, Callable[[object], object]]:
    return name, lambda value: make(**{name: value})


COUNTS = dict(
    [
        one_of("iterations", lambda **o: FixedSinkhorn(**QKV, **o)),
        one_of("max_iterations", lambda **o: Sinkhorn(**QKV, **o)),
        one_of("heads", lambda **o: MultiHead.from_matrices(EYE, EYE, EYE, **o)),
        one_of("dim", lambda **o: GaussianHeads(beta=1.0, sigma_a=1.0, **o)),
        one_of("dims", Frequencies.geometric),
        one_of("head_dim", lambda **o: Size(heads=1, layers=1, **o)),
        one_of("tokens", lambda **o: TransformerShape(2, 2, 2, outputs=1, patch_dim=1, **o)),
        one_of("steps", lambda **o: FixedODE(**o)),
        one_of("max_steps", lambda **o: AdaptiveODE(**o)),
        one_of("paths", lambda **o: StructurePreserving(**o)),
        one_of("heads_per_step", lambda **o: SphereEuler(**o)),
        one_of("layers", lambda **o: ResidualAttention(Softmax(**QKV), **o)),
        one_of("seeds", lambda **o: Training(1, (0.1,), **o)),
        one_of("batch", lambda **o: Training(1, (0.1,), **o)),
        one_of("accumulate", lambda **o: Training(1, (0.1,), **o)),
        one_of("warmup", lambda **o: Schedule(**o)),
        one_of("seed", lambda **o: Trial(base=SIZE, size=SIZE, rate=0.1, **o)),
        one_of("retries", lambda **o: list(run_jobs(ProcessPool(), "f", [], **o))),
    ]
)
NUMBERS = dict(
    [
        one_of("score_scale", lambda **o: Softmax(**QKV, **o)),
        one_of("tol", lambda **o: Sinkhorn(**QKV, **o)),
        one_of("beta", lambda **o: GaussianHeads(dim=4, sigma_a=1.0, **o)),
        one_of("base", lambda **o: Frequencies.geometric(2, **o)),
        one_of("hidden_ratio", lambda **o: ShapedMLP(gamma=0.5, **o)),
        one_of("tau0", lambda **o: Block(gamma=0.5, **o)),
        one_of("mlp_ratio", lambda **o: Size(head_dim=1, heads=1, layers=1, **o)),
        one_of("rtol", lambda **o: AdaptiveODE(**o)),
        one_of("alpha_A", lambda **o: Architecture(head_dim=4, **o)),
        one_of("step", lambda **o: RandomHeadChain(law=LAW, heads=1, layers=1, **o)),
        one_of("t1", lambda **o: OverlapSDE(law=LAW, initial=EYE, **o)),
        one_of(
            "base_score_scale", lambda **o: Question(base=SIZE, target=SIZE, optimizer="adamw", **o)
        ),
        one_of("momentum", lambda **o: Optimizer(**o)),
        one_of("rate", lambda **o: Trial(base=SIZE, size=SIZE, seed=0, **o)),
        ("rates", lambda value: Training(1, (value,))),
    ]
)
TAKES = {
    "causal of Linear": lambda v: Linear(**QKV, causal=v),
    "causal of Block": lambda v: Block(gamma=0.5, tau0=1.0, causal=v),
    "causal of RandomHeadChain": lambda v: RandomHeadChain(
        law=LAW, step=0.1, heads=1, layers=1, causal=v
    ),
    "standard of Trial": lambda v: Trial(base=SIZE, size=SIZE, seed=0, rate=0.1, standard=v),
    "centred of Training": lambda v: Training(1, (0.1,), centred=v),
    "causal of OverlapSDE": lambda v: OverlapSDE(law=LAW, initial=EYE, t1=1.0, causal=v),
    "causal of Architecture": lambda v: Architecture(head_dim=4, causal=v),
    "normalised of SphereFlow": lambda v: (
        SphereFlow(initial=EYE, t1=1.0, beta=1.0, normalised=v).attention
    ),
}


@pytest.mark.parametrize("value", NO_COUNT, ids=repr)
@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_an_integer(name, value):
    if value is None and name in ("head_dim",):
        pytest.skip("stands for the default")
    refuses(COUNTS[name], name, value)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [-1, np.int64(-3), 2**31, 10**30], ids=repr)
def test_a_count_has_bounds(name, value):
    refuses(COUNTS[name], name, value)


@pytest.mark.parametrize("value", [*NO_NUMBER, *NO_ARRAY], ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_one_real_number_in_its_range(name, value):
    if value is None and name in ("tol", "base_score_scale"):
        pytest.skip("stands for the default")
    if isinstance(value, Decimal) and name in ("score_scale", "tol", "beta", "step", "t1"):
        pytest.skip("NumPy reads it")
    refuses(NUMBERS[name], name, value)


@pytest.mark.parametrize("value", NO_FLAG, ids=repr)
@pytest.mark.parametrize("name", TAKES)
def test_a_flag_is_true_or_false(name, value):
    refuses(TAKES[name], name.split()[0], value)


@pytest.mark.parametrize("name", TAKES)
def test_flags_of_numpy_are_flags(name):
    field = name.split()[0]
    for value in (np.True_, np.False_):
        assert getattr(TAKES[name](value), field) is bool(value)


@pytest.mark.parametrize("value", [*NO_COUNT, -1, 2**31], ids=repr)
def test_updates_are_counted(value):
    refuses(lambda steps: Training(steps, (0.1,)), "steps", value)
    refuses(
        lambda steps: Trial(base=SIZE, size=SIZE, seed=0, rate=0.1, steps=steps), "steps", value
    )


def test_what_is_taken():
    assert require_count(np.int32(3), "n", 3) == 3
    assert type(require_count(np.int64(3), "n")) is int
    assert require_flag(np.True_, "flag") is True
    for value in (2, 2.0, np.float32(2), np.int64(2), np.array(2.0), jnp.float32(2), Fraction(2)):
        found = require_real(value, "x", POSITIVE)
        assert type(found) is float
        assert found == 2.0


@pytest.mark.parametrize(
    ("bounds", "words", "inside", "outside"),
    [
        (FINITE, "a finite number", (0, -1e300), (math.inf, -math.inf, math.nan)),
        (POSITIVE, "a positive number", (1e-300, 1e300), (0, math.inf, -1)),
        (at_least(2), "a number of at least 2", (2, 3), (1.999, math.inf)),
        (Bounds(0, 1, "[)"), "a number in [0, 1)", (0, 0.5), (1, -0.1, math.nan)),
        (Bounds(0, math.inf, "(]"), "a positive number (inf included)", (1, math.inf), (0,)),
        (Bounds(high=3.0), "a number of at most 3", (-math.inf, 3), (3.1, math.inf)),
        (Bounds(2, math.inf, "()"), "a number above 2", (2.1,), (2, math.inf)),
    ],
)
def test_bounds(bounds, words, inside, outside):
    assert str(bounds) == words
    assert all(bounds.hold(value) for value in inside)
    assert not any(bounds.hold(value) for value in outside)
    for value in outside:
        with pytest.raises(ArgumentError, match="x: got"):
            require_real(value, "x", bounds)


@pytest.mark.parametrize("number", [np.float32(0.1), np.float64(0.1), jnp.float32(0.1), 0.1])
def test_a_number_keeps_its_precision(number):
    found = require_number(number, "x")
    assert np.asarray(found).dtype == np.asarray(number).dtype
    assert found == number
    assert np.shape(found) == ()


def test_a_traced_number_is_armed():
    checked = jax.jit(lambda x: require_number(x, "beta", POSITIVE) + 1)
    assert checked(1.0) == 2
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(Exception, match="beta: pass a positive number"):
            checked(bad).block_until_ready()


def test_a_setting_cannot_be_traced():
    with pytest.raises(ArgumentTypeError, match=r"x: is traced .*; pass a concrete number"):
        jax.jit(lambda x: require_real(x, "x"))(1.0)
