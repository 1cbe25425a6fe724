"""Rodas5: its order, its error estimate, and stiff systems with long steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.integrate.rosenbrock import rosenbrock_step


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def riccati(s, y):
    """y' = -e^s y^2 and, from y, z' = e^s (y z - z^2): both depend on s by the factor e^s."""
    return jnp.exp(s) * jnp.stack([-(y[0] ** 2), y[0] * y[1] - y[1] ** 2])


def exact(s):
    """From (1, 1) at s = 0. In t = e^s - 1, 1 / z solves w' = -y w + 1 with y = 1 / (1 + t)."""
    t = np.expm1(s)
    return np.array([1 / (1 + t), (1 + t) / (1 + t + t**2 / 2)])


@jax.jit
def riccati_step(s, h, y):
    return rosenbrock_step(lambda node, y: riccati(s + node * h, y), h, lambda f: f, y)


def errors(steps):
    """Of `steps` steps to s = 1, and the largest estimate of one of them."""
    y, h, estimates = jnp.array([1.0, 1.0]), 1.0 / steps, []
    for i in range(steps):
        change, estimate, _ = riccati_step(i * h, h, y)
        y = y + change
        estimates.append(np.linalg.norm(estimate))
    return np.linalg.norm(y - exact(1.0)), max(estimates)


def test_order_five_with_an_estimate_of_order_four():
    found = np.array([errors(steps) for steps in (8, 16, 32)])
    orders = np.log2(found[:-1] / found[1:])
    assert np.all(orders[:, 0] > 4.7), orders
    # The estimate is of one step, so of one order more than the method behind it.
    assert np.all((orders[:, 1] > 4.4) & (orders[:, 1] < 5.6)), orders
    assert found[-1, 0] < 1e-9


@pytest.mark.parametrize("rate", [1e3, 1e6, 1e9])
def test_a_fast_contraction_does_not_limit_the_step(rate):
    """y' = rate (cos s - y) - sin s with y = cos s: a step of a tenth follows the slow curve."""
    h, s = 0.1, 0.5

    @jax.jit
    def follow(y):
        def slope(node, y):
            return rate * (jnp.cos(s + node * h) - y) - jnp.sin(s + node * h)

        return y + rosenbrock_step(slope, h, lambda f: -rate * np.sin(s) - np.cos(s) + 0 * f, y)[0]

    @jax.jit
    def contract(y):
        return y + rosenbrock_step(lambda _, y: -rate * y, h, jnp.zeros_like, y)[0]

    np.testing.assert_allclose(follow(jnp.array([np.cos(s)])), np.cos(s + h), atol=1e-6)
    # Off the curve, it is reached in one step.
    assert abs(float(contract(jnp.ones(1))[0])) < 50 / (rate * h)
