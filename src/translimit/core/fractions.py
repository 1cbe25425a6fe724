"""Weights of the tokens of a cloud: fractions that sum to one, never counts."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.core.errors import ArgumentError
from translimit.core.precision import ArrayInput, as_float, is_traced
from translimit.core.types import AnyArray


def require_weights(weights: ArrayInput | None, tokens: int) -> Float[AnyArray, " tokens"] | None:
    """Weights [tokens] that are non-negative and sum to one to 1e-6, or None.

    Args:
        weights: in their own precision; traced ones are armed with `equinox.error_if`.
        tokens: number of tokens.

    Raises:
        ArgumentError: another number of weights, negative ones, or another sum.
    """
    if weights is None:
        return None
    weights = as_float(weights, "weights")
    if weights.shape != (tokens,):
        raise ArgumentError(
            "weights",
            f"has shape {weights.shape}",
            f"pass {tokens} non-negative weights that sum to one",
        )
    if is_traced(weights):
        # Here the sum runs in the precision of the weights, and rounds more than one in float64.
        tolerance = max(1e-6, 100 * float(jnp.finfo(weights.dtype).eps))
        right = jnp.all(weights >= 0) & (jnp.abs(weights.sum() - 1) <= tolerance)
        return eqx.error_if(weights, ~right, "weights: pass non-negative weights that sum to one")
    if np.min(weights) < 0 or abs(float(np.sum(weights, dtype=np.float64)) - 1) > 1e-6:
        raise ArgumentError(
            "weights",
            f"have least entry {np.min(weights):.3g} and sum {np.sum(weights):.8g}",
            f"pass {tokens} non-negative weights that sum to one",
        )
    return weights


def fractions_of(weights: ArrayInput | None, tokens: int) -> Float[np.ndarray, " tokens"]:
    """The same in float64, equal ones where none are given; not for traced weights.

    Raises:
        ArgumentError: as `require_weights`.
    """
    given = require_weights(weights, tokens)
    if given is None:
        return np.full(tokens, 1.0 / tokens)
    return np.asarray(given, dtype=np.float64)
