r"""Attention as a term: what it returns on average, and that average's derivatives.

Forward, with P the attention matrix of a head and K the covariance of what values are read from,

    U = gamma_A E P K P^T.

Heads come in antithetic pairs: (q, k) and (-q, k).

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.core import Key, lower_product, lower_square
from translimit.describe import Attention
from translimit.limits.signal.drawn_heads import (
    Read,
    cast_to,
    queries_and_keys,
    reading,
    spaced,
    whole_rows,
)
from translimit.limits.signal.heads import (
    Mixer,
    capped,
    log_weights,
    prepared,
    score_products,
    value_gain,
    visible,
    weights,
)
from translimit.limits.signal.norms import FEW_TOKENS, row_blocks
from translimit.limits.signal.seeds import normals
from translimit.limits.signal.slopes import accumulate


class Mixed(NamedTuple):
    """What attention returns, and how its weights concentrate.

    Attributes:
        out: U [n, n].
        attention_entropy: of the weights of each query in nats, mean over heads [n].
        squares: sum of squared weights of each query, mean over heads [n].
        mean: of the entropy over queries that see two keys or more, mean over heads.
        mean_square: mean over heads of the square of that.
    """

    out: Array
    attention_entropy: Array
    squares: Array
    mean: Array
    mean_square: Array


def mix(
    mixer: Mixer,
    dim: int,
    causal: bool,
    cov: Float[Array, "n n"],
    key: Key,
    pairs: Array,
    score_factor: Array | float = 1.0,
    single: bool = False,
) -> Mixed:
    """The average of a layer's attention over its weights.

    Args:
        mixer: the attention.
        dim: of the tokens.
        causal: whether a token sees only itself and the tokens before it.
        cov: K, of what it reads.
        key: of its heads.
        pairs: how many antithetic pairs are drawn, at least 1.
        score_factor: what all scores are multiplied with.
        single: whether heads are computed in float32; their averages never are.
    """
    read = cast_to(reading(mixer, dim, cov), single)
    n = len(cov)
    seen = visible(mixer.scores, causal, n).sum(axis=1) > 1
    where = seen / max(int(seen.sum()), 1)

    def body(index: Array, total: Mixed) -> Mixed:
        rows = _pair(mixer, causal, read, key, index, pairs, score_factor)
        every = [jnp.exp(log_p) for log_p in rows]
        entropies = [
            -jnp.sum(jnp.where(p > 0, p * log_p, 0.0), axis=2)
            for p, log_p in zip(every, rows, strict=True)
        ]
        entropy = jnp.concatenate(entropies, axis=1)
        mean = entropy @ where
        squares = jnp.concatenate([jnp.sum(p**2, axis=(0, 2)) for p in every])
        out = _gram(whole_rows(every), read.value, causal)
        added = Mixed(out, jnp.sum(entropy, axis=0), squares, jnp.sum(mean), mean @ mean)
        return Mixed(*(old + new for old, new in zip(total, added, strict=True)))

    zero = Mixed(jnp.zeros((n, n)), jnp.zeros(n), jnp.zeros(n), jnp.zeros(()), jnp.zeros(()))
    total = jax.lax.fori_loop(0, pairs, body, zero)
    mean = Mixed(*(one / (2 * pairs) for one in total))
    return mean._replace(out=value_gain(mixer, dim) * mean.out)


def _gram(p: Float[Array, "2 n n"], root: Float[Array, "n n"], causal: bool) -> Float[Array, "n n"]:
    """sum_h P_h F F^T P_h^T, of many tokens and a mask without what is zero: F is lower-triangular.

    A third of the operations, and another order of the same additions.
    """
    if causal and len(root) > FEW_TOKENS:
        lower = sum(lower_square(lower_product(one, root)) for one in p)
        return jnp.tril(lower) + jnp.tril(lower, -1).T
    mixed = jnp.concatenate([one @ root for one in p], axis=1)
    return mixed @ mixed.T


def pull_average(
    mixer: Attention,
    dim: int,
    causal: bool,
    cov: Float[Array, "n n"],
    slopes: Float[Array, "m n n"],
    key: Key,
    pairs: Array,
    joined: Array | int | None = None,
) -> Float[Array, "m n n"]:
    """Derivatives of tr(S U) with respect to K for matrices S, the drawn heads held fixed.

    Pair by pair: what one of them needs is forgotten before the next.

    Args:
        mixer: the attention.
        dim: of the tokens.
        causal: whether a token sees only itself and the tokens before it.
        cov: K, of what it reads.
        slopes: the matrices S, symmetric.
        key: of its heads, as for `mix`.
        pairs: how many antithetic pairs are drawn, at least 1.
        joined: how many of the slopes are wanted, the first; all by default.
    """
    own = reading(mixer, dim, cov)

    def factored(cov: Array) -> tuple[Array, tuple[Array, Array]]:
        read = reading(mixer, dim, cov)
        return read.value, read.squares

    def returned(root: Array, squares: tuple[Array, Array], index: Array) -> Array:
        read = own._replace(query=root, nope=root, rope=root, value=root, squares=squares)
        rows = _pair(mixer, causal, read, key, index, pairs)
        return _gram(whole_rows([jnp.exp(log_p) for log_p in rows]), root, causal)

    def body(index: Array, total: tuple[Array, tuple[Array, Array]]) -> Any:
        _, back = jax.vjp(functools.partial(returned, index=index), own.value, own.squares)
        return accumulate(total, slopes, joined, back)

    _, back = jax.vjp(factored, cov)
    zero = jax.tree.map(
        lambda leaf: jnp.zeros((len(slopes), *leaf.shape), leaf.dtype),
        (own.value, own.squares),
    )
    roots, (queries, keys) = jax.lax.fori_loop(0, pairs, body, zero)
    every, none = (roots, queries, keys), jnp.zeros_like(slopes)
    below = accumulate(none, every, joined, lambda one, *squares: back((one, squares))[0])
    return value_gain(mixer, dim) / (4 * pairs) * (below + jnp.swapaxes(below, 1, 2))


def entropy_of(p: Float[Array, "n n"]) -> Float[Array, " n"]:
    """Entropy of each row in nats.

    Args:
        p: attention weights.
    """
    return -jnp.sum(jax.scipy.special.xlogy(p, p), axis=1)


def draw_group(
    mixer: Attention, dim: int, causal: bool, cov: Float[Array, "n n"], key: Key, number: Array
) -> tuple[Float[Array, "n n"], Callable[[Array], Float[Array, "n n"]]]:
    """Heads that share their keys: F with F F^T = K, and the weights of the head at a place.

    Args:
        mixer: the attention.
        dim: of the tokens.
        causal: whether a token sees only itself and the tokens before it.
        cov: K, of what they read.
        key: of the group.
        number: of the group, for biases that differ by head.
    """
    read = reading(mixer, dim, cov)
    shared, shape = mixer.heads // mixer.key_heads, (len(cov), 2 * mixer.head_dim)
    _, k = queries_and_keys(read, normals(key, shared, shape))

    def head(place: Array) -> Array:
        q, _ = queries_and_keys(read, normals(key, place, shape))
        bias, of_head = jax.random.fold_in(key, place), number * shared + place
        return weights(mixer, causal, q, k, read.squares, of_head, bias)

    return read.value, head


def _pair(
    mixer: Mixer,
    causal: bool,
    read: Read,
    key: Key,
    index: Array,
    pairs: Array,
    score_factor: Array | float = 1.0,
) -> list[Float[Array, "2 rows columns"]]:
    """Logarithms of the attention weights of an antithetic pair of heads, in blocks of rows."""
    n = len(read.query)
    drawn = normals(key, index, (n, 2 * mixer.head_dim), read.value.dtype)
    q, k = prepared(mixer, *queries_and_keys(read, drawn), read.squares)
    head, bias = spaced(mixer, index, pairs, mixer.heads, key), jax.random.fold_in(key, index)
    found = []
    for low, high in row_blocks(causal, n):
        one = capped(mixer, score_factor * score_products(mixer, q[low:high], k[:high]))
        found.append(log_weights(mixer, causal, jnp.stack([one, -one]), head, bias, low))
    return found
