r"""Transfer sweeps of the networks of this package: compiled, all seeds and rates at once.

Every size trains at a grid of base rates; optima, drifts, regrets and verdicts are those of
`translimit.checks`. At a constant rate one run passes through all horizons, with the rates that any
of their grids has; under another schedule each horizon is a run of its own.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from translimit.checks import (
    AxisName,
    TransferSweep,
    require_horizons,
    require_rates,
    require_sizes,
    shifted_grids,
)
from translimit.core import Key, Progress, part_of
from translimit.data import AbstractSource
from translimit.describe import Parameterization, TransformerShape
from translimit.train.coordinate_check import resized_shape
from translimit.train.ladder import ladder_losses
from translimit.train.training import Training


def ensemble_transfer_sweep(
    base: TransformerShape,
    axis: AxisName,
    sizes: Sequence[int],
    parameterize: Callable[[TransformerShape], Parameterization],
    source: AbstractSource,
    training: Training,
    *,
    key: Key,
    probe: int = 256,
    cap: float = 10.0,
    progress: Progress | None = None,
) -> TransferSweep:
    """Train several sizes at all rates of `training`.

    Args:
        base: the shape at which the other sizes are held.
        axis: which size changes.
        sizes: its values, increasing.
        parameterize: numbers of each shape.
        source: of fresh minibatches.
        training: steps, grid of rates, seeds, optimiser, schedule.
        key: of starts and orders, the same at every size.
        probe: examples on which the loss is taken at the end.
        cap: the loss at which a run counts as diverged.
        progress: called with the fraction done.

    Raises:
        ArgumentError: fewer than 2 sizes, or a grid of fewer than 3 rates.
    """
    return ensemble_horizon_sweeps(
        base,
        axis,
        sizes,
        parameterize,
        source,
        training,
        (training.steps,),
        key=key,
        probe=probe,
        cap=cap,
        progress=progress,
    )[0]


def ensemble_horizon_sweeps(
    base: TransformerShape,
    axis: AxisName,
    sizes: Sequence[int],
    parameterize: Callable[[TransformerShape], Parameterization],
    source: AbstractSource,
    training: Training,
    horizons: Sequence[int],
    *,
    key: Key,
    probe: int = 256,
    cap: float = 10.0,
    progress: Progress | None = None,
) -> tuple[TransferSweep, ...]:
    """Train several sizes for several numbers of updates, a sweep for each.

    At a constant rate the grid of a longer horizon is shifted by whole points, toward T^{-1/2}.

    Args:
        base: the shape at which the other sizes are held.
        axis: which size changes.
        sizes: its values, increasing.
        parameterize: numbers of each shape.
        source: of fresh minibatches.
        training: grid of rates of the first horizon, seeds, optimiser, schedule; its number of
            steps is not used.
        horizons: numbers of updates, increasing.
        key: of starts and orders, the same at every size, rate and schedule.
        probe: examples on which the loss is taken.
        cap: the loss at which a run counts as diverged.
        progress: called with the fraction done.

    Raises:
        ArgumentError: fewer than 2 sizes, a grid of fewer than 3 rates, or horizons that do not
            increase.
    """
    sizes, grid = require_sizes(axis, sizes, 2), require_rates(training.rates)
    horizons = require_horizons(horizons)
    shapes = [resized_shape(base, axis, size) for size in sizes]

    def losses(
        rates: tuple[float, ...], times: tuple[int, ...], part: Progress | None
    ) -> np.ndarray:
        run = replace(training, rates=rates, steps=times[-1])
        told = ladder_losses(
            shapes, parameterize, source, run, times, key=key, probe=probe, progress=part
        )
        return np.where(told < cap, told, cap)  # NaN is not below

    if training.schedule.constant:
        grids = shifted_grids(grid, horizons)
        every = tuple(sorted({rate for one in grids for rate in one}))
        together = losses(every, horizons, progress)
        found = [
            together[:, :, [every.index(rate) for rate in one], place]
            for place, one in enumerate(grids)
        ]
    else:
        grids, found = (grid,) * len(horizons), []
        for place, steps in enumerate(horizons):
            part = part_of(progress, place / len(horizons), (place + 1) / len(horizons))
            found.append(losses(grid, (steps,), part)[..., 0])
    name = training.schedule.decay
    return tuple(
        TransferSweep(axis, sizes, one, values, cap, steps, name)
        for one, values, steps in zip(grids, found, horizons, strict=True)
    )
