r"""Transfer sweeps of the networks of this package: compiled, all seeds and rates at once.

Every size trains at a grid of base rates for a fixed number of steps; optima and drifts are those
of `translimit.checks`.

Reference: documentation, "Scaling rules", hyper-parameter transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from translimit.checks import AxisName, TransferSweep, require_sizes
from translimit.core import ArgumentError, Key, Progress
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
        training: steps, grid of rates, seeds, optimiser.
        key: of starts and orders, the same at every size.
        probe: examples on which the loss is taken at the end.
        cap: the loss at which a run counts as diverged.
        progress: called with the fraction done.

    Raises:
        ArgumentError: fewer than 2 sizes, or a grid of fewer than 3 rates.
    """
    sizes = require_sizes(axis, sizes, 2)
    if len(training.rates) < 3:
        raise ArgumentError("rates", f"got {training.rates}", "pass at least 3 rates")
    training = replace(training, rates=tuple(sorted(training.rates)))
    losses = ladder_losses(
        [resized_shape(base, axis, size) for size in sizes],
        parameterize,
        source,
        training,
        (training.steps,),
        key=key,
        probe=probe,
        progress=progress,
    )[..., 0]
    losses = np.where(losses < cap, losses, cap)
    return TransferSweep(axis, sizes, training.rates, losses, cap)
