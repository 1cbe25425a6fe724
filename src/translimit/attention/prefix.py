r"""Sums over all tokens at or before a position, ties included, by sorting once.

A causal field without a softmax denominator needs, for a query at position s,

    mu({s_j <= s}) = sum_{s_j <= s} w_j    and    sum_{s_j <= s} w_j y_j <k_j, q>.

After sorting the tokens by position, "at or before s" is the first c(s) of them. The first sum is
an entry of a cumulative sum. The second is the moment matrix sum w_j y_j k_j^T of all whole tiles
among the first c(s), and the rest of one tile token by token: O(tokens dim^2) operations without
keeping one matrix per token.

Reference: documentation, "The Transformer PDE".
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

#: Queries that are looked up at once; each carries one moment matrix and one tile of tokens.
QUERIES = 256


def prefix_mass(
    query_positions: Float[Array, " queries"],
    positions: Float[Array, " tokens"],
    weights: Float[Array, " tokens"],
) -> Float[Array, " queries"]:
    """The mass of the tokens at or before each query, mu({s_j <= s_i})."""
    order = jnp.argsort(positions)
    masses = jnp.concatenate([jnp.zeros(1, weights.dtype), jnp.cumsum(weights[order])])
    return masses[jnp.searchsorted(positions[order], query_positions, side="right")]


def prefix_moment_product(
    queries: Float[Array, "queries features"],
    keys: Float[Array, "tokens features"],
    values: Float[Array, "tokens dim"],
    query_positions: Float[Array, " queries"],
    positions: Float[Array, " tokens"],
) -> Float[Array, "queries dim"]:
    """The sums sum_{s_j <= s_i} v_j <k_j, q_i>, one row per query, linear in the tokens.

    Args:
        queries: query features q.
        keys: key features k.
        values: values v, weights included.
        query_positions: positions s_i of the queries.
        positions: positions s_j of the tokens, in any order.
    """
    count, tokens = queries.shape[0], positions.shape[0]
    tile = min(tokens, max(16, values.shape[1]))
    missing = -tokens % tile
    order = jnp.argsort(positions)
    # Padding lies at the end, after every prefix; as zeros it adds nothing.
    keys, values = (
        jnp.pad(array[order], ((0, missing), (0, 0))).reshape(-1, tile, array.shape[1])
        for array in (keys, values)
    )
    of_tiles = jnp.einsum("tjd,tjk->tdk", values, keys, precision=lax.Precision.HIGHEST)
    before = jnp.concatenate([jnp.zeros_like(of_tiles[:1]), jnp.cumsum(of_tiles, axis=0)])
    seen = jnp.searchsorted(positions[order], query_positions, side="right")

    def one_query(query_and_seen: tuple[Array, Array]) -> Array:
        query, seen = query_and_seen
        whole = seen // tile
        # With nothing left over, the tile that is looked at is masked out altogether.
        last = jnp.minimum(whole, keys.shape[0] - 1)
        left = jnp.arange(tile) < seen - whole * tile
        scores = jnp.where(left, jnp.matmul(keys[last], query, precision=lax.Precision.HIGHEST), 0)
        rest = jnp.matmul(scores, values[last], precision=lax.Precision.HIGHEST)
        return jnp.matmul(before[whole], query, precision=lax.Precision.HIGHEST) + rest

    return lax.map(one_query, (queries, seen), batch_size=min(QUERIES, max(count, 1)))
