r"""Where a curve of losses against learning rates is lowest, and where training diverges.

A loss after training may fall, rise and fall once more with the rate: the minimum that is meant is
the first. Close to the edge of stability a mean-field trajectory is still smooth where
perturbations of finite networks, and of populations, already grow: its lowest point lies too high.
The robust rule charges for that: over small populations it takes the minimum of

    mean + 2 standard deviations

of the final loss. Between points of the grid the minimum is that of a parabola in the logarithms of
rate and loss.

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

#: How much a curve rises after a minimum that counts, relatively.
RISE = 0.02
#: Standard deviations over populations that the robust rule adds to the mean.
DEVIATIONS = 2.0


class Minimum(NamedTuple):
    """The first minimum of a curve.

    Attributes:
        rate: refined between points of the grid.
        place: of the lowest point.
        bound: "" inside of the grid; "lowest" or "largest" where the minimum is its end.
    """

    rate: float
    place: int
    bound: str


def robust_loss(
    losses: Float[np.ndarray, "populations rates"], deviations: float = DEVIATIONS
) -> Float[np.ndarray, " rates"]:
    """Mean and standard deviations of losses; infinite where a population diverged."""
    finite = np.all(np.isfinite(losses), axis=0)
    known = np.where(finite, losses, 0.0)
    unit = np.maximum(np.abs(known).max(axis=0), np.finfo(float).tiny)
    scaled = known / unit
    spread = scaled.std(axis=0, ddof=1) if len(losses) > 1 else np.zeros(losses.shape[1])
    with np.errstate(over="ignore"):
        return np.where(finite, unit * (scaled.mean(axis=0) + deviations * spread), math.inf)


def first_minimum(
    rates: Float[np.ndarray, " rates"], curve: Float[np.ndarray, " rates"]
) -> Minimum:
    """The first minimum after which the curve rises by more than `RISE` of itself.

    Args:
        rates: increasing, in equal steps of their logarithm.
        curve: positive; infinite where training diverged.
    """
    best = 0
    for index in range(len(curve)):
        if curve[index] < curve[best]:
            best = index
        elif curve[index] > (1 + RISE) * curve[best]:
            break
    inside = 0 < best < len(curve) - 1
    if not inside:
        return Minimum(float(rates[best]), best, "lowest" if best == 0 else "largest")
    around = slice(best - 1, best + 2)
    if not np.all(np.isfinite(curve[around])):
        return Minimum(float(rates[best]), best, "")
    return Minimum(vertex(np.log(rates[around]), np.log(curve[around])), best, "")


def vertex(x: Float[np.ndarray, " 3"], y: Float[np.ndarray, " 3"]) -> float:
    """Exp of the lowest point of the parabola through three points whose middle is lowest."""
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    bend = (right - left) / (x[2] - x[0])
    if bend <= 0:
        return float(np.exp(x[1]))
    place = (x[0] + x[1]) / 2 - left / (2 * bend)
    return float(np.exp(np.clip(place, x[0], x[2])))


def jackknife(
    rates: Float[np.ndarray, " rates"], losses: Float[np.ndarray, "populations rates"]
) -> float:
    """Standard error of log10 of the robust minimum, leaving out one population at a time.

    NaN for fewer than three populations.
    """
    count = len(losses)
    if count < 3:
        return math.nan if count == 2 else 0.0
    left_out = [np.delete(losses, index, axis=0) for index in range(count)]
    places = np.log10([first_minimum(rates, robust_loss(some)).rate for some in left_out])
    return float(np.sqrt((count - 1) * np.mean((places - places.mean()) ** 2)))


def grid_error(rates: Float[np.ndarray, " rates"], curve: Float[np.ndarray, " rates"]) -> float:
    """Error of log10 of the minimum from the grid: what leaving out every other point moves it.

    At least that of the parabola where the lowest point has no finite neighbour: half a step.
    """
    found = first_minimum(rates, curve)
    step = math.log10(rates[1] / rates[0]) if len(rates) > 1 else 0.0
    if found.bound:
        return step
    around = curve[found.place - 1 : found.place + 2]
    if not np.all(np.isfinite(around)):
        return step / 2
    moved = []
    for offset in (0, 1):
        wide = slice(offset, None, 2)
        coarse = first_minimum(rates[wide], curve[wide])
        if not coarse.bound:
            moved.append(abs(math.log10(coarse.rate / found.rate)))
    # A parabola's error is of the third order in the step: that of half the step is an eighth.
    return min(max(moved, default=4 * step) / 4, step)


def divergence(
    rates: Float[np.ndarray, " rates"],
    losses: Float[np.ndarray, " rates"],
    start: float,
) -> tuple[float, float]:
    """The last rate at which training ends below its start, and the first at which it does not.

    Infinite where all end below; 0 where none does.
    """
    over = ~(losses <= start)
    if not over.any():
        return float(rates[-1]), math.inf
    first = int(np.argmax(over))
    return float(rates[first - 1]) if first else 0.0, float(rates[first])
