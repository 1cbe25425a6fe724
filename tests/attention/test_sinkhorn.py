"""Sinkhorn attention: acceptance figures, POT, closure by quadrature, contraction, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.attention import FixedSinkhorn, Sinkhorn, Softmax
from translimit.attention import sinkhorn as sinkhorn_module
from translimit.attention import tiles as tiles_module
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    NoSuchLimitError,
    Outcome,
    SolveError,
    canonical_correlations,
)

# Canonical set and points of the documentation, "The Transformer PDE".
Q = np.array([[0.7, 0.2], [-0.3, 0.5]])
K = np.array([[0.4, -0.3], [0.2, 0.8]])
V = np.array([[0.9, 0.3], [-0.4, 0.6]])
MEAN, COV = np.array([0.5, -0.3]), np.array([[0.8, 0.2], [0.2, 0.5]])
X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.5, -1.5]])
ROW9 = np.array(
    [
        [0.1962328957, -0.3194821956],
        [0.1709121283, 0.1449315425],
        [0.0200420660, 0.3520355306],
        [0.0628129099, -0.3774848775],
    ]
)
CANONICAL = {"Q": Q, "K": K, "V": V}
#: Two shapes that most tests share, so that they share their compilations.
RNG = np.random.default_rng(0)
CLOUD = RNG.normal(size=(30, 2)) + np.array([0.3, -0.2])
WEIGHTS = RNG.random(30) * (np.arange(30) % 5 > 0)
WEIGHTS /= WEIGHTS.sum()


def quadrature(mean, factor, order=20):
    """Nodes and weights of N(mean, factor factor^T)."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(order)
    rank = factor.shape[1]
    grid = np.stack(np.meshgrid(*[nodes] * rank), axis=-1).reshape(-1, rank)
    weights = np.prod(np.stack(np.meshgrid(*[masses / masses.sum()] * rank), -1), axis=-1)
    return mean + grid @ factor.T, weights.reshape(-1)


def by_pot(attention, cloud, weights):
    """kappa by POT's own log-domain solver: plan = w kappa w for the cost -S."""
    ot = pytest.importorskip("ot", reason="POT is not installed: nothing to compare with")
    scores = (cloud @ np.asarray(attention.A).T) @ cloud.T
    on = weights > 0
    plan = ot.sinkhorn(
        weights[on], weights[on], -scores[np.ix_(on, on)], 1.0, "sinkhorn_log", 5000, 1e-13
    )
    return on, plan / np.outer(weights[on], weights[on])


def kappa_of(attention, cloud, potentials):
    scores = (cloud @ np.asarray(attention.A).T) @ cloud.T
    return np.exp(scores - potentials.f[:, None] - potentials.g[None, :])


def test_acceptance_row_9_sinkhorn_field():
    field = Sinkhorn(**CANONICAL)(X, X)
    assert isinstance(field, np.ndarray)
    assert field.dtype == np.float64
    np.testing.assert_allclose(field, ROW9, rtol=0, atol=1e-7)
    # With Q and K exchanged (A^T for A) the figures are missed by far.
    assert np.abs(Sinkhorn(Q=K, K=Q, V=V)(X, X) - ROW9).max() > 0.05


