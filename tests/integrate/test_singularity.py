"""Blow-up told apart from growth, on vector fields with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import ArgumentError, Outcome
from translimit.integrate import AdaptiveODE, FixedODE, integrate_ode, singularity_time


def run(field, *, t1=50.0, **options):
    with jax.enable_x64(True):
        return integrate_ode(
            field,
            jnp.ones(1),
            t1=jnp.asarray(t1),
            ts=jnp.linspace(0.0, t1, 11),
            method=AdaptiveODE(**options),
            size=lambda y: jnp.sum(y**2),
        )


@pytest.mark.parametrize("power", [1.25, 1.5, 2.0, 3.0, 6.0])
def test_power_laws_blow_up_on_time(power):
    """y' = y^p from 1 blows up at 1 / (p - 1), like (t* - t)^(-1 / (p - 1))."""
    result = run(lambda t, y: y**power)
    assert result.outcome == Outcome.blow_up
    np.testing.assert_allclose(result.blow_up_time, 1 / (power - 1), rtol=1e-7)


def test_exponential_growth_is_divergence():
    result = run(lambda t, y: y)
    assert result.outcome == Outcome.divergence
    assert np.isinf(result.blow_up_time)


def test_double_exponential_growth_is_divergence():
    """y' = y log y grows like a double exponential and never ends."""
    result = run(lambda t, y: y * jnp.log(jnp.e * y))
    assert result.outcome == Outcome.divergence


@pytest.mark.parametrize(("faster", "stiffness"), [(3.0, 0.0), (20.0, 0.0), (20.0, 3e3)])
def test_one_exponential_overtaking_another_is_no_singularity(faster, stiffness):
    """Where both are equal q is above its threshold, and further on it is not."""
    rates = jnp.array([1.0, faster, -stiffness])
    with jax.enable_x64(True):
        state = jnp.array([1.0, 1.0, 0.0])
        singular, time = singularity_time(
            lambda t, y: rates * y, lambda y: jnp.sum(y**2), jnp.asarray(1.0), state
        )
    assert not singular
    assert np.isinf(time)


def test_a_stiff_direction_does_not_hide_a_singularity():
    """y' = y^2 beside z' = -1e3 y z: blows up at t + 1 / y."""
    with jax.enable_x64(True):
        singular, time = singularity_time(
            lambda t, y: jnp.stack([y[0] ** 2, -1e3 * y[0] * y[1]]),
            lambda y: jnp.sum(y**2),
            jnp.asarray(0.0),
            jnp.array([2.0, 1e-9]),
        )
    assert singular
    np.testing.assert_allclose(time, 0.5, rtol=1e-9)


def test_explicit_time_dependence():
    """y' = 2 t y^2 from 1: y = 1 / (1 - t^2)."""
    result = run(lambda t, y: 2 * t * y**2)
    np.testing.assert_allclose(result.blow_up_time, 1.0, rtol=1e-7)


def test_local_exponent_is_exact():
    """On the exact solution S = (t* - t)^(-2), y' = y^2, the answer is t* from any state."""
    with jax.enable_x64(True):
        singular, time = singularity_time(
            lambda t, y: y**2, lambda y: y[0] ** 2, jnp.asarray(0.3), jnp.asarray([1 / 0.7])
        )
    assert singular
    np.testing.assert_allclose(time, 1.0, rtol=1e-14)


def test_decay_is_no_singularity():
    with jax.enable_x64(True):
        singular, time = singularity_time(
            lambda t, y: -(y**3), lambda y: y[0] ** 2, jnp.asarray(0.0), jnp.asarray([1.0])
        )
    assert not singular
    assert np.isinf(time)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("name", ["rtol", "atol", "max_steps", "growth_limit"])
def test_refusals(name):
    with pytest.raises(ArgumentError, match=name):
        AdaptiveODE(**{name: 0})
    with pytest.raises(ArgumentError, match="steps"):
        FixedODE(steps=0)
