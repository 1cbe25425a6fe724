"""The kernel of an activation against quadrature in the plane and by arc cosines."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import ArgumentError, in_float64
from translimit.describe import Activation
from translimit.limits.homogenized.activations import (
    activation_kernel,
    kernel_error,
    require_kernel,
)

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(200)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def by_quadrature(activation, cov):
    root = np.linalg.cholesky(cov)
    first, second = np.meshgrid(NODES, NODES, indexing="ij")
    u, v = root[0, 0] * first, root[1, 0] * first + root[1, 1] * second
    values = in_float64(lambda u, v: activation(u) * activation(v), u, v)
    return WEIGHTS @ values @ WEIGHTS


@pytest.mark.parametrize("activation", [Activation.GELU, Activation.GELU_TANH, Activation.SILU])
@pytest.mark.parametrize(("s", "t", "rho"), [(0.3, 0.3, 0.5), (1.0, 0.4, -0.9), (2.0, 3.0, 0.99)])
def test_smooth_activations_against_quadrature(activation, s, t, rho):
    cov = np.array([[s * s, rho * s * t], [rho * s * t, t * t]])
    kernel = in_float64(lambda cov: activation_kernel(activation, cov), cov)
    np.testing.assert_allclose(kernel[0, 1], by_quadrature(activation, cov), atol=1e-5 * s * t)
    one = in_float64(lambda z: activation(z), s * NODES)
    np.testing.assert_allclose(kernel[0, 0], WEIGHTS @ one**2, atol=1e-5 * s * s)
    np.testing.assert_allclose(kernel, kernel.T)


def test_relu_has_its_closed_form():
    # E relu(u)^2 = s^2 / 2; independent inputs: s t / (2 pi); opposite ones: 0.
    cov = np.array([[1.0, 0.0, -1.0], [0.0, 4.0, 0.0], [-1.0, 0.0, 1.0]])
    kernel = in_float64(lambda cov: activation_kernel(Activation.RELU, cov), cov)
    expected = [[0.5, 1 / np.pi, 0.0], [1 / np.pi, 2.0, 1 / np.pi], [0.0, 1 / np.pi, 0.5]]
    np.testing.assert_allclose(kernel, expected, atol=1e-12)
    sizes = np.array([[0.7, 0.3], [0.3, 1.2]])
    (samples,) = np.random.default_rng(0).multivariate_normal([0, 0], sizes, size=(1, 10**6))
    product = np.maximum(samples, 0).prod(axis=1)
    value = in_float64(lambda cov: activation_kernel(Activation.RELU, cov), sizes)[0, 1]
    assert abs(product.mean() - value) < 4.5 * product.std() / 1e3


def test_a_token_without_input_has_no_output():
    kernel = activation_kernel(Activation.SILU, jnp.zeros((2, 2)))
    np.testing.assert_array_equal(kernel, 0.0)


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("std", [0.3, 1.0, 3.0, 10.0, 100.0])
def test_the_error_of_the_kernel_is_known_at_every_deviation(activation, std):
    """Against adaptive quadrature of E phi(u)^2, cut where the activation turns."""
    kernel = in_float64(lambda cov: activation_kernel(activation, cov), np.array([[std**2]]))
    edges = np.unique(np.clip([-9.0, -8 / std, 0.0, 8 / std, 9.0], -9.0, 9.0))
    exact = 0.0
    for low, high in itertools.pairwise(edges):
        nodes, weights = np.polynomial.legendre.leggauss(60)
        z = low + (high - low) * (nodes + 1) / 2
        squares = in_float64(activation, std * z) ** 2 * np.exp(-(z**2) / 2)
        exact += (high - low) / 2 * (weights @ squares) / np.sqrt(2 * np.pi)
    error = abs(kernel[0, 0] / exact - 1.0)
    assert error == pytest.approx(kernel_error(activation, std), rel=1e-2, abs=1e-7)
    if error > 0.01:
        with pytest.raises(ArgumentError, match="in_std: gives inputs of deviation"):
            require_kernel(activation, std)
    else:
        assert require_kernel(activation, std) == kernel_error(activation, std)
