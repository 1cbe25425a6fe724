"""What a causal field without a softmax denominator is divided by."""

from __future__ import annotations

import enum
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention.prefix import prefix_mass
from translimit.core import ArgumentError, ArgumentTypeError, brief


class Normalisation(enum.Enum):
    """The mass by which a causal sum over tokens at or before a position is divided.

    Attributes:
        TOTAL: the mass of all tokens, so that early tokens move slowly.
        PREFIX: the mass of the tokens at or before the position.
    """

    TOTAL = "total"
    PREFIX = "prefix"


def require_normalisation(value: Any, causal: bool) -> Normalisation:
    """A member of `Normalisation`; PREFIX only where the field is causal.

    Raises:
        ArgumentTypeError: not a member.
        ArgumentError: PREFIX where the field is not causal.
    """
    if not isinstance(value, Normalisation):
        raise ArgumentTypeError(
            "normalisation",
            f"got {brief(value)}",
            "pass Normalisation.TOTAL or Normalisation.PREFIX",
        )
    if value is Normalisation.PREFIX and not causal:
        raise ArgumentError(
            "normalisation",
            "is PREFIX, and the field is not causal: every token sees all the mass",
            "set causal=True, or leave it out",
        )
    return value


def divide_by_mass(
    total: Float[Array, "queries dim"],
    normalisation: Normalisation,
    weights: Float[Array, " tokens"],
    x_positions: Float[Array, " queries"] | None,
    positions: Float[Array, " tokens"] | None,
) -> Float[Array, "queries dim"]:
    """The sums over tokens divided by the mass that the normalisation names (all of it is one)."""
    if normalisation is Normalisation.TOTAL or x_positions is None or positions is None:
        return total
    return jnp.divide(total, prefix_mass(x_positions, positions, weights)[:, None])
