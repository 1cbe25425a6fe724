r"""Shaped attention matrices: A = alpha I + beta softmax(scores) - gamma_c U, one row per query.

U is uniform attention, 1 / m, or under a causal mask 1 / a over the first a tokens in row a.

Reference: Noci et al., arXiv 2306.17759; causal centring: He and Hofmann, arXiv 2311.01906.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.describe import ShapedGains


def uniform_attention(scores: Float[Array, "*batch tokens tokens"], causal: bool) -> Array:
    """U, what softmax gives for equal scores [tokens, tokens]."""
    tokens = scores.shape[-1]
    ones = jnp.ones((tokens, tokens), scores.dtype)
    if not causal:
        return ones / tokens
    return jnp.tril(ones) / jnp.arange(1, tokens + 1, dtype=scores.dtype)[:, None]


def shaped_attention(
    scores: Float[Array, "*batch tokens tokens"], gains: ShapedGains, causal: bool
) -> Float[Array, "*batch tokens tokens"]:
    """The shaped attention matrix of scores that already carry their temperature."""
    tokens = scores.shape[-1]
    if causal:
        seen = jnp.tril(jnp.ones((tokens, tokens), bool))
        scores = jnp.where(seen, scores, -jnp.inf)
    softmax = _softmax(scores)
    return (
        gains.identity * jnp.eye(tokens, dtype=scores.dtype)
        + gains.attention * softmax
        - gains.centring * uniform_attention(scores, causal)
    )


@jax.custom_jvp
def _softmax(scores: Float[Array, "*batch tokens tokens"]) -> Float[Array, "*batch tokens tokens"]:
    """Softmax of rows that stays finite where rounding of the scores is larger than 1.

    A compiler may compute a score twice, once to find the largest and once to subtract that, and
    round differently: from 1e18 on the difference of the largest from itself then overflows the
    exponential. Here it is 0 by its place.
    """
    largest = jnp.argmax(scores, axis=-1, keepdims=True)
    places = jax.lax.broadcasted_iota(largest.dtype, scores.shape, scores.ndim - 1)
    below = jnp.minimum(scores - jnp.max(scores, axis=-1, keepdims=True), 0.0)
    weights = jnp.exp(jnp.where(places == largest, 0.0, below))
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


@_softmax.defjvp
def _softmax_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (scores,), (moved,) = primals, tangents
    softmax = _softmax(scores)
    mean = jnp.sum(softmax * moved, axis=-1, keepdims=True)
    return softmax, softmax * (moved - mean)
