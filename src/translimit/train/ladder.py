"""A ladder: networks of several shapes, trained alike, and their losses on one probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from translimit.core import Key, Progress, part_of
from translimit.data import AbstractSource
from translimit.describe import Parameterization, TransformerShape
from translimit.train.ensemble import train
from translimit.train.observables import ProbeLoss
from translimit.train.training import Training


def ladder_losses(
    shapes: Sequence[TransformerShape],
    parameterize: Callable[[TransformerShape], Parameterization],
    source: AbstractSource,
    training: Training,
    observe_at: Sequence[int],
    *,
    key: Key,
    probe: int = 256,
    progress: Progress | None = None,
) -> Float[np.ndarray, "shapes seeds rates times"]:
    """Losses on the probe; seed s has the same batches at all shapes and rates.

    Args:
        shapes: of the networks.
        parameterize: numbers of each shape.
        source: of batches and of the probe.
        training: steps, rates, seeds, optimiser.
        observe_at: numbers of updates, increasing, after which the loss is taken.
        key: of starts and orders, the same at every shape.
        probe: examples on which the loss is taken.
        progress: called with the fraction done.

    Returns:
        Losses; NaN from the step on at which a run diverged.
    """
    found = []
    for number, shape in enumerate(shapes):
        history = train(
            shape,
            parameterize(shape),
            source,
            training,
            key=key,
            observe=(ProbeLoss(),),
            observe_at=observe_at,
            probe=probe,
            progress=part_of(progress, number / len(shapes), (number + 1) / len(shapes)),
        )
        losses = np.moveaxis(history["probe_loss"].astype(np.float64), 0, -1)
        stopped = history.diverged_at[..., None]
        bad = (stopped >= 0) & (np.asarray(observe_at) > stopped)
        found.append(np.where(bad | ~np.isfinite(losses), np.nan, losses))
    return np.array(found)
