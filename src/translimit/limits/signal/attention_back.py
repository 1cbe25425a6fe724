r"""Attention backward: how gradients pass it.

With B the Gram matrix of the gradient that arrives, the values' part is gamma_A E P^T B P. Those of
queries and keys come from the sampler of the way forward: a gradient with Gram matrix B and a value
are drawn, and pulled back through the head to its queries and keys. Gradients that pass latents are
divided by the norms of what these read. The gain g of a norm of queries has the gradient
sum_i d_i x_i in every entry, d_i what arrives at g x_i: heads are independent, so that squares add
whether they share the gain or not.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.core import Key
from translimit.describe import Attention, LatentAttention
from translimit.limits.signal.drawn_heads import (
    cast_to,
    queries_and_keys,
    reading,
    spaced,
    whole_rows,
)
from translimit.limits.signal.heads import (
    Mixer,
    cap_slopes,
    capped,
    log_weights,
    prepared,
    score_products,
    value_gain,
)
from translimit.limits.signal.norms import (
    FEW_TOKENS,
    factor,
    inverse_norms,
    mirrored,
    overlaps,
    pair_sums,
    row_blocks,
    scaled,
)
from translimit.limits.signal.seeds import normals

#: Columns of gradients and values that are drawn for the way back of many tokens, and of gradients
#: that pass the values alone.
DRAWN, MOST_DRAWN = 32, 64


class Pulled(NamedTuple):
    """Gram matrices of gradients below attention, for each of those above it.

    Attributes:
        below: of the tokens that it reads [m, n, n].
        value: sigma_V^2 E |dW_V|^2, which is also that of W_O [m].
        query: of W_Q.
        key: of W_K; of latents that of the keys that read them.
        rope: of the matrix whose keys turn and read the tokens; 0 without latents.
        query_gain: g^2 E |dg|^2 of the norm of queries; 0 without one.
        key_gain: of the norm of keys.
    """

    below: Array
    value: Array
    query: Array
    key: Array
    rope: Array
    query_gain: Array
    key_gain: Array


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
    read = cast_to(reading(mixer, dim, cov), single)
    dtype, n, heads, entries = read.value.dtype, len(cov), mixer.heads, mixer.head_dim
    # One after the other: a batch of factors waits for threads of XLA that may wait for others.
    above, arriving = jax.lax.map(factor, grads).astype(dtype), grads.astype(dtype)
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
    norm = mixer.qk_norm if isinstance(mixer, Attention) else None
    ones = () if norm is None or norm.gains == "none" else (jnp.ones(entries, dtype),) * 2

    def prepared_with(q: Array, k: Array, *gains: Array) -> tuple[Array, Array]:
        return prepared(mixer, q, k, read.squares, (gains[0], gains[1]) if gains else None)

    # sigma_O and the variance of values enter as their product, gamma_A / (H d_v).
    share = math.sqrt(gain / (heads * few))
    many, signs = len(grads), jnp.array([1.0, -1.0], dtype)[:, None, None]

    def body(index: Array, total: tuple[Array, ...]) -> tuple[Array, ...]:
        number, bias = spaced(mixer, index, pairs, heads, key), jax.random.fold_in(key, index)
        drawn = normals(key, index, (n, 2 * entries + ups + few), dtype)
        up = jnp.swapaxes(above @ drawn[:, 2 * entries : 2 * entries + ups], 0, 1)
        value = read.value @ drawn[:, 2 * entries + ups :]
        (q, k), prepare = jax.vjp(
            prepared_with, *queries_and_keys(read, drawn[:, : 2 * entries]), *ones
        )

        to_q, rows = [], []
        to_k = jnp.zeros((entries, 2, many, n), dtype)
        below = jnp.zeros((many, 0 if whole else ups, 2, n), dtype)
        for low, high in blocks:
            products = score_products(mixer, q[low:high], k[:high])
            scores = capped(mixer, signs * score_factor * products)
            p = jnp.exp(log_weights(mixer, causal, scores, number, bias, low))
            by_row, some = jnp.swapaxes(p, 0, 1), up[low:high]
            steps = signs * score_factor * mixer.score_scale * cap_slopes(mixer, scores)
            slopes = _slopes(by_row, some[:, :, :few], share * value[:high])
            slopes = slopes * jnp.swapaxes(steps, 0, 1)[:, :, None]
            to_q.append(slopes @ k[:high])
            to_k = to_k.at[..., :high].add(jnp.tensordot(q[low:high], slopes, (0, 0)))
            if whole:
                rows.append(p)
            else:
                below = below.at[..., :high].add(jnp.tensordot(some, by_row, (0, 0)))
        if whole:
            p = whole_rows(rows)[:, None]
            below = jnp.swapaxes(p, 2, 3) @ arriving @ p
        else:
            below = below.transpose(2, 0, 3, 1)
        to_q = jnp.moveaxis(jnp.concatenate(to_q), 0, 2)
        to_q, to_k, *to_gains = jax.vmap(jax.vmap(prepare))((to_q, jnp.moveaxis(to_k, 0, 3)))
        keyed = to_k * read.key_variance
        value = jnp.sum(below, axis=0) if whole else _products(below, below) / ups
        value, query = gain * value, heads * _products(to_q * read.query_variance, to_q)
        nope = heads * _products(keyed[..., turning:], to_k[..., turning:])
        through, direct, turned = value + nope, jnp.zeros(()), jnp.zeros(len(grads))
        if latent:
            direct = heads * _products(keyed[..., :turning], to_k[..., :turning])
            turned = pair_sums(direct, of_rope)
        if asks_latent:
            through = through + query
        else:
            direct = direct + query
        sums = (pair_sums(value, of_latent), pair_sums(query, of_query), pair_sums(nope, of_latent))
        told = (*sums, turned)
        told += tuple(heads * jnp.sum(one**2, axis=(0, 2)) for one in to_gains)
        added = (through, direct, *told) if latent else (through + direct, *told)
        return tuple(old + new for old, new in zip(total, added, strict=True))

    grams = (jnp.zeros(grads.shape),) * (2 if latent else 1)
    none = jnp.zeros(len(grads))
    total = jax.lax.fori_loop(0, pairs, body, (*grams, *(none,) * (4 + len(ones))))
    means = [one / (2 * pairs) for one in total]
    grams, told = [_whole(one, pairs) for one in means[: len(grams)]], means[len(grams) :]
    # Through the latents, which divide by the norms of what they read.
    below = scaled(grams[0], inverse_norms(cov)) + grams[1] if latent else grams[0]
    return Pulled(below, *told, *(() if ones else (none, none)))


def _slopes(
    p: Float[Array, "rows 2 columns"],
    up: Float[Array, "rows m few"],
    value: Float[Array, "columns few"],
) -> Float[Array, "rows 2 m columns"]:
    """What reaches scores through their weights: p (g - sum_j p_j g_j) with g = up value^T.

    Rows come first, so that all that follows are products of two matrices.
    """
    mean = jnp.sum((p @ value)[:, :, None] * up[:, None], axis=3)
    return p[:, :, None] * ((up @ value.T)[:, None] - mean[..., None])


def _products(
    left: Float[Array, "signs m n entries"], right: Float[Array, "signs m n entries"]
) -> Float[Array, "m n n"]:
    """Sum over signs of X Y^T, which is symmetric; of many tokens the lower half."""
    left, right = (jnp.concatenate(list(one), axis=2) for one in (left, right))
    n = left.shape[1]
    rows = [
        left[:, low:high] @ jnp.swapaxes(right[:, :high], 1, 2) for low, high in row_blocks(True, n)
    ]
    return whole_rows(rows)


def _whole(lower: Float[Array, "m n n"], pairs: Array) -> Float[Array, "m n n"]:
    """Symmetric matrices from what `_products` tells of them."""
    return lower if lower.shape[1] <= FEW_TOKENS else mirrored(lower, pairs > 0)


def _counted(cov: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """What products are summed with: of many tokens pairs of the lower half count twice."""
    if len(cov) <= FEW_TOKENS:
        return cov
    return 2 * jnp.tril(cov) - jnp.diag(jnp.diagonal(cov))
