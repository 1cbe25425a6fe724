r"""Shaped attention matrices: A = alpha I + beta softmax(logits) - gamma_c U, one row per query.

U is uniform attention, 1 / m, or under a causal mask 1 / a over the first a tokens in row a.

Reference: Noci et al., arXiv 2306.17759; causal centring: He and Hofmann, arXiv 2311.01906.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.describe import ShapedGains


def uniform_attention(logits: Float[Array, "*batch tokens tokens"], causal: bool) -> Array:
    """U, what softmax gives for equal logits [tokens, tokens]."""
    tokens = logits.shape[-1]
    ones = jnp.ones((tokens, tokens), logits.dtype)
    if not causal:
        return ones / tokens
    return jnp.tril(ones) / jnp.arange(1, tokens + 1, dtype=logits.dtype)[:, None]


def shaped_attention(
    logits: Float[Array, "*batch tokens tokens"], gains: ShapedGains, causal: bool
) -> Float[Array, "*batch tokens tokens"]:
    """The shaped attention matrix of logits that already carry their temperature."""
    tokens = logits.shape[-1]
    if causal:
        seen = jnp.tril(jnp.ones((tokens, tokens), bool))
        logits = jnp.where(seen, logits, -jnp.inf)
    softmax = jax.nn.softmax(logits, axis=-1)
    return (
        gains.identity * jnp.eye(tokens, dtype=logits.dtype)
        + gains.attention * softmax
        - gains.centring * uniform_attention(logits, causal)
    )
