"""Positive semi-definite matrices: validation, and a root with a derivative."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import ArgumentError, psd_sqrt, require_covariance


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def spectrum(*eigenvalues: float) -> jax.Array:
    """A matrix with the given eigenvalues in a random basis."""
    dim = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(dim).normal(size=(dim, dim)))[0]
    return jnp.asarray((basis * np.array(eigenvalues)) @ basis.T)


SPECTRA = [(2.0,), (1.0, 4.0), (3.0, 3.0, 3.0), (1.0, 2.0, 2.0), (0.0, 1.0, 1.0, 5.0), (0.0, 0.0)]


@pytest.mark.parametrize("eigenvalues", SPECTRA)
def test_the_root_squares_to_the_matrix_and_is_the_positive_one(
    eigenvalues: tuple[float, ...],
) -> None:
    cov = spectrum(*eigenvalues)
    root = psd_sqrt(cov)
    np.testing.assert_allclose(root @ root, cov, atol=1e-14)
    np.testing.assert_allclose(root, root.T, atol=1e-15)
    assert np.linalg.eigvalsh(root)[0] > -1e-14


@pytest.mark.parametrize("eigenvalues", [s for s in SPECTRA if min(s) > 0])
def test_its_derivative_agrees_with_finite_differences(eigenvalues: tuple[float, ...]) -> None:
    cov = spectrum(*eigenvalues)
    direction = np.random.default_rng(1).normal(size=cov.shape)
    direction = jnp.asarray(direction + direction.T)
    _, derivative = jax.jvp(psd_sqrt, (cov,), (direction,))
    step = 1e-5
    difference = (psd_sqrt(cov + step * direction) - psd_sqrt(cov - step * direction)) / (2 * step)
    np.testing.assert_allclose(derivative, difference, atol=1e-8)


@pytest.mark.parametrize("inner", [(1.0, 5.0), (2.0, 2.0)])
def test_its_derivative_within_the_range_of_a_singular_matrix(inner: tuple[float, ...]) -> None:
    # cov = B c B^T with c invertible and B of orthonormal columns has the root B c^(1/2) B^T, so
    # finite differences of c^(1/2) are independent of what happens in the null space.
    basis = jnp.linalg.qr(jnp.asarray(np.random.default_rng(0).normal(size=(4, 2))))[0]
    c = spectrum(*inner)
    direction = jnp.array([[0.3, -0.7], [-0.7, 1.1]])
    step = 1e-5
    difference = (psd_sqrt(c + step * direction) - psd_sqrt(c - step * direction)) / (2 * step)
    _, derivative = jax.jvp(psd_sqrt, (basis @ c @ basis.T,), (basis @ direction @ basis.T,))
    np.testing.assert_allclose(derivative, basis @ difference @ basis.T, atol=1e-8)


def test_rotating_the_range_of_a_singular_matrix() -> None:
    # d(R cov R^T) with R a rotation gives d(R S R^T): a direction that leaves the range.
    cov = spectrum(0.0, 1.0, 3.0)
    generator = np.random.default_rng(2).normal(size=(3, 3))
    generator = jnp.asarray(generator - generator.T)
    root, derivative = jax.jvp(psd_sqrt, (cov,), (generator @ cov - cov @ generator,))
    np.testing.assert_allclose(derivative, generator @ root - root @ generator, atol=1e-7)


def test_directions_without_a_derivative_give_zero_and_not_noise() -> None:
    # The smallest eigenvalues of F F^T are rounding, of either sign.
    factor = np.random.default_rng(3).normal(size=(6, 2))
    cov = jnp.asarray(factor @ factor.T)
    _, derivative = jax.jvp(psd_sqrt, (cov,), (jnp.eye(6),))
    assert jnp.max(jnp.abs(derivative)) < 10 / jnp.sqrt(jnp.linalg.eigvalsh(cov)[-2])
    zero = jax.grad(lambda c: psd_sqrt(c).sum())(jnp.zeros((3, 3)))
    np.testing.assert_array_equal(zero, 0.0)


def test_reverse_mode_and_vmap() -> None:
    # tr cov^(1/2) has the gradient cov^(-1/2) / 2.
    cov = spectrum(1.0, 2.0, 2.0)
    gradient = jax.jit(jax.grad(lambda c: jnp.trace(psd_sqrt(c))))(cov)
    np.testing.assert_allclose(gradient, jnp.linalg.inv(psd_sqrt(cov)) / 2, atol=1e-12)
    batch = jnp.stack([cov, 4 * cov])
    np.testing.assert_allclose(jax.vmap(psd_sqrt)(batch)[1], 2 * psd_sqrt(cov), atol=1e-14)


def test_covariances_come_through_unchanged() -> None:
    for eigenvalues in SPECTRA:
        cov = np.asarray(spectrum(*eigenvalues))
        assert require_covariance(cov) is cov
    rounding = np.array([[1.0, 0.5 + 4e-9], [0.5, 1.0]])
    assert require_covariance(rounding) is rounding
    assert require_covariance(np.diag([1.0, -5e-11])).shape == (2, 2)


REFUSED = [
    (np.array([[1.0, 0.5 + 1e-7], [0.5, 1.0]]), "not symmetric"),
    (np.array([[1.0, 0.5], [0.0, 1.0]]), "not symmetric"),
    (np.diag([1.0, -2e-10]), "has .*negative eigenvalue"),
    (-np.eye(2), "has .*negative eigenvalue"),
]


@pytest.mark.parametrize(("cov", "message"), REFUSED)
def test_others_are_refused_concrete_and_traced(cov: np.ndarray, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^cov0: .*{message}"):
        require_covariance(cov, "cov0")
    with pytest.raises(eqx.EquinoxRuntimeError, match=f"cov0: {message}"):
        jax.block_until_ready(eqx.filter_jit(require_covariance)(jnp.asarray(cov), "cov0"))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 0), (1, 2, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"cov: has shape .*; pass a square matrix"):
        require_covariance(np.zeros(shape))


def test_nan_is_refused_by_count() -> None:
    with pytest.raises(ArgumentError, match="cov: has NaN or infinity in 1 of 4 entries"):
        require_covariance(np.array([[1.0, np.nan], [0.0, 1.0]]))


def test_valid_traced_covariances_pass() -> None:
    cov = spectrum(0.0, 1.0)
    np.testing.assert_array_equal(eqx.filter_jit(require_covariance)(cov, "cov"), cov)
