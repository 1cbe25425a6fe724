"""Softmax attention: acceptance figures, dense NumPy, torch, quadrature, derivatives, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.attention import Softmax
from translimit.attention import tiles as tiles_module
from translimit.core import ArgumentError, ArgumentTypeError, NoSuchLimitError

# Canonical set and points of the documentation, "The Transformer PDE".
Q = np.array([[0.7, 0.2], [-0.3, 0.5]])
K = np.array([[0.4, -0.3], [0.2, 0.8]])
V = np.array([[0.9, 0.3], [-0.4, 0.6]])
MEAN, COV = np.array([0.5, -0.3]), np.array([[0.8, 0.2], [0.2, 0.5]])
X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.5, -1.5]])
ROW7 = np.array(
    [
        [0.1764152150, -0.4407361896],
        [0.1780174060, 0.0786877867],
        [0.0393681065, 0.3099757771],
        [0.0611894206, -0.5163015999],
    ]
)
ROW12 = np.array([[0.9, -0.4], [0.5760510693, 0.1399148846], [0.0427611661, 0.4314988140], ROW7[3]])


def dense_field(attention, x, cloud, weights=None, x_positions=None, positions=None):
    """Gamma(x) by its definition with S = (X A^T) Y^T, A written out, in float64 NumPy."""
    A = float(attention.score_scale) * np.asarray(attention.K, np.float64).T @ attention.Q
    kernel = np.exp((x @ A.T) @ cloud.T)
    kernel = kernel * (np.ones(len(cloud)) if weights is None else weights)
    if positions is not None:
        kernel = kernel * (positions[None, :] <= x_positions[:, None])
    return (kernel / kernel.sum(axis=1, keepdims=True)) @ cloud @ np.asarray(attention.V).T


def random_softmax(rng, head_dim, dim, causal=False, size=1.0):
    return Softmax(
        Q=size * rng.normal(size=(head_dim, dim)) / np.sqrt(dim),
        K=size * rng.normal(size=(head_dim, dim)) / np.sqrt(dim),
        V=rng.normal(size=(dim, dim)) / np.sqrt(dim),
        score_scale=1 / np.sqrt(head_dim),
        causal=causal,
    )


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 8 x 16 and no dense tile; a test must use shapes that no other test compiles."""
    folds = []
    fold = tiles_module._fold

    def counted(*args):
        folds.append(1)
        return fold(*args)

    monkeypatch.setattr(tiles_module, "DENSE", 0)
    monkeypatch.setattr(tiles_module, "QUERY_TILE", 8)
    monkeypatch.setattr(tiles_module, "KEY_TILE", 16)
    monkeypatch.setattr(tiles_module, "_fold", counted)
    yield
    assert folds, "the tiled path was not taken"


def test_acceptance_row_7_softmax_field():
    assert not jax.config.jax_enable_x64
    field = Softmax(Q=Q, K=K, V=V)(X, X)
    assert isinstance(field, np.ndarray)
    assert field.dtype == np.float64
    np.testing.assert_allclose(field, ROW7, rtol=0, atol=1e-9)


def test_acceptance_row_12_causal_softmax_field():
    positions = np.arange(1, 5) / 4
    field = Softmax(Q=Q, K=K, V=V, causal=True)(X, X, x_positions=positions, positions=positions)
    assert isinstance(field, np.ndarray)
    assert field.dtype == np.float64
    np.testing.assert_allclose(field, ROW12, rtol=0, atol=1e-9)


def test_mutation_transposed_score_matrix_misses_row_7():
    # Q and K exchanged is A^T in place of A: off by 0.2 somewhere, in every row by over 0.02.
    wrong = Softmax(Q=K, K=Q, V=V)(X, X)
    gaps = np.abs(wrong - ROW7).max(axis=1)
    assert gaps.max() > 0.2
    assert gaps.min() > 0.02
    transposed = np.exp(X @ (K.T @ Q) @ X.T)
    transposed = transposed / transposed.sum(axis=1, keepdims=True) @ X @ V.T
    np.testing.assert_allclose(wrong, transposed, rtol=0, atol=1e-13)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("head_dim", "dim"), [(1, 3), (3, 2), (2, 1)])
