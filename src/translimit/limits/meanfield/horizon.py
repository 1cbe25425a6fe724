"""The final depth t1 of a flow: positive, finite, validated or armed."""

from __future__ import annotations

from typing import Any

from translimit.core import POSITIVE, as_float64, require_number


def require_horizon(t1: Any) -> Any:
    """A positive finite final time as a float64 scalar, or armed when traced.

    Raises:
        ArgumentError: not a scalar, not positive, or not finite.
    """
    return as_float64(require_number(t1, "t1", POSITIVE), "t1")
