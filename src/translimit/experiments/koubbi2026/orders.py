"""The order of an error in a step, and its value at step zero, from errors without sampling noise.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from translimit.core import Estimate


def order_of(steps: Sequence[float], errors: Sequence[float]) -> Estimate:
    """The order at step zero: local orders, extrapolated as linear in the step.

    Its discretisation error is half of what the extrapolation adds to the last local order.

    Args:
        steps: decreasing, at least three.
        errors: at these steps, of one sign.
    """
    h = np.asarray(steps, np.float64)
    local = np.diff(np.log(np.abs(errors))) / np.diff(np.log(h))
    middle = np.sqrt(h[1:] * h[:-1])
    added = float((local[-1] - local[-2]) * middle[-1] / (middle[-2] - middle[-1]))
    return Estimate(float(local[-1]) + added, 0.0, len(h), abs(added) / 2)


def at_zero(steps: Sequence[float], values: Sequence[float]) -> Estimate:
    """The value at step zero, by a parabola through the last three steps.

    Its discretisation error is a quarter of the distance from the line through the last two.

    Args:
        steps: decreasing, at least three.
        values: at these steps.
    """
    line, parabola = (
        float(np.polynomial.Polynomial.fit(steps[-n:], values[-n:], n - 1)(0.0)) for n in (2, 3)
    )
    return Estimate(parabola, 0.0, len(steps), abs(parabola - line) / 4)
