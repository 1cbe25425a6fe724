"""Logistic-normal integrals and the sigmoid field of a Gaussian, against adaptive quadrature."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit

from translimit.attention import Sigmoid
from translimit.attention.logistic_integrals import logistic_derivative, logistic_normal
from translimit.core import in_float64

SCALAR = Sigmoid(Q=[[1.0]], K=[[1.0]], V=[[1.0]])
STDS = (0.0, 1e-8, 1e-3, 0.3, 0.999, 1.0, 1.001, 3.0, 4.0, 6.0, 10.0, 1e2, 1e4, 1e8)


def derivative(z, order):
    """sigma, sigma' and sigma'' written out."""
    p, q = expit(z), expit(-z)
    return (p, p * q, p * q * (q - p))[order]


def adaptive(mean, std, order):
    """E sigma^(order)(mean + std Z), cut where the normal density or the logistic one turns."""
    if std == 0.0:
        return derivative(mean, order)
    turns = [(y - mean) / std for y in (-40, -8, 0, 8, 40)]
    inside = [z for z in turns if -12 < z < 12]
    edges = np.unique([-12.0, -3.0, 3.0, 12.0, *inside])
    pieces = [
        quad(
            lambda z: np.exp(-(z**2) / 2) * derivative(mean + std * z, order),
            low,
            high,
            epsabs=1e-15,
            epsrel=1e-13,
            limit=200,
        )[0]
        for low, high in itertools.pairwise(edges)
    ]
    return sum(pieces) / np.sqrt(2 * np.pi)


def ours(mean, std, order):
    return in_float64(
        jax.jit(lambda m, v: logistic_normal(m, v, order)), np.asarray(mean), np.asarray(std) ** 2
    )


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("std", STDS)
def test_logistic_normal_integrals_against_adaptive_quadrature(std, order):
    means = np.array([0.0, 0.7, -3.0, 25.0, -80.0, 2.5 * std])
    expected = [adaptive(mean, std, order) for mean in means]
    np.testing.assert_allclose(ours(means, np.full(6, std), order), expected, rtol=0, atol=2e-14)


@settings(max_examples=10, deadline=None)
@given(st.floats(-200.0, 200.0), st.floats(-8.0, 8.0))
def test_logistic_normal_integrals_at_any_mean_and_spread(mean, exponent):
    std = 10.0**exponent
    for order in (0, 1):
        expected = adaptive(mean, std, order)
        assert abs(ours([mean], [std], order)[0] - expected) < 2e-14


@pytest.mark.parametrize("std", [1.0, 3.0, 4.0, 6.0, 10.0, 1e3])
def test_the_sigmoid_velocity_of_a_gaussian_in_one_dimension(std):
    """Q = K = V = 1, x = 1, mean 0: Gamma = std^2 E sigma'(std Z)."""
    expected = std**2 * adaptive(0.0, std, 1)
    found = SCALAR.gaussian_velocity([[1.0]], [0.0], [[std**2]])
    np.testing.assert_allclose(found, [[expected]], rtol=1e-12)


def test_derivatives_of_the_logistic_function_are_those_of_jax():
    function = jax.nn.sigmoid
    with jax.enable_x64(True):
        z = jnp.asarray(np.linspace(-4.0, 4.0, 17))
        for order in range(4):
            np.testing.assert_allclose(
                logistic_derivative(z, order), jax.vmap(function)(z), rtol=0, atol=1e-13
            )
            function = jax.grad(function)


def test_the_velocity_can_be_differentiated_at_every_point():
    """By central differences of adaptive quadrature; at x = 0 the scores have no spread."""

    def exact(x):
        mean, std = 0.3 * x, 2.0 * abs(x)
        return 0.3 * adaptive(mean, std, 0) + 4.0 * x * adaptive(mean, std, 1)

    def velocity(x):
        return SCALAR.gaussian_velocity(x[None, None], [0.3], [[4.0]])[0, 0]

    points = np.array([0.0, 1e-9, 0.4, 7.0])
    with jax.enable_x64(True):
        slopes = jax.jit(jax.vmap(jax.grad(velocity)))(jnp.asarray(points))
    h = 1e-4
    expected = [(exact(x + h) - exact(x - h)) / (2 * h) for x in points]
    np.testing.assert_allclose(slopes, expected, rtol=2e-7, atol=2e-7)


def test_single_precision_keeps_its_digits():
    means = np.array([0.0, -2.0, 5.0], np.float32)
    for std in (0.2, 1.0, 30.0):
        for order in (0, 1):
            expected = [adaptive(float(mean), std, order) for mean in means]
            found = logistic_normal(jnp.asarray(means), jnp.full(3, std**2, jnp.float32), order)
            assert found.dtype == jnp.float32
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
