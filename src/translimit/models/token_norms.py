r"""Norms of drawn tokens, row by row.

    x <- g (x - mean x) / (mean (x - mean x)^2 + norm_eps)^{1/2},

the mean being removed by a layer norm only. A row of zeros stays zero, whatever norm_eps.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.describe import Norm, Normalisation, QueryKeyNorm


def normalise(
    norm: Normalisation | QueryKeyNorm | None, x: Float[Array, "*rows entries"]
) -> Float[Array, "*rows entries"]:
    """A norm over the last axis; the tokens themselves where there is none.

    Args:
        norm: kind, norm_eps and gain.
        x: what is normalised.
    """
    if norm is None:
        return x
    if norm.kind is Norm.LAYER:
        x = x - jnp.mean(x, axis=-1, keepdims=True)
    square = jnp.mean(x**2, axis=-1, keepdims=True) + norm.norm_eps
    # The inner choice keeps gradients of a row of zeros finite.
    return norm.gain * jnp.where(square > 0, x / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