@pytest.mark.parametrize("weights", [np.full(30, 1 / 30), WEIGHTS])
def test_two_routes_pot(weights):
    attention = Sinkhorn(Q=2 * Q, K=K, V=V, tol=1e-12)
    on, kappa = by_pot(attention, CLOUD, weights)
    expected = (kappa * weights[on]) @ CLOUD[on] @ V.T
    field = attention(CLOUD, CLOUD, weights=weights)
    np.testing.assert_allclose(field[on], expected, rtol=0, atol=1e-11)
    potentials = attention.potentials(CLOUD, weights=weights)
    ours = kappa_of(attention, CLOUD, potentials)
    np.testing.assert_allclose(ours[np.ix_(on, on)], kappa, rtol=1e-10)
    # Doubly stochastic: rows to rounding, columns to the tolerance; the mean of any cloud moves
    # by V mean, which a row-stochastic matrix would miss.
    np.testing.assert_allclose(ours @ weights, 1.0, rtol=0, atol=1e-13)
    np.testing.assert_allclose(weights @ ours, 1.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(weights @ field, V @ (weights @ CLOUD), rtol=0, atol=1e-12)
    softmax = weights @ Softmax(Q=2 * Q, K=K, V=V)(CLOUD, CLOUD, weights=weights)
    assert np.abs(softmax - V @ (weights @ CLOUD)).max() > 1e-2


def test_identity_potentials_are_unique_up_to_a_constant():
    attention = Sinkhorn(Q=2 * Q, K=K, V=V, tol=1e-12)
    first = attention.potentials(CLOUD, weights=WEIGHTS)
    start = 3.0 + np.random.default_rng(1).normal(size=30)
    second = attention.potentials(CLOUD, weights=WEIGHTS, initial=start)
    np.testing.assert_allclose(
        kappa_of(attention, CLOUD, second), kappa_of(attention, CLOUD, first), rtol=1e-10
    )
    np.testing.assert_allclose(WEIGHTS @ first.g, 0.0, atol=1e-14)  # how the constant is fixed
    assert first.outcome == Outcome.successful
    assert first.error < 1e-12
    # A warm start from a neighbouring cloud saves rounds.
    moved = CLOUD + 1e-3 * np.random.default_rng(2).normal(size=(30, 2))
    cold = attention.potentials(moved, weights=WEIGHTS)
    warm = attention.potentials(moved, weights=WEIGHTS, initial=first.g)
    assert warm.iterations < 0.8 * cold.iterations


@pytest.mark.parametrize(("strength", "centred"), [(1.0, False), (3.0, False), (3.0, True)])
def test_acceptance_row_27_late_contraction(strength, centred):
    """d_max^2 a round; d_max^4 for centred data, where the first mode is not excited."""
    factor = np.linalg.cholesky(COV)
    cloud, weights = quadrature(0 * MEAN if centred else MEAN, factor)
    attention = Sinkhorn(Q=strength * Q, K=K, V=V, tol=1e-30, max_iterations=1)
    rate = canonical_correlations(attention.A, COV)[0] ** (4 if centred else 2)
    g, errors = np.zeros(len(cloud)), []
    for _ in range(60):
        step = attention.potentials(cloud, weights=weights, initial=g, throw=False)
        g = step.g
        errors.append(float(step.error))
    errors = np.array(errors)
    late = errors[(errors < 1e-3) & (errors > 1e-10)]
    assert len(late) > 3
    np.testing.assert_allclose(late[-1] / late[-2], rate, rtol=0.01)


SINGULAR = {
    "full": (Q, K, np.linalg.cholesky(COV)),
    "strong": (3 * Q, K, np.linalg.cholesky(COV)),
    "A of rank 1": (np.array([[0.9, -0.4]]), np.array([[0.6, 0.8]]), np.linalg.cholesky(COV)),
    "cov of rank 1": (Q, K, np.array([[0.8], [0.5]])),
    "both of rank 1": (np.array([[0.9, -0.4]]), np.array([[0.6, 0.8]]), np.array([[0.8], [0.5]])),
}


@pytest.mark.parametrize("case", SINGULAR)
def test_two_routes_gaussian_field_equals_the_field_of_a_quadrature_cloud(case):
    query, key, factor = SINGULAR[case]
    attention = Sinkhorn(Q=query, K=key, V=V, tol=1e-13)
    cloud, weights = quadrature(MEAN, factor, order=20 if factor.shape[1] == 2 else 40)
    x = np.concatenate([X, [MEAN]])
    g, M = attention.gaussian_field(MEAN, factor @ factor.T)
    field = attention(x, cloud, weights=weights)
    np.testing.assert_allclose(field, g + (x - MEAN) @ M.T, rtol=0, atol=1e-9)
    np.testing.assert_allclose(g, V @ MEAN, rtol=1e-15)


def printed_rate(A, cov):
    """The authors' script: d cov / dt with V (A^T)^+ cov^+ C cov in the place of M cov."""
    square = cov @ A.T @ cov @ A + np.eye(len(cov)) / 4
    eigenvalues, basis = np.linalg.eig(square)
    C = (basis * np.sqrt(eigenvalues.astype(complex))) @ np.linalg.inv(basis)
    C = C.real - np.eye(len(cov)) / 2
    half = V @ np.linalg.pinv(A.T) @ np.linalg.pinv(cov, 1e-10) @ C @ cov
    return half + half.T


@pytest.mark.parametrize("case", SINGULAR)
def test_erratum_the_scripts_expression_needs_invertible_matrices(case):
    query, key, factor = SINGULAR[case]
    attention = Sinkhorn(Q=query, K=key, V=V, tol=1e-13)
    cov = factor @ factor.T
    cloud, weights = quadrature(0 * MEAN, factor, order=20 if factor.shape[1] == 2 else 40)
    field = attention(cloud, cloud, weights=weights)
    measured = np.einsum("n,ni,nj->ij", weights, field, cloud)
    measured = measured + measured.T
    _, M = attention.gaussian_field(0 * MEAN, cov)
    np.testing.assert_allclose(M @ cov + cov @ M.T, measured, rtol=0, atol=1e-10)
    gap = np.abs(printed_rate(np.asarray(attention.A), cov) - measured).max()
    if case in ("full", "strong"):
        assert gap < 1e-8
    else:
        assert gap > 0.02


def test_two_routes_fixed_iterations():
    """One is softmax; the closure follows a quadrature cloud; many are Sinkhorn attention."""
    cloud, weights = quadrature(MEAN, np.linalg.cholesky(COV))
    x = np.concatenate([X, [MEAN]])
    for iterations in (1, 2, 3, 40):
        attention = FixedSinkhorn(Q=1.5 * Q, K=K, V=V, iterations=iterations)
        g, M = attention.gaussian_field(MEAN, COV)
        field = attention(x, cloud, weights=weights)
        np.testing.assert_allclose(field, g + (x - MEAN) @ M.T, rtol=0, atol=1e-10)
        for other in {1: [Softmax], 40: [Sinkhorn]}.get(iterations, []):
            limit = other(Q=1.5 * Q, K=K, V=V)
            np.testing.assert_allclose(limit(x, cloud, weights=weights), field, atol=1e-9)
            np.testing.assert_allclose(limit.gaussian_field(MEAN, COV)[1], M, atol=1e-12)
        if iterations == 2:  # not yet doubly stochastic: the mean is not V mean
            assert np.abs(g - V @ MEAN).max() > 1e-3
    # A singular covariance is welcome.
    point = FixedSinkhorn(Q=Q, K=K, V=V, iterations=3).gaussian_field(MEAN, np.zeros((2, 2)))
    np.testing.assert_allclose(point[0], V @ MEAN, rtol=1e-14)


def test_identity_symmetric_updates_find_the_same_potentials_in_fewer_rounds_when_it_pays():
    root = 1.8 * np.array([[1.0, 0.3], [0.0, 0.8]])
    plain = Sinkhorn(Q=root, K=root, V=V, tol=1e-11)
    averaged = Sinkhorn(Q=root, K=root, V=V, tol=1e-11, symmetric=True)
    np.testing.assert_allclose(averaged(CLOUD, CLOUD), plain(CLOUD, CLOUD), rtol=0, atol=1e-9)
    ours = averaged.potentials(CLOUD)
    np.testing.assert_allclose(ours.f, ours.g, rtol=0, atol=1e-10)
    assert 2 * ours.iterations < plain.potentials(CLOUD).iterations


@pytest.fixture
def small_tiles(monkeypatch):
    """Small tiles, in the log form alone."""
    monkeypatch.setattr(sinkhorn_module, "kernel_fits", lambda tokens: False)
    monkeypatch.setattr(tiles_module, "DENSE", 0)
    monkeypatch.setattr(tiles_module, "QUERY_TILE", 8)
    monkeypatch.setattr(tiles_module, "KEY_TILE", 16)


def test_identity_tiles_equal_one_dense_tile(small_tiles):
    rng = np.random.default_rng(3)
    attention, cloud = Sinkhorn(**CANONICAL, tol=1e-12), rng.normal(size=(53, 2))
    on, kappa = by_pot(attention, cloud, np.full(53, 1 / 53))
    assert on.all()
    expected = kappa @ cloud @ V.T / 53
    np.testing.assert_allclose(attention(cloud, cloud), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "make",
    [
        lambda *maps: Sinkhorn(*maps, tol=1e-12),
        lambda *maps: FixedSinkhorn(*maps, iterations=3),
    ],
)
def test_two_routes_derivatives_equal_central_differences(make):
    """Both modes of the implicit derivative, in everything that the field depends on."""
    rng = np.random.default_rng(6)
    x, cloud, probe = (rng.normal(size=(n, 2)) for n in (11, 21, 11))
    point = (2 * Q, K, V, np.array(0.8), x, cloud, np.full(21, 1 / 21))
    direction = tuple(rng.normal(size=np.shape(a)) for a in point)
    # A direction that keeps the sum of the weights.
    direction = (*direction[:-1], (direction[-1] - direction[-1].mean()) / 21)

    def loss(step):
        moved = [jnp.asarray(a) + step * b for a, b in zip(point, direction, strict=True)]
        field = make(*moved[:4])(moved[4], moved[5], weights=moved[6])
        return jnp.sum(probe * field)

    with jax.enable_x64(True):
        function = jax.jit(loss)
        h = 1e-5
        difference = (function(h) - function(-h)) / (2 * h)
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.0), difference, rtol=1e-7)
        forward = jax.jit(lambda s: jax.jvp(loss, (s,), (1.0,))[1])(0.0)
        np.testing.assert_allclose(forward, difference, rtol=1e-7)


