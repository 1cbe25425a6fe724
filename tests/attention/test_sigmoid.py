"""Sigmoid attention: velocity and projection in a Gaussian law, its limit of many tokens."""

import numpy as np
import pytest
from tests.attention.gaussian_laws import QKV, X, quadrature
from tests.limits.meanfield.canonical import COV, MEAN, V

from translimit.attention import (
    Sigmoid,
    Unnormalized,
)


@pytest.mark.parametrize("bias", [0.0, 0.5, -3.0])
def test_two_routes_sigmoid_velocity_against_a_gaussian(bias):
    cloud, masses = quadrature(MEAN, COV, nodes=64)
    attention = Sigmoid(**QKV, score_scale=1.2, bias=bias)
    by_cloud = attention(X, cloud, weights=masses)
    np.testing.assert_allclose(attention.gaussian_velocity(X, MEAN, COV), by_cloud, atol=1e-11)


@pytest.mark.parametrize("rank", [1, 2])
def test_two_routes_projection_of_sigmoid_equals_two_fold_quadrature(rank):
    """E Gamma and E[Gamma(x) (x - mean)^T] Sigma^+ over x, Gamma(x) by Stein's identity."""
    attention = Sigmoid(**QKV, score_scale=1.5, bias=-0.7)
    direction = np.array([0.8, 0.3])
    cov = COV if rank == 2 else np.outer(direction, direction)
    factor = np.linalg.cholesky(cov) if rank == 2 else np.stack([direction, 0 * direction], 1)
    standard, masses = quadrature(np.zeros(2), np.eye(2))
    x = MEAN + standard @ factor.T
    velocity = attention.gaussian_velocity(x, MEAN, cov)
    g, M = attention.moment_field(MEAN, cov)
    np.testing.assert_allclose(g, masses @ velocity, rtol=0, atol=1e-10)
    # M is the expected derivative; against the factor it is what moves the covariance.
    moved = np.einsum("n,ni,nj->ij", masses, velocity, standard)
    np.testing.assert_allclose(M @ factor, moved, rtol=0, atol=1e-9)
    assert np.abs(M - V @ cov @ attention.A / 4).max() > 1e-2  # not the linearisation at zero


@pytest.mark.parametrize(
    ("slope", "bias", "mean", "variance"),
    [
        (1, 0.5, 0.3, 0.8),
        (10, -2, 0, 1),
        (-1, 3, 4, 1),
        (1, 0, 6, 0.5),
        (50, -50, 0, 1),
        (1, 55, 1, 1),
        (1, 0, 30, 0.2),
    ],
)
def test_two_routes_projection_of_wide_and_saturated_scores(slope, bias, mean, variance):
    """Against the trapezoidal rule in the plane, which converges exponentially here."""
    grid = np.linspace(-9, 9, 2001)
    density = np.exp(-(grid**2) / 2)
    density /= density.sum()
    y = mean + np.sqrt(variance) * grid
    scores = slope * np.outer(y, y) + bias
    probability = 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
    derivative = probability * (1 - probability)
    attention = Sigmoid(Q=[[float(slope)]], K=[[1.0]], V=[[1.0]], bias=bias)
    g, M = attention.moment_field([mean], [[variance]])
    np.testing.assert_allclose(g[0], density @ (probability * y) @ density, atol=1e-10)
    expected = slope * (density @ (derivative * y**2) @ density)
    np.testing.assert_allclose(M[0, 0], expected, atol=1e-10)


def test_identity_unresolved_projection_is_nan_and_not_a_number_that_looks_right():
    for slope, mean, variance in ((1.0, 30.0, 20.0), (1e5, 0.0, 1.0)):
        g, M = Sigmoid(Q=[[slope]], K=[[1.0]], V=[[1.0]]).moment_field([mean], [[variance]])
        assert np.isnan(g).all()
        assert np.isnan(M).all()


def test_identity_the_widest_projection_that_is_resolved():
    """E sigma'(c x y) y^2 of independent normals tends to 1 / (pi c) for large c."""
    M = Sigmoid(Q=[[1e4]], K=[[1.0]], V=[[1.0]]).moment_field([0.0], [[1.0]])[1]
    np.testing.assert_allclose(M, [[1 / np.pi]], rtol=3e-7)


def test_two_routes_projection_of_unnormalised_attention():
    attention = Unnormalized(**QKV, score_scale=0.6)
    cloud, masses = quadrature(MEAN, COV)
    velocity = attention(cloud, cloud, weights=masses)
    g, M = attention.moment_field(MEAN, COV)
    np.testing.assert_allclose(g, masses @ velocity, rtol=1e-10)
    cross = np.einsum("n,ni,nj->ij", masses, velocity, cloud - MEAN)
    np.testing.assert_allclose(M, cross @ np.linalg.inv(COV), rtol=0, atol=1e-9)
    # Beyond the largest eigenvalue of cov A cov A^T the expectation is infinite.
    assert np.isnan(Unnormalized(**QKV, score_scale=6.0).moment_field(MEAN, COV)[1]).all()


def test_orders_sigmoid_with_bias_minus_log_n_tends_to_unnormalised():
    """sum_j sigma(z_j - log n) V y_j is int e^z V y dmu to O(1 / n): the slope is -1.

    The next term of the expansion is of relative order 1 / n, so the slope from n = 4000 to 16000
    is -1 within 0.02; without the bias, or with a mean for the sum, it would be 0.
    """
    points = quadrature(MEAN, COV, nodes=8)[0]
    limit = Unnormalized(**QKV)(X, points)
    errors = []
    for copies in (4000 // 64, 16000 // 64):
        n = 64 * copies
        # The same law with every point repeated: the sum over n tokens is n times the mean.
        summed = n * Sigmoid(**QKV, bias=-np.log(n))(X, points)
        errors.append(np.abs(summed - limit).max())
    slope = np.log(errors[1] / errors[0]) / np.log((16000 // 64) / (4000 // 64))
    assert abs(slope + 1) < 0.02
    assert errors[1] < 1e-2 * np.abs(limit).max()
