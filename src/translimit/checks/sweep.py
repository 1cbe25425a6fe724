r"""Transfer sweeps: does the best learning rate stay where it is when the network grows?

The optimum of a size is the vertex of the parabola through the lowest three points of its
seed-averaged log loss against the logarithm of the rate. The drift is log10 of the optimum of a
size minus that of the smallest; the regret is what the smallest size's optimum costs, as the log of
the ratio of losses (see `valleys`). Where the lowest loss lies at an end of the grid there is no
parabola: the optimum lies there or beyond, and what is known of it is a bound without an error.

A rate transfers if either is small: |drift| + 2 errors within its tolerance, or regret + 2 errors
within its own. It does not if both lie beyond theirs by 4.5 errors. In a flat valley the drift is
large and means nothing, and regret decides.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from translimit.checks.promises import AxisName
from translimit.checks.schedules import ScheduleName
from translimit.checks.sweep_record import SizeRow, SweepRecord
from translimit.checks.valleys import (
    Valleys,
    bootstrap_error,
    minima,
    read_at,
    resampled_means,
    valleys,
)
from translimit.core import (
    POSITIVE,
    REFUTED,
    SUPPORTED,
    ArgumentError,
    Estimate,
    Verdict,
    require_real,
    with_error,
)
from translimit.scaling import Horizon

#: What an optimum at the lower end of the grid, within it, and at its upper end gives.
BOUNDS = {-1: "at most", 0: "", 1: "at least"}
#: Decades of drift within which a rate transfers.
DRIFT_TOLERANCE = 0.15
#: Nats of loss within which a rate transfers.
REGRET_TOLERANCE = 0.05
#: Seeds below which nothing is decided.
ENOUGH_SEEDS = 6
#: The part of the resamples that may lack an optimum.
CENSORED = 0.05


@dataclass(frozen=True)
class TransferSweep:
    """Losses of several sizes at a grid of base rates, at one horizon of one schedule.

    Attributes:
        axis: which size changes.
        sizes: its values, the base first.
        rates: the grid, increasing.
        losses: on the probe after the last step [sizes, seeds, rates]; diverged runs at `cap`. A
            seed has the same batches at all sizes and rates.
        cap: the loss that stands for a diverged run.
        steps: updates after which the losses are taken; 0 where nobody says.
        schedule: what multiplied the rates on the way.
    """

    axis: AxisName
    sizes: tuple[int, ...]
    rates: tuple[float, ...]
    losses: Float[np.ndarray, "sizes seeds rates"]
    cap: float
    steps: int = 0
    schedule: ScheduleName = "constant"

    @property
    def seeds(self) -> int:
        """Independent starts."""
        return self.losses.shape[1]

    @cached_property
    def _grid(self) -> Float[np.ndarray, " rates"]:
        return np.log10(self.rates)

    @cached_property
    def _logs(self) -> Float[np.ndarray, "sizes seeds rates"]:
        return np.log(self.losses)

    @cached_property
    def _whole(self) -> Valleys:
        """The valley of every size."""
        return valleys(self._grid, self._logs.mean(axis=1))

    @cached_property
    def _means(self) -> Float[np.ndarray, "sizes resamples rates"]:
        return resampled_means(self._logs)

    @cached_property
    def _drawn(self) -> list[Valleys]:
        """The valleys of all resamples, by size."""
        return [valleys(self._grid, means) for means in self._means]

    def _inside(self, *sizes: int) -> Bool[np.ndarray, " resamples"]:
        """The resamples in which no optimum of some sizes is at an end."""
        edges = [self._drawn[self.sizes.index(size)].edge for size in sizes]
        return np.all(np.array(edges) == 0, axis=0)

    def optimum(self, size: int) -> Estimate:
        """log10 of the best rate of a size, with the standard error over seeds.

        The error is NaN where the value is a bound (see `bound`), infinite with one seed.
        """
        place = self.sizes.index(size)
        error = bootstrap_error(self._drawn[place].place, self._inside(size), self.seeds)
        inside = self._whole.edge[place] == 0
        return Estimate(float(self._whole.place[place]), error if inside else np.nan, self.seeds)

    def resampled_optima(self, size: int) -> Float[np.ndarray, " resamples"]:
        """log10 of the best rate in resamples of the seeds; NaN where it is at an end.

        The draws are the same for all sweeps of as many seeds.
        """
        drawn = self._drawn[self.sizes.index(size)]
        return np.where(drawn.edge == 0, drawn.place, np.nan)

    def depth(self, size: int) -> float:
        """Seed-averaged log loss of a size at its optimum."""
        return float(self._whole.depth[self.sizes.index(size)])

    def bound(self, size: int) -> str:
        """What the optimum of a size is: "at most" or "at least" at an end of the grid, else ""."""
        return BOUNDS[int(self._whole.edge[self.sizes.index(size)])]

    def optimum_drift_at(self, size: int) -> Estimate:
        """log10 optimum of a size minus that of the smallest, in decades, with its joint error.

        The error is NaN where an optimum is a bound, infinite with one seed.
        """
        place, base = self.sizes.index(size), self.sizes[0]
        value = float(self._whole.place[place] - self._whole.place[0])
        drawn = self._drawn[place].place - self._drawn[0].place
        error = bootstrap_error(drawn, self._inside(base, size), self.seeds)
        inside = self._whole.edge[0] == self._whole.edge[place] == 0
        return Estimate(value, error if inside else np.nan, self.seeds)

    def optimum_drift_bound_at(self, size: int) -> str | None:
        """What a drift is: "at most" or "at least" the value, that itself (""), or unknown."""
        first, last = int(self._whole.edge[0]), int(self._whole.edge[self.sizes.index(size)])
        if first and first == last:
            return None
        return BOUNDS[last or -first]

    def regret(self, size: int) -> Estimate:
        """Log of the loss at the smallest size's best rate over that at the size's own.

        Both are read off parabolas; the error is that of a bootstrap over seeds, jointly. Where the
        size's optimum lies at an end of the grid this is a bound: it pays at least as much.
        """
        place = self.sizes.index(size)
        means = self._logs[place].mean(axis=0)[None]
        value = read_at(self._grid, means, self._whole.place[:1])[0] - self._whole.depth[place]
        paid = read_at(self._grid, self._means[place], self._drawn[0].place)
        drawn = paid - self._drawn[place].depth
        kept = self._inside(self.sizes[0], size)
        if self._whole.edge[0] or self._whole.edge[place]:
            kept = np.ones_like(kept)  # a bound, whichever optima the resamples have
        return Estimate(float(value), bootstrap_error(drawn, kept, self.seeds), self.seeds)

    def censored(self, size: int) -> float:
        """The part of the resamples in which an optimum, the size's or the base's, is at an end."""
        return float(1 - self._inside(self.sizes[0], size).mean())

    def curvature(self, size: int) -> float:
        """L'' of the log loss at the optimum, by decades; NaN at an end of the grid."""
        return float(self._whole.curvature[self.sizes.index(size)])

    def minima(self, size: int) -> int:
        """Number of separate local minima of the seed-averaged log loss."""
        return minima(self._logs[self.sizes.index(size)].mean(axis=0))

    def verdict(
        self,
        size: int | None = None,
        *,
        tol: float = DRIFT_TOLERANCE,
        regret_tol: float = REGRET_TOLERANCE,
    ) -> Verdict:
        """Whether the base's best rate is that of a size.

        Args:
            size: the largest by default.
            tol: of the drift, in decades.
            regret_tol: of the regret, in nats.
        """
        size = self.sizes[-1] if size is None else size
        drift, regret = self.optimum_drift_at(size), self.regret(size)
        if self.seeds < ENOUGH_SEEDS:
            return Verdict.underpowered
        gap, error = abs(drift.value), drift.stderr
        if np.isnan(error):
            outside = self._bound_exceeds(size, tol)
            far = outside and regret.value - REFUTED * regret.stderr > regret_tol
            return Verdict.refuted if far else Verdict.underpowered
        if self.censored(size) > CENSORED:
            return Verdict.underpowered
        if gap + SUPPORTED * error <= tol or regret.value + SUPPORTED * regret.stderr <= regret_tol:
            return Verdict.supported
        far = gap - REFUTED * error > tol and regret.value - REFUTED * regret.stderr > regret_tol
        return Verdict.refuted if far else Verdict.underpowered

    def horizons(self, *, data: str, optimizer: str, epochs: float, digest: str) -> list[Horizon]:
        """Records for a ledger, one for each size beyond the base whose optimum is no bound.

        Args:
            data: what was learned.
            optimizer: that trained.
            epochs: how often the data were seen; 0 where nobody says.
            digest: of the run.
        """
        told = []
        for size in self.sizes[1:]:
            drift, regret = self.optimum_drift_at(size), self.regret(size)
            if not np.isfinite(drift.stderr):
                continue
            told.append(
                Horizon(
                    data=data,
                    optimizer=optimizer,
                    axis=self.axis,
                    schedule=self.schedule,
                    steps=self.steps,
                    multiple=size / self.sizes[0],
                    optimum_drift=round(drift.value, 4),
                    optimum_drift_error=round(drift.stderr, 4),
                    regret=round(regret.value, 4),
                    regret_error=round(regret.stderr, 4),
                    seeds=self.seeds,
                    epochs=round(epochs, 3),
                    verdict=self.verdict(size).value,
                    digest=digest,
                )
            )
        return told

    def _bound_exceeds(self, size: int, tol: float) -> bool:
        """Whether a drift that is a bound is known to be larger than its tolerance."""
        value, bound = self.optimum_drift_at(size).value, self.optimum_drift_bound_at(size)
        return (bound == "at least" and value > tol) or (bound == "at most" and value < -tol)

    @property
    def optimum_drift_bound(self) -> str | None:
        """What the drift of the largest size is; see `optimum_drift_bound_at`."""
        return self.optimum_drift_bound_at(self.sizes[-1])

    def optimum_drift_in_words(self) -> str:
        """The drift with its error, or the bound that is known of it."""
        drift, bound = self.optimum_drift, self.optimum_drift_bound
        if bound is None:
            return "unknown: both optima at one edge"
        return with_error(drift.value, drift.stderr, "+.2f", bound=bound, unit="decades")

    @property
    def optimum_drift(self) -> Estimate:
        """The drift of the largest size; see `optimum_drift_at`."""
        return self.optimum_drift_at(self.sizes[-1])

    def loss_at_base_rate(self, size: int) -> Estimate:
        """Loss of a size at the optimum of the smallest one, on the line between grid points."""
        return self._loss_at(size, float(self._whole.place[0]))

    def loss_at_optimum(self, size: int) -> Estimate:
        """Loss of a size at the rate of the grid where the seed-averaged log loss is lowest."""
        return self._loss_at(size, float(self._grid[self._lowest(size)]))

    def loss_one_step_above(self, size: int) -> float:
        """Loss at the next rate of the grid; the cap at its end: how near the edge is."""
        above = self._lowest(size) + 1
        if above == len(self.rates):
            return self.cap
        return self._loss_at(size, float(self._grid[above])).value

    def _lowest(self, size: int) -> int:
        return int(np.argmin(self._logs[self.sizes.index(size)].mean(axis=0)))

    def _loss_at(self, size: int, place: float) -> Estimate:
        rows = self._logs[self.sizes.index(size)]
        return Estimate.over_seeds([np.exp(np.interp(place, self._grid, row)) for row in rows])

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
        steps = np.abs(np.diff(self._whole.place))
        error = self.optimum_drift.stderr
        if len(steps) > 1 and steps[-1] > steps[0] + (error if np.isfinite(error) else 0.0):
            said.append("the drift grows with size: its last increment is larger than its first")
        drift, regret = abs(self.optimum_drift.value), self.regret(self.sizes[-1]).value
        spacing = self._grid[1] - self._grid[0]
        if spacing > 0.2 and not self.optimum_drift_bound:
            near = abs(drift - DRIFT_TOLERANCE) < 0.05 < drift
            if near and abs(regret - REGRET_TOLERANCE) < 0.05:
                said.append("near both tolerances: a grid in factors of sqrt(2) reads it better")
        return said

    def to_json(self) -> SweepRecord:
        """Everything as plain data."""
        rows: list[SizeRow] = []
        for size in self.sizes:
            best, lowest = self.optimum(size), self.loss_at_optimum(size)
            base, drift, regret = (
                self.loss_at_base_rate(size),
                self.optimum_drift_at(size),
                self.regret(size),
            )
            rows.append(
                {
                    "size": size,
                    "log10_optimum": best.value,
                    "stderr": best.stderr,
                    "bound": self.bound(size),
                    "optimum_drift": drift.value,
                    "optimum_drift_stderr": drift.stderr,
                    "regret": regret.value,
                    "regret_stderr": regret.stderr,
                    "curvature": self.curvature(size),
                    "censored": self.censored(size),
                    "verdict": self.verdict(size).value,
                    "loss_at_optimum": lowest.value,
                    "loss_at_optimum_stderr": lowest.stderr,
                    "loss_at_base_rate": base.value,
                    "loss_at_base_rate_stderr": base.stderr,
                    "loss_one_step_above": self.loss_one_step_above(size),
                }
            )
        return {
            "axis": self.axis,
            "steps": self.steps,
            "schedule": self.schedule,
            "seeds": self.seeds,
            "rates": list(self.rates),
            "optimum_drift": self.optimum_drift.value,
            "optimum_drift_stderr": self.optimum_drift.stderr,
            "optimum_drift_in_words": self.optimum_drift_in_words(),
            "verdict": self.verdict().value,
            "sizes": rows,
            "warnings": self.warnings(),
            "losses": self.losses.tolist(),
            "cap": self.cap,
        }


def require_rates(rates: tuple[float, ...]) -> tuple[float, ...]:
    """The grid of a sweep, increasing.

    Raises:
        ArgumentError: fewer than three rates, one twice, or one that is not positive.
    """
    made = tuple(sorted(require_real(rate, "rates", POSITIVE) for rate in rates))
    if len(set(made)) < 3 or len(set(made)) < len(made):
        raise ArgumentError("rates", f"got {rates}", "pass at least 3 rates")
    return made