def test_identity_permutations_extension_vmap_and_precision():
    attention = Sinkhorn(**CANONICAL)
    field = attention(CLOUD, CLOUD)
    order = np.random.default_rng(4).permutation(30)
    np.testing.assert_allclose(attention(CLOUD[order], CLOUD[order]), field[order], atol=1e-12)
    np.testing.assert_allclose(attention(CLOUD, CLOUD[order]), field, atol=1e-12)
    # The field extends to any points, one or none among them.
    np.testing.assert_allclose(attention(CLOUD[3], CLOUD), field[3], atol=1e-12)
    assert attention(np.zeros((0, 2)), CLOUD).shape == (0, 2)
    # Doubling a token is doubling its weight.
    doubled = attention(X, np.concatenate([CLOUD[:1], CLOUD]))
    weights = np.array([2.0] + [1.0] * 29) / 31
    np.testing.assert_allclose(attention(X, CLOUD, weights=weights), doubled, rtol=0, atol=1e-8)
    single = CLOUD.astype(np.float32)
    narrow = attention(single, single)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, field, rtol=0, atol=5e-5)
    clouds = jnp.stack([single, single[::-1], 2 * single])
    batched = jax.jit(jax.vmap(lambda c: attention(c, c)))(clouds)
    for row, cloud in zip(batched, clouds, strict=True):
        np.testing.assert_allclose(row, attention(cloud, cloud), rtol=0, atol=5e-5)


