"""Sinkhorn flows: acceptance row 3, closed forms, the mean of any cloud, failures, derivatives."""

import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import expm
from scipy.optimize import brentq
from tests.limits.meanfield.canonical import COV, MEAN, T1, K, Q, V

from translimit import Outcome, solve
from translimit.attention import Sinkhorn, Softmax
from translimit.core import SolveError
from translimit.limits.meanfield import FixedODE, GaussianFlow, ParticleFlow

RNG = np.random.default_rng(0)
CLOUD = 0.6 * RNG.exponential(size=(24, 2)) - 0.4  # far from Gaussian
WEIGHTS = RNG.dirichlet(np.ones(24))
STEPS = FixedODE(steps=10)


def closure(attention, mean, cov, t1=T1):
    """The closure at thirds of t1; one compilation serves every test."""
    flow = GaussianFlow(attention=attention, mean=mean, cov=cov, t1=t1)
    return solve(flow, save=[t1 / 3, 2 * t1 / 3, t1])


def test_acceptance_row_3_sinkhorn_closure():
    solution = closure(Sinkhorn(Q=Q, K=K, V=V), MEAN, COV)
    expected_mean = [0.8611431165, -0.7532693574]
    expected_cov = [0.9279398008, 0.2181532763, 0.2181532763, 0.4784675622]
    np.testing.assert_allclose(solution.mean[-1], expected_mean, rtol=1e-7)
    np.testing.assert_allclose(solution.cov[-1].reshape(-1), expected_cov, rtol=1e-7)


def test_two_routes_scalar_sinkhorn():
    # cov' = 4 V A cov^2 / (1 + sqrt(1 + 4 A^2 cov^2)), integrated as t(cov) by quadrature; two
    # scalar problems, one growing and one decaying, as one diagonal one.
    values, scores, start, t1 = np.array([0.7, -0.9]), np.array([1.3, 0.6]), [0.9, 1.4], 1.2
    attention = Sinkhorn(Q=np.diag(scores), K=np.eye(2), V=np.diag(values))
    final = closure(attention, np.zeros(2), np.diag(start), t1).cov[-1]

    def exact(v, a, first):
        def time(cov):
            def slowness(s):
                return (1 + np.sqrt(1 + 4 * a**2 * s**2)) / (4 * v * a * s**2)

            return quad(slowness, first, cov, epsabs=1e-13, epsrel=1e-13)[0]

        bracket = (first, 50.0) if v * a > 0 else (1e-3, first)
        return brentq(lambda c: time(c) - t1, *bracket, xtol=1e-13)

    expected = [exact(*case) for case in zip(values, scores, start, strict=True)]
    np.testing.assert_allclose(np.diag(final), expected, rtol=1e-7)
    assert abs(final[0, 1]) < 1e-12


def test_identity_gaussian_class_never_blows_up():
    # tr(cov + mean mean^T) <= e^{2 ||V|| t} times its start, where softmax blows up at t = 0.125.
    strong = Sinkhorn(Q=2 * np.eye(2), K=np.eye(2), V=np.eye(2))
    solution = closure(strong, MEAN, 2 * np.eye(2), 3.0)
    assert solution.outcome == Outcome.successful
    second = np.trace(solution.cov, axis1=1, axis2=2) + np.sum(solution.mean**2, axis=1)
    start = 4.0 + MEAN @ MEAN
    assert np.all(second <= np.exp(2 * solution.ts) * start * (1 + 1e-9))
    assert second[-1] > 100 * start


def test_identity_the_mean_of_any_cloud_moves_by_V():
    flow = ParticleFlow(
        attention=Sinkhorn(Q=2 * Q, K=K, V=V), initial=CLOUD, t1=1.0, weights=WEIGHTS
    )
    solution = solve(flow, STEPS)
    exact = np.stack([expm(t * V) @ solution.mean[0] for t in solution.ts])
    np.testing.assert_allclose(solution.mean[::10], exact[::10], rtol=0, atol=1e-6)
    # Softmax attention starts off in another direction.
    softmax = WEIGHTS @ Softmax(Q=2 * Q, K=K, V=V)(CLOUD, CLOUD, weights=WEIGHTS)
    assert np.abs(softmax - V @ solution.mean[0]).max() > 1e-2


def test_two_routes_particles_of_a_quadrature_cloud_follow_the_closure():
    nodes, masses = np.polynomial.hermite_e.hermegauss(10)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    weights = np.outer(masses, masses).reshape(-1) / (2 * np.pi)
    cloud = MEAN + grid @ np.linalg.cholesky(COV).T
    attention = Sinkhorn(Q=Q, K=K, V=V)
    particles = solve(
        ParticleFlow(attention=attention, initial=cloud, t1=T1, weights=weights / weights.sum()),
        STEPS,
        save=[T1],
    )
    limit = closure(attention, MEAN, COV)
    np.testing.assert_allclose(particles.mean[-1], limit.mean[-1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(particles.cov[-1], limit.cov[-1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", [None, STEPS])
def test_failure_in_a_flow_is_the_outcome_not_converged(method):
    """A cloud that grows until the rounds are too few: states up to there, and none after."""
    maps = {"Q": np.eye(2) / 2, "K": np.eye(2), "V": np.eye(2) / 2}
    patient = Sinkhorn(**maps)
    reference = solve(
        ParticleFlow(attention=patient, initial=CLOUD, t1=1.0, weights=WEIGHTS), STEPS
    ).tokens
    first, last = (patient.potentials(c, weights=WEIGHTS).iterations for c in reference[[0, -1]])
    assert last > first + 10
    hasty = Sinkhorn(**maps, max_iterations=int(first) + 5)
    flow = ParticleFlow(attention=hasty, initial=CLOUD, t1=1.0, weights=WEIGHTS)
    solution = solve(flow, method, throw=False)
    assert solution.outcome == Outcome.not_converged
    kept = np.isfinite(solution.tokens).all(axis=(1, 2))
    assert 0 < kept.sum() < 101
    assert not kept[kept.sum() :].any()
    np.testing.assert_allclose(solution.tokens[kept], reference[kept], rtol=0, atol=1e-4)
    with pytest.raises(SolveError, match="did not converge") as caught:
        solve(flow, method)
    assert caught.value.solution.outcome == Outcome.not_converged


def test_two_routes_gradient_of_the_closure_equals_central_differences():
    def variance(scale):
        attention = Sinkhorn(Q=Q, K=K, V=V, score_scale=scale)
        flow = GaussianFlow(attention=attention, mean=MEAN, cov=np.eye(2), t1=T1)
        return solve(flow, FixedODE(steps=20), save=[T1]).cov[-1, 0, 1]

    with jax.enable_x64(True):
        function = jax.jit(variance)
        h = 1e-5
        difference = (function(1.0 + h) - function(1.0 - h)) / (2 * h)
        np.testing.assert_allclose(jax.jit(jax.grad(variance))(1.0), difference, rtol=1e-7)
