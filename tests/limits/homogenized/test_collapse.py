"""Collapse depth, its spread and its gradient (rows 15, 16)."""

import math

import jax
import numpy as np
import pytest

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    NoSuchLimitError,
    PrecisionError,
)
from translimit.describe import ShiftedHeads, WideHeads
from translimit.limits.homogenized import Dimension, collapse_depth
from translimit.limits.homogenized.high_temperature import logistic_time
from translimit.limits.homogenized.two_tokens import pair_coefficients, without_scores
from translimit.models import RandomHeadChain


def test_acceptance_15_times_to_one_half():
    for tokens, time in ((8, 2.19722), (32, 3.49651), (128, 4.85981), (512, 6.24028)):
        assert logistic_time(0.5, tokens) == pytest.approx(time, abs=5e-6)
        law = WideHeads(dim=512, score_std=0.0)
        found = collapse_depth(law, tokens=tokens, step=1, heads=1, dimension=Dimension.LARGE)
        assert float(found.diffusive_time) == pytest.approx(time, abs=1e-5)


@pytest.mark.parametrize(
    ("tokens", "times", "hard"),
    [
        (8, (2.21, 2.29, 2.50, 2.77), 3.29),
        pytest.param(32, (3.52, 3.71, 4.42, 5.61), 8.95, marks=pytest.mark.slow),
        pytest.param(128, (4.89, 5.09, 6.41, 9.18), 24.6, marks=pytest.mark.slow),
    ],
)
def test_table_of_collapse_times(tokens, times, hard):
    """Times of D(gamma) for d -> infinity ("Collapse" of docs/theory/homogenized.md).

    The values integrate f and g that were sampled: accurate to about 1 %, with infinite scores
    and 128 tokens to 3 %. There the integral is over 1 / g from g = 1 / 128, which sampling knows
    worst; ours is 25.28, its g held against samples below.
    """
    for std, time in zip((1.0, 2.0, 4.0, 8.0, math.inf), (*times, hard), strict=True):
        law = WideHeads(dim=512, score_std=std)
        found = collapse_depth(law, tokens=tokens, step=1, heads=1, dimension=Dimension.LARGE)
        tolerance = 0.03 if (tokens, std) == (128, math.inf) else 0.012
        assert float(found.diffusive_time) == pytest.approx(time, rel=tolerance)


@pytest.mark.parametrize(
    ("std", "step", "heads", "depth", "depth_error"),
    [
        (2.0, 0.2, 1, 65.5, 3.5),
        pytest.param(0.0, 0.1, 1, 230, 16, marks=pytest.mark.slow),
        pytest.param(2.0, 0.1, 1, 248, 12, marks=pytest.mark.slow),
        pytest.param(6.0, 0.1, 1, 314, 28, marks=pytest.mark.slow),
        pytest.param(2.0, 0.2, 4, 247, 23, marks=pytest.mark.slow),
    ],
)
def test_acceptance_16_collapse_depths(std, step, heads, depth, depth_error):
    """100 replicas: 2 s.e. + 5 % for the mean, 40 % for the spread, 4.5 s.e. from the values."""
    law = WideHeads(dim=32, score_std=std)
    found = collapse_depth(law, tokens=8, step=step, heads=heads)
    layers = int(6 * float(found.layers))
    chain = RandomHeadChain(law=law, step=step, heads=heads, layers=layers)
    start = np.eye(8, dtype=np.float32)
    measured = chain.first_crossing(start, 0.5, replicas=100, key=jax.random.key(16))
    stderr = measured.std() / 10
    assert abs(measured.mean() - float(found.layers)) < 2 * stderr + 0.05 * measured.mean()
    assert abs(measured.mean() - depth) < 4.5 * np.hypot(stderr, depth_error)
    assert measured.std() == pytest.approx(float(found.spread), rel=0.4)
    assert not found.warnings


@pytest.mark.parametrize(
    ("tokens", "dim", "leading"), [(8, 32, (2.424, 0.608)), (16, 16, (3.569, 1.197))]
)
def test_first_passage_without_scores(tokens, dim, leading):
    """The values are of leading order in 1 / dim; ours have the order beyond."""
    found = collapse_depth(WideHeads(dim=dim, score_std=0.0), tokens=tokens, step=1, heads=1)
    assert float(found.layers) == pytest.approx(leading[0], rel=0.008)
    assert float(found.spread) == pytest.approx(leading[1], rel=0.04)
    assert float(found.quadrature_error) < 1e-5