def test_identity_second_call_compiles_nothing(monkeypatch):
    traces = []
    velocity = Sinkhorn.velocity_and_outcome

    def counted(self, *args):
        traces.append(1)
        return velocity(self, *args)

    monkeypatch.setattr(Sinkhorn, "velocity_and_outcome", counted)
    rng = np.random.default_rng(10)
    for tol in (1e-6, 1e-7, 1e-8):  # new parameters, points and tolerances of the same shapes
        attention = Sinkhorn(Q=rng.normal(size=(3, 7)) / 3, K=Q_OF_7, V=np.eye(7), tol=tol)
        cloud = rng.normal(size=(19, 7)) / 2
        attention(cloud, cloud)
    assert len(traces) == 1


Q_OF_7 = np.random.default_rng(5).normal(size=(3, 7)) / 3


def test_non_convergence_is_an_error_with_what_was_found(as_user):
    attention = Sinkhorn(**CANONICAL, max_iterations=2)
    with pytest.raises(SolveError, match="Sinkhorn: an inner iteration did not converge"):
        attention(X, X)
    with pytest.raises(SolveError) as caught:
        attention.potentials(X)
    found = attention.potentials(X, throw=False)
    np.testing.assert_array_equal(caught.value.solution.g, found.g)
    assert found.iterations == 2
    assert 1e-9 < found.error < 1
    assert found.outcome == Outcome.not_converged
    # Inside somebody's program, whether or not it looks at the outcome, it is a run-time error.
    for function in (
        lambda x: attention(x, x),
        lambda x: attention.velocity(x, x, jnp.full(4, -jnp.log(4.0)), None, None),
    ):
        with pytest.raises(eqx.EquinoxRuntimeError, match="did not converge"):
            jax.block_until_ready(eqx.filter_jit(function)(jnp.asarray(X)))
    # A tolerance that the precision cannot resolve is not met silently either.
    wild = 30 * X.astype(np.float32)
    with pytest.raises(SolveError):
        Sinkhorn(**CANONICAL, tol=1e-9, max_iterations=50)(wild, wild)


