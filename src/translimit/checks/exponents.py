r"""Exponents of coordinates along sizes, plain and with a term for finite size.

A coordinate of the network of size n is fitted by least squares in two ways,

    log y = a + p log n                    the plain exponent
    log y = a + p log n + c n_1 / n        the exponent with its finite-size term

n_1 the smallest size. Means over networks of finite size differ from their limit by 1 / n; and what
T tokens teach a map adds up coherently, beside a part at random that is n^{-1/2} of it, so that
y^2 = A n^{2 p} (1 + b / n) with b of the order of T. A coordinate *bends* where c is not 0: then p
of the second fit is its exponent, and p of the first depends on the sizes.

Both are linear in the means over seeds of log y at each size, p = sum_i w_i m_i, with the variance
sum_i w_i^2 s_i^2 / K of K seeds; its degrees of freedom are Welch's and Satterthwaite's,
(sum_i v_i)^2 / sum_i v_i^2 / (K - 1) with v_i = w_i^2 s_i^2, between K - 1 and sizes (K - 1).

Reference: documentation, "Checking your own model"; Satterthwaite, Biometrics Bulletin 2 (1946).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from translimit.core import REFUTED, SUPPORTED, Estimate, Verdict

#: Sizes of networks.
Sizes = Sequence[int] | Sequence[float] | Real[np.ndarray, " sizes"]
#: One coordinate.
Rows = Float[np.ndarray, "sizes seeds"] | Sequence[Sequence[float]]

#: The chance that any promise of a correct model is refuted, at any look.
FALSE_ALARMS = 1e-3
#: The level at which a finite-size term is seen.
_BENDS = 1e-2


@dataclass(frozen=True)
class Levels:
    """Chances of a wrong decision, for how often one decides.

    That all promises are supported is wrong only if one is, so that its level is shared by the
    looks and the two fits alone; that any is refuted is shared by looks and promises. Neither
    exceeds that of two and of 4.5 standard errors.

    Attributes:
        looks: how many there may be, fixed beforehand.
        promises: that are judged at a look.
    """

    looks: int = 1
    promises: int = 1

    def quantiles(self, degrees: float) -> tuple[float, float]:
        """Standard errors that support and that refute, by Student's law.

        Args:
            degrees: of freedom of the error.
        """
        from scipy.special import ndtr, stdtrit

        support = float(ndtr(-SUPPORTED)) / (2 * self.looks)
        refute = min(float(ndtr(-REFUTED)), FALSE_ALARMS / (self.looks * max(self.promises, 1)))
        return -float(stdtrit(degrees, support)), -float(stdtrit(degrees, refute))


@dataclass(frozen=True)
class Fitted:
    """The exponent of one coordinate.

    Attributes:
        plain: without a finite-size term.
        degrees: of freedom of its error.
        settled: with one; NaN with fewer than 3 sizes.
        settled_degrees: of freedom of its error.
        bend: c over its standard error; 0 where there is no error.
        bends: whether that is more than chance.
    """

    plain: Estimate
    degrees: float
    settled: Estimate
    settled_degrees: float
    bend: float
    bends: bool

    def verdict(self, promise: float, tol: float, levels: Levels) -> Verdict:
        """Whether the exponent is the promised one, within `tol`.

        Either fit may support it, at half of the level each; where the coordinate bends away, the
        fit with the finite-size term must not refute what the plain one supports. The plain fit
        refutes, and where the coordinate bends towards its promise the other must refute as well.
        So must it where that is seen by two standard errors alone and the other may be within
        `tol`: few seeds see a power law, with a small error, before they see that it is none.

        Args:
            promise: the exponent.
            tol: the largest gap that still counts as agreement.
            levels: for how often one decides.
        """
        first = _decide(self.plain, self.degrees, promise, tol, levels)
        if not math.isfinite(self.settled.value):
            return first
        second = _decide(self.settled, self.settled_degrees, promise, tol, levels)
        if first is Verdict.supported:
            return Verdict.underpowered if second is Verdict.refuted else first
        if second is Verdict.supported:
            return second
        inside = abs(self.settled.value - promise) - SUPPORTED * self.settled.stderr <= tol
        seems = self.bends or (inside and abs(self.bend) >= SUPPORTED)
        spared = seems and self.nears(promise) and second is not Verdict.refuted
        return Verdict.underpowered if spared else first

    def nears(self, promise: float) -> bool:
        """Whether the finite-size term brings the exponent nearer to its promise.

        Args:
            promise: the exponent.
        """
        return abs(self.settled.value - promise) < abs(self.plain.value - promise)

    def seeds_needed(self, promise: float, tol: float, levels: Levels) -> int | None:
        """Seeds with which this gap would be within `tol`; None where none would do."""
        best = None
        fits = [(self.plain, self.degrees)]
        fits += [(self.settled, self.settled_degrees)]
        for found, degrees in fits:
            room = tol - abs(found.value - promise)
            if room > 0 and math.isfinite(found.stderr):
                times = (levels.quantiles(max(degrees, 8.0))[0] * found.stderr / room) ** 2
                needed = math.ceil(found.count * max(times, 1))
                best = needed if best is None else min(best, needed)
        return best


def fitted(sizes: Sizes, rows: Rows) -> Fitted:
    """Both fits of one coordinate.

    Args:
        sizes: [sizes], increasing.
        rows: [sizes, seeds], positive and finite; else every number is NaN.
    """
    along, values = np.asarray(sizes, float), np.asarray(rows, float)
    count = values.shape[1]
    if not np.all(np.isfinite(values) & (values > 0)):
        nothing = Estimate(math.nan, math.nan, count)
        return Fitted(nothing, 1.0, nothing, 1.0, 0.0, False)
    logs = np.log(values)
    columns = [np.ones_like(along), np.log(along)]
    plain, degrees = _linear(np.stack(columns, axis=1), logs, 1)
    if len(along) < 3:
        return Fitted(plain, degrees, Estimate(math.nan, math.nan, count), 1.0, 0.0, False)
    design = np.stack([*columns, along[0] / along], axis=1)
    settled, settled_degrees = _linear(design, logs, 1)
    bend, of_bend = _linear(design, logs, 2)
    size = bend.value / bend.stderr if 0 < bend.stderr < math.inf else 0.0
    if bend.stderr == 0:
        size = math.inf if abs(bend.value) > 1e-9 else 0.0
    from scipy.special import stdtrit

    seen = abs(size) > -float(stdtrit(of_bend, _BENDS / 2))
    return Fitted(plain, degrees, settled, settled_degrees, size, bool(seen))


def _linear(
    design: Float[np.ndarray, "sizes columns"], logs: Float[np.ndarray, "sizes seeds"], place: int
) -> tuple[Estimate, float]:
    """One coefficient of a linear fit of the means over seeds, and its degrees of freedom."""
    weights = np.linalg.pinv(design)[place]
    count = logs.shape[1]
    value = float(weights @ logs.mean(axis=1))
    if count < 2:
        return Estimate(value, math.inf, count), 1.0
    parts = weights**2 * logs.var(axis=1, ddof=1) / count
    total = float(parts.sum())
    if total <= 1e-24:  # round-off of what does not depend on the seed
        return Estimate(value, 0.0, count), float(count - 1)
    degrees = (count - 1) * total**2 / float((parts**2).sum())
    return Estimate(value, math.sqrt(total), count), degrees


def _decide(found: Estimate, degrees: float, promise: float, tol: float, levels: Levels) -> Verdict:
    """The rule of three verdicts for one fit, with Student's quantiles."""
    if not math.isfinite(found.value):
        return Verdict.refuted  # a network diverged
    gap = abs(found.value - promise)
    if not math.isfinite(found.stderr):
        return Verdict.underpowered
    support, refute = levels.quantiles(degrees)
    if gap - refute * found.stderr > tol:
        return Verdict.refuted
    return Verdict.supported if gap + support * found.stderr <= tol else Verdict.underpowered


def power_law_exponents(sizes: Sizes, rows: Rows) -> Float[np.ndarray, " seeds"]:
    """Exponents of power laws: least squares of log rows [sizes, seeds] on log sizes.

    Args:
        sizes: [sizes].
        rows: [sizes, seeds].

    Returns:
        One for each seed; NaN where a row is not positive and finite.
    """
    along, values = np.asarray(sizes, float), np.asarray(rows, float)
    if not np.all(np.isfinite(values) & (values > 0)):
        return np.full(values.shape[1], math.nan)
    return np.polyfit(np.log(along), np.log(values), 1)[0]


def power_law_exponent(sizes: Sizes, rows: Rows) -> Estimate:
    """The mean of `power_law_exponents` with its standard error over seeds.

    Args:
        sizes: [sizes].
        rows: [sizes, seeds].
    """
    found = power_law_exponents(sizes, rows)
    if not np.all(np.isfinite(found)):
        return Estimate(math.nan, math.nan, len(found))
    return Estimate.over_seeds(found)
