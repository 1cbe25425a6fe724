r"""One head at initialisation: queries and keys from a covariance, and what softmax makes of them.

Queries and keys of a head are F Z with F F^T the covariance of what the head reads and Z standard
normal, each entry times the square root of its variance w. Then, in this order: a norm of queries
and keys, rotary positions, the product times its scale, a soft cap, biases, the mask, softmax with
a sink or without. Nothing is assumed Gaussian but the weights.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import Key
from translimit.describe import Attention, LatentAttention, Norm, QueryKeyNorm, Scores

Mixer: TypeAlias = Attention | LatentAttention


def entry_variances(mixer: Mixer, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The variances w of the entries of a query and a key for unit inputs; turning entries first.

    Args:
        mixer: the attention.
        dim: of the tokens.
    """
    if isinstance(mixer, Attention):
        ones = np.ones(mixer.head_dim)
        return dim * mixer.query_std**2 * ones, dim * mixer.key_std**2 * ones
    square = mixer.std**2
    query = (mixer.query_rank or dim) * square * np.ones(mixer.head_dim)
    key = np.where(np.arange(mixer.head_dim) < mixer.rope_dim, dim, mixer.kv_rank) * square
    return query, key


def value_gain(mixer: Mixer, dim: int) -> float:
    """gamma_A: attention returns gamma_A times the mean of P K P^T.

    Args:
        mixer: the attention.
        dim: of the tokens.
    """
    if isinstance(mixer, Attention):
        std = mixer.value_scale * mixer.value_std
        return mixer.heads * mixer.values * mixer.out_std**2 * dim * std**2
    read = mixer.kv_rank * mixer.std**2
    return mixer.heads * mixer.value_dim * mixer.out_std**2 * read


def weights(
    mixer: Mixer,
    causal: bool,
    q: Float[Array, "n d"],
    k: Float[Array, "n d"],
    squares: tuple[Array, Array],
    head: Array,
    key: Key,
    factor: Array | float = 1.0,
) -> Float[Array, "n n"]:
    """Attention weights of one head, rows of queries.

    Args:
        mixer: the attention.
        causal: whether a token sees only itself and the tokens before it.
        q: queries.
        k: keys.
        squares: expected mean squares of queries and keys, for a norm over all heads.
        head: its number, for biases that differ by head.
        key: of a bias that is drawn.
        factor: what scores are multiplied with.
    """
    asked, told = prepared(mixer, q, k, squares)
    products = factor * score_products(mixer, asked, told)
    return jnp.exp(log_weights(mixer, causal, capped(mixer, products), head, key))


def prepared(
    mixer: Mixer,
    q: Float[Array, "n d"],
    k: Float[Array, "n d"],
    squares: tuple[Array, Array],
    gains: tuple[Array, Array] | None = None,
) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
    """Queries and keys behind their norms and rotary positions: odd in each.

    Args:
        mixer: the attention.
        q: queries.
        k: keys.
        squares: expected mean squares of queries and keys, for a norm over all heads.
        gains: [d], what normalised queries and keys are multiplied with further; None for nothing.
    """
    norm = mixer.qk_norm if isinstance(mixer, Attention) else None
    if norm is None:
        return _turned(mixer, q), _turned(mixer, k)
    if norm.turned:
        q, k = _turned(mixer, q), _turned(mixer, k)
    q, k = _normalised(norm, q, squares[0]), _normalised(norm, k, squares[1])
    if gains is not None:
        q, k = gains[0] * q, gains[1] * k
    return (q, k) if norm.turned else (_turned(mixer, q), _turned(mixer, k))


def score_products(
    mixer: Mixer, q: Float[Array, "rows d"], k: Float[Array, "columns d"]
) -> Float[Array, "rows columns"]:
    """Scores before a cap, biases and masks.

    Args:
        mixer: the attention.
        q: prepared queries.
        k: prepared keys.
    """
    return mixer.score_scale * jnp.matmul(q, k.T, precision=jax.lax.Precision.HIGHEST)


def capped(
    mixer: Mixer, products: Float[Array, "*heads rows columns"]
) -> Float[Array, "*heads rows columns"]:
    """Scores behind their cap, if there is one.

    Args:
        mixer: the attention.
        products: scores.
    """
    cap = mixer.scores.softcap
    return products if cap is None else cap * jnp.tanh(products / cap)


