"""Weights of the tokens of a cloud: fractions, never counts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, ArrayInput, as_float64


def require_weights(weights: ArrayInput | None, count: int) -> Float[np.ndarray, " tokens"]:
    """Weights [tokens] in float64; equal ones where none are given.

    Args:
        weights: non-negative, summing to one [tokens], or None.
        count: number of tokens.

    Raises:
        ArgumentError: another number of weights, negative ones, or a sum that is not one to 1e-6.
    """
    if weights is None:
        return np.full(count, 1.0 / count)
    weights = np.asarray(as_float64(weights, "weights"))
    if weights.shape != (count,) or np.min(weights) < 0 or abs(weights.sum() - 1.0) > 1e-6:
        raise ArgumentError(
            "weights",
            f"has shape {weights.shape} and sum {weights.sum():.8g}",
            f"pass {count} non-negative weights that sum to one",
        )
    return weights