@pytest.mark.parametrize(
    ("kind", "changes", "error", "message"),
    [
        (Sinkhorn, {"Q": Q[0]}, ArgumentError, r"Q: has shape \(2,\)"),
        (Sinkhorn, {"K": K[:1]}, ArgumentError, r"K: has shape \(1, 2\)"),
        (Sinkhorn, {"V": V + np.inf}, ArgumentError, "V: has NaN or infinity in 4 of 4 entries"),
        (Sinkhorn, {"score_scale": 0.0}, ArgumentError, "score_scale: got 0"),
        (Sinkhorn, {"tol": 0.0}, ArgumentError, "tol: got 0; pass a positive number"),
        (Sinkhorn, {"tol": -1e-9}, ArgumentError, "tol: got -1e-09"),
        (Sinkhorn, {"max_iterations": 0}, ArgumentError, "max_iterations: got 0; pass at least 1"),
        (Sinkhorn, {"max_iterations": 1.5}, ArgumentTypeError, "max_iterations: got 1.5"),
        (Sinkhorn, {"symmetric": 1}, ArgumentTypeError, "symmetric: got 1"),
        (Sinkhorn, {"symmetric": True}, ArgumentError, "symmetric: A = c K.T Q is not symmetric"),
        (Sinkhorn, {"causal": True}, NoSuchLimitError, "causal: .*the identity"),
        (FixedSinkhorn, {"iterations": 2, "causal": True}, NoSuchLimitError, "causal: .*identity"),
        (FixedSinkhorn, {"iterations": 0}, ArgumentError, "iterations: got 0; pass at least 1"),
        (FixedSinkhorn, {"iterations": True}, ArgumentTypeError, "iterations: got True"),
        (FixedSinkhorn, {"iterations": 2, "Q": Q[0]}, ArgumentError, r"Q: has shape \(2,\)"),
    ],
)
def test_refusals_of_the_constructors(kind, changes, error, message, as_user):
    with pytest.raises(error, match=message):
        kind(**{**CANONICAL, **changes})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: a(X, X[:, :1]), ArgumentError, r"cloud: has shape \(4, 1\)"),
        (lambda a: a(X, X * np.nan), ArgumentError, "cloud: has NaN or infinity in 8 of 8 entries"),
        (lambda a: a(X, X, weights=np.ones(4)), ArgumentError, "weights: .*sum 4"),
        (lambda a: a(X, X, positions=np.arange(4.0)), ArgumentTypeError, "positions: is given"),
        (lambda a: a.potentials(X[0]), ArgumentError, r"cloud: has shape \(2,\)"),
        (lambda a: a.potentials(X, initial=[0.0]), ArgumentError, r"initial: has shape \(1,\)"),
        (lambda a: a.potentials(X, weights=[1.0]), ArgumentError, r"weights: has shape \(1,\)"),
        (lambda a: a.gaussian_field(MEAN[:1], COV), ArgumentError, r"mean: has shape \(1,\)"),
        (lambda a: a.gaussian_field(MEAN, -COV), ArgumentError, "cov: has the negative eigenv"),
    ],
)
def test_refusals_of_calls(call, error, message, as_user):
    with pytest.raises(error, match=message):
        call(Sinkhorn(**CANONICAL))
