"""Factors, exponents and powers: the documentation's figures, and the full recursion."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.signal.stacks import STACKS

from translimit.core import ArgumentError, NoSuchLimitError, solve
from translimit.describe import (
    Activation,
    Attention,
    FeedForward,
    Norm,
    Normalisation,
    Scores,
    Stack,
    SubBlock,
)
from translimit.limits.signal import (
    Recursion,
    SignalPropagation,
    collapse_factors,
    exponents,
    stack_factors,
)
from translimit.limits.signal.depth_laws import mixing

DIM, HEADS, N = 64, 4, 16
RMS = Normalisation(Norm.RMS)
PLACEMENTS: dict[str, dict[str, Any]] = {
    "pre": {"norm_in": RMS},
    "peri": {"norm_in": RMS, "norm_out": RMS},
}
PLACEMENTS |= {"post": {"norm_post": RMS}, "reordered": {"norm_out": RMS}}


def attention(gain: float) -> Attention:
    """gamma_A = H d_v sigma_O^2 D sigma_V^2, with scores of deviation 1."""
    one = DIM**-0.5
    return Attention(HEADS, DIM // HEADS, one, one, one, (gain / DIM) ** 0.5)


def units(activation: Activation, variance: float, *, gated: bool) -> FeedForward:
    """gamma_1 = 1, w_1 = w_up = variance."""
    return FeedForward(DIM, activation, (variance / DIM) ** 0.5, DIM**-0.5, gated=gated)


GELU, SILU = units(Activation.GELU, 2.0, gated=False), units(Activation.SILU, 3.0, gated=True)


def stack(placement: str, gain: float, feed: FeedForward, layers: int = 1) -> Stack:
    layer = tuple(SubBlock((one,), **PLACEMENTS[placement]) for one in (attention(gain), feed))
    return Stack(DIM, (layer,) * layers, causal=False)


def product(one: Stack, square: float) -> np.ndarray:
    factors = stack_factors(one, N, square)
    return np.prod([(f.angle, f.gradient, f.coherent) for f in factors], axis=0)


#: Angle, tr B and coherent ratios of one layer, gamma_A 0.7, from the documentation.
ONE_LAYER = {
    ("pre", "gelu", 3.0): (0.82080, 1.28304, 1.5597),
    ("peri", "gelu", 3.0): (0.75926, 1.29180, 1.6873),
    ("post", "gelu", 1.0): (0.60566, 0.63216, 1.0296),
    ("pre", "silu", 3.0): (1.24922, 3.17518, 3.8598),
    ("post", "silu", 1.0): (1.08462, 1.13208, 1.8439),
}


@pytest.mark.parametrize(("placement", "activation", "square"), ONE_LAYER)
def test_one_layer_has_its_reference_factors(placement, activation, square) -> None:
    one = stack(placement, 0.7, GELU if activation == "gelu" else SILU)
    expected = ONE_LAYER[placement, activation, square]
    assert np.allclose(product(one, square), expected, rtol=1e-4)
    # Wrong: mu' = mu, as for ReLU.
    of = units(Activation.RELU, 2.0, gated=False)
    assert not np.allclose(product(stack(placement, 0.7, of), square), expected, rtol=1e-2)


def ratios(one: Stack, square: float, distance: float = 1e-4) -> np.ndarray:
    """The same three by the recursion, from overlaps 1 - distance."""
    cov = square * (np.full((N, N), 1 - distance) + distance * np.eye(N))
    found = []
    for top in (np.eye(N), np.ones((N, N))):
        problem = SignalPropagation(stack=one, initial=cov, top_gradient=top)
        solution = solve(problem, Recursion(pairs=2, copies=2), key=jax.random.key(0))
        found.append(solution)
    angle = (1 - found[0].overlap[-1]) / (1 - found[0].overlap[0])
    trace = found[0].grad_square[0] / found[0].grad_square[-1]
    return np.array([angle, trace, found[1].grad_gram[0].sum() / N**2])


def test_the_recursion_has_the_same_factors() -> None:
    one = stack("pre", 0.7, GELU)
    assert np.allclose(product(one, 3.0), ratios(one, 3.0), rtol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("feed", [GELU, SILU], ids=["gelu", "silu"])
def test_the_recursion_has_the_same_factors_everywhere(placement, feed) -> None:
    square = 1.0 if placement == "post" else 3.0
    one = stack(placement, 0.7, feed)
    # A branch without a norm before it reads tokens of other sizes; multipliers differ from 1.
    blocks = tuple(dataclasses.replace(b, residual=0.9, branch=1.3) for b in one.layers[0])
    other = dataclasses.replace(one, layers=(blocks,))
    for each in (one, other):
        assert np.allclose(product(each, square), ratios(each, square), rtol=2e-3)


@pytest.mark.parametrize(("gain", "expected"), [(0.1, 1.16), (0.3, 0.985), (0.6, 0.80)])
def test_post_ln_is_chaotic_below_a_gain_of_attention(gain: float, expected: float) -> None:
    """The documentation's products, SiLU gates of unit variances."""
    law = exponents(stack("post", gain, units(Activation.SILU, 1.0, gated=True)), N)
    assert law.exponents is not None
    assert math.exp(law.exponents.angle) == pytest.approx(expected, abs=6e-3)
    assert law.phase == ("chaotic" if expected > 1 else "ordered")
    # Order and chaos, vanishing and exploding differ by log(1 + gamma_A / n) only.
    assert law.exponents.gradient - law.exponents.angle == pytest.approx(math.log1p(gain / N))