def test_identity_field_equals_the_dense_formula_with_weights_and_zeros(causal, head_dim, dim):
    rng = np.random.default_rng(head_dim + 10 * dim)
    attention = random_softmax(rng, head_dim, dim, causal, size=2.0)
    x, cloud = rng.normal(size=(5, 3, dim)), rng.normal(size=(31, dim))
    weights = rng.random(31) * (rng.random(31) < 0.7)
    weights[0], weights[1] = 0.0, 0.5
    weights /= weights.sum()
    at, positions = 0.5 + rng.random((5, 3)) / 2, np.sort(rng.random(31))
    positions[:2] = 0.0
    kwargs = {"x_positions": at, "positions": positions} if causal else {}
    field = attention(x, cloud, weights=weights, **kwargs)
    assert field.shape == x.shape
    flat = (at.reshape(-1), positions) if causal else ()
    expected = dense_field(attention, x.reshape(-1, dim), cloud, weights, *flat)
    np.testing.assert_allclose(field.reshape(-1, dim), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_identity_tiled_field_equals_the_dense_formula(causal, small_tiles):
    rng = np.random.default_rng(0)
    attention = random_softmax(rng, 2, 3, causal)
    x, cloud = rng.normal(size=(29, 3)), rng.normal(size=(53, 3))
    at, positions = 0.5 + rng.random(29) / 2, np.sort(rng.random(53)) - rng.random()
    kwargs = {"x_positions": at, "positions": positions} if causal else {}
    expected = dense_field(attention, x, cloud, None, *((at, positions) if causal else ()))
    np.testing.assert_allclose(attention(x, cloud, **kwargs), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "largest_score"), [(0.8, 9), (2.0, 50), (3.6, 170)])
def test_orders_float32_error_is_within_eps_times_the_largest_score(size, largest_score):
    rng = np.random.default_rng(7)
    attention = random_softmax(rng, 4, 4, size=size)
    cloud = 1.4 * rng.normal(size=(500, 4)).astype(np.float32)
    field = attention(cloud, cloud)
    assert field.dtype == np.float32
    wide = cloud.astype(np.float64)
    exact = dense_field(attention, wide, wide)
    top = np.abs((wide @ np.asarray(attention.A).T) @ wide.T).max()
    assert largest_score / 2 < top < largest_score * 2  # the regime in which the bound was measured
    error = np.abs(field - exact).max() / np.abs(exact).max()
    assert error < np.finfo(np.float32).eps * top
    assert error > 1e-9  # it did run in float32


