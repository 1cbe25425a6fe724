"""The overlaps of attention outputs, estimated by sampling scores from the Gram matrix alone."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from translimit.attention import gram_factor, head_weights, require_gram, require_isotropic
from translimit.core import (
    ArrayInput,
    following_inputs,
    require_count,
    require_flag,
)
from translimit.describe import AbstractIsotropicHeads

#: Heads that are averaged at once; results do not depend on it.
BLOCK = 64


class OverlapEstimate(eqx.Module):
    """s_ij = E <m_i, m_j> with its sampling error.

    Attributes:
        value: the estimate [tokens, tokens].
        stderr: its standard errors [tokens, tokens]; at most count^{-1/2}.
        count: independent draws behind it: heads, or antithetic pairs of them.
    """

    value: Any
    stderr: Any
    count: int = eqx.field(static=True)


def attention_overlap(
    law: AbstractIsotropicHeads,
    overlaps: ArrayInput,
    *,
    samples: int,
    key: PRNGKeyArray,
    causal: bool = False,
    antithetic: bool = False,
) -> OverlapEstimate:
    """Estimate s_ij = E <m_i, m_j> for tokens with the given overlaps.

    Unbiased. Cost O(samples tokens^3), whatever the dimension and the head dimension.

    Args:
        law: of the heads.
        overlaps: of the tokens [tokens, tokens]; decides the precision.
        samples: heads to draw, at least 2; pairs of them if antithetic.
        key: of the draws; head h takes `fold_in(key, h)`.
        causal: whether a token sees only itself and the tokens before it.
        antithetic: average every head with the one of opposite scores, which removes the odd
            orders in the scores.

    Raises:
        ArgumentError: overlaps that are no correlation matrix, too few samples.
        ArgumentTypeError: a law that is not invariant under rotations.

    Examples:
        Without scores, s is the mean of all overlaps:

        >>> import jax, numpy as np
        >>> from translimit.limits.homogenized import GaussianHeads
        >>> law = GaussianHeads(dim=8, beta=0.0, sigma_a=1.0)
        >>> found = attention_overlap(law, np.eye(4), samples=2, key=jax.random.key(0))
        >>> bool(np.allclose(found.value, 0.25))
        True
    """
    require_isotropic(law)
    overlaps = require_gram(overlaps, "overlaps", law.dim)
    samples = require_count(samples, "samples", 2)
    causal, antithetic = require_flag(causal, "causal"), require_flag(antithetic, "antithetic")
    options = _Options(samples, causal, antithetic)
    value, stderr = following_inputs(_estimate, overlaps, (law, options, key))
    return OverlapEstimate(value, stderr, samples)


class _Options(eqx.Module):
    samples: int = eqx.field(static=True)
    causal: bool = eqx.field(static=True)
    antithetic: bool = eqx.field(static=True)


@eqx.filter_jit
def _estimate(overlaps: Any, parameters: Any) -> tuple[Array, Array]:
    law, options, key = parameters
    factor = gram_factor(overlaps, law.dim)

    def one(index: Array) -> Array:
        head_key = jax.random.fold_in(key, index)
        weights = head_weights(
            law, factor, 1, head_key, causal=options.causal, antithetic=options.antithetic
        )
        outputs = weights @ factor
        return jnp.mean(outputs @ outputs.swapaxes(-1, -2), axis=0)

    def add(sums: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], None]:
        draws = jax.vmap(one)(index)
        kept = (index < options.samples)[:, None, None]
        draws = jnp.where(kept, draws - reference, 0.0)
        return (sums[0] + jnp.sum(draws, axis=0), sums[1] + jnp.sum(draws**2, axis=0)), None

    # Sums of deviations from one draw, so that the variance does not cancel.
    reference = one(jnp.asarray(0))
    zero = jnp.zeros_like(overlaps)
    blocks = -(-options.samples // BLOCK)
    indices = jnp.arange(blocks * BLOCK).reshape(blocks, BLOCK)
    (first, second), _ = jax.lax.scan(add, (zero, zero), indices)
    mean = first / options.samples
    variance = (second / options.samples - mean**2) / (options.samples - 1)
    return reference + mean, jnp.sqrt(jnp.maximum(variance, 0.0))
