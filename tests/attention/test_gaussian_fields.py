"""Fields of Gaussian laws: acceptance figures, weighted quadrature clouds, Stein's identity."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.canonical import COV, MEAN, K, Q, V

from translimit.attention import (
    L2,
    FeedForward,
    Linear,
    MultiHead,
    Normalisation,
    Sigmoid,
    Softmax,
    Unnormalized,
)
from translimit.core import ArgumentError, ArgumentTypeError, NoSuchLimitError

X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.5, -1.5]])
QKV = {"Q": Q, "K": K, "V": V}
TWO_HEADS = MultiHead(
    Q=np.stack([Q, K[::-1]]),
    K=np.stack([K, -Q]),
    V=np.stack([V, Q]),
    W=np.stack([K, V]),
    score_scale=0.7,
)
ROWS = {
    "row 8, L2": (
        L2(**QKV),
        "0.3647793414 -0.4522359015 0.2821219476 0.1706258391 "
        "-0.0535435750 0.4747145771 0.0807083059 -0.5604949105",
        1e-9,
    ),
    "row 10, sigmoid": (
        Sigmoid(**QKV, bias=0.5),
        "0.0934464083 -0.1158878620 0.0854561421 0.0039174698 "
        "0.0547962381 0.0756478383 0.0571927723 -0.1177340469",
        1e-9,
    ),
    "row 11, linear": (
        Linear(**QKV),
        "0.0991875 -0.38325 0.067875 0.14675 -0.06525 0.456625 -0.05221875 -0.41175",
        1e-12,
    ),
}


def quadrature(mean, cov, nodes=40):
    """A weighted cloud [nodes^2, 2] that integrates against N(mean, cov)."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
    return mean + grid @ np.linalg.cholesky(cov).T, np.outer(weights, weights).ravel() / (2 * np.pi)


@pytest.mark.parametrize("row", ROWS)
def test_acceptance_rows_8_10_11(row):
    attention, expected, tolerance = ROWS[row]
    printed = np.array(expected.split(), float)
    np.testing.assert_allclose(attention(X, X).ravel(), printed, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "attention",
    [
        TWO_HEADS,
        MultiHead.from_matrices(Q, K, V, heads=2),
        L2(**QKV),
        L2(**QKV, score_scale=0.6, key_scale=1.3),
        L2(Q=[[0.7, -0.4]], K=[[0.3, 1.0]], V=V),
        Linear(**QKV, score_scale=1.7),
        FeedForward(L2(**QKV), W=[[0.1, 0.5], [-0.2, 0.3]], b=[1.0, -2.0]),
    ],
    ids=["multi-head", "cut heads", "l2", "l2 key scale", "l2 one row", "linear", "feed-forward"],
)
def test_two_routes_gaussian_field_equals_the_field_of_a_quadrature_cloud(attention):
    cloud, masses = quadrature(MEAN, COV)
    x = np.concatenate([X, [MEAN]])
    field = attention(x, cloud, weights=masses)
    g, M = attention.gaussian_field(MEAN, COV)
    assert isinstance(M, np.ndarray)
    np.testing.assert_allclose(field, g + (x - MEAN) @ M.T, rtol=0, atol=1e-10)


def test_mutation_transposed_score_matrices_miss_the_quadrature():
    cloud, masses = quadrature(MEAN, COV)
    for right, wrong in [
        (L2(**QKV), L2(Q=K, K=Q, V=V)),
        (Linear(**QKV), Linear(Q=K, K=Q, V=V)),
        (L2(**QKV), L2(**QKV, key_scale=2.0)),
    ]:
        g, M = wrong.gaussian_field(MEAN, COV)
        gap = np.abs(right(X, cloud, weights=masses) - (g + (X - MEAN) @ M.T)).max()
        assert gap > 1e-2


def test_identity_one_head_is_softmax_and_heads_add():
    single = MultiHead(Q=[Q], K=[K], V=[V], W=[np.eye(2)], score_scale=0.8)
    np.testing.assert_allclose(single(X, X), Softmax(**QKV, score_scale=0.8)(X, X), atol=1e-14)
    # Cut heads: head h is softmax attention that keeps row h of V.
    cut = MultiHead.from_matrices(Q, K, V, heads=2, score_scale=0.8)
    parts = [
        Softmax(Q=Q[h : h + 1], K=K[h : h + 1], V=np.diag(np.eye(2)[h]) @ V, score_scale=0.8)
        for h in (0, 1)
    ]
    np.testing.assert_allclose(cut(X, X), sum(part(X, X) for part in parts), atol=1e-14)
    np.testing.assert_allclose(cut.effective_V, [part.V for part in parts], atol=1e-15)
    np.testing.assert_allclose(cut.A, [part.A for part in parts], atol=1e-15)


