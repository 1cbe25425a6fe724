r"""Transfer sweeps: does the best learning rate stay where it is when the network grows?

The optimum of a size is the vertex of the parabola through the lowest three points of its
seed-averaged log loss against the logarithm of the rate. The drift is log10 of the optimum at the
largest size minus at the smallest.

Reference: documentation, "Scaling rules", hyper-parameter transfer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from translimit.checks.promises import AxisName
from translimit.core import Estimate


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
        """log10 of the best rate of a size, with the standard error over seeds."""
        losses = self.losses[self.sizes.index(size)]
        whole, _ = _vertex(self.rates, losses)
        seeds = np.array([_vertex(self.rates, row[None])[0] for row in losses])
        error = seeds.std(ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else np.inf
        return Estimate(whole, float(error), len(seeds))

    def at_edge(self, size: int) -> bool:
        """Whether the lowest loss lies at an end of the grid, where there is no parabola."""
        return _vertex(self.rates, self.losses[self.sizes.index(size)])[1]

    def minima(self, size: int) -> int:
        """Number of separate local minima of the seed-averaged log loss."""
        mean = np.log(self.losses[self.sizes.index(size)]).mean(axis=0)
        padded = np.concatenate([[np.inf], mean, [np.inf]])
        return int(np.sum((padded[1:-1] < padded[:-2]) & (padded[1:-1] <= padded[2:])))

    @property
    def drift(self) -> Estimate:
        """log10 optimum of the largest size minus that of the smallest, in decades."""
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
        return _over_seeds(paid)

    def _loss_at(self, size: int, place: float) -> Estimate:
        grid = np.log10(self.rates)
        rows = self.losses[self.sizes.index(size)]
        return _over_seeds([np.exp(np.interp(place, grid, np.log(row))) for row in rows])

    def warnings(self) -> list[str]:
        """Sentences about optima at an edge, several minima, and a drift that grows with size."""
        said = []
        for size in self.sizes:
            if self.at_edge(size):
                said.append(f"{self.axis} {size}: the optimum lies at the edge of the grid")
            if self.minima(size) > 1:
                said.append(f"{self.axis} {size}: {self.minima(size)} separate minima")
        values = [self.optimum(size).value for size in self.sizes]
        steps = np.abs(np.diff(values))
        if len(steps) > 1 and steps[-1] > steps[0] + self.drift.stderr:
            said.append("the drift grows with size: its last increment is larger than its first")
        return said

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        rows = []
        for size in self.sizes:
            best, lowest = self.optimum(size), self.loss_at_optimum(size)
            base = self.loss_at_base_rate(size)
            rows.append(
                {
                    "size": size,
                    "log10_optimum": best.value,
                    "stderr": best.stderr,
                    "edge": self.at_edge(size),
                    "loss_at_optimum": lowest.value,
                    "loss_at_optimum_stderr": lowest.stderr,
                    "loss_at_base_rate": base.value,
                    "loss_at_base_rate_stderr": base.stderr,
                }
            )
        return {
            "axis": self.axis,
            "rates": list(self.rates),
            "drift": self.drift.value,
            "drift_stderr": self.drift.stderr,
            "sizes": rows,
            "warnings": self.warnings(),
            "losses": self.losses.tolist(),
            "cap": self.cap,
        }


def _over_seeds(values: Any) -> Estimate:
    values = np.asarray(values, float)
    if len(values) < 2:
        return Estimate(float(values[0]), np.inf, 1)
    return Estimate.from_samples(values)


def _vertex(rates: tuple[float, ...], losses: np.ndarray) -> tuple[float, bool]:
    """log10 of the vertex of the parabola through the lowest three points; whether at an edge."""
    grid, mean = np.log10(rates), np.log(losses).mean(axis=0)
    lowest = int(np.argmin(mean))
    if lowest in (0, len(grid) - 1):
        return float(grid[lowest]), True
    window = slice(lowest - 1, lowest + 2)
    curvature, slope, _ = np.polyfit(grid[window], mean[window], 2)
    return float(-slope / (2 * curvature)), False
