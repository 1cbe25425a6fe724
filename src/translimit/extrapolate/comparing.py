"""Two recipes at a size that neither was trained at: better, worse, or undecided.

Where seeds and sizes are the same in both, the series is that of their paired difference in log
loss, in which what they share is no error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, DataError
from translimit.extrapolate.fitted import Fitted
from translimit.extrapolate.fitting import (
    Rate,
    backtest_of,
    seed_logs,
    series_of,
)
from translimit.extrapolate.predicted import ERRORS, Backtest


class Decision(StrEnum):
    """What two recipes are at a target, the first against the second."""

    better = "better"
    worse = "worse"
    undecided = "undecided"


@dataclass(frozen=True)
class Comparison:
    """The difference in log loss, first recipe minus second, after the last step.

    Attributes:
        sizes: the target.
        step: after how many updates.
        paired: whether seeds were paired between the recipes.
        powers: of 1/n.
        difference: log loss of the first minus that of the second.
        error: one standard error in all.
        seed_error: the part of it that comes from the seeds.
        seeds: of each recipe.
        backtest: of the difference; None where recipes were not paired.
        largest: mean difference at the largest size; None where recipes were not paired.
    """

    sizes: Mapping[str, float]
    step: float
    paired: bool
    powers: tuple[float, ...]
    difference: Float[np.ndarray, " powers"]
    error: Float[np.ndarray, " powers"]
    seed_error: Float[np.ndarray, " powers"]
    seeds: int
    backtest: Backtest | None
    largest: float | None

    @property
    def range(self) -> tuple[float, float]:
        """The difference at two errors, by both powers."""
        low = (self.difference - ERRORS * self.error).min()
        return float(low), float((self.difference + ERRORS * self.error).max())

    @property
    def decision(self) -> Decision:
        """Better where the whole range is below zero, worse where it is above."""
        low, high = self.range
        if self.backtest is not None and not self.backtest.passes:
            return Decision.undecided
        return Decision.better if high < 0 else Decision.worse if low > 0 else Decision.undecided

    @property
    def seeds_to_decide(self) -> int | None:
        """Seeds at which this difference would be decided; None if no number of them would do.

        The seed part of the error falls like one over their root; the rest stays.
        """
        if len(set(np.sign(self.difference))) > 1:
            return None
        if self.backtest is not None and not self.backtest.passes:
            return None
        rest = self.error**2 - self.seed_error**2
        room = (self.difference / ERRORS) ** 2 - rest
        if not np.all(room > 0):
            return None
        return max(2, math.ceil(float((self.seeds * self.seed_error**2 / room).max())))

    def __str__(self) -> str:
        low, high = self.range
        named = ", ".join(
            f"{a} = {'∞' if math.isinf(s) else f'{s:g}'}" for a, s in self.sizes.items()
        )
        lines = [
            f"{named} after {self.step:g} steps: the first is {self.decision} "
            f"({_percent(self.difference[0])} in loss, {_percent(low)} to {_percent(high)} at two "
            f"errors; {'paired' if self.paired else 'unpaired'}, {self.seeds} seeds)"
        ]
        if self.backtest is not None:
            lines.append(f"backtest of the difference: z = {self.backtest.told_z}")
        if self.decision is Decision.undecided:
            needed = self.seeds_to_decide
            lines.append(
                "no number of seeds decides it: larger sizes do"
                if needed is None
                else f"{needed} seeds of each would decide a difference as large as this"
            )
        return "\n".join(lines)


def compare(
    first: Fitted,
    second: Fitted,
    *,
    paired: bool = True,
    rate: Rate = "both",
    **sizes: int | float,
) -> Comparison:
    """Compare two recipes at a size.

    Args:
        first: fit of the one.
        second: fit of the other, along the same axes.
        paired: seed s has the same start and batches in both, at the same sizes and steps;
            otherwise errors add.
        rate: see `fit`.
        **sizes: the target, as in `layers=64`.

    Raises:
        ArgumentError: other axes.
        DataError: paired recipes with other sizes, seeds or steps; unpaired ones whose backtest
            fails.
    """
    if first.axes != second.axes or set(sizes) != set(first.axes):
        raise ArgumentError(
            "sizes", f"got {sorted(sizes)}", f"pass {', '.join(first.axes)}, the axes of both"
        )
    target = np.array([float(sizes[axis]) for axis in first.axes])
    named = dict(zip(first.axes, map(float, target), strict=True))
    if not paired:
        one, other = first.at(named), second.at(named)
        keep = [power for power in one.powers if power in other.powers]
        if not keep:
            raise DataError("rate", "the two follow different rates", "pass one rate for both")
        a, b = ([p.powers.index(power) for power in keep] for p in (one, other))
        return Comparison(
            named,
            float(first.steps[-1]),
            False,
            tuple(keep),
            one.log_loss[a, -1] - other.log_loss[b, -1],
            np.hypot(one.error[a, -1], other.error[b, -1]),
            np.hypot(one.seed_error[a, -1], other.seed_error[b, -1]),
            min(one.seeds, other.seeds),
            None,
            None,
        )
    sides = [(f.curves, seed_logs(f.curves)) for f in (first, second)]
    (mine, logs), (yours, other_logs) = sides
    for name, same in (
        (first.axes[0], np.array_equal(mine.sizes, yours.sizes)),
        ("seed", mine.seeds == yours.seeds and mine.paired and yours.paired),
        ("step", np.array_equal(mine.steps, yours.steps)),
    ):
        if not same:
            raise DataError(
                name,
                "the two recipes have different ones",
                "give both the same sizes, seeds and steps, or compare them unpaired",
            )
    every = series_of(mine.sizes, logs - other_logs, True, rate)
    backtest = backtest_of(every)
    kept = [one for one in every if one.power in backtest.kept]
    answers = [one.at(target) for one in kept]
    return Comparison(
        named,
        float(first.steps[-1]),
        True,
        tuple(one.power for one in kept),
        np.array([one.value[-1] for one in answers]),
        np.array([one.error[-1] for one in answers]),
        np.array([one.seed_error[-1] for one in answers]),
        len(mine.seeds),
        backtest,
        float(kept[0].means[first.largest, -1]),
    )


def _percent(log: float) -> str:
    return f"{100 * math.expm1(float(log)):+.2g} %"
