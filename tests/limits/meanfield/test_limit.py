"""Limits of Gaussian closures: ranks by slopes, closed forms, blow-up, refusals."""

from types import SimpleNamespace

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from translimit import Outcome, solve
from translimit.attention import (
    L2,
    FeedForward,
    FixedSinkhorn,
    Linear,
    MultiHead,
    Sinkhorn,
    Softmax,
)
from translimit.core import ArgumentError, ArgumentTypeError, NoSuchLimitError, SolveError
from translimit.limits.meanfield import (
    UNDECIDED,
    AdaptiveODE,
    GaussianLimit,
    LogTimeODE,
    classify_slopes,
    solve_limits,
)
from translimit.limits.meanfield.score_basis import in_score_basis, stacked

METHOD = LogTimeODE(lanes=16)
LARGEST = 5


def padded(matrix, rows, columns):
    return np.pad(matrix, ((0, rows - matrix.shape[0]), (0, columns - matrix.shape[1])))


def draw(dim, seed):
    """Q [dim // 2, dim] and Sigma_0, as in the rank histograms."""
    generator = np.random.default_rng(seed)
    Q, G = generator.standard_normal((dim // 2, dim)), generator.standard_normal((dim, dim))
    return Q, G @ G.T


def exact_limit(Q, cov):
    values, basis = np.linalg.eigh(cov)
    root = (basis * np.sqrt(values)) @ basis.T
    rows = np.linalg.qr((Q @ root).T)[0]
    return root @ (np.eye(len(cov)) - rows @ rows.T) @ root


@pytest.fixture(scope="module", params=["softmax", "l2"])
def ensemble(request):
    """Four draws in each of d = 3, 4, 5 with V = I, K = -Q, padded to one shape."""
    cases = [(dim, *draw(dim, 10 * dim + index)) for dim in (3, 4, 5) for index in range(4)]
    problems = []
    for dim, Q, cov in cases:
        query = padded(Q, 2, LARGEST)
        maps = {"Q": query, "K": -query, "V": padded(np.eye(dim), LARGEST, LARGEST)}
        attention = (
            Softmax(**maps, score_scale=dim**-0.5)
            if request.param == "softmax"
            else L2(**maps, score_scale=dim**-0.5, key_scale=1.0)
        )
        cov = padded(cov, LARGEST, LARGEST)
        problems.append(GaussianLimit(attention=attention, cov=cov, t1=1e8))
    return cases, solve_limits(problems, METHOD, save=[1.0, 1e8])


def test_acceptance_24_rank_of_every_draw(ensemble):
    cases, solution = ensemble
    dims = np.array([dim for dim, _, _ in cases])
    assert not solution.undecided.any(), solution.slopes
    np.testing.assert_array_equal(solution.rank, (dims + 1) // 2)
    # Padding with zeros adds no rank.
    np.testing.assert_array_equal(solution.initial_rank, dims)


def test_the_limit_of_identity_values(ensemble):
    for (dim, Q, cov), found in zip(ensemble[0], ensemble[1].last_cov, strict=True):
        expected = exact_limit(Q, cov)
        np.testing.assert_allclose(found[:dim, :dim], expected, atol=2e-6 * np.trace(cov))
        # Q Sigma = 0, from which rank <= d - rank Q.
        assert np.abs(Q @ found[:dim, :dim]).max() < 1e-5 * np.trace(cov)


def test_inverse_covariance_is_linear_in_time():
    """Softmax, V = I, any A: Sigma(t)^-1 = Sigma_0^-1 - t (A + A^T), where that stays positive."""
    generator = np.random.default_rng(0)
    problems, exact = [], []
    ts = np.array([0.0, 0.3, 10.0, 1e3])
    for _ in range(6):
        Q, skew = generator.standard_normal((2, 3, 3))
        K = -Q + 0.3 * np.linalg.solve(Q.T, skew - skew.T)  # A = -c Q^T Q + an antisymmetric part
        G = generator.standard_normal((3, 3))
        attention = Softmax(Q=Q, K=K, V=np.eye(3), score_scale=0.5)
        problems.append(GaussianLimit(attention=attention, cov=G @ G.T, t1=1e3))
        form = attention.A + attention.A.T
        exact.append([np.linalg.inv(np.linalg.inv(G @ G.T) - t * form) for t in ts])
    solution = solve_limits(problems, METHOD, save=ts)
    for found, expected in zip(solution.cov, exact, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.linalg.norm(b))


def test_acceptance_16_scalar_blow_up_and_growth():
    attention = Softmax(Q=[[1.3]], K=[[1.0]], V=[[0.7]])
    # The steps to a growth of 1e12 add up at rtol 1e-8 to 1e-7.
    method = LogTimeODE(rtol=1e-11, atol=1e-13, lanes=16)
    solution = solve_limits([GaussianLimit(attention=attention, cov=[[0.9]])], method)
    assert bool(np.all(solution.outcome == Outcome.blow_up))
    np.testing.assert_allclose(solution.blow_up_time, 1 / 1.638, rtol=1e-8)
    assert solution.undecided.all()
    assert np.isnan(solution.eigenvalues).all()


def test_blow_up_times_of_an_ensemble():
    """V = I, A = I: t* = 1 / (2 lambda_max); members end at their own times, one does not."""
    attention = Softmax(Q=np.eye(2), K=np.eye(2), V=np.eye(2))
    tops = [0.5, 1.0, 4.0]
    problems = [GaussianLimit(attention=attention, cov=np.diag([top, 0.1])) for top in tops]
    still = GaussianLimit(attention=attention, cov=np.zeros((2, 2)))
    solution = solve_limits([*problems, still], METHOD)
    np.testing.assert_allclose(solution.blow_up_time[:3], 0.5 / np.array(tops), rtol=1e-6)
    assert np.isinf(solution.blow_up_time[3])
    assert solution.rank[3] == 0
    assert not solution.undecided[3]


def test_acceptance_26_two_lines():
    legacy = np.random.RandomState(36)
    while True:
        Q, K = legacy.randn(2, 2), legacy.randn(2, 2)
        values = np.linalg.eigvalsh(K.T @ Q + Q.T @ K)
        if values[0] * values[1] < 0:
            break
    attention = Softmax(Q=Q, K=K, V=np.random.RandomState(32).randn(2, 2), score_scale=2**-0.5)
    grid = [(0.5, 0.3), (-0.6, 0.2), (0.1, -0.8), (-0.2, 0.7), (0.7, -0.4), (0.0, 0.0)]
    problems = [
        GaussianLimit(attention=attention, cov=[[(1 + u) / 2, w / 2], [w / 2, (1 - u) / 2]], t1=300)
        for u, w in grid
    ]
    solution = solve_limits(problems, METHOD)
    axes = np.linalg.eigh(solution.last_cov)[1][:, :, -1]
    angles = np.degrees(np.arctan2(axes[:, 1], axes[:, 0])) % 180
    nearest = np.abs(angles[:, None] - np.array([121.86, 172.40])).argmin(axis=1)
    assert set(nearest) == {0, 1}
    np.testing.assert_allclose(angles, np.array([121.86, 172.40])[nearest], atol=0.1)
    # The approach may still be under way in the first of the two decades; no other rank settles.
    assert set(solution.rank) == {1, UNDECIDED}
    values = np.linalg.eigvalsh(solution.last_cov)
    assert np.all(values[:, 0] < 1e-6 * values[:, 1])


def test_a_slow_transient_is_undecided():
    """Sigma = diag(1, e) with A = -diag(0, 1): the second eigenvalue is 1 / (1 / e + 2 t).

    For 2 e t1 = 1 its slope passes through -1/2 at t1: it neither persists nor has decayed. A
    hundred times earlier its slope is small, and grows: it does not persist either. A thousand
    times later it decays.
    """
    attention = Softmax(Q=np.diag([0.0, 1.0]), K=np.diag([0.0, -1.0]), V=np.eye(2))
    problems = [
        GaussianLimit(attention=attention, cov=np.diag([1.0, small]), t1=1e4)
        for small in (0.5e-6, 0.5e-4, 0.5)
    ]
    solution = solve_limits(problems, METHOD)
    np.testing.assert_array_equal(solution.rank, [UNDECIDED, UNDECIDED, 1])
    np.testing.assert_array_equal(solution.undecided, [True, True, False])
    expected = 1.0 / (np.array([2e6, 2e4, 2.0]) + 2e4)
    np.testing.assert_allclose(solution.eigenvalues[:, 1], expected, rtol=1e-6)


def test_slopes_are_classified_decade_by_decade():
    decades = np.array([1.0, 10.0, 100.0])
    eigenvalues = np.array(
        [
            [[2.0, 1.0], [2.0, 0.1], [2.0, 0.01]],
            # It falls and regrows: no slope over both decades together, and still undecided.
            [[2.0, 1.0], [2.0, 0.1], [2.0, 1.0]],
            [[2.0, 1.0], [2.0, 1e-40], [2.0, 1e-40]],
            [[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]],
            [[2.0, 1.0], [np.nan, np.nan], [np.nan, np.nan]],
            # It begins to decay; the first settles like 1 + 1 / t.
            [[2.0, 1.0], [1.81, 0.9999], [1.801, 0.999]],
        ]
    )
    slopes, persistent, decaying = classify_slopes(eigenvalues, decades, [2, 2, 2, 1, 2, 2])
    np.testing.assert_allclose(slopes[0], [[0, -1], [0, -1]], atol=1e-12)
    assert persistent.tolist() == [[True, False]] * 4 + [[False, False], [True, False]]
    assert decaying[:, 1].tolist() == [True, False, True, False, False, False]


def stiff(dim, smallest, seed):
    """K = -Q of rank dim // 2, and V with eigenvalues from `smallest` to ten."""
    generator = np.random.default_rng(seed)
    Q, cov = draw(dim, seed)
    basis = np.linalg.qr(generator.standard_normal((dim, dim)))[0]
    V = (basis * np.geomspace(smallest, 10.0, dim)) @ basis.T
    return Softmax(Q=Q, K=-Q, V=V, score_scale=dim**-0.5), cov


def test_stiff_covariances_by_another_integrator():
    """Sigma' = M Sigma + Sigma M^T itself, by SciPy's LSODA, for V of condition 10^5.

    Explicit steps alone need more than 20,000 to get there.
    """
    attention, cov = stiff(4, 1e-4, seed=4)
    ts = np.array([1e2, 1e3, 1e4])
    found = solve_limits([GaussianLimit(attention=attention, cov=cov, t1=1e4)], METHOD, save=ts)
    assert found.steps_taken[0] < 1000

    def slope(s, flat):
        # In t = e^s - 1.
        Sigma = flat.reshape(4, 4)
        rate = attention.V @ Sigma @ attention.A @ Sigma
        return np.exp(s) * (rate + rate.T).ravel()

    s = np.log1p(ts)
    options = {"method": "LSODA", "t_eval": s, "rtol": 1e-10, "atol": 1e-13}
    expected = solve_ivp(slope, (0.0, s[-1]), cov.ravel(), **options).y.T
    for a, b in zip(found.cov[0], expected.reshape(-1, 4, 4), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * np.linalg.norm(b))


def test_ranks_of_stiff_draws_are_right_or_undecided():
    """V > 0 and K = -Q: no limit has a rank above d - rank Q, however small eigenvalues of V are.

    At t = 10^6 an eigenvalue of the covariance that decays at a rate of 10^-8 has hardly moved.
    """
    problems = [stiff(4, 1e-8, seed) for seed in range(4)]
    for t1 in (1e6, 1e12):
        ranks = solve_limits(
            [GaussianLimit(attention=attention, cov=cov, t1=t1) for attention, cov in problems],
            METHOD,
        ).rank
        assert np.all(ranks <= 2), (t1, ranks)
    assert np.sum(ranks == 2) >= 3, ranks


GENERATOR = np.random.default_rng(3)
Q3, K3 = GENERATOR.standard_normal((2, 1, 3))
V3 = np.eye(3) + 0.3 * GENERATOR.standard_normal((3, 3))
HEADS = dict(zip("QKV", GENERATOR.standard_normal((3, 2, 1, 3)), strict=True))


@pytest.mark.parametrize(
    "attention",
    [
        Softmax(Q=Q3, K=K3, V=V3),
        L2(Q=Q3, K=K3, V=V3),
        Linear(Q=Q3, K=K3, V=V3),
        Sinkhorn(Q=Q3, K=K3, V=V3),
        FixedSinkhorn(Q=Q3, K=K3, V=V3, iterations=2),
        MultiHead(**HEADS, W=GENERATOR.standard_normal((2, 3, 1))),
        FeedForward(Softmax(Q=Q3, K=K3, V=V3), W=-V3),
    ],
    ids=lambda attention: type(attention).__name__,
)
def test_every_variant_in_the_basis_of_its_scores(attention):
    """The field of a Gaussian in the other basis, and its columns that are said to be zero."""
    arrays, shared = stacked([attention])
    arrays, basis, columns = in_score_basis(arrays, 3)
    rotated = eqx.combine(jax.tree.map(lambda leaf: leaf[0], arrays), shared)
    U, cov = basis[0], np.array([[1.0, 0.3, 0.1], [0.3, 0.8, -0.2], [0.1, -0.2, 0.5]])
    with jax.enable_x64(True):
        M = np.asarray(attention.gaussian_field(np.zeros(3), cov)[1])
        found = np.asarray(rotated.gaussian_field(np.zeros(3), U.T @ cov @ U)[1])
    np.testing.assert_allclose(U @ found @ U.T, M, atol=1e-12 * np.abs(M).max())
    assert columns == {FeedForward: 3, MultiHead: 2}.get(type(attention), 1)
    assert np.all(found[:, columns:] == 0.0)


def test_large_systems_are_stepped_explicitly():
    """dim rank Q = 144 unknowns; V = I, K = -Q: Sigma(t)^-1 = Sigma_0^-1 + 2 t Q^T Q."""
    generator = np.random.default_rng(5)
    Q = generator.standard_normal((12, 12)) / 4
    problem = GaussianLimit(attention=Softmax(Q=Q, K=-Q, V=np.eye(12)), cov=np.eye(12), t1=1e3)
    solution = solve_limits([problem], METHOD, save=[1.0, 1e3])
    exact = [np.linalg.inv(np.eye(12) + 2 * t * Q.T @ Q) for t in (1.0, 1e3)]
    np.testing.assert_allclose(solution.cov[0], exact, atol=1e-6)


def test_step_limit_is_undecided_and_not_an_error():
    Q, cov = draw(3, 0)
    problem = GaussianLimit(attention=Softmax(Q=Q, K=-Q, V=np.eye(3)), cov=cov)
    solution = solve_limits([problem], LogTimeODE(lanes=16, max_steps=20))
    assert bool(np.all(solution.outcome == Outcome.max_steps_reached))
    assert solution.rank[0] == UNDECIDED


def test_one_problem_through_solve():
    """A singular start keeps its rank, and `solve` gives what the ensemble gives."""
    root = np.array([[1.0, 0.5], [0.5, 1.0], [0.2, -0.3]])
    Q = np.array([[1.0, 0.0, 0.4]])
    problem = GaussianLimit(attention=Softmax(Q=Q, K=-Q, V=np.eye(3)), cov=root @ root.T, t1=1e6)
    solution = solve(problem)
    assert solution.outcome == Outcome.successful
    assert int(solution.initial_rank) == 2
    assert int(solution.rank) == 1
    assert solution.factor.dtype == np.float64
    data = solution.to_xarray()
    assert data["eigenvalue_paths"].sizes == {"time": 61, "eigenvalue": 3}
    ax = solution.plot()
    drawn = [line.get_ydata() for line in ax.lines if line.get_label() == r"$\lambda_1$"]
    np.testing.assert_allclose(drawn[0], data["eigenvalue_paths"].values[:, 0])


MAPS = {"Q": np.eye(2), "K": -np.eye(2), "V": np.eye(2)}


def ok(**change):
    arguments = {"attention": Softmax(**MAPS), "cov": np.eye(2)}
    return GaussianLimit(**(arguments | change))


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ok(cov=np.eye(3)), ArgumentError, "cov: has shape"),
        (lambda: ok(cov=-np.eye(2)), ArgumentError, "cov: has the negative eigenvalue"),
        (lambda: ok(cov=[[1.0, 0.5], [0.0, 1.0]]), ArgumentError, "cov: is not symmetric"),
        (lambda: ok(t1=0.0), ArgumentError, "t1: got 0"),
        (
            lambda: ok(attention=Softmax(Q=np.eye(2), K=np.eye(2), V=np.eye(2), causal=True)),
            NoSuchLimitError,
            "causal",
        ),
        (
            lambda: ok(attention=FeedForward(Softmax(**MAPS), W=np.eye(2), b=[1.0, 0.0])),
            ArgumentError,
            "attention: moves the mean of a centred law; pass one without a constant drift",
        ),
        (lambda: solve_limits([]), ArgumentError, "problems: is empty"),
        (lambda: solve_limits([ok(), ok(t1=1e3)]), ArgumentError, "problems: differ"),
        (
            lambda: solve_limits(
                [ok(), ok(attention=Softmax(Q=[[1.0, 0.0]], K=[[1.0, 0.0]], V=np.eye(2)))]
            ),
            ArgumentError,
            "problems: differ",
        ),
        (lambda: solve_limits([ok()], save=[2.0, 1.0]), ArgumentError, "save: got "),
        (lambda: solve(ok(), AdaptiveODE()), ArgumentTypeError, "does not solve GaussianLimit"),
        (lambda: LogTimeODE(rtol=0.0), ArgumentError, "rtol: got 0"),
        (lambda: LogTimeODE(lanes=0), ArgumentError, "lanes: got 0"),
        (
            lambda: jax.vmap(lambda c: ok(cov=c).cov)(np.stack([np.eye(2)] * 2)),
            ArgumentTypeError,
            "use solve_limits",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_limit_that_is_not_finite_is_an_error(monkeypatch):
    failed = SimpleNamespace(outcome=Outcome.non_finite)
    monkeypatch.setattr("translimit.limits.meanfield.limit._run", lambda *_: failed)
    with pytest.raises(SolveError, match=r"^solve_limits: ") as caught:
        solve_limits([ok()])
    assert caught.value.solution is failed
