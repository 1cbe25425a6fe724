r"""Attention of tokens and of latents, head by head, with given weights.

Queries and keys are projected, normalised and turned (in this order, or turned first); their scaled
products are capped, biased and masked; softmax mixes the values of a head's group:

    o_i = W_O concat_h sum_j p^h_ij v^g(h)_j,    p_ij = e^{s_ij} / (sum_j e^{s_ij} + 1[sink]).

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.describe import (
    Attention,
    Frequencies,
    LatentAttention,
    Normalisation,
    QueryKeyNorm,
    Scores,
)
from translimit.models.random_weights import Weights
from translimit.models.token_norms import normalise


class Mixed(NamedTuple):
    """What attention returns.

    Attributes:
        out: added to the stream [n, dim].
        attention_entropy: of the weights of each head in nats, mean over the queries that see two
            keys or more; 0 without such queries [heads].
    """

    out: Float[Array, "n dim"]
    attention_entropy: Float[Array, " heads"]


def attend(
    mixer: Attention | LatentAttention, causal: bool, weights: Weights, x: Float[Array, "n dim"]
) -> Mixed:
    """Mix tokens.

    Args:
        mixer: the attention.
        causal: whether a token sees only itself and the tokens before it.
        weights: its matrices by name.
        x: what it reads.
    """
    if isinstance(mixer, Attention):
        q, k, v = _of_tokens(mixer, weights, x)
    else:
        q, k, v = _of_latents(mixer, weights, x)
    group = q.shape[1] // k.shape[1]
    k, v = jnp.repeat(k, group, axis=1), jnp.repeat(v, group, axis=1)
    scores = mixer.score_scale * jnp.einsum("ihc,jhc->hij", q, k)
    p = _softmax(mixer.scores, causal, scores, weights)
    mixed = jnp.einsum("hij,jhc->ihc", p, v)
    several = seen_keys(mixer.scores, causal, len(x)).sum(axis=1) > 1
    entropies = -jnp.sum(jax.scipy.special.xlogy(p, p), axis=2)[:, several]
    entropy = jnp.mean(entropies, axis=1) if several.any() else jnp.zeros(len(p), x.dtype)
    return Mixed(mixed.reshape(len(x), -1) @ weights["out"], entropy)


def seen_keys(scores: Scores, causal: bool, n: int) -> np.ndarray:
    """Which keys (columns) a query (rows) sees [n, n].

    Args:
        scores: masks.
        causal: whether a token sees only itself and the tokens before it.
        n: tokens.
    """
    query, key = np.indices((n, n))
    seen = key <= query if causal else np.full((n, n), True)
    if scores.window is not None:
        seen &= abs(query - key) < scores.window
    if scores.chunk is not None:
        seen &= query // scores.chunk == key // scores.chunk
    return seen


def relative_rows(scores: Scores, causal: bool, n: int) -> np.ndarray:
    """The row of the table of relative positions for every query and key [n, n].

    The first half of the rows holds one distance each, the other half distances that grow like a
    geometric series up to `bias_reach`; without a causal mask, keys behind the query have the
    first half of the table and keys ahead of it the second.

    Args:
        scores: of the attention.
        causal: whether a token sees only itself and the tokens before it.
        n: tokens.
    """
    rows = scores.bias_buckets if causal else scores.bias_buckets // 2
    near = rows // 2
    far = rows - near
    # Distances at which rows begin, by integers: near^(far - k) reach^k <= distance^far.
    begins = [
        next(
            d
            for d in range(near, scores.bias_reach + 1)
            if near ** (far - k) * scores.bias_reach**k <= d**far
        )
        for k in range(far)
    ]
    ahead = np.arange(n)[None, :] - np.arange(n)[:, None]
    distance = np.maximum(-ahead, 0) if causal else abs(ahead)
    long = near - 1 + np.searchsorted(begins, distance, side="right")
    row = np.where(distance < near, distance, long)
    return row if causal else row + np.where(ahead > 0, rows, 0)


def _of_tokens(mixer: Attention, weights: Weights, x: Array) -> tuple[Array, Array, Array]:
    """Queries, keys and values [n, heads, entries]."""
    n = len(x)
    q, k, v = (x @ weights[name] for name in ("query", "key", "value"))
    q = q.reshape(n, mixer.heads, mixer.head_dim)
    k = k.reshape(n, mixer.key_heads, mixer.head_dim)
    norm = mixer.qk_norm
    if norm is not None and norm.turned:
        q, k = (_normalised(norm, _turned(mixer.rotary, one)) for one in (q, k))
    else:
        q, k = (_turned(mixer.rotary, _normalised(norm, one)) for one in (q, k))
    return q, k, mixer.value_scale * v.reshape(n, mixer.key_heads, mixer.values)


def _of_latents(mixer: LatentAttention, weights: Weights, x: Array) -> tuple[Array, Array, Array]:
    """Queries, keys and values [n, heads, entries]; turning entries stand first."""
    n, heads, plain = len(x), mixer.heads, Normalisation()
    asks = x if mixer.query_rank is None else normalise(plain, x @ weights["query_latent"])
    reads = normalise(plain, x @ weights["kv_latent"])
    q = (asks @ weights["query"]).reshape(n, heads, mixer.head_dim)
    turning = (x @ weights["rope_key"])[:, None, :]
    nope = (reads @ weights["nope_key"]).reshape(n, heads, mixer.nope_dim)
    k = jnp.concatenate([jnp.broadcast_to(turning, (n, heads, mixer.rope_dim)), nope], axis=2)
    v = (reads @ weights["value"]).reshape(n, heads, mixer.value_dim)
    return _turned(mixer.rotary, q), _turned(mixer.rotary, k), v


def _normalised(norm: QueryKeyNorm | None, x: Float[Array, "n heads entries"]) -> Array:
    """Over the entries of a head, or of all heads."""
    if norm is None or norm.over == "head":
        return normalise(norm, x)
    return normalise(norm, x.reshape(len(x), -1)).reshape(x.shape)


def _turned(rotary: Frequencies | None, x: Float[Array, "n heads entries"]) -> Array:
    """Turn entries p and p + half, of the first ones, by position times theta_p."""
    if rotary is None:
        return x
    angles = np.arange(len(x))[:, None, None] * np.asarray(rotary.thetas)
    cos = jnp.asarray(rotary.factor * np.cos(angles), x.dtype)
    sin = jnp.asarray(rotary.factor * np.sin(angles), x.dtype)
    half = len(rotary.thetas)
    first, second, rest = jnp.split(x, (half, 2 * half), axis=2)
    turned = [first * cos - second * sin, second * cos + first * sin, rest]
    return jnp.concatenate(turned, axis=2)


def _softmax(
    shape: Scores, causal: bool, scores: Float[Array, "heads n n"], weights: Weights
) -> Float[Array, "heads n n"]:
    """Attention weights from products of queries and keys."""
    n = scores.shape[1]
    if shape.softcap is not None:
        scores = shape.softcap * jnp.tanh(scores / shape.softcap)
    if shape.slopes:
        ahead = np.arange(n)[None, :] - np.arange(n)[:, None]
        slopes = np.asarray(shape.slopes)[:, None, None]
        scores = scores + jnp.asarray(slopes * ahead, scores.dtype)
    if "table" in weights:
        scores = scores + jnp.moveaxis(weights["table"][relative_rows(shape, causal, n)], 2, 0)
    scores = jnp.where(seen_keys(shape, causal, n), scores, -jnp.inf)
    if shape.sink:
        scores = jnp.pad(scores, ((0, 0), (0, 0), (0, 1)))
    return jax.nn.softmax(scores, axis=2)[:, :, :n]
