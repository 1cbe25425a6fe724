r"""Running transfer sweeps of a factory's networks: sizes, seeds, rates and horizons.

Runs of several horizons share what their schedules have in common (see `schedules`). At a constant
rate the best rate of a size falls with the horizon, at most about like T^{-1/2}: the grid follows.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.checks.factory import Factory, make
from translimit.checks.promises import AxisName
from translimit.checks.schedules import (
    ScheduleName,
    require_horizons,
    require_schedule,
    updates_of,
)
from translimit.checks.sweep import ENOUGH_SEEDS, TransferSweep, require_rates
from translimit.checks.trial import Trial, require_sizes, resized
from translimit.core import Json, require_count
from translimit.describe import Size

#: Schedules under which all horizons of a rate are one call of a model.
SHARED: tuple[ScheduleName, ...] = ("constant", "wsd")
#: Updates that a pilot times, after one that it does not.
_TIMED = 2


@dataclass(frozen=True)
class SweepPlan:
    """What sweeps train, and what is known of it before they start.

    Attributes:
        factory: makes the network of a trial.
        axis: which size changes.
        sizes: its values.
        base: the size at which rates are tuned.
        horizons: updates after which the loss is taken.
        grids: the rates of each horizon.
        schedule: what multiplies the rates on the way.
        seeds: independent starts.
        standard: whether the factory is asked for the standard parameterization.
    """

    factory: Factory
    axis: AxisName
    sizes: tuple[int, ...]
    base: Size
    horizons: tuple[int, ...]
    grids: tuple[tuple[float, ...], ...]
    schedule: ScheduleName
    seeds: int
    standard: bool

    def trial(self, size: int, seed: int, rate: float, steps: int) -> Trial:
        """What the factory is asked for."""
        return Trial(
            base=self.base,
            size=resized(self.base, self.axis, size),
            seed=seed,
            rate=rate,
            standard=self.standard,
            steps=steps,
        )

    def cells(self) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """Size, seed and horizons of what is computed and kept at once."""
        groups = [self.horizons] if self.schedule in SHARED else [(one,) for one in self.horizons]
        for size in self.sizes:
            for seed in range(self.seeds):
                for group in groups:
                    yield size, seed, group

    def runs(self, horizons: Sequence[int]) -> list[tuple[float, tuple[int, ...]]]:
        """Every rate that some horizons have, and those which have it."""
        of = dict(zip(self.horizons, self.grids, strict=True))
        rates = sorted({rate for steps in horizons for rate in of[steps]})
        return [(rate, tuple(T for T in horizons if rate in of[T])) for rate in rates]

    def name(self, size: int, seed: int, horizons: Sequence[int]) -> str:
        """The name of a cell."""
        kind = "standard" if self.standard else "rules"
        until = "-".join(map(str, horizons))
        return f"transfer-{kind}-{self.axis}-{size}-seed{seed}-{self.schedule}-{until}"

    def updates(self, horizons: Sequence[int]) -> int:
        """Updates of one cell."""
        return sum(updates_of(self.schedule, own) for _, own in self.runs(horizons))

    def losses(self, size: int, seed: int, horizons: Sequence[int]) -> list[list[float]]:
        """Losses of one cell: by horizon, at the rates of its grid."""
        found: dict[tuple[int, float], float] = {}
        for rate, own in self.runs(horizons):
            made = make(self.factory, self.trial(size, seed, rate, own[-1]))
            for steps, loss in zip(own, made.train_through(own, self.schedule), strict=True):
                found[steps, rate] = loss
        of = dict(zip(self.horizons, self.grids, strict=True))
        return [[found[steps, rate] for rate in of[steps]] for steps in horizons]

    def seconds(self, cache: MutableMapping[str, Json] | None = None) -> float:
        """About how long what is not in a cache will take, from two updates of every size.

        Args:
            cache: finished cells by name.
        """
        left: dict[int, list[tuple[int, ...]]] = {}
        for size, seed, horizons in self.cells():
            if cache is None or self.name(size, seed, horizons) not in cache:
                left.setdefault(size, []).append(horizons)
        total = 0.0
        for size, cells in left.items():
            before = time.perf_counter()
            rate, own = self.runs(cells[0])[0]
            made = make(self.factory, self.trial(size, 0, rate, own[-1]))
            begun = time.perf_counter() - before
            each = made.seconds_of_update(_TIMED)
            networks = sum(len(self.runs(horizons)) for horizons in cells)
            updates = sum(self.updates(horizons) for horizons in cells)
            total += begun * networks + each * updates
        return total


def sweep_plan(
    factory: Factory,
    axis: AxisName,
    sizes: Sequence[int],
    *,
    base: Size,
    rates: Sequence[float],
    horizons: Sequence[int],
    schedule: ScheduleName = "constant",
    seeds: int = ENOUGH_SEEDS,
    standard: bool = False,
    shift: bool = True,
) -> SweepPlan:
    """What `horizon_sweeps` trains; its arguments are the same.

    Raises:
        ArgumentError: fewer than 2 sizes, a grid of fewer than 3 rates, a count below 1, horizons
            that do not increase, or an unknown schedule.
    """
    sizes, grid = require_sizes(axis, sizes, 2), require_rates(tuple(rates))
    require_schedule(schedule)
    horizons = require_horizons(horizons)
    require_count(seeds, "seeds")
    moved = shift and schedule == "constant"
    grids = shifted_grids(grid, horizons) if moved else (grid,) * len(horizons)
    return SweepPlan(factory, axis, sizes, base, horizons, grids, schedule, seeds, standard)


def horizon_sweeps(
    factory: Factory,
    axis: AxisName,
    sizes: Sequence[int],
    *,
    base: Size,
    rates: Sequence[float],
    horizons: Sequence[int],
    schedule: ScheduleName = "constant",
    seeds: int = ENOUGH_SEEDS,
    standard: bool = False,
    shift: bool = True,
    cap: float = 10.0,
    cache: MutableMapping[str, Json] | None = None,
    progress: Callable[[float], object] | None = None,
) -> tuple[TransferSweep, ...]:
    """Sweeps of several sizes at a grid of base rates, after several numbers of updates.

    At a constant rate one run passes through all horizons, under `wsd` their decays branch off one
    stable run; under `cosine`, `linear` and `own` each horizon is a run of its own.

    Args:
        factory: makes the network of a trial, with fresh minibatches in its `batch`: let them
            depend on the seed of the trial, and on nothing else of it.
        axis: which size changes.
        sizes: its values, at least 2, increasing; drift and regret are told from the first.
        base: the size at which rates are tuned, and at which the other sizes are held.
        rates: the grid of the first horizon, at least 3; factors of two over at least 7 values are
            good.
        horizons: updates after which the loss is taken on the probe, increasing.
        schedule: what multiplies the rates of the factory's optimiser; with `own` nothing does, and
            the factory schedules for `trial.steps` updates.
        seeds: independent starts; fewer than 6 decide nothing.
        standard: ask the factory for the standard parameterization.
        shift: whether the grid of a longer horizon is shifted by whole points, toward T^{-1/2}, at
            a constant rate.
        cap: the loss that stands for a diverged run.
        cache: finished cells by name, plain data; what is there is not computed again.
        progress: called with the fraction done.

    Returns:
        A sweep for each horizon.

    Raises:
        ArgumentError: as `sweep_plan`.
        FactoryError: the factory raises, or returns something that cannot be trained.
    """
    plan = sweep_plan(
        factory,
        axis,
        sizes,
        base=base,
        rates=rates,
        horizons=horizons,
        schedule=schedule,
        seeds=seeds,
        standard=standard,
        shift=shift,
    )
    losses = [np.zeros((len(plan.sizes), seeds, len(grid))) for grid in plan.grids]
    total = sum(size * plan.updates(own) for size, _, own in plan.cells())
    done = 0
    for size, seed, own in plan.cells():
        name = plan.name(size, seed, own)
        rows = cache[name] if cache is not None and name in cache else None
        if rows is None:
            rows = plan.losses(size, seed, own)
            if cache is not None:
                cache[name] = rows
        for steps, row in zip(own, _numbers(rows), strict=True):
            place = plan.horizons.index(steps)
            losses[place][plan.sizes.index(size), seed] = np.where(row < cap, row, cap)
        done += size * plan.updates(own)
        if progress is not None:
            progress(done / total)
    return tuple(
        TransferSweep(axis, plan.sizes, grid, one, cap, steps, schedule)
        for grid, one, steps in zip(plan.grids, losses, plan.horizons, strict=True)
    )


def transfer_sweep(
    factory: Factory,
    axis: AxisName,
    sizes: Sequence[int],
    *,
    base: Size,
    rates: Sequence[float],
    steps: int,
    schedule: ScheduleName = "constant",
    seeds: int = ENOUGH_SEEDS,
    standard: bool = False,
    cap: float = 10.0,
    cache: MutableMapping[str, Json] | None = None,
    progress: Callable[[float], object] | None = None,
) -> TransferSweep:
    """The sweep at one horizon; see `horizon_sweeps`.

    Args:
        factory: makes the network of a trial.
        axis: which size changes.
        sizes: its values, at least 2, increasing.
        base: the size at which rates are tuned.
        rates: the grid, at least 3.
        steps: updates after which the loss is taken on the probe.
        schedule: what multiplies the rates of the factory's optimiser.
        seeds: independent starts.
        standard: ask the factory for the standard parameterization.
        cap: the loss that stands for a diverged run.
        cache: finished cells by name, plain data.
        progress: called with the fraction done.

    Raises:
        ArgumentError: as `sweep_plan`.
        FactoryError: the factory raises, or returns something that cannot be trained.
    """
    return horizon_sweeps(
        factory,
        axis,
        sizes,
        base=base,
        rates=rates,
        horizons=(steps,),
        schedule=schedule,
        seeds=seeds,
        standard=standard,
        cap=cap,
        cache=cache,
        progress=progress,
    )[0]


def shifted_grids(
    rates: tuple[float, ...], horizons: Sequence[int]
) -> tuple[tuple[float, ...], ...]:
    """The grid of each horizon: that of the first, moved by whole points, toward T^{-1/2}.

    Args:
        rates: of the first horizon, increasing, equally spaced in the logarithm.
        horizons: increasing.
    """
    ratio = rates[1] / rates[0]
    points = [round(0.5 * math.log(T / horizons[0], ratio)) for T in horizons]
    most = points[-1]
    whole = (*(rates[0] / ratio**down for down in range(most, 0, -1)), *rates)
    return tuple(whole[most - down :][: len(rates)] for down in points)


def _numbers(rows: Json) -> list[Float[np.ndarray, " rates"]]:
    """Losses of a cell as arrays, whether computed or read."""
    return [np.array([float(one) for one in row]) for row in rows]  # pyright: ignore
