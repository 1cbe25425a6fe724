"""Overlaps of equidistant tokens: their drift and variation against sampled kernels."""

import math

import jax
import numpy as np
import pytest

from translimit.core import (
    ArgumentError,
    NoSuchLimitError,
)
from translimit.describe import GaussianHeads, ShiftedHeads, WideHeads
from translimit.limits.homogenized import (
    Dimension,
    SimplexClosure,
)
from translimit.limits.homogenized.designs import postpone_collapse
from translimit.limits.homogenized.high_temperature import (
    overlap_all_drift,
)
from translimit.limits.homogenized.one_key import agreement, concentration
from translimit.limits.homogenized.overlaps import (
    attention_overlap,
    overlap_covariation,
    overlap_drift,
)
from translimit.limits.homogenized.simplex import (
    mean_overlap_variation,
    simplex_drift,
    simplex_variation,
)
from translimit.models import RandomHeadChain


def test_common_noise_does_not_average_out():
    """The spread over replicas of the mean overlap of 16 tokens is that of the common noise.

    Noise that is independent from token to token would leave a quarter of it and less.
    """
    law, tokens = WideHeads(dim=64, score_std=0.0), 16
    chain = RandomHeadChain(law=law, step=0.1, heads=1, layers=10)
    R = 0.5 + 0.5 * np.eye(tokens)
    last = chain.simulate_overlaps(R, replicas=400, key=jax.random.key(tokens)).tokens[:, -1]
    means = ((last.sum(axis=1) ** 2).sum(axis=-1) - tokens) / (tokens * (tokens - 1))
    # Without scores f = g = 1 / n; the variation hardly moves within tau = 0.1.
    variance = 0.1 * mean_overlap_variation(0.5, 1 / tokens, 1 / tokens, tokens, 64)
    assert means.std() == pytest.approx(variance**0.5, rel=0.2)


def simplex(overlap: float, tokens: int) -> np.ndarray:
    return overlap + (1.0 - overlap) * np.eye(tokens)


@pytest.mark.parametrize(
    "law",
    [
        pytest.param(WideHeads(dim=24, score_std=5.0), id="wide"),
        pytest.param(
            GaussianHeads.of_score_std(1.5, dim=24, head_dim=4), id="narrow", marks=pytest.mark.slow
        ),
    ],
)
def test_the_simplex_drift_against_sampled_kernels(law):
    """60 000 heads: infinite and finite head dimension, 4.5 standard errors and 3e-4."""
    for overlap in (0.0, 0.6):
        R = simplex(overlap, 5)
        s = attention_overlap(law, R, samples=60_000, key=jax.random.key(5))
        sampled = overlap_drift(R, s.value, 24)[np.triu_indices(5, 1)]
        stderr = s.stderr[np.triu_indices(5, 1)].max() * (1 + overlap)
        # Ten entries of one overlap: their mean is known at least as well as one of them.
        assert abs(sampled.mean() - float(simplex_drift(law, overlap, 5))) < 4.5 * stderr / 3 + 3e-4


def test_printed_and_exact_drift():
    """d times the difference, n = 8, score_std 1: -.25, -.712, -.265 at 0, .5, .9."""
    law = WideHeads(dim=64, score_std=1.0)
    for overlap, expected in ((0.0, -0.25), (0.5, -0.712), (0.9, -0.265)):
        exact = float(simplex_drift(law, overlap, 8))
        printed = float(simplex_drift(law, overlap, 8, dimension=Dimension.LARGE))
        assert 64 * (exact - printed) == pytest.approx(expected, abs=2e-3)


def test_infinite_scores_of_few_columns_against_sampled_kernels():
    """20 000 heads of 5 tokens, head dimension 2: 4.5 standard errors."""
    law = GaussianHeads.of_score_std(math.inf, dim=24, head_dim=2)
    R = simplex(0.6, 5)
    s = attention_overlap(law, R, samples=20_000, key=jax.random.key(5))
    sampled = overlap_drift(R, s.value, 24)[np.triu_indices(5, 1)]
    stderr = s.stderr[np.triu_indices(5, 1)].max() * 1.6
    assert abs(sampled.mean() - float(simplex_drift(law, 0.6, 5))) < 4.5 * stderr / 3
    # Far from the kernel of Gaussian scores, whose queries point every way.
    wide = float(simplex_drift(WideHeads(dim=24, score_std=math.inf), 0.6, 5))
    assert abs(sampled.mean() - wide) > 4.5 * stderr / 3


def test_large_head_dimensions_are_near_infinite_ones():
    drifts = [
        float(simplex_drift(law, 0.3, 8))
        for law in (GaussianHeads.of_score_std(1.5, dim=600), WideHeads(dim=600, score_std=1.5))
    ]
    assert drifts[0] == pytest.approx(drifts[1], rel=1 / 600)


def test_variation_of_the_mean_overlap_is_the_sum_over_pairs():
    n, overlap, f, g, dim = 5, 0.3, 0.4, 0.25, 12
    R, s = simplex(overlap, n), overlap + (1 - overlap) * (g + (f - g) * np.eye(n))
    pairs = [(i, j) for i in range(n) for j in range(i)]
    total = sum(overlap_covariation(R, s, dim, one, two) for one in pairs for two in pairs)
    found = mean_overlap_variation(overlap, f, g, n, dim)
    assert found == pytest.approx(total / len(pairs) ** 2, rel=1e-12)


@pytest.mark.usefixtures("as_user")
def test_variation_of_a_law_is_that_of_its_averages():
    law = WideHeads(dim=32, score_std=1.5)
    f, g = concentration(6, 1.5 * 0.7**0.5), agreement(1.5 * 0.7**0.5, 0.3, 6)
    found = simplex_variation(law, 0.3, 6)
    assert float(found) == pytest.approx(float(mean_overlap_variation(0.3, f, g, 6, 32)), rel=1e-6)


def test_refusals_of_the_simplex():
    law = WideHeads(dim=32, score_std=1.0)
    with pytest.raises(ArgumentError, match="overlap"):
        simplex_drift(law, -0.5, 8)
    with pytest.raises(NoSuchLimitError, match="mask"):
        SimplexClosure(law=law, tokens=8, t1=1.0, causal=True)
    with pytest.raises(ArgumentError, match="dim: got 1; pass at least 2"):
        overlap_all_drift(0.3, 0.2, 1)
    with pytest.raises(ArgumentError, match="correlation"):
        agreement(1.0, 1.5, 4)
    with pytest.raises(ArgumentError, match="update"):
        postpone_collapse(dim=8, tokens=4, update=2.0)
    for interval in ((2.0, 1.0), (0.0, math.inf)):
        with pytest.raises(ArgumentError, match="interval"):
            postpone_collapse(dim=8, tokens=4, update=0.1, score_stds=interval)
    for score_std in (math.nan, -math.inf, -1.0):
        with pytest.raises(ArgumentError, match="score_std"):
            WideHeads(dim=8, score_std=score_std)
    with pytest.raises(ArgumentError, match="sigma_a"):
        GaussianHeads(dim=8, beta=math.inf, sigma_a=0.0)
    with pytest.raises(ArgumentError, match="beta"):
        ShiftedHeads(mean_v=np.eye(2), mean_a=np.eye(2), beta=math.inf)
