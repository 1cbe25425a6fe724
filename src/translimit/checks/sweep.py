r"""Transfer sweeps: does the best learning rate stay where it is when the network grows?

The optimum of a size is the vertex of the parabola through the lowest three points of its
seed-averaged log loss against the logarithm of the rate. The drift is log10 of the optimum at the
largest size minus at the smallest. Where the lowest loss lies at an end of the grid there is no
parabola: the optimum lies there or beyond, and what is known of it is a bound without an error.

Reference: documentation, "Scaling rules", hyper-parameter transfer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from translimit.checks.promises import AxisName
from translimit.core import Estimate, with_error

#: What an optimum at the lower end of the grid, within it, and at its upper end gives.
BOUNDS = {-1: "at most", 0: "", 1: "at least"}


class SizeRow(TypedDict):
    """The optimum of one size, and the losses at it and at the base's."""

    size: int
    log10_optimum: float
    stderr: float
    bound: str
    loss_at_optimum: float
    loss_at_optimum_stderr: float
    loss_at_base_rate: float
    loss_at_base_rate_stderr: float


class SweepRecord(TypedDict):
    """A transfer sweep as plain data."""

    axis: str
    rates: list[float]
    optimum_drift: float
    optimum_drift_stderr: float
    optimum_drift_in_words: str
    sizes: list[SizeRow]
    warnings: list[str]
    losses: list[list[list[float]]]
    cap: float


