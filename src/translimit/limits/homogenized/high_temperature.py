r"""Weak scores: the logistic law of the mean overlap, the time to a threshold, and a pre-LN layer.

Without scores s_ij = m = n^{-2} sum_ij R_ij (the diagonal included), and

    E dm / dtau = m ((d - 2) / d + n^{-2} sum R_ij^2 / d - (d - 1) m / d)        exactly,
    m' = m (1 - m)                                                      for d to infinity.

At finite dimension the logistic curve is an asymptote: at d = 64, n = 16 the mean of m lags it by
0.05 to 0.07 at tau = 3.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from translimit.core import ArgumentError, ArrayInput, as_float64, require_count
from translimit.describe import require_cosine


def logistic_overlap(ts: ArrayInput, initial: float) -> Any:
    """m(tau) = m_0 / (m_0 + (1 - m_0) e^{-tau}) at the times [times].

    Args:
        ts: unit diffusive times.
        initial: m_0, the mean of all overlaps with the diagonal, in [0, 1].

    Raises:
        ArgumentError: an initial mean outside [0, 1].
    """
    m = float(require_cosine(initial, "initial", 0.0))
    return m / (m + (1.0 - m) * np.exp(-as_float64(ts, "ts")))


def logistic_time(threshold: float, tokens: int) -> float:
    """tau* = log(n - 1) + log(m* / (1 - m*)) from orthogonal tokens.

    Args:
        threshold: off-diagonal overlap in (0, 1); m* = threshold + (1 - threshold) / n.
        tokens: n, at least 2.

    Raises:
        ArgumentError: outside these ranges.
    """
    tokens = require_count(tokens, "tokens", 2)
    threshold = float(require_cosine(threshold, "threshold", 0.0, ends=False))
    m = threshold + (1.0 - threshold) / tokens
    return math.log(tokens - 1) + math.log(m / (1.0 - m))


def mean_overlap_drift(mean: Any, mean_square: Any, dim: int) -> Any:
    """E dm / dtau without scores, from m and n^{-2} sum R_ij^2."""
    if dim < 2:
        raise ArgumentError("dim", f"got {dim}", "pass at least 2")
    return mean * ((dim - 2) / dim + mean_square / dim - (dim - 1) * mean / dim)


def high_temperature_step(mean_overlap: Any, square: Any, gain: Any) -> tuple[Any, Any]:
    """One attention layer of equal norms at score_std = 0: (m, r^2) to the next.

        m' = m (r^2 + Gamma) / (r^2 + Gamma m),    r'^2 = r^2 + Gamma m

    r^2 (1 - m) is invariant, so that 1 - m falls like 1 / l.

    >>> m, square = high_temperature_step(1 / 16, 11.52, 6.79477248)
    >>> round(m, 7)
    0.0958313
    """
    after = square + gain * mean_overlap
    return mean_overlap * (square + gain) / after, after
