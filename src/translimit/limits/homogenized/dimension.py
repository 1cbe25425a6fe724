"""Whether the drift of a common overlap keeps the dimension, or takes its limit.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import enum
import math

import numpy as np

from translimit.core import ArgumentTypeError, brief
from translimit.describe import AbstractIsotropicHeads


class Dimension(enum.Enum):
    """Which drift: EXACT keeps d, LARGE is d to infinity, as printed."""

    EXACT = "exact"
    LARGE = "large"


def dimension_of(law: AbstractIsotropicHeads, dimension: Dimension) -> np.float64:
    """The dimension in the drift: that of the tokens, or infinity.

    Raises:
        ArgumentTypeError: no member of `Dimension`.
    """
    if not isinstance(dimension, Dimension):
        raise ArgumentTypeError(
            "dimension", f"got {brief(dimension)}", "pass Dimension.EXACT or Dimension.LARGE"
        )
    return np.float64(math.inf if dimension is Dimension.LARGE else law.dim)
