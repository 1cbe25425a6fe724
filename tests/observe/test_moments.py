"""Moments against NumPy and SciPy, with leading axes."""

import numpy as np
import pytest
from scipy import stats

from translimit.observe import (
    anisotropy,
    effective_rank,
    excess_kurtosis,
    moment_names,
    moment_vector,
    moments,
)

CLOUDS = np.random.default_rng(0).standard_normal((4, 3, 50, 2)) * [2.0, 0.5] + [1.0, -1.0]


def test_moments():
    mean, cov = moments(CLOUDS)
    assert mean.shape == (4, 3, 2)
    np.testing.assert_allclose(mean[2, 1], CLOUDS[2, 1].mean(axis=0))
    np.testing.assert_allclose(cov[2, 1], np.cov(CLOUDS[2, 1].T, ddof=0))


def test_moment_vector_has_the_order_of_its_names():
    mean, cov = moments(CLOUDS)
    row = dict(zip(moment_names(2), moment_vector(mean, cov)[0, 0], strict=True))
    assert list(row) == ["alpha_1", "alpha_2", "Sigma_11", "Sigma_12", "Sigma_22"]
    assert row["alpha_2"] == mean[0, 0, 1]
    assert row["Sigma_12"] == cov[0, 0, 0, 1]


def test_anisotropy_of_disc_line_and_nothing():
    line = np.outer([1.0, 2.0], [1.0, 2.0])
    covs = np.array(
        [np.eye(2), 3 * line, np.diag([3.0, 1.0]), np.zeros((2, 2)), np.eye(2) * np.nan]
    )
    np.testing.assert_allclose(anisotropy(covs), [0.5, 1.0, 0.75, np.nan, np.nan])


def test_excess_kurtosis_along_principal_axes():
    cloud = CLOUDS[0, 0]
    _, axes = np.linalg.eigh(np.cov(cloud.T))
    expected = stats.kurtosis((cloud - cloud.mean(axis=0)) @ axes[:, ::-1], axis=0)
    np.testing.assert_allclose(excess_kurtosis(cloud), expected)
    flat = np.random.default_rng(1).uniform(size=(200_000, 1))
    # Uniform: -6/5; the standard error at this count is below 0.004.
    assert excess_kurtosis(flat)[0] == pytest.approx(-1.2, abs=0.02)


def test_effective_rank():
    assert effective_rank(np.ones((5, 3))) == pytest.approx(1.0)
    assert effective_rank(np.eye(4)) == pytest.approx(4.0)
    shares = np.array([0.8, 0.2])  # unit tokens of cosine 0.6 have the Gram eigenvalues 1 +- 0.6
    stacked = np.stack([[[1.0, 0.0], [0.6, 0.8]], np.eye(2)])
    entropy = -np.sum(shares * np.log(shares))
    np.testing.assert_allclose(effective_rank(stacked), [np.exp(entropy), 2.0])


def test_kurtosis_of_weighted_tokens_is_that_of_repeated_ones():
    tokens = np.random.default_rng(5).normal(size=(2, 6, 3)) ** 3
    counts = np.array([1, 2, 3, 1, 4, 1])
    found = excess_kurtosis(tokens, counts / counts.sum())
    np.testing.assert_allclose(found, excess_kurtosis(np.repeat(tokens, counts, axis=1)))
    assert np.abs(found - excess_kurtosis(tokens)).max() > 0.1
