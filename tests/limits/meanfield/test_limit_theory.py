"""Limits of closures without solving them, and energies along geodesics."""

import numpy as np
import pytest
from scipy.integrate import quad_vec

from translimit import core
from translimit.attention import L2, Linear, Sinkhorn, Softmax
from translimit.core import ArgumentError
from translimit.limits.meanfield import (
    GaussianLimit,
    bures_geodesic,
    identity_limit,
    monotone_rate,
    monotone_weight,
    optimal_map,
    rank_bound,
    score_energy,
    score_energy_curvature,
)
from translimit.observe import gaussian_self_transport

RNG = np.random.default_rng(3)
#: Not symmetric, with eigenvalues in the right half plane.
V = np.array([[0.9, 0.8, 0.0], [-0.4, 0.6, 0.3], [0.1, 0.0, 0.5]])
Q = np.array([[0.7, 0.2, -0.1]])
COV = np.array([[0.8, 0.2, 0.1], [0.2, 0.5, 0.0], [0.1, 0.0, 0.3]])
#: Ends of a geodesic on which both signs of curvature occur.
ENDS = np.array([[1.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.9], [-0.9, 1.0]])
INDEFINITE = np.diag([1.0, -1.0])


def test_monotone_weight_is_its_integral():
    from scipy.linalg import expm

    integral, _ = quad_vec(lambda s: expm(-s * V.T) @ expm(-s * V), 0.0, 80.0)
    np.testing.assert_allclose(monotone_weight(V), integral, atol=1e-8)
    with pytest.raises(ArgumentError, match="V: has two eigenvalues"):
        monotone_weight(INDEFINITE)


@pytest.mark.parametrize("kind", [Softmax, L2, Sinkhorn])
def test_monotone_rate_is_that_of_the_closure(kind):
    options = {"key_scale": 0.4} if kind is L2 else {}
    layer = kind(Q=Q, K=-Q, V=V, score_scale=0.6, **options)
    M = np.asarray(layer.gaussian_field(np.zeros(3), COV)[1])
    rate = np.trace(monotone_weight(V) @ (M @ COV + COV @ M.T))
    np.testing.assert_allclose(monotone_rate(layer, COV), rate, rtol=1e-12)
    assert rate < 0


def test_monotone_rate_refuses():
    with pytest.raises(ArgumentError, match="pass K = -Q"):
        monotone_rate(Softmax(Q=Q, K=Q, V=V), COV)
    with pytest.raises(ArgumentError, match="got Linear"):
        monotone_rate(Linear(Q=Q, K=-Q, V=V), COV)


def test_identity_limit_is_the_end_of_the_closure():
    limit = GaussianLimit(attention=Softmax(Q=Q, K=-Q, V=np.eye(3)), cov=COV, t1=1e8)
    end = core.solve(limit)
    np.testing.assert_allclose(end.last_cov, identity_limit(Q, COV), atol=1e-7)
    assert int(end.rank) == rank_bound(Q) == 2


def test_geodesic_has_constant_speed():
    T = optimal_map(*ENDS)
    np.testing.assert_allclose(T @ ENDS[0] @ T, ENDS[1], atol=1e-12)
    third = bures_geodesic(*ENDS, 0.3)
    zero = np.zeros(2)
    whole = core.bures(zero, ENDS[0], zero, ENDS[1])
    np.testing.assert_allclose(core.bures(zero, ENDS[0], zero, third), 0.3 * whole, rtol=1e-10)


@pytest.mark.parametrize("dim", [2, 3])
def test_curvature_is_the_second_difference(dim):
    factors = RNG.normal(size=(2, dim, dim))
    ends = [factor @ factor.T for factor in factors]
    A = RNG.normal(size=(dim, dim))
    A, step = A + A.T, 1e-3
    values = [score_energy(A, bures_geodesic(*ends, 0.4 + k * step)) for k in (-1, 0, 1)]
    measured = (values[0] - 2 * values[1] + values[2]) / step**2
    np.testing.assert_allclose(score_energy_curvature(A, *ends, 0.4), measured, rtol=1e-4)


def test_energies_at_three_points_of_a_geodesic():
    for A, G, OT in (
        (np.eye(2), (0.9050, 0.2577, 0.9050), (-1.0186, -0.4314, -1.0186)),
        (INDEFINITE, (0.0950, 0.2577, 0.0950), (-0.1754, -0.4314, -0.1754)),
    ):
        path = [bures_geodesic(*ENDS, t) for t in (0.0, 0.5, 1.0)]
        np.testing.assert_allclose([score_energy(A, cov) for cov in path], G, atol=6e-5)
        np.testing.assert_allclose([gaussian_self_transport(A, c) for c in path], OT, atol=6e-5)
    assert score_energy_curvature(np.eye(2), *ENDS, 0.5) > 0
    assert score_energy_curvature(INDEFINITE, *ENDS, 0.5) < 0


@pytest.mark.usefixtures("as_user")
def test_geodesics_refuse():
    with pytest.raises(ArgumentError, match="cov0: is singular"):
        optimal_map(np.diag([1.0, 0.0]), np.eye(2))
    with pytest.raises(ArgumentError, match="cov1: has shape"):
        optimal_map(np.eye(2), np.eye(3))
    with pytest.raises(ArgumentError, match="A: is not symmetric"):
        score_energy_curvature(np.array([[1.0, 1.0], [0.0, 1.0]]), *ENDS, 0.5)
