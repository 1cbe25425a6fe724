"""Closures of all variants but softmax: acceptance figures, exact laws, layers."""

import numpy as np
import pytest
from scipy.linalg import polar
from tests.limits.meanfield.canonical import COV, MEAN, T1, K, Q, V
from tests.limits.meanfield.cases import LAW, QKV

from translimit import Outcome, solve
from translimit.attention import (
    L2,
    FeedForward,
    Layered,
    Linear,
    MultiHead,
    Sigmoid,
    Sinkhorn,
    Softmax,
    Unnormalized,
)
from translimit.core import ArgumentError, NoSuchLimitError
from translimit.integrate import AdaptiveODE, FixedODE
from translimit.limits.meanfield import GaussianFlow, MomentClosure, ParticleFlow
from translimit.models import ResidualAttention

CHANGING = Layered([Softmax(**QKV), Softmax(Q=K, K=Q, V=-V)], [0.0, 0.4])
ENDS = [0.4, T1]


def five(solution) -> np.ndarray:
    """Mean and covariance at the end: alpha_1, alpha_2, Sigma_11, Sigma_12, Sigma_22."""
    cov = solution.cov[-1]
    return np.array([*solution.mean[-1], cov[0, 0], cov[0, 1], cov[1, 1]])


@pytest.mark.parametrize(
    ("problem", "attention", "expected", "tolerance"),
    [
        (
            GaussianFlow,
            L2(**QKV),
            "0.7441115545 -0.7413459655 1.1113027643 0.1788424140 0.4416080222",
            1e-7,
        ),
        (
            GaussianFlow,
            Linear(**QKV),
            "0.4889261108 -0.4171942752 1.1015385177 0.1189132492 0.4573675446",
            1e-7,
        ),
        (
            MomentClosure,
            Sigmoid(**QKV, bias=0.5),
            "0.6998885 -0.5768066 0.8612535 0.1878463 0.4884950",
            1e-5,
        ),
        (
            GaussianFlow,
            CHANGING,
            "0.3995576313 -0.3186515984 0.7523433158 0.2229306642 0.4362187296",
            1e-6,
        ),
    ],
    ids=["row 2, L2", "row 4, linear", "row 5, sigmoid", "row 6, layers"],
)
def test_acceptance_rows_2_4_5_6(problem, attention, expected, tolerance):
    solution = solve(problem(attention=attention, **LAW), save=ENDS)
    np.testing.assert_allclose(five(solution), np.array(expected.split(), float), rtol=tolerance)
    assert solution.outcome == Outcome.successful
    # A projection says so, wherever it goes.
    assert solution.exact is (problem is GaussianFlow)
    label = solution.to_xarray().attrs["closure"]
    assert label == "exact" if solution.exact else label.startswith("approximate")


def test_acceptance_row_17_l2_with_rank_deficient_keys_blows_up():
    attention = L2(Q=[[0.0, 1.0]], K=[[1.0, 0.0]], V=np.diag([0.0, 1.0]))
    cov = [[1.0, 0.5], [0.5, 1.0]]
    solution = solve(
        GaussianFlow(attention=attention, mean=[0.0, 0.0], cov=cov, t1=5.0), save=[1.0, 5.0]
    )
    assert solution.outcome == Outcome.blow_up
    np.testing.assert_allclose(solution.blow_up_time, 3.0, rtol=1e-5)
    # Sigma_12' = 2 Sigma_12^2 / (1 + 2 a) with a = 1: at t = 1 it is 3 / 4.
    np.testing.assert_allclose(solution.cov[0, 0], [1.0, 0.75], rtol=1e-7)
    assert np.isnan(solution.cov[1]).all()


def test_acceptance_row_18_scalar_l2():
    attention = L2(Q=[[1.1]], K=[[0.9]], V=[[0.8]])
    solution = solve(GaussianFlow(attention=attention, mean=[0.0], cov=[[0.7]], t1=1.3), save=[1.3])
    cov, B, A = solution.cov[-1, 0, 0], 0.81, 0.99
    np.testing.assert_allclose(cov, 4.257568240, rtol=1e-8)
    # The closed form from which the figure comes.
    np.testing.assert_allclose(1 / 0.7 - 1 / cov + 2 * B * np.log(cov / 0.7), 4 * 0.8 * A * 1.3)


def test_identity_l2_limit_for_opposite_queries_and_keys():
    """V = I, K = -Q: Sigma tends to F (I - P) F with F = Sigma_0^(1/2), P the row space of QF."""
    rng = np.random.default_rng(4)
    query, root = rng.normal(size=(1, 3)), rng.normal(size=(3, 3))
    cov = root @ root.T
    attention = L2(Q=query, K=-query, V=np.eye(3), score_scale=0.7, key_scale=1.1)
    solution = solve(
        GaussianFlow(attention=attention, mean=np.zeros(3), cov=cov, t1=1e7), save=[1e7]
    )
    values, basis = np.linalg.eigh(cov)
    half = (basis * np.sqrt(values)) @ basis.T
    row = half @ query[0] / np.linalg.norm(half @ query[0])
    limit = half @ (np.eye(3) - np.outer(row, row)) @ half
    np.testing.assert_allclose(solution.cov[-1], limit, atol=1e-6 * np.trace(cov))
    # The direction that is lost decays like 1 / t: it is small, and the rank is still 3.
    smallest = np.linalg.svd(solution.factor[-1], compute_uv=False)[-1] ** 2
    assert 0 < smallest < 1e-6 * np.trace(cov)