def cap_slopes(
    mixer: Mixer, scores: Float[Array, "*heads rows columns"]
) -> Float[Array, "*heads rows columns"]:
    """Derivatives of capped scores with respect to their products.

    Args:
        mixer: the attention.
        scores: behind their cap.
    """
    cap = mixer.scores.softcap
    return jnp.ones_like(scores) if cap is None else 1.0 - (scores / cap) ** 2


def log_weights(
    mixer: Mixer,
    causal: bool,
    products: Float[Array, "*heads rows columns"],
    head: Array,
    key: Key,
    first: int = 0,
) -> Float[Array, "*heads rows columns"]:
    """Logarithms of attention weights; minus infinity where a key is not seen.

    Args:
        mixer: the attention.
        causal: whether a token sees only itself and the tokens before it.
        products: capped scores of heads with the same biases, for the first keys.
        head: their number, for biases that differ by head.
        key: of a bias that is drawn.
        first: number of the first query.
    """
    shape, (rows, columns) = mixer.scores, products.shape[-2:]
    at = slice(first, first + rows), slice(0, columns)
    n = max(first + rows, columns)
    if shape.slopes or shape.bias_std > 0:
        products = products + _bias(shape, causal, n, at, head, key).astype(products.dtype)
    products = jnp.where(visible(shape, causal, n)[at], products, -jnp.inf)
    if not shape.sink:
        return jax.nn.log_softmax(products, axis=-1)
    most = jax.lax.stop_gradient(jnp.maximum(jnp.max(products, axis=-1, keepdims=True), 0.0))
    total = jnp.sum(jnp.exp(products - most), axis=-1, keepdims=True) + jnp.exp(-most)
    return products - most - jnp.log(total)


def visible(shape: Scores, causal: bool, n: int) -> np.ndarray:
    """Which keys each query sees [n, n].

    Args:
        shape: masks.
        causal: whether a token sees only itself and the tokens before it.
        n: tokens.
    """
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    seen = j <= i if causal else np.ones((n, n), bool)
    if shape.window is not None:
        seen = seen & (np.abs(i - j) < shape.window)
    if shape.chunk is not None:
        seen = seen & (i // shape.chunk == j // shape.chunk)
    return seen


def _normalised(norm: QueryKeyNorm, x: Array, square: Array) -> Array:
    if norm.over == "all":
        return norm.gain * x / jnp.sqrt(square[:, None] + norm.norm_eps)
    if norm.kind is Norm.LAYER:
        x = x - jnp.mean(x, axis=1, keepdims=True)
    return norm.gain * x / jnp.sqrt(jnp.mean(x**2, axis=1, keepdims=True) + norm.norm_eps)


def _turned(mixer: Mixer, x: Array) -> Array:
    """Rotary positions on the first entries."""
    if mixer.rotary is None:
        return x
    thetas = np.array(mixer.rotary.thetas)
    angle = np.arange(len(x))[:, None] * thetas
    cos, sin = (jnp.asarray(mixer.rotary.factor * f(angle), x.dtype) for f in (np.cos, np.sin))
    half = len(thetas)
    left, right, rest = x[:, :half], x[:, half : 2 * half], x[:, 2 * half :]
    turned = (left * cos - right * sin, left * sin + right * cos)
    return jnp.concatenate([*turned, rest], axis=1)


def _bias(
    shape: Scores, causal: bool, n: int, at: tuple[slice, slice], head: Array, key: Key
) -> Array:
    """What is added to the scores of a head, for some queries and keys."""
    distance = (np.arange(n)[None, :] - np.arange(n)[:, None])[at]
    total = jnp.zeros(distance.shape)
    if shape.slopes:
        total = total + jnp.asarray(shape.slopes)[head % len(shape.slopes)] * distance
    if shape.bias_std > 0:
        table = shape.bias_std * jax.random.normal(key, (shape.bias_buckets,))
        total = total + table[_buckets(shape, distance, causal)]
    return total


def _buckets(shape: Scores, distance: np.ndarray, causal: bool) -> np.ndarray:
    """The row of the table for every distance: near ones have a row each, far ones share."""
    rows = shape.bias_buckets
    start = np.zeros_like(distance)
    if causal:
        apart = np.maximum(-distance, 0)
    else:
        rows //= 2
        start, apart = np.where(distance > 0, rows, 0), np.abs(distance)
    near = rows // 2
    share = np.log(np.maximum(apart, 1) / near) / math.log(shape.bias_reach / near)
    far = np.minimum(near + (share * (rows - near)).astype(int), rows - 1)
    return start + np.where(apart < near, apart, far)