@pytest.mark.parametrize("bias", [0.0, 0.5, -3.0])
def test_two_routes_sigmoid_velocity_against_a_gaussian(bias):
    cloud, masses = quadrature(MEAN, COV, nodes=64)
    attention = Sigmoid(**QKV, score_scale=1.2, bias=bias)
    by_cloud = attention(X, cloud, weights=masses)
    np.testing.assert_allclose(attention.gaussian_velocity(X, MEAN, COV), by_cloud, atol=1e-11)


@pytest.mark.parametrize("rank", [1, 2])
def test_two_routes_projection_of_sigmoid_equals_two_fold_quadrature(rank):
    """E Gamma and E[Gamma(x) (x - mean)^T] Sigma^+ over x, Gamma(x) by Stein's identity."""
    attention = Sigmoid(**QKV, score_scale=1.5, bias=-0.7)
    direction = np.array([0.8, 0.3])
    cov = COV if rank == 2 else np.outer(direction, direction)
    factor = np.linalg.cholesky(cov) if rank == 2 else np.stack([direction, 0 * direction], 1)
    standard, masses = quadrature(np.zeros(2), np.eye(2))
    x = MEAN + standard @ factor.T
    velocity = attention.gaussian_velocity(x, MEAN, cov)
    g, M = attention.moment_field(MEAN, cov)
    np.testing.assert_allclose(g, masses @ velocity, rtol=0, atol=1e-10)
    # M is the expected derivative; against the factor it is what moves the covariance.
    moved = np.einsum("n,ni,nj->ij", masses, velocity, standard)
    np.testing.assert_allclose(M @ factor, moved, rtol=0, atol=1e-9)
    assert np.abs(M - V @ cov @ attention.A / 4).max() > 1e-2  # not the linearisation at zero


@pytest.mark.parametrize(
    ("slope", "bias", "mean", "variance"),
    [
        (1, 0.5, 0.3, 0.8),
        (10, -2, 0, 1),
        (-1, 3, 4, 1),
        (1, 0, 6, 0.5),
        (50, -50, 0, 1),
        (1, 55, 1, 1),
        (1, 0, 30, 0.2),
    ],
)
def test_two_routes_projection_of_wide_and_saturated_scores(slope, bias, mean, variance):
    """Against the trapezoidal rule in the plane, which converges exponentially here."""
    grid = np.linspace(-9, 9, 2001)
    density = np.exp(-(grid**2) / 2)
    density /= density.sum()
    y = mean + np.sqrt(variance) * grid
    scores = slope * np.outer(y, y) + bias
    probability = 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
    derivative = probability * (1 - probability)
    attention = Sigmoid(Q=[[float(slope)]], K=[[1.0]], V=[[1.0]], bias=bias)
    g, M = attention.moment_field([mean], [[variance]])
    np.testing.assert_allclose(g[0], density @ (probability * y) @ density, atol=1e-10)
    expected = slope * (density @ (derivative * y**2) @ density)
    np.testing.assert_allclose(M[0, 0], expected, atol=1e-10)


def test_identity_unresolved_projection_is_nan_and_not_a_number_that_looks_right():
    for slope, mean, variance in ((1.0, 30.0, 20.0), (1e5, 0.0, 1.0)):
        g, M = Sigmoid(Q=[[slope]], K=[[1.0]], V=[[1.0]]).moment_field([mean], [[variance]])
        assert np.isnan(g).all()
        assert np.isnan(M).all()


def test_identity_the_widest_projection_that_is_resolved():
    """E sigma'(c x y) y^2 of independent normals tends to 1 / (pi c) for large c."""
    M = Sigmoid(Q=[[1e4]], K=[[1.0]], V=[[1.0]]).moment_field([0.0], [[1.0]])[1]
    np.testing.assert_allclose(M, [[1 / np.pi]], rtol=3e-7)


def test_two_routes_projection_of_unnormalised_attention():
    attention = Unnormalized(**QKV, score_scale=0.6)
    cloud, masses = quadrature(MEAN, COV)
    velocity = attention(cloud, cloud, weights=masses)
    g, M = attention.moment_field(MEAN, COV)
    np.testing.assert_allclose(g, masses @ velocity, rtol=1e-10)
    cross = np.einsum("n,ni,nj->ij", masses, velocity, cloud - MEAN)
    np.testing.assert_allclose(M, cross @ np.linalg.inv(COV), rtol=0, atol=1e-9)
    # Beyond the largest eigenvalue of cov A cov A^T the expectation is infinite.
    assert np.isnan(Unnormalized(**QKV, score_scale=6.0).moment_field(MEAN, COV)[1]).all()


