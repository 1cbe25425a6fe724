"""Numbers with their uncertainty, and convergence rates with bootstrap intervals.

One sample has no standard error: it is infinite as a number, told by `ONE_SEED` in words, and no
bar in a figure. A standard error of zero is that of a deterministic number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from translimit.core.arrays import as_numpy
from translimit.core.errors import ArgumentError, brief
from translimit.core.units import common_unit

#: What is said in place of an error that nobody knows.
ONE_SEED = "one seed: no error"


def with_error(
    value: float | int,
    stderr: float | int,
    form: str = ".2f",
    error_form: str = "",
    *,
    bound: str = "",
    unit: str = "",
) -> str:
    """A number with its standard error in words: the one way in which errors are printed.

    Args:
        value: the number.
        stderr: its standard error: 0 for a deterministic number, infinite for that of one sample,
            NaN where there is none.
        form: the format of the number.
        error_form: the format of the error; that of the number without its sign by default.
        bound: "at least" or "at most", where the number is a bound: it has no error.
        unit: what is written after the number and its error.

    Examples:
        >>> with_error(-0.512, 0.031, "+.2f")
        '-0.51 ± 0.03'
        >>> with_error(-0.512, math.inf)
        '-0.51 (one seed: no error)'
        >>> with_error(-0.512, 0.0, bound="at most")
        'at most -0.51'
    """
    if not math.isfinite(value):
        return "not finite"
    written, end = format(value, form), f" {unit}" if unit else ""
    if bound:
        return f"{bound} {written}{end}"
    if stderr == 0:
        return written + end
    if not math.isfinite(stderr):
        return f"{written}{end} ({'no error' if math.isnan(stderr) else ONE_SEED})"
    return f"{written} ± {format(stderr, error_form or form.lstrip('+'))}{end}"


def standard_error(samples: Float[np.ndarray, "*any"], axis: int = 0) -> Float[np.ndarray, "*rest"]:
    """The standard error of the mean of independent samples along an axis; infinite for one sample.

    Args:
        samples: any shape.
        axis: along which the samples lie.
    """
    count = samples.shape[axis]
    if count == 1:
        return np.full(np.delete(samples.shape, axis), math.inf)
    unit = common_unit(samples)
    return np.asarray(unit * (samples / unit).std(axis=axis, ddof=1) / math.sqrt(count))


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error, its sample count and its discretisation error.

    Attributes:
        value: the estimate.
        stderr: its sampling standard error (0 for a deterministic quantity, infinite for the only
            sample).
        count: how many independent samples are behind it.
        discretisation: a bound on, or estimate of, the error of the numerical scheme.
    """

    value: float
    stderr: float = 0.0
    count: int = 1
    discretisation: float = 0.0

    @property
    def floor(self) -> float:
        """The combined error: a gap below this size means nothing."""
        return math.hypot(self.stderr, self.discretisation)

    @classmethod
    def from_samples(
        cls, samples: Float[np.ndarray, " samples"], *, discretisation: float = 0.0
    ) -> Estimate:
        """The mean of independent samples with its standard error.

        Raises:
            ArgumentError: fewer than two samples, which carry no standard error.
        """
        samples = as_numpy(samples, "samples")
        if samples.ndim != 1 or samples.size < 2:
            raise ArgumentError(
                "samples", f"has shape {samples.shape}", "pass at least two samples in one row"
            )
        stderr = float(standard_error(samples))
        return cls(float(samples.mean()), stderr, samples.size, discretisation)

    @classmethod
    def over_seeds(cls, values: Sequence[float] | Float[np.ndarray, " seeds"]) -> Estimate:
        """The mean over seeds with its standard error, which is infinite with one seed.

        Raises:
            ArgumentError: no value.
        """
        values = as_numpy(values, "values")
        if values.size == 1:
            return cls(float(values[0]), math.inf, 1)
        return cls.from_samples(values)

    def __str__(self) -> str:
        said = with_error(self.value, self.floor, ".6g", ".2g")
        return said if self.count < 2 else f"{said} ({self.count} samples)"


@dataclass(frozen=True)
class RateFit:
    """A power law error = constant * size ** rate, fitted on logarithms.

    Attributes:
        rate: the fitted exponent (negative when the error falls).
        constant: the fitted prefactor.
        stderr: bootstrap standard error of the rate.
        interval: interval of the rate at `confidence`, from that standard error and Student's t.
        confidence: level of the interval.
        replicates: replicates per size.
    """

    rate: float
    constant: float
    stderr: float
    interval: tuple[float, float]
    confidence: float
    replicates: int

    def estimate(self) -> Estimate:
        """The rate as an estimate."""
        return Estimate(self.rate, self.stderr, self.replicates)


