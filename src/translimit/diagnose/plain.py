"""Numbers of a diagnosis as plain data: what is not defined is null, in JSON as in every table."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Shaped


def plain_number(value: float | np.floating) -> float | None:
    """A float, or None for NaN and infinities.

    Args:
        value: of an observable.
    """
    return float(value) if math.isfinite(value) else None


def plain_numbers(values: Shaped[np.ndarray, "*shape"] | list[float]) -> list[float | None]:
    """All numbers of an array, in its order.

    Args:
        values: of an observable.
    """
    return [plain_number(one) for one in np.asarray(values, float).reshape(-1)]


def plain_rows(values: Shaped[np.ndarray, "rows columns"]) -> list[list[float | None]]:
    """The rows of a matrix.

    Args:
        values: of an observable.
    """
    return [plain_numbers(row) for row in values]
