r"""Weak scores: the logistic law of the overlap, the time to a threshold, and a pre-LN layer.

Without scores s_ij = m = n^{-2} sum_ij R_ij, the mean over all pairs (`overlap_all`), and

    E dm / dtau = m ((d - 2) / d + n^{-2} sum R_ij^2 / d - (d - 1) m / d)        exactly,
    m' = m (1 - m)                                                      for d to infinity.

Weak scores change the drift of R_ij, for d to infinity, by

    -2 score_std^2 Var_k(r_k) (1 - R_ij) + O(score_std^4),      r_k the mean of row k of R,

which vanishes on the simplex: there temperature enters at the fourth order only. At finite
dimension the logistic curve is an asymptote: at d = 64, n = 16 the mean of m lags it by
0.05 to 0.07 at tau = 3.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?" (the second order).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from translimit.attention import require_gram
from translimit.core import (
    AnyArray,
    ArgumentError,
    ArrayInput,
    Number,
    Numbers,
    as_float64,
    require_count,
)
from translimit.describe import require_cosine
from translimit.observe import overlap_all


def logistic_overlap_all(ts: ArrayInput, initial: float) -> Numbers:
    """m(tau) = m_0 / (m_0 + (1 - m_0) e^{-tau}) at the times [times].

    Args:
        ts: unit diffusive times.
        initial: m_0, `overlap_all` at time 0, in [0, 1].

    Raises:
        ArgumentError: an initial mean outside [0, 1].
    """
    m = float(require_cosine(initial, "initial", 0.0))
    return m / (m + (1.0 - m) * np.exp(-as_float64(ts, "ts")))


def logistic_time(threshold: float, tokens: int) -> float:
    """tau* = log(n - 1) + log(m* / (1 - m*)) from orthogonal tokens.

    Args:
        threshold: of the overlap, in (0, 1); m* is `overlap_all` there.
        tokens: n, at least 2.

    Raises:
        ArgumentError: outside these ranges.
    """
    tokens = require_count(tokens, "tokens", 2)
    threshold = float(require_cosine(threshold, "threshold", 0.0, ends=False))
    m = float(overlap_all(threshold, tokens))
    return math.log(tokens - 1) + math.log(m / (1.0 - m))


def overlap_all_drift(overlap_all: Number, mean_square_overlap: Number, dim: int) -> Number:
    """E dm / dtau without scores.

    Args:
        overlap_all: m.
        mean_square_overlap: n^{-2} sum_ij R_ij^2.
        dim: dimension of the tokens, at least 2.

    Raises:
        ArgumentError: another dimension.
    """
    if dim < 2:
        raise ArgumentError("dim", f"got {dim}", "pass at least 2")
    m = overlap_all
    return m * ((dim - 2) / dim + mean_square_overlap / dim - (dim - 1) * m / dim)


def score_correction(overlaps: ArrayInput) -> Float[AnyArray, "tokens tokens"]:
    """What scores add to the drift of the overlaps, per score_std^2, for d to infinity.

    -2 Var_k(r_k) (1 - R_ij), r_k the mean of row k of R; the remainder is of order score_std^4.

    Args:
        overlaps: R of unit tokens [tokens, tokens].

    Raises:
        ArgumentError: overlaps that are no correlation matrix.

    Examples:
        A simplex has equal rows, so that weak scores do nothing to the second order:

        >>> float(np.abs(score_correction(np.eye(4))).max())
        0.0
    """
    overlaps = require_gram(as_float64(overlaps, "overlaps"), "overlaps")
    return -2.0 * overlaps.mean(axis=-1).var() * (1.0 - overlaps)


def layer_step(overlap_all: Number, square: Number, branch_square: Number) -> tuple[Number, Number]:
    """One attention layer of equal norms at score_std = 0: (m, r^2) to the next.

        m' = m (r^2 + Gamma) / (r^2 + Gamma m),    r'^2 = r^2 + Gamma m

    r^2 (1 - m) is invariant, so that 1 - m falls like 1 / l.

    Args:
        overlap_all: m.
        square: r^2, the squared norm of the tokens.
        branch_square: Gamma, what attention to one token adds to r^2.

    Examples:
        >>> m, square = layer_step(1 / 16, 11.52, 6.79477248)
        >>> round(m, 7)
        0.0958313
    """
    after = square + branch_square * overlap_all
    return overlap_all * (square + branch_square) / after, after
