r"""Attention as a term: what it returns on average, and how gradients pass it.

Forward, with P the attention matrix of a head and K the covariance of what values are read from,

    U = gamma_A E P K P^T.

Backward, with B the Gram matrix of the gradient that arrives, the values' part is
gamma_A E P^T B P. Those of queries and keys come from the same sampler: a gradient with Gram matrix
B and a value are drawn, and pulled back through the head to its queries and keys.

Latents (MLA) are normalised, hence have covariance R, the overlaps of what they read; gradients
that pass one are divided by the norms of what it reads.

Heads come in antithetic pairs: (q, k) and (-q, k).

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.core import Key, lower_product, lower_square
from translimit.describe import Attention, LatentAttention
from translimit.limits.signal.heads import (
    Mixer,
    capped,
    entry_variances,
    log_weights,
    prepared,
    score_products,
    value_gain,
    visible,
    weights,
)
from translimit.limits.signal.norms import (
    FEW_TOKENS,
    factor,
    inverse_norms,
    overlaps,
    row_blocks,
    scaled,
)
from translimit.limits.signal.seeds import normals
from translimit.limits.signal.slopes import accumulate

#: Columns of gradients and values that are drawn for the way back of many tokens, and of gradients
#: that pass the values alone.
DRAWN, MOST_DRAWN = 32, 64


class Mixed(NamedTuple):
    """What attention returns, and how its weights concentrate.

    Attributes:
        out: U [n, n].
        entropy: of the weights of each query in nats, mean over heads [n].
        squares: sum of squared weights of each query, mean over heads [n].
        mean: of the entropy over queries that see two keys or more, mean over heads.
        mean_square: mean over heads of the square of that.
    """

    out: Array
    entropy: Array
    squares: Array
    mean: Array
    mean_square: Array


class Pulled(NamedTuple):
    """Gram matrices of gradients below attention, for each of those above it.

    Attributes:
        below: of the tokens that it reads [m, n, n].
        value: sigma_V^2 E |dW_V|^2, which is also that of W_O [m].
        query: of W_Q.
        key: of W_K.
    """

    below: Array
    value: Array
    query: Array
    key: Array


class _Read(NamedTuple):
    """What queries, keys and values are read from, as factors, and the variances of entries."""

    query: Array
    nope: Array
    rope: Array
    value: Array
    query_variance: Array
    key_variance: Array
    squares: tuple[Array, Array]
    turning: int


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
    read = _cast(_reading(mixer, dim, cov), single)
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
        out = _gram(_whole(every), read.value, causal)
        added = Mixed(out, jnp.sum(entropy, axis=0), squares, jnp.sum(mean), mean @ mean)
        return Mixed(*(old + new for old, new in zip(total, added, strict=True)))

    zero = Mixed(jnp.zeros((n, n)), jnp.zeros(n), jnp.zeros(n), jnp.zeros(()), jnp.zeros(()))
    total = jax.lax.fori_loop(0, pairs, body, zero)
    mean = Mixed(*(one / (2 * pairs) for one in total))
    return mean._replace(out=value_gain(mixer, dim) * mean.out)


def _whole(rows: list[Array]) -> Float[Array, "heads n n"]:
    """Matrices from blocks of rows, whose missing columns are zero."""
    if len(rows) == 1:
        return rows[0]
    n = rows[-1].shape[-1]
    return jnp.concatenate([jnp.pad(p, ((0, 0), (0, 0), (0, n - p.shape[2]))) for p in rows], 1)


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
    reading = _reading(mixer, dim, cov)

    def factored(cov: Array) -> tuple[Array, tuple[Array, Array]]:
        read = _reading(mixer, dim, cov)
        return read.value, read.squares

    def returned(root: Array, squares: tuple[Array, Array], index: Array) -> Array:
        read = reading._replace(query=root, nope=root, rope=root, value=root, squares=squares)
        rows = _pair(mixer, causal, read, key, index, pairs)
        return _gram(_whole([jnp.exp(log_p) for log_p in rows]), root, causal)

    def body(index: Array, total: tuple[Array, tuple[Array, Array]]) -> Any:
        _, back = jax.vjp(functools.partial(returned, index=index), reading.value, reading.squares)
        return accumulate(total, slopes, joined, back)

    _, back = jax.vjp(factored, cov)
    zero = jax.tree.map(
        lambda leaf: jnp.zeros((len(slopes), *leaf.shape), leaf.dtype),
        (reading.value, reading.squares),
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


def pull(
    mixer: Mixer,
    dim: int,
    causal: bool,
    cov: Float[Array, "n n"],
    grads: Float[Array, "m n n"],
    key: Key,
    pairs: Array,
    score_factor: Array | float = 1.0,
    single: bool = False,
) -> Pulled:
    """Gradients below attention from those above it, several on one way.

    Args:
        mixer: the attention.
        dim: of the tokens.
        causal: whether a token sees only itself and the tokens before it.
        cov: K, of what it reads.
        grads: matrices B, of gradients of its output.
        key: of heads, which need not be those of the way forward.
        pairs: how many antithetic pairs are drawn, at least 1.
        score_factor: what all scores are multiplied with.
        single: whether heads are computed in float32; their averages never are.
    """
    read = _cast(_reading(mixer, dim, cov), single)
    dtype, n, heads, entries = read.value.dtype, len(cov), mixer.heads, mixer.head_dim
    above, arriving = jax.vmap(factor)(grads).astype(dtype), grads.astype(dtype)
    values = mixer.values if isinstance(mixer, Attention) else mixer.value_dim
    gain, turning, blocks = value_gain(mixer, dim), read.turning, row_blocks(causal, n)
    # Of many tokens the drawn gradients stand for all: the way back is linear in B.
    whole = n <= 2 * values
    # Any number of drawn values has the same second moments.
    few = values if n <= FEW_TOKENS else min(values, DRAWN)
    ups = few if whole else min(values, MOST_DRAWN)
    latent = isinstance(mixer, LatentAttention)
    asks_latent = isinstance(mixer, LatentAttention) and mixer.query_rank is not None
    of_latent = overlaps(cov) if latent else cov
    of_query = of_latent if asks_latent else cov
    of_latent, of_query, of_rope = map(_counted, (of_latent, of_query, cov))
    # sigma_O and the variance of values enter as their product, gamma_A / (H d_v).
    share = math.sqrt(gain / (heads * few))

    def body(index: Array, total: tuple[Array, ...]) -> tuple[Array, ...]:
        number, bias = spaced(mixer, index, pairs, heads, key), jax.random.fold_in(key, index)
        drawn = normals(key, index, (n, 2 * entries + ups + few), dtype)
        up = above @ drawn[:, 2 * entries : 2 * entries + ups]
        value = read.value @ drawn[:, 2 * entries + ups :]
        (q, k), prepare = jax.vjp(
            functools.partial(prepared, mixer, squares=read.squares),
            *_queries_and_keys(read, drawn[:, : 2 * entries]),
        )

        def head(sign: Array) -> tuple[Array, Array, Array]:
            to_q, to_k, rows = [], jnp.zeros((len(grads), n, entries), dtype), []
            below = jnp.zeros((len(grads), n, 0 if whole else ups), dtype)
            for low, high in blocks:

                def look(products: Array, low: int = low) -> Array:
                    scores = capped(mixer, sign * score_factor * products)
                    return jnp.exp(log_weights(mixer, causal, scores, number, bias, low))

                p, back = jax.vjp(look, score_products(mixer, q[low:high], k[:high]))
                arrived = share * up[:, low:high, :few] @ value[:high].T
                (slopes,) = jax.vmap(back)(mixer.score_scale * arrived)
                to_q.append(slopes @ k[:high])
                to_k = to_k.at[:, :high].add(jnp.swapaxes(slopes, 1, 2) @ q[low:high])
                if whole:
                    rows.append(p[None])
                else:
                    below = below.at[:, :high].add(p.T @ up[:, low:high])
            if whole:
                p = _whole(rows)[0]
                below = p.T @ arriving @ p
            return below, *jax.vmap(prepare)((jnp.concatenate(to_q, axis=1), to_k))

        below, to_q, to_k = jax.vmap(head)(jnp.array([1.0, -1.0], dtype))
        keyed = to_k * read.key_variance
        value = jnp.sum(below, axis=0) if whole else _products(below, below) / ups
        value, query = gain * value, heads * _products(to_q * read.query_variance, to_q)
        nope = heads * _products(keyed[..., turning:], to_k[..., turning:])
        through, direct, sums = value + nope, jnp.zeros(()), _sums(nope, of_latent)
        if latent:
            rope = heads * _products(keyed[..., :turning], to_k[..., :turning])
            direct, sums = rope, sums + _sums(rope, of_rope)
        if asks_latent:
            through = through + query
        else:
            direct = direct + query
        told = (_sums(value, of_latent), _sums(query, of_query), sums)
        added = (through, direct, *told) if latent else (through + direct, *told)
        return tuple(old + new for old, new in zip(total, added, strict=True))

    grams = (jnp.zeros(grads.shape),) * (2 if latent else 1)
    total = jax.lax.fori_loop(0, pairs, body, (*grams, *(jnp.zeros(len(grads)),) * 3))
    *grams, value, query, keys = (one / (2 * pairs) for one in total)
    grams = [_mirrored(one) for one in grams]
    # Through the latents, which divide by the norms of what they read.
    below = scaled(grams[0], inverse_norms(cov)) + grams[1] if latent else grams[0]
    return Pulled(below, value, query, keys)


def _products(
    left: Float[Array, "signs m n entries"], right: Float[Array, "signs m n entries"]
) -> Float[Array, "m n n"]:
    """Sum over signs of X Y^T, which is symmetric; of many tokens the lower half."""
    left, right = (jnp.concatenate(list(one), axis=2) for one in (left, right))
    n = left.shape[1]
    rows = [
        left[:, low:high] @ jnp.swapaxes(right[:, :high], 1, 2) for low, high in row_blocks(True, n)
    ]
    return _whole(rows)


def _mirrored(lower: Float[Array, "m n n"]) -> Float[Array, "m n n"]:
    """Symmetric matrices from what `_products` tells of them."""
    if lower.shape[1] <= FEW_TOKENS:
        return lower
    return jnp.tril(lower) + jnp.swapaxes(jnp.tril(lower, -1), 1, 2)


def _counted(cov: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """What products are summed with: of many tokens pairs of the lower half count twice."""
    if len(cov) <= FEW_TOKENS:
        return cov
    return 2 * jnp.tril(cov) - jnp.diag(jnp.diagonal(cov))


def _sums(grams: Float[Array, "m n n"], cov: Float[Array, "n n"]) -> Float[Array, " m"]:
    return jnp.sum(grams * cov, axis=(1, 2))


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
    read = _reading(mixer, dim, cov)
    shared, shape = mixer.heads // mixer.key_heads, (len(cov), 2 * mixer.head_dim)
    _, k = _queries_and_keys(read, normals(key, shared, shape))

    def head(place: Array) -> Array:
        q, _ = _queries_and_keys(read, normals(key, place, shape))
        bias, of_head = jax.random.fold_in(key, place), number * shared + place
        return weights(mixer, causal, q, k, read.squares, of_head, bias)

    return read.value, head


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


def _reading(mixer: Mixer, dim: int, cov: Array) -> _Read:
    query, key = map(jnp.asarray, entry_variances(mixer, dim))
    token = factor(cov)
    squares = jnp.diagonal(cov)
    if isinstance(mixer, Attention):
        means = (query.mean() * squares, key.mean() * squares)
        return _Read(token, token, token, token, query, key, means, 0)
    latent = factor(overlaps(cov))
    asks = token if mixer.query_rank is None else latent
    return _Read(asks, latent, token, latent, query, key, (squares, squares), mixer.rope_dim)


def _cast(read: _Read, single: bool) -> _Read:
    """Its numbers in float32, or as they are."""
    if not single:
        return read
    told = {name: value for name, value in read._asdict().items() if name != "turning"}
    return _Read(**jax.tree.map(lambda x: x.astype(jnp.float32), told), turning=read.turning)


def _queries_and_keys(read: _Read, drawn: Array) -> tuple[Array, Array]:
    """Queries and keys from standard normal numbers [n, 2 entries]."""
    first, second = jnp.split(drawn, 2, axis=1)
    turned = read.rope @ second[:, : read.turning]
    k = jnp.concatenate([turned, read.nope @ second[:, read.turning :]], axis=1)
    return jnp.sqrt(read.query_variance) * (read.query @ first), jnp.sqrt(read.key_variance) * k


def _pair(
    mixer: Mixer,
    causal: bool,
    read: _Read,
    key: Key,
    index: Array,
    pairs: Array,
    score_factor: Array | float = 1.0,
) -> list[Float[Array, "2 rows columns"]]:
    """Logarithms of the attention weights of an antithetic pair of heads, in blocks of rows."""
    n = len(read.query)
    drawn = normals(key, index, (n, 2 * mixer.head_dim), read.value.dtype)
    q, k = prepared(mixer, *_queries_and_keys(read, drawn), read.squares)
    head, bias = spaced(mixer, index, pairs, mixer.heads, key), jax.random.fold_in(key, index)
    found = []
    for low, high in row_blocks(causal, n):
        one = capped(mixer, score_factor * score_products(mixer, q[low:high], k[:high]))
        found.append(log_weights(mixer, causal, jnp.stack([one, -one]), head, bias, low))
    return found