def fit_rate(
    sizes: Sequence[int | float] | Real[np.ndarray, " sizes"],
    errors: Sequence[Float[np.ndarray, " _replicates"]] | Float[np.ndarray, "sizes replicates"],
    *,
    paired: bool = False,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> RateFit:
    """Fit rms error = C size^rate with a bootstrap over replicates.

    The error at a size is the root mean square over its replicates; the line through the
    logarithms is ordinary least squares. Replicates are resampled independently at each size, or
    jointly where the same replicate was measured at every size. The bootstrap's standard error is
    widened by (r / (r - 1))^(1/2) for r replicates, the bias of a resampled variance, and the
    interval uses Student's t with r - 1 degrees of freedom: without both, a nominal 95 % covers
    about 85 % at r = 4. With them it covers 93 to 99 % for errors with Gaussian tails, and 91 to
    98 % for exponential ones (measured, r = 4 to 32).

    Args:
        sizes: the sizes, at least two, positive and distinct.
        errors: for each size one row of independent replicates (at least 4); rows may differ in
            length unless paired; signs are ignored.
        paired: column j of every row is the same replicate (the same cloud at every depth), so
            that columns are resampled as a whole.
        seed: of the bootstrap's generator: same seed, same interval.
        resamples: bootstrap resamples.
        confidence: level of the interval, between 0 and 1.

    Raises:
        ArgumentError: shapes that do not match, sizes not positive and distinct, too few
            replicates or resamples, a confidence outside (0, 1), or an error that is zero or not
            finite (no power law can be fitted).
    """
    from scipy.special import stdtrit  # scipy is not loaded until it is needed

    sizes = as_numpy(sizes, "sizes")
    rows = [as_numpy(row, "errors") for row in errors]
    if sizes.ndim != 1 or len(rows) != sizes.size or any(row.ndim != 1 for row in rows):
        raise ArgumentError(
            "errors",
            f"has shapes {[row.shape for row in rows]} for {sizes.size} sizes",
            "pass one row of replicates per size",
        )
    positive = np.all(np.isfinite(sizes)) and np.all(sizes > 0)
    if sizes.size < 2 or not positive or np.unique(sizes).size != sizes.size:
        raise ArgumentError(
            "sizes", f"got {brief(sizes)}", "pass at least two distinct positive sizes"
        )
    replicates = min(row.size for row in rows)
    if replicates < 4:
        raise ArgumentError(
            "errors", f"has a row of length {replicates}", "pass at least 4 replicates per size"
        )
    if paired and any(row.size != replicates for row in rows):
        raise ArgumentError("errors", "paired rows differ in length", "pass rows of equal length")
    if resamples < 100:
        raise ArgumentError("resamples", f"got {resamples}", "pass at least 100")
    if not 0 < confidence < 1:
        raise ArgumentError("confidence", f"got {confidence}", "pass a level between 0 and 1")
    if not all(np.all(np.isfinite(row)) and np.all(row != 0) for row in rows):
        raise ArgumentError(
            "errors",
            "an error is zero or not finite",
            "pass finite errors that are not zero: a power law has no other",
        )
    # Scaled per size, so that no square over- or underflows.
    scale = np.array([np.max(np.abs(row)) for row in rows])
    squares = [(row / top) ** 2 for row, top in zip(rows, scale, strict=True)]
    log_sizes = np.log(sizes)
    centred = log_sizes - log_sizes.mean()
    weights = centred / np.sum(centred**2)  # least-squares slope = weights @ log errors

    log_rms = np.log(scale) + 0.5 * np.log([row.mean() for row in squares])
    rate = float(weights @ log_rms)
    constant = float(np.exp(log_rms.mean() - rate * log_sizes.mean()))

    generator = np.random.default_rng(seed)
    picks = generator.integers(replicates, size=(resamples, replicates))
    slopes = np.full(resamples, float(weights @ np.log(scale)))
    for weight, row in zip(weights, squares, strict=True):
        if not paired:
            picks = generator.integers(row.size, size=(resamples, row.size))
        slopes += 0.5 * weight * np.log(row[picks].mean(axis=1))
    stderr = float(slopes.std(ddof=1) * math.sqrt(replicates / (replicates - 1)))
    half_width = stderr * float(stdtrit(replicates - 1, 0.5 + confidence / 2))
    return RateFit(
        rate,
        constant,
        stderr,
        (rate - half_width, rate + half_width),
        confidence,
        replicates,
    )


def jackknife(statistic: Callable[[np.ndarray], float], count: int) -> Estimate:
    """A bias-corrected estimate of a statistic of `count` independent groups, leave-one-out.

    The correction removes the O(1 / count) bias of nonlinear statistics (a norm of a noisy mean
    is too large), so an error that is not resolved may come out below zero.

    Args:
        statistic: a function of the indices of the groups that it should use.
        count: number of groups, at least 3.

    Raises:
        ArgumentError: fewer than three groups.
    """
    if count < 3:
        raise ArgumentError("count", f"got {count}", "pass at least 3 groups")
    everything = np.arange(count)
    whole = statistic(everything)
    left_out = np.array([statistic(np.delete(everything, index)) for index in range(count)])
    mean = float(left_out.mean())
    stderr = math.sqrt((count - 1) / count * float(np.sum((left_out - mean) ** 2)))
    return Estimate(count * whole - (count - 1) * mean, stderr, count)