def test_what_gradients_have_in_common_remains() -> None:
    """Through eight layers by the recursion; one layer's factor eight times is refuted."""
    one = stack("post", 1.2, GELU, layers=8)
    law = exponents(one, N)
    assert law.exponents is not None
    assert law.log_gradient(1, N) == pytest.approx(law.exponents.gradient)
    measured = math.log(ratios(one, 1.0, 1e-6)[1])
    assert measured == pytest.approx(law.log_gradient(8, N), abs=5e-3)
    assert abs(measured - 8 * law.exponents.gradient) > 0.5
    assert exponents(STACKS["gpt2"], N).log_gradient(8, N) is None


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "overlap"), [(0.1, 0.030), (0.6, 1.0)])
def test_a_deep_post_ln_stack_goes_where_its_phase_says(gain: float, overlap: float) -> None:
    """R after 60 layers, of the documentation."""
    one = stack("post", gain, units(Activation.SILU, 1.0, gated=True), layers=60)
    cov = 0.5 * np.eye(N) + 0.5
    problem = SignalPropagation(stack=one, initial=cov)
    found = solve(problem, Recursion(pairs=16, copies=2), key=jax.random.key(0))
    assert found.overlap[-1] == pytest.approx(overlap, abs=0.01)


@pytest.mark.parametrize("placement", ["pre", "peri"])
@pytest.mark.parametrize("feed", [GELU, units(Activation.SILU, 1.0, gated=True)])
def test_growing_stacks_have_powers(placement: str, feed: FeedForward) -> None:
    """Slopes of the factors between layers 24 and 96, as steep as the documentation measured.

    There they are up to 2.5 % from the powers of the limit of many layers; where a power nearly
    vanishes, the next order in 1 / q is what is left.
    """
    one = stack(placement, 0.7, feed, layers=96)
    law = exponents(one, N)
    assert law.powers is not None
    assert law.growth is not None
    factors = stack_factors(one, N, 1.0)[48:]
    q = math.log(factors[-1].mean_square / stack_factors(one, N, 1.0)[47].mean_square)
    angle = sum(math.log(f.angle) for f in factors) / q
    gradient = -sum(math.log(f.gradient) for f in factors) / q
    assert angle == pytest.approx(law.powers.angle, rel=0.03, abs=0.015)
    assert gradient == pytest.approx(law.powers.gradient, rel=0.03)
    # In closed form: mu, mu' at unit tokens.
    f = collapse_factors(SubBlock((feed,), norm_in=RMS), DIM, N, 1.0, causal=False)
    mu, slope = f.mean_square - 1, f.gradient - 1
    if placement == "pre":
        expected = slope / (0.7 + mu) - 1, -(slope + 0.7 / N) / (0.7 + mu)
    else:
        expected = slope / mu / 2 - 1, -(slope / mu + 1 / N) / 2
    assert (law.powers.angle, law.powers.gradient) == pytest.approx(expected, rel=1e-5)


def test_masks_biases_and_sinks_mix_less() -> None:
    plain = attention(1.0)
    assert mixing(plain, 50, causal=False).squares == pytest.approx(1 / 50)
    harmonic = sum(1 / i for i in range(1, 51)) / 50
    assert mixing(plain, 50, causal=True).squares == pytest.approx(harmonic)
    window = dataclasses.replace(plain, scores=Scores(window=1))
    assert mixing(window, 50, causal=True).squares == pytest.approx(1.0)
    steep = dataclasses.replace(plain, scores=Scores(slopes=(30.0,) * HEADS))
    assert mixing(steep, 50, causal=True).squares == pytest.approx(1.0)
    sink = mixing(dataclasses.replace(plain, scores=Scores(sink=True)), 1, causal=True)
    assert (sink.squares, sink.kept, sink.shared) == pytest.approx((0.25, 0.25, 0.25))


def test_what_has_no_law_says_so() -> None:
    assert exponents(STACKS["olmo2"], N).kind == "other"
    assert exponents(STACKS["gpt2"], N).kind == "growing"
    assert exponents(STACKS["bert"], N).kind == "stationary"
    with pytest.raises(NoSuchLimitError, match="experts"):
        exponents(STACKS["mixtral"], N)
    with pytest.raises(ArgumentError, match="mean_square"):
        stack_factors(STACKS["gpt2"], N, 0.0)
