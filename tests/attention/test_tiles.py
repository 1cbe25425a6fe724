"""Tiles with an online softmax against dense NumPy: values, derivatives, masks, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from translimit.attention.tiles import log_sum_exp, softmax_average


def dense_logits(queries, keys, weights, query_positions=None, positions=None):
    """All logits at once in NumPy; -inf where a weight is zero or a key is not admissible."""
    with np.errstate(divide="ignore"):
        logits = queries @ keys.T + np.log(weights)
    if positions is not None:
        logits = np.where(positions[None, :] <= query_positions[:, None], logits, -np.inf)
    return logits


def dense_average(queries, keys, values, weights, query_positions=None, positions=None):
    """The softmax average by its definition; the row of a query without a key is NaN."""
    logits = dense_logits(queries, keys, weights, query_positions, positions)
    with np.errstate(invalid="ignore"):
        kernel = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (kernel / kernel.sum(axis=1, keepdims=True)) @ values


def draw_case(seed, queries, tokens, features, dim, zeros, masked):
    """Random arrays; some weights zero, the first among them; positions with ties, unordered."""
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(queries, features)), 3 * rng.normal(size=(tokens, features))
    v, w = rng.normal(size=(tokens, dim)), rng.random(tokens) + 0.01
    if zeros and tokens > 1:
        w[0] = 0.0
        w[1:] *= rng.random(tokens - 1) < 0.6
        w[-1] = 0.3
    w /= w.sum()
    if not masked:
        return q, k, v, w, None, None
    return q, k, v, w, rng.integers(0, 6, queries) / 5, rng.integers(0, 6, tokens) / 5


def run_tiled(function, *arrays, **tiles):
    """A tiled function in float64 whatever the session's setting."""
    with jax.enable_x64(True):
        as_jax = [None if a is None else jnp.asarray(a) for a in arrays]
        return np.asarray(jax.jit(lambda args: function(*args, **tiles))(as_jax))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 23),
    tokens=st.integers(1, 23),
    features=st.integers(1, 4),
    dim=st.integers(1, 4),
    query_tile=st.integers(1, 9),
    key_tile=st.integers(1, 9),
    zeros=st.booleans(),
    masked=st.booleans(),
)
def test_identity_tiled_equals_dense_for_any_sizes(
    seed, queries, tokens, features, dim, query_tile, key_tile, zeros, masked
):
    q, k, v, w, at, positions = draw_case(seed, queries, tokens, features, dim, zeros, masked)
    with np.errstate(divide="ignore"):
        bias = np.log(w)

    def both(q, k, v, bias, at, positions):
        tiles = {"query_tile": query_tile, "key_tile": key_tile}
        lse = log_sum_exp(q, k, bias, at, positions, **tiles)
        average = softmax_average(q, k, v, bias, at, positions, **tiles)
        return jnp.concatenate([average, lse[:, None]], axis=1)

    result = run_tiled(both, q, k, v, bias, at, positions)
    expected = dense_average(q, k, v, w, at, positions)
    # NaN (a query without an admissible key) must agree too; assert_allclose compares it.
    np.testing.assert_allclose(result[:, :-1], expected, rtol=0, atol=1e-12)
    expected = np.logaddexp.reduce(dense_logits(q, k, w, at, positions), axis=1)
    np.testing.assert_allclose(result[:, -1], expected, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_identity_one_dense_tile_equals_the_default_tiles_at_101_tokens(masked):
    # n = 101 is a case known to agree to 1e-14, masked and not.
    q, k, v, w, at, positions = draw_case(5, 101, 101, 3, 3, False, masked)
    tiled = run_tiled(softmax_average, q, k, v, np.log(w), at, positions, query_tile=16, key_tile=8)
    dense = run_tiled(softmax_average, q, k, v, np.log(w), at, positions)
    np.testing.assert_allclose(tiled, dense, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dense, dense_average(q, k, v, w, at, positions), rtol=0, atol=1e-13)


def test_identity_wholly_masked_and_wholly_weightless_tiles_change_nothing():
    q, k, v, w, _, _ = draw_case(1, 7, 24, 2, 2, False, False)
    positions = np.arange(24) / 23
    at = np.full(7, positions[9])  # tiles of 4: two and a half admissible, three skipped
    w[:4] = 0.0  # and the first tile is switched off
    with np.errstate(divide="ignore"):
        bias = np.log(w)
    average = run_tiled(softmax_average, q, k, v, bias, at, positions, query_tile=3, key_tile=4)
    expected = dense_average(q, k[4:10], v[4:10], w[4:10])
    np.testing.assert_allclose(average, expected, rtol=0, atol=1e-13)


def test_identity_extreme_logits_do_not_overflow():
    q = np.array([[1.0], [-1.0]])
    k = np.array([[700.0], [-700.0], [0.0], [699.0]])
    v = np.array([[1.0], [2.0], [3.0], [4.0]])
    w = np.full(4, 0.25)
    for tile in (1, 2, 4):
        average = run_tiled(softmax_average, q, k, v, np.log(w), query_tile=1, key_tile=tile)
        np.testing.assert_allclose(average, dense_average(q, k, v, w), rtol=1e-13)


@pytest.mark.parametrize("masked", [False, True])
def test_two_routes_reverse_and_forward_derivatives_of_tiles_equal_those_of_the_formula(masked):
    q, k, v, w, at, positions = draw_case(3, 11, 13, 2, 3, True, masked)
    if masked:
        at, positions = np.maximum(at, 0.2), np.minimum(positions, at.max())
        positions[-1] = 0.0  # a key of positive weight that every query may see
    with np.errstate(divide="ignore"):
        bias = np.log(w)
    probe = np.random.default_rng(4).normal(size=(11, 3))

    def by_tiles(args):
        rest = [None if a is None else jnp.asarray(a) for a in (bias, at, positions)]
        return jnp.sum(probe * softmax_average(*args, *rest, query_tile=4, key_tile=5))

    def by_formula(args):
        logits = args[0] @ args[1].T + bias
        if masked:
            logits = jnp.where(positions[None, :] <= at[:, None], logits, -jnp.inf)
        return jnp.sum(probe * (jax.nn.softmax(logits, axis=1) @ args[2]))

    with jax.enable_x64(True):
        args = tuple(jnp.asarray(a) for a in (q, k, v))
        expected = jax.jit(jax.grad(by_formula))(args)
        for derivative in (jax.grad, jax.jacfwd):
            for got, want in zip(jax.jit(derivative(by_tiles))(args), expected, strict=True):
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_two_routes_derivative_of_the_log_sum_exp_is_the_softmax():
    q, k, _, w, _, _ = draw_case(8, 6, 17, 2, 1, False, False)

    def total(bias):
        return log_sum_exp(jnp.asarray(q), jnp.asarray(k), bias, query_tile=4, key_tile=5).sum()

    with jax.enable_x64(True):
        gradient = np.asarray(jax.jit(jax.grad(total))(jnp.log(w)))
    # d lse_i / d b_j is the attention of query i on key j: averages of unit vectors.
    expected = dense_average(q, k, np.eye(17), w).sum(axis=0)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-13)


