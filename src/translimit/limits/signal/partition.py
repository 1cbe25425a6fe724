r"""Softmax over many Gaussian logits: its log partition, and how two of them overlap.

Of V independent logits u_v of deviation sigma,

    E log sum_v e^{u_v} = int (e^{-t} - (E e^{-t e^u})^V) dt / t      (over log t by the trapezoid).

Two rows of logits whose entries have correlation rho have softmax weights p, p' of overlap

    A(rho) = E sum_v p_v p'_v = V int int dt ds E[e^{u + u' - t e^u - s e^{u'}}]
                                              (E e^{-t e^u - s e^{u'}})^{V - 1},

1 / V at rho = 0 and e^{sigma^2 rho} / V for few and narrow logits. By Price's theorem the log
partitions of the two rows have covariance sigma^2 int_0^rho A.

With u = a + b, u' = +-a + b', a the common part, the expectations in the double integral are
products of matrices over a; log t and a share one grid.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from translimit.core import (
    POSITIVE,
    ArrayInput,
    Bounds,
    as_float64,
    require_count,
    require_finite,
    require_real,
)
from translimit.limits.signal.concentration import gaussian

#: Spacing of log t for the overlap, and how many deviations of a Gaussian are summed over.
STEP, REACH = 0.3, 6.5
#: The overlap is tabulated at so many angles between 0 and pi / 2, and half as many beyond.
ANGLES = 24
#: Below this e^{2 sigma^2} / V the overlap is e^{sigma^2 rho} / V to half a per cent.
NARROW = 1e-3
#: A cap below this wants finer points than the logits.
NARROWEST = 0.75
#: Widest logits.
WIDEST = Bounds(0.0, 40.0)


def log_partition(words: int, logit_std: float | int, softcap: float | int | None = None) -> float:
    """E log sum_v e^{u_v} of independent Gaussian logits: the mean loss with fresh weights.

    Args:
        words: how many logits.
        logit_std: their standard deviation, at most 40.
        softcap: c where logits are c tanh(u / c) instead; None without a cap. Halving the spacing
            of the quadrature moves the result by less than 1e-6 for c above a hundredth of the
            deviation.

    Raises:
        ArgumentError: a count below 1, a deviation outside [0, 40], a cap that is not positive.
        ArgumentTypeError: a count that is no integer.

    Examples:
        >>> round(log_partition(32_128, 8**0.5), 2)
        14.36
    """
    words = require_count(words, "words", 1)
    cap = None if softcap is None else require_real(softcap, "softcap", POSITIVE)
    return _log_partition(words, require_real(logit_std, "logit_std", WIDEST), cap)


@functools.lru_cache(maxsize=256)
def _log_partition(words: int, sigma: float, cap: float | None) -> float:
    u, weights, reach = _capped(sigma, cap)
    log_t = np.arange(-reach - math.log(words) - 40, reach + 8, STEP)
    below = np.empty(len(log_t))
    for part in np.array_split(np.arange(len(log_t)), 12):  # a few rows at a time, for the cache
        share = np.minimum(_lost(log_t[part, None] + u) @ weights, 1.0)
        with np.errstate(divide="ignore"):
            below[part] = np.exp(words * np.log1p(-share))
    first = np.exp(-np.exp(np.minimum(log_t, 700.0)))
    return float(np.trapezoid(first - below, log_t))


def softmax_overlap(
    words: int, logit_std: float | int, correlation: ArrayInput
) -> Float[np.ndarray, "*any"]:
    """A: the mean overlap sum_v p_v p'_v of two softmaxes of correlated Gaussian logits.

    Interpolated between angles arccos(correlation): to 0.3 % up to deviation 5, to 2 % at 23.

    Args:
        words: V, logits of each row, at least 2.
        logit_std: their standard deviation, at most 40.
        correlation: of the two rows, in [-1, 1], of any shape.

    Raises:
        ArgumentError: a count below 2, a deviation outside [0, 40], no finite correlations.
        ArgumentTypeError: a count that is no integer.

    Examples:
        >>> from translimit.limits.signal import concentration
        >>> bool(abs(softmax_overlap(1000, 3.0, 1.0) / concentration(1000, 3.0) - 1) < 1e-4)
        True
    """
    words, sigma, rho = _checked(words, logit_std, correlation)
    if 2 * sigma**2 < math.log(NARROW * words):
        return np.asarray(np.exp(sigma**2 * rho) / words)
    return np.asarray(np.exp(_table(words, sigma)(np.arccos(rho))))


def log_partition_cov(
    words: int, logit_std: float | int, correlation: ArrayInput
) -> Float[np.ndarray, "*any"]:
    """The covariance of the log partitions of two rows of correlated Gaussian logits.

    Args:
        words: V, logits of each row, at least 2.
        logit_std: their standard deviation, at most 40.
        correlation: of the two rows, in [-1, 1], of any shape.

    Raises:
        ArgumentError: a count below 2, a deviation outside [0, 40], no finite correlations.
        ArgumentTypeError: a count that is no integer.
    """
    words, sigma, rho = _checked(words, logit_std, correlation)
    if 2 * sigma**2 < math.log(NARROW * words):
        return np.asarray(np.expm1(sigma**2 * rho) / words)
    grid = np.linspace(0.0, math.pi, 4001)
    values = np.exp(_table(words, sigma)(grid)) * np.sin(grid)
    steps = (values[1:] + values[:-1]) / 2 * (grid[1] - grid[0])
    below = np.concatenate([[0.0], np.cumsum(steps)])  # int of A sin from 0 to the angle
    return np.asarray(sigma**2 * (below[2000] - np.interp(np.arccos(rho), grid, below)))


def _checked(
    words: int, logit_std: float | int, correlation: ArrayInput
) -> tuple[int, float, np.ndarray]:
    words = require_count(words, "words", 2)
    sigma = require_real(logit_std, "logit_std", WIDEST)
    rho = np.asarray(require_finite(as_float64(correlation, "correlation"), "correlation"))
    return words, sigma, np.asarray(np.clip(rho, -1.0, 1.0))


@functools.lru_cache(maxsize=32)
def _table(words: int, sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    """Log A against the angle: angles are denser near 0, where wide logits change fastest."""
    from scipy.interpolate import PchipInterpolator  # scipy is not loaded until it is needed

    near = math.pi / 2 * (np.arange(ANGLES) / ANGLES) ** 1.5
    angles = np.concatenate([near, np.linspace(math.pi / 2, math.pi, ANGLES // 2 + 1)])
    start, stop = window(words, sigma)
    values = [_overlap(words, sigma, math.cos(one), start, stop) for one in angles]
    values[ANGLES] = 1.0 / words
    # What is far below 1 / V counts as zero.
    return PchipInterpolator(angles, np.log(np.maximum(values, 1e-4 / words)))


def _overlap(words: int, sigma: float, rho: float, start: float, stop: float) -> float:
    """A by the trapezoid rule between two values of log t."""
    common, own = sigma * math.sqrt(abs(rho)), sigma * math.sqrt(1.0 - abs(rho))
    step = min(STEP, max(common, 0.05) / 1.5)
    size = math.ceil((stop - start) / step) + 1
    reach = max(math.ceil(REACH * common / step), 1)
    shift = np.arange(-reach, reach + 1)
    weights = np.exp(-((shift * step / max(common, 1e-9)) ** 2) / 2)
    weights /= weights.sum()
    # E over the own parts of 1 - e^{-t e^b} and of t e^{b - t e^b}, at log t + a.
    x = start + step * np.arange(-reach, size + reach)
    count = math.ceil(REACH * own / min(STEP, own / 1.5)) if own > 0 else 0
    z = np.linspace(-REACH, REACH, 2 * count + 1) if count else np.zeros(1)
    inner = np.exp(-(z**2) / 2)
    inner /= inner.sum()
    shifted = x[:, None] + own * z
    lost = _lost(shifted) @ inner
    rate = np.exp(np.minimum(shifted, 300.0))
    pull = (rate * np.exp(-rate)) @ inner
    at = np.arange(size)[:, None] + reach
    first, second = at + shift, at + (shift if rho >= 0 else -shift)
    numerator = (pull[first] * weights) @ pull[second].T
    one, two = lost[first], lost[second]
    either = (one @ weights)[:, None] + (two @ weights)[None, :] - (one * weights) @ two.T
    others = np.exp((words - 1) * np.log1p(-np.minimum(either, 1 - 1e-15)))
    return float(words * np.sum(numerator * others) * step**2)


def window(words: int, sigma: float, cap: float | None = None) -> tuple[float, float]:
    """Log t between which V E(1 - e^{-t e^u}) goes from 1e-11 to 45.

    Args:
        words: V.
        sigma: deviation of the logits, before a cap.
        cap: the cap, or None.
    """
    u, weights, reach = _capped(sigma, cap)
    log_t = np.arange(-7 / 6 * reach - math.log(words) - 32, 0.75 * reach + 6, STEP)
    hit = np.concatenate(
        [words * (_lost(part[:, None] + u) @ weights) for part in np.array_split(log_t, 12)]
    )
    start, stop = np.searchsorted(hit, [1e-11, 45.0])
    return float(log_t[start]), float(log_t[min(stop, len(log_t) - 1)])


def _capped(sigma: float, cap: float | None) -> tuple[np.ndarray, np.ndarray, float]:
    """Points of a logit, their weights, and how far it goes."""
    if cap is None:
        z, weights = gaussian(sigma)
        return sigma * z, weights, 12 * sigma
    z, weights = gaussian(sigma * max(1.0, NARROWEST / cap))
    return cap * np.tanh(sigma / cap * z), weights, min(12 * sigma, cap)


def _lost(log_rate: np.ndarray) -> np.ndarray:
    """1 - e^{-r} of a rate r."""
    return -np.expm1(-np.exp(np.minimum(log_rate, 700.0)))