def test_orders_sigmoid_with_bias_minus_log_n_tends_to_unnormalised():
    """sum_j sigma(z_j - log n) V y_j is int e^z V y dmu to O(1 / n): the slope is -1.

    The next term of the expansion is of relative order 1 / n, so the slope from n = 4000 to 16000
    is -1 within 0.02; without the bias, or with a mean for the sum, it would be 0.
    """
    points = quadrature(MEAN, COV, nodes=8)[0]
    limit = Unnormalized(**QKV)(X, points)
    errors = []
    for copies in (4000 // 64, 16000 // 64):
        n = 64 * copies
        # The same law with every point repeated: the sum over n tokens is n times the mean.
        summed = n * Sigmoid(**QKV, bias=-np.log(n))(X, points)
        errors.append(np.abs(summed - limit).max())
    slope = np.log(errors[1] / errors[0]) / np.log((16000 // 64) / (4000 // 64))
    assert abs(slope + 1) < 0.02
    assert errors[1] < 1e-2 * np.abs(limit).max()


def test_identity_fields_are_traceable_in_float32_and_differentiable():
    mean, cov = jnp.asarray(MEAN, jnp.float32), jnp.asarray(COV, jnp.float32)

    @eqx.filter_jit
    def fields(mean, cov):
        return (
            L2(**QKV).gaussian_field(mean, cov)[1],
            TWO_HEADS.gaussian_field(mean, cov)[1],
            Linear(**QKV).gaussian_field(mean, cov)[1],
            Sigmoid(**QKV).moment_field(mean, cov)[1],
            # At a degenerate covariance too: no derivative goes through eigenvectors.
            jax.grad(lambda c: Sigmoid(**QKV).moment_field(mean, c)[0].sum())(jnp.eye(2)),
        )

    found = fields(mean, cov)
    expected = (
        L2(**QKV).gaussian_field(MEAN, COV)[1],
        TWO_HEADS.gaussian_field(MEAN, COV)[1],
        Linear(**QKV).gaussian_field(MEAN, COV)[1],
        Sigmoid(**QKV).moment_field(MEAN, COV)[1],
    )
    for one, other in zip(found[:-1], expected, strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)
    h = 1e-5
    step = h * np.array([[0.0, 0.0], [0.0, 1.0]])
    ends = [Sigmoid(**QKV).moment_field(MEAN, np.eye(2) + s * step)[0].sum() for s in (1, -1)]
    np.testing.assert_allclose(found[-1][1, 1], (ends[0] - ends[1]) / (2 * h), rtol=1e-4)


def test_two_routes_bound_on_the_closure_of_l2_with_injective_keys():
    rng = np.random.default_rng(3)
    for _ in range(20):
        attention = L2(*rng.normal(size=(3, 3, 3)), score_scale=0.7, key_scale=0.4)
        root = 10 ** rng.uniform(-2, 3) * rng.normal(size=(3, 3))
        M = attention.gaussian_field(np.zeros(3), root @ root.T)[1]
        assert np.linalg.norm(M, 2) <= attention.closure_rate * (1 + 1e-9)


def test_the_bound_on_the_closure_of_l2_is_reached():
    """For wide clouds M tends to V B^-1 A, whose norm is the bound where directions align."""
    rng = np.random.default_rng(5)
    left, right, other = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(3))
    # V keeps what the least singular direction of K passes on, which Q asks for most.
    K = left @ np.diag([2.0, 1.0, 0.4]) @ right.T
    Q = left @ np.diag([0.1, 0.2, 3.0]) @ other.T
    V = np.outer(rng.normal(size=3), right[:, 2])
    attention = L2(Q, K, V, score_scale=0.7, key_scale=0.3)
    M = attention.gaussian_field(np.zeros(3), 1e9 * np.eye(3))[1]
    reached = np.linalg.norm(M, 2)
    # |A| is c times the largest product of singular values of K and Q, 0.4 times 3.
    assert reached == pytest.approx(
        np.linalg.norm(V, 2) / (0.3 * 0.4**2) * 0.7 * 0.4 * 3.0, rel=1e-6
    )
    assert attention.closure_rate == pytest.approx(reached, rel=1e-6)


def test_refusals_of_closures(as_user):
    for attention in (Sigmoid(**QKV), Unnormalized(**QKV), FeedForward(Sigmoid(**QKV), W=V)):
        with pytest.raises(NoSuchLimitError, match="MomentClosure, which is approximate"):
            attention.gaussian_field(MEAN, COV)
    for attention in (
        L2(**QKV, causal=True),
        MultiHead.from_matrices(Q, K, V, heads=2, causal=True),
        Linear(**QKV, causal=True),
        FeedForward(L2(**QKV, causal=True), W=V),
    ):
        with pytest.raises(NoSuchLimitError, match=r"causal: .*not affine"):
            attention.gaussian_field(MEAN, COV)
    for variant in (Sigmoid, Unnormalized):
        with pytest.raises(NoSuchLimitError, match="causal"):
            variant(**QKV, causal=True).moment_field(MEAN, COV)
    with pytest.raises(NoSuchLimitError, match="causal"):
        Sigmoid(**QKV, causal=True).gaussian_velocity(X, MEAN, COV)
    with pytest.raises(NoSuchLimitError, match="L2 needs no moment closure; use GaussianFlow"):
        FeedForward(L2(**QKV), W=V).moment_field(MEAN, COV)
    with pytest.raises(ArgumentError, match=r"mean: has shape \(3,\)"):
        L2(**QKV).gaussian_field(np.zeros(3), COV)
    with pytest.raises(ArgumentError, match=r"cov: has shape \(2,\)"):
        Sigmoid(**QKV).moment_field(MEAN, MEAN)
    with pytest.raises(ArgumentError, match=r"x: has shape \(1,\)"):
        Sigmoid(**QKV).gaussian_velocity([1.0], MEAN, COV)


def test_refusals_of_rank_deficient_keys(as_user):
    with pytest.raises(ArgumentError, match="K: has rank 1 and tokens have dimension 2"):
        _ = L2(Q=[[0.0, 1.0]], K=[[1.0, 0.0]], V=V).closure_rate
    with pytest.raises(ArgumentError, match="K: has rank 1"):
        _ = L2(Q=Q, K=[[1.0, 2.0], [2.0, 4.0]], V=V).closure_rate
    with pytest.raises(ArgumentError, match="K: is traced; ask for the bound outside jit"):
        jax.jit(lambda K: L2(Q=Q, K=K, V=V).closure_rate)(Q)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MultiHead.from_matrices(Q, K, V, heads=3), ArgumentError, "heads: 3 does not"),
        (
            lambda: MultiHead.from_matrices(Q, K, V, heads=0),
            ArgumentError,
            "heads: got 0; pass at least 1",
        ),
        (lambda: MultiHead.from_matrices(Q, K, V, 1.0), ArgumentTypeError, "heads: got 1.0"),
        # The second head of a one-row Q would be an empty slice.
        (
            lambda: MultiHead.from_matrices(Q[:1], K, V, 2),
            ArgumentError,
            r"Q: has shape \(1, 2\), and heads",
        ),
        (
            lambda: MultiHead.from_matrices(Q, K[:1], V, 2),
            ArgumentError,
            r"K: has shape \(1, 2\), and heads",
        ),
        (lambda: MultiHead.from_matrices(Q, K, V[:1], 2), ArgumentError, "V: has shape"),
        (lambda: MultiHead(Q=Q, K=[K], V=[V], W=[V]), ArgumentError, "Q: .*one map per head"),
        (lambda: MultiHead(Q=[Q, Q], K=[K], V=[V], W=[V]), ArgumentError, r"K: has shape \(1,"),
        (lambda: MultiHead(Q=[Q], K=[K], V=[V[:1]], W=[V]), ArgumentError, r"W: has .*\[1, 2, 1\]"),
        (lambda: L2(**QKV, key_scale=-1.0), ArgumentError, "key_scale: got -1"),
        (lambda: Sigmoid(**QKV, bias=[0.0]), ArgumentError, "bias: has shape"),
        (lambda: Sigmoid(**QKV, bias=np.nan), ArgumentError, "bias: got "),
        (lambda: Linear(**QKV, normalisation="prefix"), ArgumentTypeError, "Normalisation.PREFIX"),
        (
            lambda: Unnormalized(**QKV, normalisation=Normalisation.PREFIX),
            ArgumentError,
            "normalisation: is PREFIX, and the field is not causal",
        ),
        (lambda: FeedForward(Q, W=V), ArgumentTypeError, "attention: got ndarray"),
        (lambda: FeedForward(L2(**QKV), W=V[:1]), ArgumentError, "W: has shape"),
        (lambda: FeedForward(L2(**QKV), W=V, b=[1.0]), ArgumentError, "b: has shape"),
    ],
)
def test_refusals_of_constructors(make, error, message, as_user):
    with pytest.raises(error, match=message):
        make()