def test_first_passage_of_two_tokens_is_exact():
    """Against mean and variance by the scale function and speed measure of their overlap."""
    dim, level = 12, 0.5
    y = np.linspace(-6.0, math.atanh(level), 60_001)
    drift, half = pair_coefficients(y, without_scores, dim)
    h = y[1] - y[0]

    def total(values):
        return np.concatenate([[0.0], np.cumsum(0.5 * (values[1:] + values[:-1]) * h)])

    scale = np.exp(-total(drift / half))
    speed = 1.0 / (half * scale)

    def passage(source):
        """The solution of half u'' + drift u' = -source with u = 0 at the level."""
        inner = scale * total(source * speed)
        above = total(inner)
        return above[-1] - above

    first = passage(np.ones_like(y))
    second = passage(2.0 * first)
    start = int(np.argmin(np.abs(y)))
    found = collapse_depth(WideHeads(dim=dim, score_std=0.0), tokens=2, step=1, heads=1)
    assert float(found.layers) == pytest.approx(first[start], rel=1e-4)
    variance = second[start] - first[start] ** 2
    assert float(found.spread) == pytest.approx(variance**0.5, rel=1e-3)


@pytest.mark.slow
def test_the_depth_can_be_differentiated():
    """Against central differences, in the temperature, the step and the heads."""

    def layers(std, step, heads):
        return collapse_depth(
            WideHeads(dim=64, score_std=std), tokens=8, step=step, heads=heads
        ).layers

    with jax.enable_x64(True):
        slopes = jax.grad(layers, argnums=(0, 1, 2))(2.0, 0.1, 4.0)
    difference = (float(layers(2.01, 0.1, 4.0)) - float(layers(1.99, 0.1, 4.0))) / 0.02
    assert float(slopes[0]) == pytest.approx(difference, rel=1e-3)
    assert float(slopes[1]) == pytest.approx(-2 * float(layers(2.0, 0.1, 4.0)) / 0.1, rel=1e-6)
    assert float(slopes[2]) == pytest.approx(float(layers(2.0, 0.1, 4.0)) / 4, rel=1e-6)


@pytest.mark.usefixtures("as_user")
def test_traced_in_single_precision():
    with pytest.raises(PrecisionError):
        jax.grad(
            lambda std: (
                collapse_depth(WideHeads(dim=64, score_std=std), tokens=8, step=0.1, heads=4).layers
            )
        )(2.0)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("options", "error", "argument"),
    [
        ({"threshold": 0.0}, ArgumentError, "threshold"),
        ({"threshold": 1.0}, ArgumentError, "threshold"),
        ({"threshold": [0.5]}, ArgumentError, "threshold"),
        ({"threshold": 0.2, "initial": 0.3}, ArgumentError, "threshold"),
        ({"initial": -0.2}, ArgumentError, "initial"),
        ({"initial": 1.0}, ArgumentError, "initial"),
        ({"tokens": 33}, ArgumentError, "tokens"),
        ({"tokens": 1}, ArgumentError, "tokens"),
        ({"step": 0.0}, ArgumentError, "step"),
        ({"heads": -1}, ArgumentError, "heads"),
        ({"causal": True}, NoSuchLimitError, "causal"),
        ({"causal": 1}, ArgumentTypeError, "causal"),
        ({"dimension": "exact"}, ArgumentTypeError, "dimension"),
        ({"law": WideHeads(dim=32, score_std=20.0)}, ArgumentError, "score_std"),
        (
            {"law": ShiftedHeads(mean_v=np.eye(32), mean_a=np.eye(32), beta=1.0)},
            ArgumentTypeError,
            "law",
        ),
        ({"law": WideHeads(dim=2, score_std=1.0), "tokens": 2}, ArgumentError, "threshold"),
    ],
)
def test_refusals(options, error, argument):
    law = WideHeads(dim=32, score_std=1.0)
    with pytest.raises(error) as caught:
        collapse_depth(**({"law": law, "tokens": 8, "step": 0.1, "heads": 1} | options))
    assert caught.value.argument == argument