def test_mutation_exclusive_causality_fails():
    # With s_key < s_query instead of <= the first token would see nothing and ties would part.
    q, k, v, w, _, _ = draw_case(2, 8, 8, 2, 2, False, False)
    positions = np.repeat(np.arange(4), 2) / 4
    inclusive = run_tiled(softmax_average, q, k, v, np.log(w), positions, positions)
    exclusive = dense_average(q, k, v, w, positions - 1e-9, positions)
    assert np.isnan(exclusive[:2]).all()
    assert np.isfinite(inclusive).all()
    assert np.abs(inclusive[2:] - exclusive[2:]).max() > 0.1


def temporary_bytes(function, tokens, dim):
    """What the compiled function allocates beside its arguments and results; nothing is run."""
    arrays = [jax.ShapeDtypeStruct((tokens, dim), jnp.float32)] * 3
    bias = jax.ShapeDtypeStruct((tokens,), jnp.float32)
    compiled = jax.jit(function).lower(*arrays, bias).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("derivative", [False, True])
def test_orders_memory_grows_with_n_and_not_with_n_squared(causal, derivative):
    dim, tokens = 64, 65536

    def value(q, k, v, bias):
        at = jnp.linspace(0.0, 1.0, q.shape[0]) if causal else None
        return softmax_average(q, k, v, bias, at, at, query_tile=256, key_tile=64)

    def loss(*arrays):
        return jnp.sum(value(*arrays) ** 2)

    function = jax.grad(loss, argnums=(0, 1, 2)) if derivative else value
    cloud = tokens * dim * 4
    # In clouds of 16 MiB: all logits at once are 1024 of them, the maxima of all pairs of tiles
    # (what a derivative keeps without the outer checkpoint) 16.
    assert temporary_bytes(function, tokens, dim) < (8 if derivative else 3) * cloud
