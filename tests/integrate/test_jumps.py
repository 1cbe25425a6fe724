"""Fields that jump at known times: exact between jumps, orders kept, grids that meet jumps."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import Outcome
from translimit.integrate import AdaptiveODE, FixedODE, integrate_ode

RATES = np.array([1.0, -2.0, 0.5])
JUMPS = np.array([0.3, 0.7])


def exact(t):
    """y' = rate(t) y with y(0) = 1: the exponential of the integrated rate."""
    edges = np.array([0.0, *JUMPS, np.inf])
    return np.exp(sum(r * (np.clip(t, a, b) - a) for r, a, b in zip(RATES, edges, edges[1:])))  # noqa: B905


def solve_jumping(method, ts, jumps=JUMPS, double=True):
    """States [times], steps and outcome on the host."""
    with jax.enable_x64(double):
        dtype = np.float64 if double else np.float32
        jumps = None if jumps is None else np.asarray(jumps, dtype)
        result = _solve_jumping(method, np.asarray(ts, dtype), jumps)
        return (
            np.asarray(result.states)[:, 0],
            int(result.steps_taken),
            bool(result.outcome == Outcome.successful),
        )


@eqx.filter_jit
def _solve_jumping(method, ts, jumps):
    def field(t, y):
        index = jnp.searchsorted(jnp.asarray(JUMPS, t.dtype), t, side="right")
        return jnp.asarray(RATES, y.dtype)[index] * y

    return integrate_ode(
        field,
        jnp.ones(1),
        t1=jnp.array(1.0),
        ts=jnp.asarray(ts),
        method=method,
        size=lambda y: jnp.sum(y**2),
        jumps=None if jumps is None else jnp.asarray(jumps),
    )


def test_identity_adaptive_steps_keep_their_accuracy_across_jumps():
    ts = np.array([0.1, 0.3, 0.6, 0.7, 1.0])
    states, _, successful = solve_jumping(AdaptiveODE(), ts)
    assert successful
    np.testing.assert_allclose(states, exact(ts), rtol=1e-9)
    # Told of the jumps, the controller does not have to find them.
    method = AdaptiveODE(step_to_saves=False)
    assert solve_jumping(method, ts)[1] < solve_jumping(method, ts, jumps=None)[1]


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("steps", "taken"), [(10, 10), (20, 20), (16, 18)])
def test_identity_equal_steps_meet_the_jumps(steps, taken, double):
    """Jumps on the grid cost no step, others one each; the last step ends at t1."""
    states, number, successful = solve_jumping(FixedODE(steps=steps), [0.7, 1.0], double=double)
    assert (number, successful) == (taken, True)
    tolerance = 1e-7 if double else 1e-5
    np.testing.assert_allclose(states, exact(np.array([0.7, 1.0])), rtol=tolerance)


def test_orders_equal_steps_keep_order_five_across_jumps():
    """Halving the step divides the error by about 32; where a step straddles a jump, by about 2."""
    errors = [abs(solve_jumping(FixedODE(steps=n), [1.0])[0][0] - exact(1.0)) for n in (10, 20)]
    assert 20 < errors[0] / errors[1] < 80


def test_identity_euler_with_jumps_is_the_product_of_its_factors():
    states = solve_jumping(FixedODE(steps=10, solver=diffrax.Euler()), [1.0])[0]
    factors = 1 + 0.1 * RATES[np.searchsorted(JUMPS, (np.arange(10) + 0.5) / 10)]
    np.testing.assert_allclose(states[0], np.prod(factors), rtol=1e-12)