@dataclass(frozen=True)
class TransferSweep:
    """Losses of several sizes at a grid of base rates.

    Attributes:
        axis: which size changes.
        sizes: its values.
        rates: the grid, increasing.
        losses: on the probe after the last step [sizes, seeds, rates]; diverged runs at `cap`.
        cap: the loss that stands for a diverged run.
    """

    axis: AxisName
    sizes: tuple[int, ...]
    rates: tuple[float, ...]
    losses: Float[np.ndarray, "sizes seeds rates"]
    cap: float

    def optimum(self, size: int) -> Estimate:
        """log10 of the best rate of a size, with the standard error over seeds.

        The error is NaN where the value is a bound (see `bound`), infinite with one seed.
        """
        losses = self.losses[self.sizes.index(size)]
        whole, edge = _vertex(self.rates, losses)
        seeds = Estimate.over_seeds([_vertex(self.rates, row[None])[0] for row in losses])
        return Estimate(whole, np.nan if edge else seeds.stderr, seeds.count)

    def bound(self, size: int) -> str:
        """What the optimum of a size is: "at most" or "at least" at an end of the grid, else ""."""
        return BOUNDS[_vertex(self.rates, self.losses[self.sizes.index(size)])[1]]

    @property
    def optimum_drift_bound(self) -> str | None:
        """What the drift is: "at most" or "at least" the value, that itself (""), or unknown."""
        first, last = (
            _vertex(self.rates, self.losses[place])[1] for place in (0, len(self.sizes) - 1)
        )
        if first and first == last:
            return None
        return BOUNDS[last or -first]

    def optimum_drift_in_words(self) -> str:
        """The drift with its error, or the bound that is known of it."""
        drift, bound = self.optimum_drift, self.optimum_drift_bound
        if bound is None:
            return "unknown: both optima at one edge"
        return with_error(drift.value, drift.stderr, "+.2f", bound=bound, unit="decades")

    def minima(self, size: int) -> int:
        """Number of separate local minima of the seed-averaged log loss."""
        mean = np.log(self.losses[self.sizes.index(size)]).mean(axis=0)
        padded = np.concatenate([[np.inf], mean, [np.inf]])
        return int(np.sum((padded[1:-1] < padded[:-2]) & (padded[1:-1] <= padded[2:])))

    @property
    def optimum_drift(self) -> Estimate:
        """log10 optimum of the largest size minus that of the smallest, in decades.

        The error is NaN where an optimum is a bound (see `optimum_drift_bound`), infinite with one
        seed.
        """
        first, last = self.optimum(self.sizes[0]), self.optimum(self.sizes[-1])
        error = float(np.hypot(first.stderr, last.stderr))
        return Estimate(last.value - first.value, error, first.count)

    def loss_at_base_rate(self, size: int) -> Estimate:
        """Loss of a size at the optimum of the smallest one, on the line between grid points."""
        return self._loss_at(size, self.optimum(self.sizes[0]).value)

    def loss_at_optimum(self, size: int) -> Estimate:
        """Loss of a size at the rate of the grid where the seed-averaged log loss is lowest."""
        mean = np.log(self.losses[self.sizes.index(size)]).mean(axis=0)
        return self._loss_at(size, float(np.log10(self.rates[int(np.argmin(mean))])))

    def regret(self, size: int) -> Estimate:
        """Log of the loss at the base's best rate over the loss at the size's own, by seed."""
        place, losses = self.optimum(self.sizes[0]).value, self.losses[self.sizes.index(size)]
        logs = np.log(losses)
        lowest = logs[:, int(np.argmin(logs.mean(axis=0)))]
        paid = [np.interp(place, np.log10(self.rates), row) for row in logs] - lowest
        return Estimate.over_seeds(paid)

    def _loss_at(self, size: int, place: float) -> Estimate:
        grid = np.log10(self.rates)
        rows = self.losses[self.sizes.index(size)]
        return Estimate.over_seeds([np.exp(np.interp(place, grid, np.log(row))) for row in rows])

    def warnings(self) -> list[str]:
        """Sentences about optima at an edge, several minima, and a drift that grows with size."""
        said = []
        for size in self.sizes:
            if self.bound(size):
                said.append(
                    f"{self.axis} {size}: the optimum lies at the edge of the grid or beyond"
                )
            if self.minima(size) > 1:
                said.append(f"{self.axis} {size}: {self.minima(size)} separate minima")
        values = [self.optimum(size).value for size in self.sizes]
        steps = np.abs(np.diff(values))
        error = self.optimum_drift.stderr
        if len(steps) > 1 and steps[-1] > steps[0] + (error if np.isfinite(error) else 0.0):
            said.append("the drift grows with size: its last increment is larger than its first")
        return said

    def to_json(self) -> SweepRecord:
        """Everything as plain data."""
        rows: list[SizeRow] = []
        for size in self.sizes:
            best, lowest = self.optimum(size), self.loss_at_optimum(size)
            base = self.loss_at_base_rate(size)
            rows.append(
                {
                    "size": size,
                    "log10_optimum": best.value,
                    "stderr": best.stderr,
                    "bound": self.bound(size),
                    "loss_at_optimum": lowest.value,
                    "loss_at_optimum_stderr": lowest.stderr,
                    "loss_at_base_rate": base.value,
                    "loss_at_base_rate_stderr": base.stderr,
                }
            )
        return {
            "axis": self.axis,
            "rates": list(self.rates),
            "optimum_drift": self.optimum_drift.value,
            "optimum_drift_stderr": self.optimum_drift.stderr,
            "optimum_drift_in_words": self.optimum_drift_in_words(),
            "sizes": rows,
            "warnings": self.warnings(),
            "losses": self.losses.tolist(),
            "cap": self.cap,
        }


def _vertex(rates: tuple[float, ...], losses: np.ndarray) -> tuple[float, int]:
    """log10 of the vertex of the parabola through the lowest three points; -1, 1 at an edge."""
    grid, mean = np.log10(rates), np.log(losses).mean(axis=0)
    lowest = int(np.argmin(mean))
    if lowest in (0, len(grid) - 1):
        return float(grid[lowest]), 1 if lowest else -1
    window = slice(lowest - 1, lowest + 2)
    curvature, slope, _ = np.polyfit(grid[window], mean[window], 2)
    return float(-slope / (2 * curvature)), 0
