r"""Units of measure: extreme numbers over a power of two next to their size.

A square of 1e200 is no float64, nor is one of 1e-200: norms, variances and costs of such numbers
would be infinite or zero. They are computed in a unit u, a power of two near the largest entry, and
given back times u. Division by a power of two is exact, and ordinary numbers have the unit one, so
that units change no digit of a result that can be had without them.

NumPy only; `translimit.core.norms` has the units of JAX arrays.
"""

from __future__ import annotations

import math

import numpy as np

from translimit.core.errors import ArgumentError


def common_unit(*arrays: np.ndarray) -> float:
    """The unit of several arrays together.

    Args:
        arrays: finite numbers.

    Returns:
        One, where the largest entry is so near one that its 16th power is a float64, or where all
        are zero; else the power of two at or just below that entry.
    """
    largest = max(float(np.max(np.abs(array), initial=0.0)) for array in arrays)
    exponent = math.frexp(largest)[1] - 1
    ordinary = largest == 0.0 or abs(exponent) < 64
    return 1.0 if ordinary else math.ldexp(1.0, exponent)


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
