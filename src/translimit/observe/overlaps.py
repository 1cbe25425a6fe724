r"""The overlap of tokens: the mean of <x_i, x_j> over pairs of different tokens.

    overlap = sum_{i != j} R_ij / (n (n - 1)),      overlap_all = ((n - 1) overlap + 1) / n,

R_ij = <x_i, x_j> of n unit tokens. `overlap_all` is the mean over all pairs, each token with itself
included; it obeys simple laws (m of the logistic equation), but starts at 1 / n. A threshold is
always one of the overlap.

The functions take arrays of NumPy and of JAX, traced ones included, and return their kind.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import AnyArray, ArgumentError, ArrayInput, Bounds, Numbers, require_real
from translimit.observe.namespaces import as_array, namespace


def mean_overlap(
    tokens: Float[AnyArray, "*batch tokens width"],
) -> Float[AnyArray, "*batch"]:
    """The overlap of unit tokens, at a cost of tokens * width; NaN for one token.

    Args:
        tokens: of norm one, which is not checked [..., tokens, width].
    """
    return _without_diagonal((tokens.sum(axis=-2) ** 2).sum(axis=-1), tokens.shape[-2])


def mean_overlap_of(
    overlaps: Float[AnyArray, "*batch tokens tokens"],
) -> Float[AnyArray, "*batch"]:
    """The overlap from all cosines R of the tokens; NaN for one token.

    Args:
        overlaps: R, with ones on the diagonal, which is not checked [..., tokens, tokens].
    """
    return _without_diagonal(overlaps.sum(axis=(-2, -1)), overlaps.shape[-1])


def overlaps_of(
    cov: Float[AnyArray, "*batch tokens tokens"],
) -> Float[AnyArray, "*batch tokens tokens"]:
    """All cosines R_ij = C_ij / (C_ii C_jj)^(1/2) of tokens; zero where one of two is zero.

    Args:
        cov: C, inner products of the tokens in any unit [..., tokens, tokens].

    Examples:
        >>> float(overlaps_of(np.array([[4.0, 1.0], [1.0, 1.0]]))[0, 1])
        0.5
    """
    xp = namespace(cov)
    squares = xp.diagonal(cov, axis1=-2, axis2=-1)
    some = squares > 0
    s = xp.where(some, 1 / xp.sqrt(xp.where(some, squares, 1.0)), 0.0)
    return cov * s[..., :, None] * s[..., None, :]


def overlap_all(overlap: Numbers, tokens: int) -> Numbers:
    """The mean over all pairs of n tokens, the diagonal included: ((n - 1) overlap + 1) / n.

    Args:
        overlap: of different tokens [...].
        tokens: n.

    Examples:
        >>> overlap_all(0.0, 4)
        0.25
    """
    return ((tokens - 1) * overlap + 1.0) / tokens


def _without_diagonal(
    total: Float[AnyArray, "*batch"] | np.floating, tokens: int
) -> Float[AnyArray, "*batch"]:
    """The mean of the entries off the diagonal, from the sum of all and ones on it."""
    n = tokens
    return as_array((total - n) / (n * (n - 1)) if n > 1 else total * np.nan)


def collapse_time(ts: ArrayInput, overlaps: ArrayInput, threshold: float | int = 0.5) -> float:
    """When a mean overlap first reaches a threshold, on the line between the times kept.

    Args:
        ts: times, increasing [times].
        overlaps: the mean overlap at these times [times]; what follows a NaN is left out.
        threshold: in (-1, 1].

    Returns:
        The time, in the unit of `ts`; infinite where the threshold is not reached.

    Raises:
        ArgumentError: shapes that do not match; a threshold outside (-1, 1].

    Examples:
        >>> collapse_time([0.0, 1.0, 2.0], [0.0, 0.4, 0.8])
        1.25
    """
    times, values = (np.asarray(one, float) for one in (ts, overlaps))
    if times.ndim != 1 or times.shape != values.shape:
        problem = f"have shapes {times.shape} and {values.shape}"
        raise ArgumentError("overlaps", problem, "pass one number for each time")
    level = require_real(threshold, "threshold", Bounds(-1.0, 1.0, "(]"))
    reached = np.flatnonzero(values >= level)
    if not len(reached):
        return float("inf")
    after = int(reached[0])
    if after == 0 or not np.isfinite(values[after - 1]):
        return float(times[after])
    pair = slice(after - 1, after + 1)
    return float(np.interp(level, values[pair], times[pair]))


def collapse_times(
    ts: ArrayInput, overlaps: Float[AnyArray, "paths times"], threshold: float | int = 0.5
) -> Float[np.ndarray, " paths"]:
    """When the mean overlap of each path first reaches a threshold; see `collapse_time`.

    Args:
        ts: times, increasing [times].
        overlaps: the mean overlap of every path at these times [paths, times].
        threshold: in (-1, 1].

    Examples:
        >>> collapse_times([0.0, 1.0], np.array([[0.0, 0.4], [0.0, 0.8]]))
        array([  inf, 0.625])
    """
    return np.array([collapse_time(ts, path, threshold) for path in overlaps])
