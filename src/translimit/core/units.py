r"""Units of measure: extreme numbers over a power of two next to their size.

A square of 1e200 is no float64, nor is one of 1e-200: norms, variances and costs of such numbers
would be infinite or zero. They are computed in a unit u, a power of two near the largest entry, and
given back times u. Division by a power of two is exact, and ordinary numbers have the unit one, so
that units change no digit of a result that can be had without them.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.core.errors import ArgumentError


def unit_of(values: Any, axis: int | None = None) -> Any:
    """The unit of an array, or with an axis of every row along it (that axis kept).

    Args:
        values: finite numbers, NumPy or JAX, traced or not; an array of zeros has the unit one.
        axis: along which entries share a unit; all of them by default.

    Returns:
        One, where the largest entry is so near one that its 16th power is in the range of its
        precision; else the power of two at or just below that entry. No derivative passes through.
    """
    xp: Any = np if isinstance(values, np.ndarray | np.generic | float) else jnp
    if xp is jnp:
        values = jax.lax.stop_gradient(values)
    largest = xp.max(xp.abs(values), axis=axis, keepdims=axis is not None, initial=0.0)
    exponent = xp.frexp(largest)[1] - 1
    ordinary = (xp.abs(exponent) < xp.finfo(largest.dtype).maxexp // 16) | (largest == 0)
    return xp.ldexp(xp.ones_like(largest), xp.where(ordinary, 0, exponent))


def common_unit(*arrays: Any) -> float:
    """The unit of several concrete arrays together, as a Python float."""
    largest = [np.max(np.abs(np.asarray(array, np.float64)), initial=0.0) for array in arrays]
    return float(unit_of(np.asarray(largest)))


def in_unit(value: float, unit: float, name: str) -> float:
    """A result that was computed in a unit, times that unit.

    Raises:
        ArgumentError: the product is beyond float64; `name` is the argument to be scaled.
    """
    product = value * unit
    if math.isinf(product) and math.isfinite(value):
        raise ArgumentError(
            name, f"the result, {value:g} * {unit:g}, is beyond float64", "pass smaller numbers"
        )
    return product


def directions(rows: Float[Any, "*batch dim"]) -> tuple[Any, Any]:
    """Rows over their norms [*batch, dim], and these norms [*batch, 1], of any finite size.

    A row of zeros has the norm zero and the direction NaN.
    """
    xp: Any = np if isinstance(rows, np.ndarray) else jnp
    unit = unit_of(rows, axis=-1)
    scaled = rows / unit
    norms = xp.linalg.norm(scaled, axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        lengths = norms * unit
    return scaled / xp.where(norms > 0, norms, xp.nan), lengths
