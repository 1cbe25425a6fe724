r"""Valleys of the log loss over the log rate: their lowest points, and the error of reading them.

The lowest point is the vertex of the parabola through the lowest three points of a grid. What a
rate of another size costs is read off the parabola through the three grid points nearest to it:
lines between points lie above a valley by up to l'' h^2 / 8 and the lowest grid point lies above
its vertex by as much, so that differences of the two are off by that either way.

Errors are those of a bootstrap over seeds, the same draw at all sizes: seeds share starts and
batches, so that what moves one size moves the others.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

#: Resamples of a bootstrap.
RESAMPLES = 500
#: Spread of resamples that is rounding: seeds that are all alike.
_ROUNDING = 1e-12


class Valleys(NamedTuple):
    """Lowest points of some curves.

    Attributes:
        place: log10 of the rate; at an end of the grid where the loss still falls there.
        depth: log loss at it.
        curvature: second derivative of the log loss in decades, l''; NaN at an end.
        edge: -1, 1 where it lies at the lower, upper end, else 0.
    """

    place: Float[np.ndarray, " curves"]
    depth: Float[np.ndarray, " curves"]
    curvature: Float[np.ndarray, " curves"]
    edge: Int[np.ndarray, " curves"]


def valleys(grid: Float[np.ndarray, " rates"], logs: Float[np.ndarray, "curves rates"]) -> Valleys:
    """The lowest point of each curve.

    Args:
        grid: log10 of the rates, increasing, at least three.
        logs: log losses.

    Returns:
        Their places, depths, curvatures, and whether they lie at an end.
    """
    rows, lowest = np.arange(len(logs)), np.argmin(logs, axis=1)
    last = len(grid) - 1
    edge = np.where(lowest == 0, -1, np.where(lowest == last, 1, 0))
    middle = np.clip(lowest, 1, last - 1)
    half, slope = _parabola(grid, logs, middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(half > 0, -slope / (2 * half), 0.0)
    inside = edge == 0
    place = np.where(inside, grid[middle] + shift, grid[lowest])
    depth = logs[rows, middle] + slope * shift + half * shift**2
    return Valleys(
        place,
        np.where(inside, depth, logs[rows, lowest]),
        np.where(inside, 2 * half, np.nan),
        edge,
    )


def read_at(
    grid: Float[np.ndarray, " rates"],
    logs: Float[np.ndarray, "curves rates"],
    places: Float[np.ndarray, " curves"],
) -> Float[np.ndarray, " curves"]:
    """Log losses at given rates, on the parabola through the three nearest points of the grid.

    Args:
        grid: log10 of the rates, increasing, at least three.
        logs: log losses.
        places: log10 of a rate for each curve.
    """
    nearest = np.argmin(np.abs(grid - places[:, None]), axis=1)
    middle = np.clip(nearest, 1, len(grid) - 2)
    half, slope = _parabola(grid, logs, middle)
    shift = places - grid[middle]
    return logs[np.arange(len(logs)), middle] + slope * shift + half * shift**2


def minima(logs: Float[np.ndarray, " rates"]) -> int:
    """Number of separate local minima of one curve.

    Args:
        logs: log losses on a grid.
    """
    padded = np.concatenate([[np.inf], logs, [np.inf]])
    return int(np.sum((padded[1:-1] < padded[:-2]) & (padded[1:-1] <= padded[2:])))


def resampled_means(
    logs: Float[np.ndarray, "sizes seeds rates"],
) -> Float[np.ndarray, "sizes resamples rates"]:
    """Means over seeds drawn with replacement, the same draw at all sizes and rates.

    Args:
        logs: log losses.
    """
    seeds = logs.shape[1]
    drawn = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))
    counts = np.stack([(drawn == seed).sum(axis=1) for seed in range(seeds)], axis=1)
    return np.einsum("rs,nsg->nrg", counts / seeds, logs)


def bootstrap_error(
    drawn: Float[np.ndarray, " resamples"], kept: Bool[np.ndarray, " resamples"], seeds: int
) -> float:
    """The standard error of a number from its resamples: infinite with one seed.

    Args:
        drawn: the number of each resample.
        kept: which of them count.
        seeds: how many were drawn from.
    """
    if seeds == 1:
        return float("inf")
    if kept.sum() < 2:
        return float("nan")
    error = float(np.std(drawn[kept]) * np.sqrt(seeds / (seeds - 1)))
    return error if error > _ROUNDING else 0.0


def _parabola(
    grid: np.ndarray, logs: np.ndarray, middle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Half the curvature, and the slope at the middle, of parabolas through three points."""
    rows = np.arange(len(logs))
    low, high = grid[middle] - grid[middle - 1], grid[middle + 1] - grid[middle]
    down = (logs[rows, middle] - logs[rows, middle - 1]) / low
    up = (logs[rows, middle + 1] - logs[rows, middle]) / high
    half = (up - down) / (low + high)
    return half, down + half * low
