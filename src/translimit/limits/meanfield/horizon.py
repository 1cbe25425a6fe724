"""The final depth t1 of a flow: positive, finite, validated or armed."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np

from translimit.core import ArgumentError, as_float64, is_traced


def require_horizon(t1: Any) -> Any:
    """A positive finite final time as a float64 scalar, or armed when traced.

    Raises:
        ArgumentError: not a scalar, not positive, or not finite.
    """
    t1 = as_float64(t1, "t1")
    if np.ndim(t1) != 0:
        raise ArgumentError("t1", f"has shape {np.shape(t1)}", "pass one number")
    if is_traced(t1):
        return eqx.error_if(t1, ~(t1 > 0), "t1: pass a positive final depth")
    if not t1 > 0:
        raise ArgumentError("t1", f"got {float(t1):g}", "pass a positive final depth")
    return t1
