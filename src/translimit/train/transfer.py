r"""Transfer sweeps: does the best learning rate stay where it is when the network grows?

Every size trains at a grid of base rates for a fixed number of steps; the optimum of a size is the
vertex of the parabola through the lowest three points of its seed-averaged log loss against the
logarithm of the rate. The drift is log10 of the optimum at the largest size minus at the smallest.

Reference: documentation, "Scaling rules", hyper-parameter transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from translimit.core import ArgumentError, Estimate
from translimit.data import AbstractSource
from translimit.describe import Parameterization, TransformerShape
from translimit.train.coordinate_check import Axis, resized
from translimit.train.ensemble import train
from translimit.train.observables import ProbeLoss
from translimit.train.training import Training


@dataclass(frozen=True)
class TransferSweep:
    """Losses of several sizes at a grid of base rates.

    Attributes:
        axis: which size changes.
        sizes: its values.
        rates: the grid.
        losses: on the probe after the last step [sizes, seeds, rates]; diverged runs at `cap`.
        cap: the loss that stands for a diverged run.
    """

    axis: Axis
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
        place = self.optimum(self.sizes[0]).value
        grid = np.log10(self.rates)
        rows = self.losses[self.sizes.index(size)]
        seeds = np.array([np.exp(np.interp(place, grid, np.log(row))) for row in rows])
        if len(seeds) < 2:
            return Estimate(float(seeds[0]), np.inf, 1)
        return Estimate.from_samples(seeds)

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


def transfer_sweep(
    base: TransformerShape,
    axis: Axis,
    sizes: Sequence[int],
    parameterize: Callable[[TransformerShape], Parameterization],
    source: AbstractSource,
    training: Training,
    *,
    key: PRNGKeyArray,
    probe: int = 256,
    cap: float = 10.0,
    progress: Callable[[float], Any] | None = None,
) -> TransferSweep:
    """Train several sizes at all rates of `training`.

    Args:
        base: the shape at which the other sizes are held.
        axis: which size changes.
        sizes: its values, increasing.
        parameterize: numbers of each shape.
        source: of fresh minibatches.
        training: steps, grid of rates, seeds, optimiser.
        key: of starts and orders, the same at every size.
        probe: examples on which the loss is taken at the end.
        cap: the loss at which a run counts as diverged.
        progress: called with the fraction done.

    Raises:
        ArgumentError: fewer than 2 sizes, or a grid of fewer than 3 rates.
    """
    sizes = tuple(sizes)
    if len(sizes) < 2 or any(a >= b for a, b in pairwise(sizes)):
        raise ArgumentError("sizes", f"got {sizes}", "pass at least 2 increasing values")
    if len(training.rates) < 3:
        raise ArgumentError("rates", f"got {training.rates}", "pass at least 3 rates")
    training = replace(training, rates=tuple(sorted(training.rates)))
    losses = []
    for number, size in enumerate(sizes):
        shape = resized(base, axis, size)
        history = train(
            shape,
            parameterize(shape),
            source,
            training,
            key=key,
            observe=(ProbeLoss(),),
            observe_at=(training.steps,),
            probe=probe,
        )
        loss = history["probe_loss"][0].astype(np.float64)
        bad = history.diverged | ~(loss < cap)
        losses.append(np.where(bad, cap, loss))
        if progress is not None:
            progress((number + 1) / len(sizes))
    return TransferSweep(axis, sizes, training.rates, np.array(losses), cap)


def _vertex(rates: tuple[float, ...], losses: np.ndarray) -> tuple[float, bool]:
    """log10 of the vertex of the parabola through the lowest three points; whether at an edge."""
    grid, mean = np.log10(rates), np.log(losses).mean(axis=0)
    lowest = int(np.argmin(mean))
    if lowest in (0, len(grid) - 1):
        return float(grid[lowest]), True
    window = slice(lowest - 1, lowest + 2)
    curvature, slope, _ = np.polyfit(grid[window], mean[window], 2)
    return float(-slope / (2 * curvature)), False
