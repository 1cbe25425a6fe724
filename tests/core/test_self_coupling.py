"""The Gaussian self-coupling: acceptance row 13, its equation, singular inputs, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import ArgumentError, canonical_correlations, conditional_covariance

# Canonical set of the documentation, "The Transformer PDE": A = K^T Q.
A = np.array([[0.4, -0.3], [0.2, 0.8]]).T @ np.array([[0.7, 0.2], [-0.3, 0.5]])
COV = np.array([[0.8, 0.2], [0.2, 0.5]])


def cases():
    """A and covariance of all ranks, A large and small, never symmetric; dims 1 to 5."""
    rng = np.random.default_rng(0)
    for dim in (1, 2, 3, 5):
        for rank_a in {0, 1, dim}:
            for rank in {0, 1, dim}:
                A = rng.normal(size=(dim, rank_a)) @ rng.normal(size=(rank_a, dim))
                G = rng.normal(size=(dim, rank))
                yield 10 ** rng.uniform(-3, 1) * A, G @ G.T


def test_acceptance_row_13():
    L = conditional_covariance(A, COV)
    assert isinstance(L, np.ndarray)
    assert L.dtype == np.float64
    expected = [0.7672270628, 0.1947786257, 0.1947786257, 0.4712444109]
    np.testing.assert_allclose(L.reshape(-1), expected, rtol=0, atol=1e-9)
    d = canonical_correlations(A, COV)
    np.testing.assert_allclose(d, [0.2524467025, 0.1997208373], rtol=0, atol=1e-9)


def test_mutation_transposed_score_matrix_misses_row_13():
    assert abs(conditional_covariance(A.T, COV)[0, 0] - 0.7672270628) > 1e-3


def test_identity_residual_at_every_rank_and_size():
    for matrix, cov in cases():
        L = conditional_covariance(matrix, cov)
        scale = max(1.0, np.abs(cov).max())
        strength = 1.0 + np.abs(matrix @ cov).max()  # the residual multiplies L's rounding by it
        residual = L + L @ matrix @ cov @ matrix.T @ L - cov
        assert np.abs(residual).max() < 2e-14 * scale * strength
        assert np.abs(L - L.T).max() < 1e-14 * scale
        assert np.linalg.eigvalsh(L)[0] > -1e-14 * scale
        # L lives in the range of the covariance.
        kernel = np.eye(len(cov)) - np.linalg.pinv(cov, 1e-10) @ cov
        assert np.abs(L @ kernel).max() < 1e-7 * scale


def test_identity_small_directions_beside_a_large_one():
    """A covariance that has grown 1e9-fold along one direction: L in the other is still right.

    With A and cov of one eigenbasis L is sigma h(a^2 sigma^2) direction by direction. Squared, the
    scores are 1e18 apart, and the eigenvalues of F^T A cov A^T F would be rounding.
    """
    c, s = np.cos(0.4), np.sin(0.4)
    basis, sigma, a = np.array([[c, -s], [s, c]]), np.array([1e9, 1.0]), np.array([1.3, 0.7])
    L = conditional_covariance((basis * a) @ basis.T, (basis * sigma) @ basis.T)
    expected = 2 * sigma / (1 + np.sqrt(1 + 4 * (a * sigma) ** 2))
    np.testing.assert_allclose(np.diag(basis.T @ L @ basis), expected, rtol=1e-6)


def test_two_routes_correlations_from_the_joint_covariance():
    # d are the singular values of cov^{-1/2} C cov^{-1/2}, C^T = L A cov, by an eigenproblem.
    for matrix, cov in cases():
        if np.linalg.matrix_rank(cov) < len(cov):
            continue
        C = (conditional_covariance(matrix, cov) @ matrix @ cov).T
        product = np.linalg.solve(cov, C) @ np.linalg.solve(cov, C.T)
        squares = np.sort(np.linalg.eigvals(product).real)[::-1]
        d = canonical_correlations(matrix, cov)
        np.testing.assert_allclose(d**2, squares, rtol=0, atol=1e-9)
        assert np.all((d >= 0) & (d < 1))


def test_identity_small_scores_keep_their_relative_accuracy():
    d = canonical_correlations([[1e-12]], [[1.0]])
    np.testing.assert_allclose(d, 1e-12, rtol=1e-14)


@pytest.mark.parametrize(
    ("matrix", "cov"),
    [
        (A, COV),
        (np.eye(3), np.eye(3)),  # every eigenvalue repeated
        (np.diag([1.0, 1.0, 2.0]), np.diag([1.0, 1.0, 0.25])),
        (np.array([[1.0, 2.0], [2.0, 4.0]]), COV),  # A of rank one
    ],
)
def test_two_routes_derivative_at_repeated_eigenvalues(matrix, cov):
    rng = np.random.default_rng(1)
    probe, dA, dcov = rng.normal(size=(3, *cov.shape))
    dcov = dcov + dcov.T

    def value(step):
        return jnp.sum(probe * conditional_covariance(matrix + step * dA, cov + step * dcov))

    with jax.enable_x64(True):
        h = 1e-5
        difference = (value(h) - value(-h)) / (2 * h)
        np.testing.assert_allclose(jax.jvp(value, (0.0,), (1.0,))[1], difference, rtol=1e-7)
        np.testing.assert_allclose(jax.grad(value)(0.0), difference, rtol=1e-7)


def test_identity_vmap_and_float32():
    covs = np.stack([COV, 2 * COV, np.eye(2)]).astype(np.float32)
    batched = jax.jit(jax.vmap(lambda c: conditional_covariance(jnp.asarray(A), c)))(covs)
    for row, cov in zip(batched, covs, strict=True):
        np.testing.assert_allclose(row, conditional_covariance(A, cov.astype(float)), atol=1e-6)


@pytest.mark.parametrize("function", [canonical_correlations, conditional_covariance])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((A[0], COV), r"A: has shape \(2,\); pass a square matrix"),
        ((A[:1], COV), r"A: has shape \(1, 2\)"),
        ((A, np.eye(3)), r"cov: has shape \(3, 3\); pass the shape of A, \(2, 2\)"),
        ((A * np.nan, COV), "A: has NaN or infinity in 4 of 4 entries"),
        ((A, COV - 2 * np.eye(2)), "cov: has the negative eigenvalue"),
        ((A, A), "cov: is not symmetric"),
    ],
)
def test_refusals(function, args, message, as_user):
    with pytest.raises(ArgumentError, match=message):
        function(*args)
