"""Directions and norms of rows of any size, in NumPy or JAX, traced or not."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

Rows = TypeVar("Rows", bound=np.ndarray | Array)


def unit_of(values: np.ndarray | Array, axis: int | None = None) -> np.ndarray | Array:
    """The unit of an array, as `translimit.core.units` has it, in the array's own precision.

    Args:
        values: finite numbers.
        axis: along which entries share a unit (it is kept); all of them by default.

    Returns:
        One, where the largest entry is zero or so near one that its 16th power is in the range of
        the precision; else the power of two at or just below it. No derivative passes through.
    """
    xp: Any = np if isinstance(values, np.ndarray) else jnp
    if xp is jnp:
        values = jax.lax.stop_gradient(values)
    largest = xp.max(xp.abs(values), axis=axis, keepdims=axis is not None, initial=0.0)
    exponent = xp.frexp(largest)[1] - 1
    ordinary = (xp.abs(exponent) < xp.finfo(largest.dtype).maxexp // 16) | (largest == 0)
    return xp.asarray(xp.ldexp(xp.ones_like(largest), xp.where(ordinary, 0, exponent)))


def directions(rows: Rows) -> tuple[Rows, Rows]:
    """Rows over their norms [*batch, dim], and these norms [*batch, 1], of any finite size.

    A row of zeros has the norm zero and the direction NaN.
    """
    xp: Any = np if isinstance(rows, np.ndarray) else jnp
    unit: Any = unit_of(rows, axis=-1)
    scaled: Any = rows / unit
    norms = xp.linalg.norm(scaled, axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        lengths = norms * unit
    return scaled / xp.where(norms > 0, norms, xp.nan), lengths
