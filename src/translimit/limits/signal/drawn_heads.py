r"""What the heads of attention read, and which of them a draw stands for.

Queries, keys and values are read from factors of covariances: of the tokens, or of latents (MLA),
which are normalised, hence have covariance R, the overlaps of what they read.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.core import Key
from translimit.describe import Attention
from translimit.limits.signal.heads import Mixer, entry_variances
from translimit.limits.signal.norms import factor, overlaps


class Read(NamedTuple):
    """What queries, keys and values are read from, as factors, and the variances of entries."""

    query: Array
    nope: Array
    rope: Array
    value: Array
    query_variance: Array
    key_variance: Array
    squares: tuple[Array, Array]
    turning: int


def spaced(mixer: Mixer, index: Array, draws: Array, total: int, key: Key) -> Array:
    """Which of so many heads a draw stands for: evenly spaced from a random start.

    Args:
        mixer: the attention; its heads are told apart by slopes only.
        index: of the draw.
        draws: how many there are.
        total: heads.
        key: of the start, the same for all draws.
    """
    if not mixer.scores.slopes:
        return index
    start = jax.random.uniform(jax.random.fold_in(key, 2**30))
    return jnp.floor((index + start) * total / draws).astype(int) % total


def reading(mixer: Mixer, dim: int, cov: Float[Array, "n n"]) -> Read:
    """What the heads of an attention read.

    Args:
        mixer: the attention.
        dim: of the tokens.
        cov: K, of what it reads.
    """
    query, key = map(jnp.asarray, entry_variances(mixer, dim))
    token = factor(cov)
    squares = jnp.diagonal(cov)
    if isinstance(mixer, Attention):
        means = (query.mean() * squares, key.mean() * squares)
        return Read(token, token, token, token, query, key, means, 0)
    latent = factor(overlaps(cov))
    asks = token if mixer.query_rank is None else latent
    return Read(asks, latent, token, latent, query, key, (squares, squares), mixer.rope_dim)


def cast_to(read: Read, single: bool) -> Read:
    """Its numbers in float32, or as they are.

    Args:
        read: what heads read.
        single: whether in float32.
    """
    if not single:
        return read
    told = {name: value for name, value in read._asdict().items() if name != "turning"}
    return Read(**jax.tree.map(lambda x: x.astype(jnp.float32), told), turning=read.turning)


def queries_and_keys(
    read: Read, drawn: Float[Array, "n columns"]
) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
    """Queries and keys of a head.

    Args:
        read: what it reads.
        drawn: standard normal numbers, of queries and then of keys.
    """
    first, second = jnp.split(drawn, 2, axis=1)
    turned = read.rope @ second[:, : read.turning]
    k = jnp.concatenate([turned, read.nope @ second[:, read.turning :]], axis=1)
    return jnp.sqrt(read.query_variance) * (read.query @ first), jnp.sqrt(read.key_variance) * k


def whole_rows(rows: list[Array]) -> Float[Array, "heads n n"]:
    """Matrices from blocks of rows, whose missing columns are zero.

    Args:
        rows: the blocks [heads, rows, columns], the last with all columns.
    """
    if len(rows) == 1:
        return rows[0]
    n = rows[-1].shape[-1]
    return jnp.concatenate([jnp.pad(p, ((0, 0), (0, 0), (0, n - p.shape[2]))) for p in rows], 1)