@pytest.mark.parametrize("causal", [False, True])
def test_two_routes_torch_scaled_dot_product_attention(causal):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    rng = np.random.default_rng(11)
    attention = random_softmax(rng, 5, 8, causal)
    cloud = rng.normal(size=(77, 8))
    order = np.arange(77) / 77
    kwargs = {"x_positions": order, "positions": order} if causal else {}
    q, k = (torch.from_numpy(cloud @ np.asarray(W).T) for W in (attention.Q, attention.K))
    v = torch.from_numpy(cloud @ np.asarray(attention.V).T)
    expected = torch.nn.functional.scaled_dot_product_attention(
        q[None, None],
        k[None, None],
        v[None, None],
        is_causal=causal,
        scale=attention.score_scale.item(),
    )
    field = attention(cloud, cloud, **kwargs)
    np.testing.assert_allclose(field, expected[0, 0].numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_two_routes_gaussian_field_equals_the_field_of_a_quadrature_cloud(seed):
    rng = np.random.default_rng(seed or 0)
    attention = Softmax(Q=Q, K=K, V=V) if seed is None else random_softmax(rng, seed, 2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(48)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    cloud = MEAN + grid @ np.linalg.cholesky(COV).T
    masses = np.outer(weights, weights).reshape(-1) / (2 * np.pi)
    x = np.concatenate([X, [MEAN]])
    field = attention(x, cloud, weights=masses)
    g, M = attention.gaussian_field(MEAN, COV)
    np.testing.assert_allclose(field, g + (x - MEAN) @ M.T, rtol=0, atol=1e-10)
    # The transposed score matrix in the closure misses the quadrature by far more.
    wrong = attention.V @ COV @ np.asarray(attention.A).T
    assert np.abs(wrong @ (x - MEAN).T - (M @ (x - MEAN).T)).max() > 1e-2


def test_identity_gaussian_field_is_numpy_float64_outside_jax_and_traceable_inside():
    attention = Softmax(Q=Q, K=K, V=V, score_scale=0.7)
    np.testing.assert_allclose(attention.A, 0.7 * K.T @ Q, rtol=1e-15)
    for array in (*attention.gaussian_field(MEAN, COV), attention.A):
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float64
    # A singular covariance is welcome: a point mass moves by V mean.
    g, M = attention.gaussian_field(MEAN, np.zeros((2, 2)))
    np.testing.assert_allclose(g, V @ MEAN, rtol=1e-15)
    assert not M.any()
    with jax.enable_x64(True):
        g, M = eqx.filter_jit(lambda a, m, c: a.gaussian_field(m, c))(attention, MEAN, COV)
        np.testing.assert_allclose(M, V @ COV @ attention.A, rtol=1e-14)
        np.testing.assert_allclose(g, V @ MEAN + M @ MEAN, rtol=1e-14)


def test_identity_permuting_tokens_permutes_velocities(small_tiles):
    rng = np.random.default_rng(3)
    attention, cloud = random_softmax(rng, 2, 3), rng.normal(size=(41, 3))
    order = rng.permutation(41)
    field = attention(cloud, cloud)
    np.testing.assert_allclose(attention(cloud[order], cloud[order]), field[order], atol=1e-13)
    # Rows are queries: permuting the keys alone changes nothing.
    np.testing.assert_allclose(attention(cloud, cloud[order]), field, atol=1e-13)


def test_identity_causal_prefix_does_not_see_what_comes_later(small_tiles):
    rng = np.random.default_rng(4)
    attention, cloud = random_softmax(rng, 2, 3, causal=True), rng.normal(size=(60, 3))
    positions = np.arange(60) // 2 / 30
    field = attention(cloud, cloud, x_positions=positions, positions=positions)
    early = positions <= 0.4
    prefix = attention(
        cloud[early], cloud[early], x_positions=positions[early], positions=positions[early]
    )
    np.testing.assert_allclose(prefix, field[early], rtol=0, atol=1e-14)


def test_identity_doubling_a_token_is_doubling_its_weight():
    rng = np.random.default_rng(5)
    attention, cloud = random_softmax(rng, 2, 2), rng.normal(size=(6, 2))
    weights = np.array([2, 1, 1, 1, 1, 1]) / 7
    doubled = attention(X, np.concatenate([cloud[:1], cloud]))
    np.testing.assert_allclose(attention(X, cloud, weights=weights), doubled, rtol=0, atol=1e-14)


@pytest.mark.parametrize("causal", [False, True])
def test_two_routes_gradient_equals_central_differences(causal, small_tiles):
    rng = np.random.default_rng(6)
    x, cloud, probe = (rng.normal(size=(n, 2)) for n in (11, 21, 11))
    positions = {"x_positions": np.linspace(0.3, 1, 11), "positions": np.linspace(0, 1, 21)}
    point = (Q, K, V, np.array(0.8), x, cloud, np.full(21, 1 / 21))
    direction = tuple(rng.normal(size=np.shape(a)) for a in point)
    # A direction that keeps the sum of the weights.
    direction = (*direction[:-1], (direction[-1] - direction[-1].mean()) / 21)

    def loss(step):
        moved = [jnp.asarray(a) + step * b for a, b in zip(point, direction, strict=True)]
        attention = Softmax(*moved[:4], causal=causal)
        kwargs = positions if causal else {}
        field = attention(moved[4], moved[5], weights=moved[6], **kwargs)
        return jnp.sum(probe * field)

    with jax.enable_x64(True):
        function = jax.jit(loss)
        h = 1e-5
        difference = (function(h) - function(-h)) / (2 * h)
        # The rounding of the difference is about 1e-16 / h.
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.0), difference, rtol=1e-7)


@pytest.mark.parametrize("causal", [False, True])
def test_identity_vmap_over_clouds_and_parameters_equals_a_loop(causal):
    rng = np.random.default_rng(8)
    clouds = rng.normal(size=(4, 17, 2)).astype(np.float32)
    scales = np.array([0.5, 1.0, 1.5, 2.0], np.float32)
    at = np.linspace(0, 1, 17, dtype=np.float32)
    kwargs = {"x_positions": at, "positions": at} if causal else {}

    def field(cloud, scale):
        return Softmax(Q, K, V, score_scale=scale, causal=causal)(cloud, cloud, **kwargs)

    batched = jax.jit(jax.vmap(field))(clouds, scales)
    assert isinstance(batched, jax.Array)
    for row, cloud, scale in zip(batched, clouds, scales, strict=True):
        np.testing.assert_allclose(row, field(cloud, scale), rtol=0, atol=2e-6)


def test_identity_causal_tiles_under_vmap_equal_a_loop(small_tiles):
    # Under vmap the tests that skip a tile become selections, and both sides are computed.
    rng = np.random.default_rng(9)
    attention = random_softmax(rng, 2, 2, causal=True)
    clouds, at = rng.normal(size=(3, 40, 2)), np.sort(rng.random((3, 40)))
    with jax.enable_x64(True):
        batched = jax.jit(jax.vmap(lambda c, s: attention(c, c, x_positions=s, positions=s)))(
            clouds, at
        )
        for row, cloud, s in zip(batched, clouds, at, strict=True):
            expected = dense_field(attention, cloud, cloud, None, s, s)
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-12)


