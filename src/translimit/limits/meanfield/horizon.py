"""The final depth t1 of a flow: positive, finite, validated or armed."""

from __future__ import annotations

from jaxtyping import Float

from translimit.core import POSITIVE, AnyArray, ArrayInput, as_float64, require_number


def require_horizon(t1: ArrayInput) -> Float[AnyArray, ""]:
    """A positive finite final time as a float64 scalar, or armed when traced.

    Raises:
        ArgumentError: not a scalar, not positive, or not finite.
    """
    return as_float64(require_number(t1, "t1", POSITIVE), "t1")
