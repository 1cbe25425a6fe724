"""Overlaps of updates: drift, covariations, small scores, one key (rows 4 to 5b, 10)."""

import math

import jax
import numpy as np
import pytest
from tests.limits.homogenized.cases import LAW, R

from translimit.describe import WideHeads
from translimit.limits.homogenized.overlaps import (
    attention_overlap,
    one_hot_overlap,
    overlap_covariation,
    overlap_drift,
    small_score_overlap,
)

S = np.array([[0.6, 0.25, 0.1], [0.25, 0.5, 0.3], [0.1, 0.3, 0.7]])


def test_acceptance_4_and_5_drift_and_covariations():
    drift = overlap_drift(R, S, 5)
    found = drift[0, 1], drift[0, 2], drift[1, 2]
    np.testing.assert_allclose(found, (0.0225, 0.1648, -0.0450), atol=1e-9)
    pairs = [((0, 1), (0, 1)), ((0, 1), (0, 2)), ((0, 1), (1, 2)), ((0, 2), (1, 2))]
    covariations = [overlap_covariation(R, S, 5, *pair) for pair in pairs]
    # Four to six digits of the covariations of "The diffusive limit", docs/theory/homogenized.md.
    np.testing.assert_allclose(covariations, (0.1729, 0.11144, -0.00665, 0.0796), atol=6e-5)
    two = overlap_covariation(R, S, 5, (0, 1), (1, 0))
    assert two == pytest.approx((1 - 0.09) * (0.6 + 0.5 - 2 * 0.3 * 0.25) / 5, abs=1e-12)


def test_acceptance_5b_small_scores():
    s = small_score_overlap(R, 0.2)
    found = s[0, 0], s[0, 1], s[0, 2], s[1, 2]
    np.testing.assert_allclose(found, (0.473126, 0.468065, 0.464450, 0.469511), atol=1e-6)


def test_the_small_score_expansion_is_of_fourth_order():
    """Antithetic samples against the expansion: the gap falls by 2^4 when the scores are halved."""
    gaps = []
    for std in (0.4, 0.2):
        law = WideHeads(dim=8, score_std=std)
        s = attention_overlap(law, R, samples=60_000, key=jax.random.key(0), antithetic=True)
        gap = s.value - small_score_overlap(R, std)
        gaps.append(np.abs(gap).max())
        assert (np.abs(gap) < 0.4 * std**4 + 4.5 * s.stderr).all()
        assert s.stderr.max() < 0.3 * std**2 * 60_000**-0.5 * 3
    assert gaps[1] < gaps[0] / 4


def test_acceptance_10_one_hot():
    assert one_hot_overlap(0.5) == pytest.approx(5 / 6)
    law = WideHeads(dim=8, score_std=math.inf)
    pair = np.array([[1.0, 0.5], [0.5, 1.0]])
    s = attention_overlap(law, pair, samples=400_000, key=jax.random.key(1))
    assert abs(s.value[0, 1] - 5 / 6) < 2e-3
    assert s.stderr[0, 1] == pytest.approx(0.5 * np.sqrt(2 / 9) / np.sqrt(400_000), rel=0.05)
    assert s.value[0, 0] == pytest.approx(1.0, abs=1e-12)


def test_samples_do_not_depend_on_blocks_and_the_error_is_honest():
    """Forty independent estimates scatter as their standard errors say (to 40 %)."""
    many = [attention_overlap(LAW, R, samples=100, key=jax.random.key(i)) for i in range(40)]
    scatter = np.std([one.value[0, 1] for one in many], ddof=1)
    assert scatter == pytest.approx(np.mean([one.stderr[0, 1] for one in many]), rel=0.4)