def test_identity_second_call_compiles_nothing(monkeypatch):
    traces = []
    velocity = Softmax.velocity

    def counted(self, *args):
        traces.append(1)
        return velocity(self, *args)

    monkeypatch.setattr(Softmax, "velocity", counted)
    rng = np.random.default_rng(10)
    for _ in range(3):  # new parameters, points and weights of the same shapes
        attention = random_softmax(rng, 3, 7)
        cloud, weights = rng.normal(size=(19, 7)), rng.dirichlet(np.ones(19))
        attention(cloud, cloud, weights=weights)
    assert len(traces) == 1


def test_identity_precision_follows_the_tokens_and_the_library_of_the_arguments():
    attention = Softmax(Q=Q, K=K, V=V, causal=True)
    at = np.arange(4) / 4
    cases = [(np.float32, np.float32), (np.float64, np.float64)]
    for given, expected in cases:
        tokens = X.astype(given)
        # Weights and positions in float64 do not widen the result.
        field = attention(tokens, tokens, weights=np.full(4, 0.25), x_positions=at, positions=at)
        assert isinstance(field, np.ndarray)
        assert field.dtype == expected
        np.testing.assert_allclose(field, ROW12, rtol=0, atol=1e-6)
    field = attention(jnp.asarray(X), X, x_positions=at, positions=at)
    assert isinstance(field, jax.Array)
    assert field.dtype == jnp.float32
    integers = jnp.array([[1, 0], [0, 1]])
    np.testing.assert_allclose(
        Softmax(Q=Q, K=K, V=V)(integers, integers),
        dense_field(Softmax(Q=Q, K=K, V=V), np.eye(2), np.eye(2)),
        rtol=1e-6,
    )


def test_identity_one_point_and_no_point_keep_their_shape():
    attention = Softmax(Q=Q, K=K, V=V)
    np.testing.assert_allclose(attention(X[0], X), ROW7[0], rtol=0, atol=1e-9)
    assert attention(np.zeros((0, 2)), X).shape == (0, 2)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"Q": Q[0]}, ArgumentError, r"Q: has shape \(2,\); pass a matrix \[any, any\]"),
        ({"Q": np.zeros((0, 2))}, ArgumentError, r"Q: has shape \(0, 2\)"),
        ({"Q": Q * np.nan}, ArgumentError, "Q: has NaN or infinity in 4 of 4 entries"),
        ({"Q": [["a", "b"]]}, ArgumentTypeError, r"Q: got \[\['a', 'b'\]\]; pass real numbers"),
        ({"K": K[:1]}, ArgumentError, r"K: has shape \(1, 2\); pass a matrix \[2, 2\]"),
        ({"K": np.ones((2, 3))}, ArgumentError, r"K: has shape \(2, 3\); pass a matrix \[2, 2\]"),
        ({"V": V[:1]}, ArgumentError, r"V: has shape \(1, 2\); pass a matrix \[2, 2\]"),
        ({"V": V + np.inf}, ArgumentError, "V: has NaN or infinity in 4 of 4 entries"),
        ({"V": V * 1j}, ArgumentTypeError, "V: got .*; pass real numbers"),
        ({"V": jnp.asarray(V) * 1j}, ArgumentTypeError, "V: has dtype complex64"),
        ({"score_scale": 0.0}, ArgumentError, "score_scale: got 0; pass a positive number"),
        ({"score_scale": -1}, ArgumentError, "score_scale: got -1; pass a positive number"),
        ({"score_scale": np.inf}, ArgumentError, "score_scale: got "),
        ({"score_scale": [1.0, 2.0]}, ArgumentError, r"score_scale: has shape \(2,\)"),
        ({"causal": 1}, ArgumentTypeError, "causal: got 1; pass True or False"),
    ],
)
def test_refusals_of_the_constructor(changes, error, message, as_user):
    with pytest.raises(error, match=message):
        Softmax(**{"Q": Q, "K": K, "V": V, **changes})


AT = {"x_positions": np.arange(4) / 4, "positions": np.arange(4) / 4}


