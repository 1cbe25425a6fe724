r"""The best learning rate at infinite size, and what transferred rates cost at a target.

The optimum x*_n = log10(lr) of a size is the vertex of the parabola through the lowest three points
of its mean log loss. Optima follow x*_n = x*_inf + c / n, with errors from a bootstrap over seeds,
the same draw at all sizes. At the target n the base's optimum costs l'' (x*_1 - x*_n)^2 / 2 in log
loss, the extrapolated one l'' sigma^2 / 2, with the curvature l'' of the valley.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, DataError, Estimate, with_error
from translimit.extrapolate.curves import Curves

#: The loss that stands for a diverged run.
CAP = 10.0
RESAMPLES = 500
#: Seeds below which, and censored resamples above which, the answer is underpowered.
FEW_SEEDS, MANY_CENSORED = 6, 0.05


@dataclass(frozen=True)
class Optimum:
    """The best learning rate, extrapolated.

    Attributes:
        axis: the size that grows.
        sizes: of the runs.
        optima: log10 of the best rate by size.
        optima_error: their standard errors.
        infinite: log10 of the best rate at infinite size.
        target: the size that is asked for.
        at_target: log10 of its best rate.
        curvature: of log loss in decades of the rate, at the largest size.
        regret_of_base: log loss that the best rate of the smallest size costs at the target.
        regret_of_extrapolated: what the extrapolated rate costs, by its error.
        regret_power: exponent of 1/n of the regret of the infinite optimum, if it is known.
        gap_power: that of the loss above the infinite one, if it is known.
        censored: part of the resamples whose optimum lay at an edge.
        notes: what limits the answer.
    """

    axis: str
    sizes: Float[np.ndarray, " sizes"]
    optima: Float[np.ndarray, " sizes"]
    optima_error: Float[np.ndarray, " sizes"]
    infinite: Estimate
    target: float
    at_target: Estimate
    curvature: float
    regret_of_base: float
    regret_of_extrapolated: float
    regret_power: Estimate | None
    gap_power: Estimate | None
    censored: float
    notes: tuple[str, ...]

    @property
    def use_extrapolated(self) -> bool:
        """Whether the extrapolated rate costs less than the base's."""
        return self.regret_of_extrapolated < self.regret_of_base

    @property
    def lr(self) -> float:
        """The rate to use at the target."""
        return 10 ** (self.at_target.value if self.use_extrapolated else float(self.optima[0]))

    @property
    def fast(self) -> bool | None:
        """Whether the regret vanishes faster than the loss gap; None where it is not known."""
        if self.regret_power is None or self.gap_power is None:
            return None
        away = self.regret_power.value - self.gap_power.value
        return away > math.hypot(self.regret_power.stderr, self.gap_power.stderr)

    def __str__(self) -> str:
        said = with_error(self.infinite.value, self.infinite.stderr, "+.3f")
        named = "∞" if math.isinf(self.target) else f"{self.target:g}"
        which = "the extrapolated rate" if self.use_extrapolated else "the base's best rate"
        lines = [
            f"log10 of the best rate at infinite {self.axis}: {said}",
            f"at {self.axis} = {named} the base's best rate costs {self.regret_of_base:.2g} in log "
            f"loss, the extrapolated one {self.regret_of_extrapolated:.2g}: use {which}, "
            f"{self.lr:.4g}",
        ]
        if self.fast is not None:
            lines.append(f"transfer is {'fast' if self.fast else 'not shown to be fast'}")
        return "\n".join([*lines, *(f"note: {one}" for one in self.notes)])


