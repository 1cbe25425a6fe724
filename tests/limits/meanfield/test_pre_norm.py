"""Pre-LN tokens: the polar equations, collapse to zero norm, refusals."""

import diffrax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from translimit import solve
from translimit.core import ArgumentError, Outcome
from translimit.integrate import AdaptiveODE
from translimit.limits.meanfield import PreNormFlow, equal_cosine_rate

METHOD = AdaptiveODE(rtol=1e-9, atol=1e-11, step_to_saves=False, solver=diffrax.Tsit5())


def test_equiangular_tokens_follow_the_polar_equations():
    """rho' is that of the sphere over r, and r' = <theta, Gamma>."""
    beta, tokens, radius = 2.0, 4, 1.7

    def polar(t, state):
        rho, r = state
        kernel = (tokens - 1) * np.exp(beta * (rho - 1))
        return [equal_cosine_rate(rho, beta, tokens) / r, (1 + kernel * rho) / (1 + kernel)]

    ts = np.array([0.5, 1.5, 3.0])
    exact = solve_ivp(polar, (0, 3), [0.0, radius], rtol=1e-11, atol=1e-12, t_eval=ts).y.T
    flow = PreNormFlow(initial=radius * np.eye(tokens), t1=3.0, beta=beta)
    for cloud, (rho, r) in zip(solve(flow, METHOD, save=ts).tokens, exact, strict=True):
        gram = r**2 * (rho + (1 - rho) * np.eye(tokens))
        np.testing.assert_allclose(cloud @ cloud.T, gram, rtol=1e-7)


def test_tokens_that_agree_fall_into_the_origin_at_unit_speed():
    """With V = -I the norm falls as r0 - t, and the flow ends at t = r0."""
    initial = np.tile([3.0, 4.0, 0.0, 0.0], (4, 1))
    flow = PreNormFlow(initial=initial, t1=8.0, beta=1.0, V=-np.eye(4))
    solution = solve(flow, METHOD, save=[0.0, 2.5, 8.0])
    np.testing.assert_allclose(solution.tokens[:2], [initial, initial / 2], rtol=1e-8)
    assert bool(solution.outcome == Outcome.blow_up)
    assert solution.blow_up_time == pytest.approx(5.0, rel=1e-6)
    assert np.all(np.isnan(solution.tokens[2]))


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ArgumentError, match="token 0 has norm zero"):
        PreNormFlow(initial=[[0.0, 0.0]], t1=1.0, beta=1.0)
    with pytest.raises(ArgumentError, match="beta: got -1"):
        PreNormFlow(initial=[[1.0, 0.0]], t1=1.0, beta=-1.0)