@pytest.mark.parametrize("weighted", [False, True])
def test_identity_linear_closure_is_exact_for_any_law_and_any_number_of_tokens(weighted):
    rng = np.random.default_rng(5)
    cloud = rng.exponential(size=(7, 2)) - 0.6
    weights = rng.dirichlet(np.ones(7)) if weighted else None
    attention = FeedForward(Linear(**QKV), W=[[0.2, -0.5], [0.1, 0.3]], b=[0.3, -0.1])
    method = AdaptiveODE(rtol=1e-10, atol=1e-12)
    flow = ParticleFlow(attention=attention, initial=cloud, t1=0.5, weights=weights)
    particles = solve(flow, method, save=[0.0, 0.5])
    law = {"mean": particles.mean[0], "cov": particles.cov[0], "t1": 0.5}
    closure = solve(GaussianFlow(attention=attention, **law), method, save=[0.0, 0.5])
    np.testing.assert_allclose(particles.mean[-1], closure.mean[-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(particles.cov[-1], closure.cov[-1], rtol=0, atol=1e-9)


def test_two_routes_layers_as_one_problem_and_segment_by_segment():
    for method in (AdaptiveODE(), FixedODE(steps=31)):
        whole = solve(GaussianFlow(attention=CHANGING, **LAW), method, save=ENDS)
        law = {"mean": MEAN, "cov": COV}
        for index in (0, 1):
            part = solve(
                GaussianFlow(attention=CHANGING.layer(index), **law, t1=0.4), save=[0.1, 0.4]
            )
            law = {"mean": part.mean[-1], "cov": part.cov[-1]}
            # Tsit5 with 31 steps of 0.026 is accurate to 1e-9 where no step straddles the jump.
            np.testing.assert_allclose(whole.cov[index], law["cov"], rtol=1e-8)
            np.testing.assert_allclose(whole.mean[index], law["mean"], rtol=1e-8)


@pytest.mark.parametrize("causal", [False, True])
def test_two_routes_layers_of_a_network_follow_the_layered_flow(causal):
    """Euler with L steps is the network of L layers; error(L) / error(2 L) tends to 2."""
    first = MultiHead.from_matrices(Q, K, V, heads=2, causal=causal)
    second = MultiHead.from_matrices(K, Q, -V, heads=2, causal=causal)
    attention = Layered([first, second], [0.0, 0.3])
    cloud = np.random.default_rng(6).uniform(-1, 1, (9, 2))
    positions = np.arange(9.0) / 9 if causal else None
    flow = ParticleFlow(attention=attention, initial=cloud, t1=1.0, positions=positions)
    exact = solve(flow, AdaptiveODE(rtol=1e-10, atol=1e-12), save=[1.0]).tokens[-1]
    errors = []
    for layers in (40, 80):
        path = ResidualAttention(attention, layers).simulate(cloud, positions=positions)
        errors.append(np.abs(path.tokens[-1] - exact).max())
    assert 1.9 < errors[0] / errors[1] < 2.1
    # In NumPy, layer by layer: the one at depth 0.3 = 12 / 40 is already the second.
    tokens = cloud
    for layer in range(40):
        here = first if layer < 12 else second
        options = {"x_positions": positions, "positions": positions} if causal else {}
        tokens = tokens + here(tokens, tokens, **options) / 40
    path = ResidualAttention(attention, 40).simulate(cloud, positions=positions)
    np.testing.assert_allclose(path.tokens[-1], tokens, rtol=1e-11)


def test_refusals(as_user):
    for attention in (
        Sigmoid(**QKV),
        Unnormalized(**QKV),
        FeedForward(Sigmoid(**QKV), W=V),
        Layered([Sigmoid(**QKV)], [0.0]),
    ):
        with pytest.raises(NoSuchLimitError, match="MomentClosure, which is approximate"):
            GaussianFlow(attention=attention, **LAW)
    for attention in (L2(**QKV, causal=True), Linear(**QKV, causal=True)):
        with pytest.raises(NoSuchLimitError, match="causal"):
            GaussianFlow(attention=attention, **LAW)
    with pytest.raises(NoSuchLimitError, match="Softmax needs no moment closure"):
        MomentClosure(attention=Softmax(**QKV), **LAW)
    with pytest.raises(NoSuchLimitError, match="causal"):
        MomentClosure(attention=Sigmoid(**QKV, causal=True), **LAW)
    with pytest.raises(ArgumentError, match="cov: is not symmetric"):
        MomentClosure(attention=Sigmoid(**QKV), **LAW | {"cov": [[1.0, 0.5], [0.0, 1.0]]})
    with pytest.raises(ArgumentError, match="mean: has shape"):
        MomentClosure(attention=Sigmoid(**QKV), **LAW | {"mean": [1.0]})
    with pytest.raises(ArgumentError, match="t1: got 0"):
        MomentClosure(attention=Sigmoid(**QKV), **LAW | {"t1": 0.0})


@pytest.mark.parametrize("seed", range(3))
def test_far_out_sinkhorn_turns_tokens_by_a_polar_factor(seed: int) -> None:
    """Covariances grow like e^(2 t cos theta), by SciPy's polar decomposition; not like e^(2 t)."""
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(2, 2))
    turn = 0.5 + 0.3 * seed
    A = root @ root.T @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    factor = generator.normal(size=(2, 2))
    cov = 1e8 * factor @ factor.T
    field = Sinkhorn(Q=A, K=np.eye(2), V=np.eye(2), score_scale=1.0)
    end = solve(
        GaussianFlow(attention=field, mean=np.zeros(2), cov=cov, t1=0.5), AdaptiveODE(rtol=1e-9)
    ).cov[-1]
    values, axes = np.linalg.eigh(cov)
    half = (axes * np.sqrt(values)) @ axes.T
    rotation, _ = polar(half @ A @ half)
    cosine = np.trace(rotation) / 2
    assert abs(cosine) < 0.99
    np.testing.assert_allclose(end, np.exp(cosine) * cov, rtol=1e-3)