def vertex(
    x: Float[np.ndarray, " rates"], y: Float[np.ndarray, "*batch rates"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The parabola through the lowest three points of each row.

    Args:
        x: increasing.
        y: finite.

    Returns:
        Place of its vertex, its value, its second derivative, and -1 or 1 where the lowest point is
        the first or last (place and value are that point's then).
    """
    lowest = y.argmin(axis=-1)
    edge = np.where(lowest == 0, -1, np.where(lowest == len(x) - 1, 1, 0))
    middle = lowest.clip(1, len(x) - 2)
    xs = [x[middle + k] for k in (-1, 0, 1)]
    ys = [np.take_along_axis(y, (middle + k)[..., None], -1)[..., 0] for k in (-1, 0, 1)]
    first = (ys[1] - ys[0]) / (xs[1] - xs[0])
    second = (ys[2] - ys[1]) / (xs[2] - xs[1])
    bend = (second - first) / (xs[2] - xs[0])
    slope = first + bend * (xs[1] - xs[0])  # at the middle point
    flat = (edge != 0) | (bend <= 0)
    shift = -slope / (2 * np.where(bend > 0, bend, 1.0))
    least = np.take_along_axis(y, lowest[..., None], -1)[..., 0]
    place = np.where(flat, x[lowest], xs[1] + shift)
    value = np.where(flat, least, ys[1] + slope * shift + bend * shift**2)
    return place, value, 2 * bend, edge


def optimum(runs: Curves, axes: Sequence[str], **sizes: int | float) -> Optimum:
    """See `Extrapolation.optimum`.

    Args:
        runs: at several learning rates.
        axes: one size.
        **sizes: the size, infinite by default.
    """
    if len(axes) != 1:
        raise DataError("axis", f"got {', '.join(axes)}", "an optimum is extrapolated along one")
    if set(sizes) - set(axes):
        raise ArgumentError("sizes", f"got {sorted(sizes)}", f"pass {axes[0]}")
    target = float(sizes.get(axes[0], math.inf))
    n = runs.sizes[:, 0]
    if len(n) < 3:
        raise DataError(axes[0], f"{len(n)} distinct sizes", "give runs of 3 or more")
    log_rates, logs = _log_losses(runs)
    whole = vertex(log_rates, logs.mean(axis=1))
    for point in np.flatnonzero(whole[3]):
        side = int(whole[3][point])
        ratio = log_rates[1] - log_rates[0] if side < 0 else log_rates[-1] - log_rates[-2]
        end = log_rates[0] if side < 0 else log_rates[-1]
        more = " and ".join(f"{10 ** (end + side * k * ratio):.3g}" for k in (1, 2))
        raise DataError(
            "lr",
            f"the lowest loss at {runs.named(int(point))} is at the "
            f"{'lowest' if side < 0 else 'highest'} rate, {10**end:.3g}",
            f"add runs at {more}, at all sizes",
        )
    seeds = logs.shape[1]
    picks = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))
    drawn = vertex(log_rates, logs[:, picks].mean(axis=2))
    good = ~np.any(drawn[3] != 0, axis=0)
    places, values, bends = (one[:, good] for one in drawn[:3])
    censored = float(1 - good.mean())
    if good.sum() < 2:
        raise DataError("lr", "optima are at an edge in nearly all resamples", "widen the grid")
    widen = math.sqrt(seeds / (seeds - 1))

    def told(of_whole: float, of_drawn: np.ndarray) -> Estimate:
        return Estimate(float(of_whole), widen * float(of_drawn.std(ddof=1)), seeds)

    x, to = n.min() / n, n.min() / target
    line, lines = (_line(x, one) for one in (whole[0], places))
    at_target = told(line[0] + line[1] * to, lines[0] + lines[1] * to)
    curvature = float(whole[2][-1])
    powers = _powers(n, whole[:3], (places, values, bends))
    notes = []
    if seeds < FEW_SEEDS or censored > MANY_CENSORED:
        notes.append(f"underpowered: {seeds} seeds, {censored:.0%} of resamples at an edge")
    return Optimum(
        axes[0],
        n,
        whole[0],
        widen * places.std(axis=1, ddof=1),
        told(line[0], lines[0]),
        target,
        at_target,
        curvature,
        0.5 * curvature * (float(whole[0][0]) - at_target.value) ** 2,
        0.5 * curvature * at_target.stderr**2,
        None if powers is None else told(*powers[0]),
        None if powers is None else told(*powers[1]),
        censored,
        tuple(notes),
    )


def _log_losses(runs: Curves) -> tuple[np.ndarray, np.ndarray]:
    """log10 of the rates that all sizes have, and log losses [points, seeds, rates]."""
    whole = runs.ran.all(axis=(0, 1))
    rates = np.array(runs.rates)[whole]
    if len(rates) < 3:
        raise DataError(
            "lr",
            f"{len(rates)} rates have runs of all sizes and seeds",
            "an optimum needs three or more",
        )
    order = np.argsort(rates)
    losses = runs.losses[:, :, whole, -1][:, :, order]
    return np.log10(rates[order]), np.log(np.where(losses < CAP, losses, CAP))


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Intercept and slope of the least-squares line, for every column of y."""
    return np.linalg.lstsq(np.stack([np.ones_like(x), x], axis=1), y, rcond=None)[0]


def _powers(
    n: np.ndarray, whole: Sequence[np.ndarray], drawn: Sequence[np.ndarray]
) -> list[tuple[float, np.ndarray]] | None:
    """Exponents of 1/n of the infinite optimum's regret and of the loss gap, if they are known."""
    x, logs = n.min() / n, -np.log(n)

    def both(places: np.ndarray, values: np.ndarray, bends: np.ndarray) -> list[Any]:
        regret = bends / 2 * (places - _line(x, places)[0]) ** 2
        gap = values - _line(x, values)[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            return [_line(logs, np.log(one))[1] for one in (regret, gap) if np.all(one > 0)]

    told = both(*whole)
    if len(told) < 2:
        return None
    found = [both(*(one[:, [k]] for one in drawn)) for k in range(drawn[0].shape[1])]
    found = [one for one in found if len(one) == 2]
    if len(found) < 2:
        return None
    return [(float(told[k]), np.array([float(one[k][0]) for one in found])) for k in (0, 1)]