@pytest.mark.parametrize(
    ("causal", "args", "kwargs", "error", "message"),
    [
        (False, (X, X[:, :1]), {}, ArgumentError, r"cloud: has shape \(4, 1\)"),
        (False, (X, X[0]), {}, ArgumentError, r"cloud: has shape \(2,\)"),
        (False, (X, X[:0]), {}, ArgumentError, r"cloud: has shape \(0, 2\).*at least one token"),
        (
            False,
            (X, X * [1, np.nan]),
            {},
            ArgumentError,
            "cloud: has NaN or infinity in 4 of 8 entries",
        ),
        (
            False,
            (X[:, :1], X),
            {},
            ArgumentError,
            r"x: has shape \(4, 1\); pass points \[\.\.\., 2\]",
        ),
        (False, (1.0, X), {}, ArgumentError, r"x: has shape \(\)"),
        (False, ([[np.inf, 0]], X), {}, ArgumentError, "x: has NaN or infinity in 1 of 2 entries"),
        (False, ("words", X), {}, ArgumentTypeError, "x: got 'words'; pass real"),
        (False, (X, X), {"weights": [0.5, 0.5]}, ArgumentError, r"weights: has shape \(2,\)"),
        (
            False,
            (X, X),
            {"weights": [0.5, 0.7, -0.2, 0]},
            ArgumentError,
            "weights: have least entry -0.2",
        ),
        (False, (X, X), {"weights": np.ones(4)}, ArgumentError, "weights: .*sum 4"),
        (False, (X, X), AT, ArgumentTypeError, "positions: is given, and the field is not causal"),
        (False, (X, X), {"x_positions": AT["positions"]}, ArgumentTypeError, "x_positions: is giv"),
        (True, (X, X), {}, ArgumentTypeError, "positions: is missing, and a causal field needs it"),
        (True, (X, X), {"positions": AT["positions"]}, ArgumentTypeError, "x_positions: is missin"),
        (True, (X, X), {**AT, "positions": [0.0]}, ArgumentError, r"^positions: has shape \(1,\)"),
        (True, (X, X), {**AT, "x_positions": [0.0]}, ArgumentError, r"x_positions: has shape"),
        (
            True,
            (X, X),
            {**AT, "positions": [np.nan, 0, 0, 0]},
            ArgumentError,
            "^positions: has NaN or infinity in 1 of 4",
        ),
        (
            True,
            (X, X),
            {**AT, "x_positions": [-0.5, 0, 0, 0]},
            ArgumentError,
            "x_positions: the position -0.5 lies before every token.*at least 0",
        ),
        (
            True,
            (X, X),
            {**AT, "weights": [0, 0.5, 0.5, 0]},
            ArgumentError,
            "x_positions: the position 0 lies before.*at least 0.25",
        ),
    ],
)
def test_refusals_of_a_call(causal, args, kwargs, error, message, as_user):
    with pytest.raises(error, match=message):
        Softmax(Q=Q, K=K, V=V, causal=causal)(*args, **kwargs)


def test_refusals_of_the_gaussian_field(as_user):
    with pytest.raises(NoSuchLimitError, match=r"causal: .*not affine"):
        Softmax(Q=Q, K=K, V=V, causal=True).gaussian_field(MEAN, COV)
    attention = Softmax(Q=Q, K=K, V=V)
    with pytest.raises(ArgumentError, match=r"mean: has shape \(3,\); pass a vector \[2\]"):
        attention.gaussian_field(np.zeros(3), COV)
    with pytest.raises(ArgumentError, match=r"cov: has shape \(2,\); pass a matrix \[2, 2\]"):
        attention.gaussian_field(MEAN, MEAN)


def test_refusals_of_traced_values(as_user):
    x = jnp.asarray(X)
    at = jnp.arange(4.0) / 4

    @eqx.filter_jit
    def field(weights, x_positions, scale, positions=at):
        scaled = Softmax(Q=Q, K=K, V=V, score_scale=scale, causal=True)
        return scaled(x, x, weights=weights, x_positions=x_positions, positions=positions)

    even = jnp.full(4, 0.25)
    np.testing.assert_allclose(field(even, at, jnp.array(1.0)), ROW12, rtol=0, atol=1e-6)
    for wrong, message in [
        ((even.at[0].set(jnp.nan), at, 1.0), "weights: pass non-negative weights that sum to one"),
        ((even * 2, at, 1.0), "weights: pass non-negative weights that sum to one"),
        ((even, at - 0.1, 1.0), "x_positions: a point lies before every token"),
        ((jnp.array([0.0, 0.5, 0.5, 0.0]), at, 1.0), "x_positions: a point lies before every"),
        ((even, at, 1.0, at[::-1]), "positions: are not sorted"),
        ((even, at, jnp.array(0.0)), "score_scale: pass a positive number"),
    ]:
        with pytest.raises(eqx.EquinoxRuntimeError, match=message):
            jax.block_until_ready(field(*wrong))
