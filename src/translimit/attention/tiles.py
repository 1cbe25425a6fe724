r"""Sums over many keys in bounded memory: tiles, for softmax averages with an online softmax.

For scores S_ij = <q_i, k_j> + b_j, where b holds the log weights (and any term that depends on
the key alone), one tile of keys gives

| symbol | name here | shape | of one tile |
|---|---|---|---|
| m | `maximum` | [queries] | max_j S_ij |
| l | `mass` | [queries] | sum_j e^{S_ij - m_i} |
| a | `total` | [queries, dim] | sum_j e^{S_ij - m_i} v_j |

and two such states merge into m = max(m', m''), l = e^{m' - m} l' + e^{m'' - m} l'', a likewise.
The average sum_j softmax_j(S_ij) v_j is a / l, the log-sum-exp is m + log l. Memory is
O((queries + tokens) dim + query_tile key_tile), in the reverse derivative too, where tiles are
computed a second time instead of being kept. Derivatives go through with m held constant, which
is exact: neither result depends on m.

A kernel phi without denominator needs the sum a_i = sum_j phi(S_ij) v_j alone, and two tiles add.

Causal: key j is admissible for query i if and only if s_j <= s_i, ties included. A tile of keys
that all lie after all queries of a tile is skipped, one that lies before them needs no mask. Of
tokens ordered by position this leaves half of the work, and half of the tiles on the diagonal,
which are square for this reason; any order gives the right result.

A key that is switched off (masked, of weight zero, padding) has the score `_off(dtype)`, finite
but below every other: as -inf it would turn the maximum of a tile without admissible keys into
-inf and its exponentials into NaN. (A guard on the maximum, or any use of it beside the
exponential, keeps the compiler from making product, maximum and exponential one pass: 1.2 to 1.7
times slower.)

Inside `core.over_devices` the queries are cut over the devices and every device has all keys; what
fits one dense tile is left whole.

Reference: documentation, "The Transformer PDE"; Milakov and Gimelshein, arXiv 1805.02867 (online
softmax); Rabe and Staats, arXiv 2112.05682 (attention in bounded memory).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from translimit.core import device_count, map_shards, rounded_up

#: Queries and keys in one tile; measured by `benchmarks/attention.py --tiles`. Causal tiles are
#: square, of the smaller of the two.
QUERY_TILE = 512
KEY_TILE = 1024
#: At most this many scores are computed as one dense tile, without loops or padding.
DENSE = 1024 * 1024


class _Keys(NamedTuple):
    """One tile of keys, or all of them with a leading axis of tiles."""

    features: Array
    values: Array
    bias: Array
    positions: Array | None


class _Running(NamedTuple):
    """The state of the online softmax for one tile of queries."""

    maximum: Array
    mass: Array
    total: Array


class _Sum(NamedTuple):
    """What is summed over keys: the state before any key, of one tile, and of two parts."""

    empty: Callable[[Array, Array], Any]
    one_tile: Callable[[Array, Array | None, _Keys], Any]
    merge: Callable[[Any, Any], Any]


def softmax_average(
    queries: Float[Array, "queries features"],
    keys: Float[Array, "tokens features"],
    values: Float[Array, "tokens dim"],
    bias: Float[Array, " tokens"],
    query_positions: Float[Array, " queries"] | None = None,
    positions: Float[Array, " tokens"] | None = None,
    *,
    query_tile: int | None = None,
    key_tile: int | None = None,
) -> Float[Array, "queries dim"]:
    """The average of the values under softmax_j(<q_i, k_j> + b_j), one row per query.

    Args:
        queries: query features, the score scale included.
        keys: key features.
        values: what is averaged.
        bias: added to every score of a key: its log weight; -inf switches the key off.
        query_positions: positions of the queries; with them keys are restricted to
            positions <= query_positions.
        positions: positions of the keys.
        query_tile: queries in a tile; chosen by size when not given.
        key_tile: keys in a tile; chosen by size when not given.

    Returns:
        The averages; NaN in the row of a query without an admissible key.
    """
    state = _run(queries, keys, values, bias, query_positions, positions, query_tile, key_tile)
    seen = _some_key(bias, query_positions, positions)
    average = state.total / state.mass[:, None]
    return jnp.where(seen if seen.ndim == 0 else seen[:, None], average, jnp.nan)


def log_sum_exp(
    queries: Float[Array, "queries features"],
    keys: Float[Array, "tokens features"],
    bias: Float[Array, " tokens"],
    query_positions: Float[Array, " queries"] | None = None,
    positions: Float[Array, " tokens"] | None = None,
    *,
    query_tile: int | None = None,
    key_tile: int | None = None,
) -> Float[Array, " queries"]:
    """The log-sum-exps log sum_j exp(<q_i, k_j> + b_j) [queries]; arguments as `softmax_average`.

    Returns:
        The log-sum-exps; -inf for a query without an admissible key.
    """
    values = jnp.zeros((keys.shape[0], 0), keys.dtype)
    state = _run(queries, keys, values, bias, query_positions, positions, query_tile, key_tile)
    seen = _some_key(bias, query_positions, positions)
    return jnp.where(seen, state.maximum + jnp.log(state.mass), -jnp.inf)


def kernel_sum(
    kernel: Callable[[Array], Array],
    queries: Float[Array, "queries features"],
    keys: Float[Array, "tokens features"],
    values: Float[Array, "tokens dim"],
    bias: Float[Array, " tokens"],
    query_positions: Float[Array, " queries"] | None = None,
    positions: Float[Array, " tokens"] | None = None,
    *,
    query_tile: int | None = None,
    key_tile: int | None = None,
) -> Float[Array, "queries dim"]:
    """The sums sum_j phi(<q_i, k_j> + b_j) v_j over the admissible keys, one row per query.

    Args:
        kernel: phi, applied to every score.
        queries: query features, the score scale included.
        keys: key features.
        values: what is summed, weights included where they are not in the bias.
        bias: added to every score of a key.
        query_positions: as in `softmax_average`.
        positions: as in `softmax_average`.
        query_tile: as in `softmax_average`.
        key_tile: as in `softmax_average`.

    Returns:
        The sums; zero in the row of a query without an admissible key.
    """

    def one_tile(queries: Array, query_positions: Array | None, keys: _Keys) -> Array:
        scores = _dot(queries, keys.features.T) + keys.bias
        if query_positions is None or keys.positions is None:
            return _dot(kernel(scores), keys.values)
        # Masked before the kernel too: a score that overflows it must not reach the derivative.
        admissible = keys.positions[None, :] <= query_positions[:, None]
        weights = kernel(jnp.where(admissible, scores, 0.0))
        return _dot(jnp.where(admissible, weights, 0.0), keys.values)

    def empty(queries: Array, values: Array) -> Array:
        return jnp.zeros((queries.shape[0], values.shape[1]), queries.dtype)

    rule = _Sum(empty, one_tile, jnp.add)
    return _run(queries, keys, values, bias, query_positions, positions, query_tile, key_tile, rule)


def over_heads(
    function: Callable[..., Array],
    arrays: tuple[Array, ...],
    scores: int,
) -> Float[Array, "heads queries dim"]:
    """A function of one head for all heads [heads, ...]: at once while that is one dense tile.

    Args:
        function: a function of the arrays of one head.
        arrays: their stacks [heads, ...].
        scores: how many scores one head has.
    """
    if arrays[0].shape[0] * scores <= DENSE:
        return jax.vmap(function)(*arrays)
    return lax.map(lambda head: function(*head), arrays)


def _run(
    queries: Array,
    keys: Array,
    values: Array,
    bias: Array,
    query_positions: Array | None,
    positions: Array | None,
    query_tile: int | None,
    key_tile: int | None,
    rule: _Sum | None = None,
) -> Any:
    """The sum over all tiles of keys, by default the online softmax, for all queries."""
    rule = _Sum(_empty, _one_tile, _merge) if rule is None else rule
    dtype = jnp.result_type(queries, keys, values, bias)
    queries, keys, values, bias = (a.astype(dtype) for a in (queries, keys, values, bias))
    bias = jnp.maximum(bias, _off(dtype))
    count, tokens = queries.shape[0], keys.shape[0]
    dense = query_tile is None and key_tile is None and count * tokens <= DENSE
    query_tile = count if dense else _balanced(count, query_tile or QUERY_TILE)
    causal = query_positions is not None and positions is not None
    default = min(QUERY_TILE, KEY_TILE) if causal else KEY_TILE
    key_tile = tokens if dense else _balanced(tokens, key_tile or default)
    if query_tile >= count and key_tile >= tokens:
        return rule.one_tile(queries, query_positions, _Keys(keys, values, bias, positions))
    if device_count() > 1:
        return _over_devices(
            (queries, query_positions), (keys, values, bias, positions), query_tile, key_tile, rule
        )

    key_tiles = _Keys(
        _tiles(keys, key_tile, 0.0),
        _tiles(values, key_tile, 0.0),
        _tiles(bias, key_tile, _off(dtype)),
        None if positions is None else _tiles(positions, key_tile, None),
    )
    query_tiles = (
        _tiles(queries, query_tile, 0.0),
        None if query_positions is None else _tiles(query_positions, query_tile, None),
    )

    # Two checkpoints: without the inner one a reverse derivative keeps every score, without the
    # outer one the maxima of every pair of tiles, queries * tokens / key_tile of them.
    @jax.checkpoint
    def one_row_of_tiles(tile: Any) -> Any:
        features, at = tile

        def step(state: Any, keys: _Keys) -> tuple[Any, None]:
            return _fold(rule, state, features, at, keys), None

        body = jax.checkpoint(step, prevent_cse=False)
        return lax.scan(body, rule.empty(features, values), key_tiles)[0]

    rows = lax.map(one_row_of_tiles, query_tiles)
    return jax.tree.map(lambda a: lax.collapse(a, 0, 2)[:count], rows)


def _over_devices(
    queries: tuple[Array, Array | None],
    keys: tuple[Array, Array, Array, Array | None],
    query_tile: int,
    key_tile: int,
    rule: _Sum,
) -> Any:
    """Each device has its part of the queries, and all keys."""
    count = queries[0].shape[0]
    part = rounded_up(count) // device_count()
    features, at = queries
    features = jnp.pad(features, ((0, part * device_count() - count), (0, 0)))
    at = None if at is None else jnp.pad(at, (0, part * device_count() - count), mode="edge")

    def here(features: Any, at: Any, keys: Any) -> Any:
        keys, values, bias, positions = keys
        tiles = min(query_tile, part), key_tile
        return _run(features, keys, values, bias, at, positions, *tiles, rule)

    rows = map_shards(here, (features, at), (0, 0), keys)
    return jax.tree.map(lambda a: a[:count], rows)


def _fold(
    rule: _Sum, state: Any, queries: Array, query_positions: Array | None, keys: _Keys
) -> Any:
    """The state with one more tile of keys, untouched if the mask hides all of them."""
    if query_positions is None or keys.positions is None:
        return rule.merge(state, rule.one_tile(queries, None, keys))
    first, last = jnp.min(keys.positions), jnp.max(keys.positions)
    hidden = first > jnp.max(query_positions)
    partial = last > jnp.min(query_positions)
    return lax.switch(
        jnp.where(hidden, 0, jnp.where(partial, 1, 2)),
        (
            lambda: state,
            lambda: rule.merge(state, rule.one_tile(queries, query_positions, keys)),
            lambda: rule.merge(state, rule.one_tile(queries, None, keys)),
        ),
    )


def _one_tile(queries: Array, query_positions: Array | None, keys: _Keys) -> _Running:
    """The state after one tile of keys alone; masked if there are query positions."""
    scores = _dot(queries, keys.features.T) + keys.bias
    if query_positions is not None and keys.positions is not None:
        admissible = keys.positions[None, :] <= query_positions[:, None]
        scores = jnp.where(admissible, scores, _off(scores.dtype))
    maximum = jnp.max(lax.stop_gradient(scores), axis=1)
    weights = jnp.exp(scores - maximum[:, None])
    return _Running(maximum, jnp.sum(weights, axis=1), _dot(weights, keys.values))


def _merge(left: _Running, right: _Running) -> _Running:
    """The state after the keys of both."""
    maximum = jnp.maximum(left.maximum, right.maximum)
    shrink_left = jnp.exp(left.maximum - maximum)
    shrink_right = jnp.exp(right.maximum - maximum)
    return _Running(
        maximum,
        shrink_left * left.mass + shrink_right * right.mass,
        shrink_left[:, None] * left.total + shrink_right[:, None] * right.total,
    )


def _empty(queries: Array, values: Array) -> _Running:
    """The state before any key."""
    count, dtype = queries.shape[0], queries.dtype
    return _Running(
        jnp.full(count, _off(dtype), dtype),
        jnp.zeros(count, dtype),
        jnp.zeros((count, values.shape[1]), dtype),
    )


def _off(dtype: DTypeLike) -> float:
    """The score of a key that is switched off: e^{off - m} is exactly zero for every real m."""
    return float(jnp.finfo(dtype).min) / 2


def _some_key(bias: Array, query_positions: Array | None, positions: Array | None) -> Array:
    """Whether there is an admissible key: one answer, or one per query [queries] when causal."""
    on = bias > _off(bias.dtype)
    if query_positions is None or positions is None:
        return jnp.any(on)
    return query_positions >= jnp.min(jnp.where(on, positions, jnp.inf))


def _dot(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


def _balanced(count: int, tile: int) -> int:
    """A tile size of at most `tile` that divides the count into nearly equal tiles."""
    return -(-count // -(-count // tile))


def _tiles(array: Array, tile: int, fill: float | None) -> Array:
    """The array padded at its end (None: by its last entry) and cut: [tiles, tile, ...]."""
    tiles = -(-array.shape[0] // tile)
    missing = tiles * tile - array.shape[0]
    widths = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
    if fill is None:
        padded = jnp.pad(array, widths, mode="edge")
    else:
        padded = jnp.pad(array, widths, constant_values=fill)
    return padded.reshape(tiles, tile, *array.shape[1:])
