r"""Schedules of other steps beside that of a solve, and the error of its steps from both.

With steps h_1, h_2, ... a scheme of weak order one is off by c sum h_i^2 in the mean. A schedule
whose steps are sums of several of these tells c; it keeps the arrays of the first, with a step of
size zero for every one that was merged, so that one compiled program serves both. A solve of very
few steps is compared with one of finer steps instead.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from translimit.core import ArgumentError
from translimit.limits.homogenized.schedule import Schedule

#: Times at which means are compared.
CHECKPOINTS = 4


class Comparison:
    """A schedule, one of larger steps on the same times, and the times at which both are at hand.

    Attributes:
        fine: the schedule.
        coarse: as many steps, most of them zero, the others sums of those of `fine`.
        ends: numbers of the steps of `coarse` that are not zero.
        saves: numbers of the save times that both reach, at most `CHECKPOINTS` [saves].
        ratio: error of `of` over the difference of the two, at these times [saves].
    """

    def __init__(self, fine: Schedule, factor: int, of: Schedule | None = None):
        """Merge up to `factor` steps into one.

        Args:
            fine: the schedule, of at least two steps, or of none.
            factor: how many steps are merged.
            of: the schedule whose error is asked for, of the same times; `fine` by default.

        Raises:
            ArgumentError: a schedule of fewer than two steps.
        """
        sizes, slots = np.asarray(fine.sizes), np.asarray(fine.slots)
        count = len(sizes)
        if count == 1:
            raise ArgumentError("fine", "has one step", "pass at least two")
        self.fine, self.coarse = fine, fine
        self.ends, self.saves, self.ratio = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
        if count == 0:  # nothing but the start is kept
            return
        # The last step that leads to every save time; times before the first step have none.
        saves, last = np.unique(slots, return_index=True)
        last = np.append(last[1:], count) - 1
        wanted = max(1, min(CHECKPOINTS, len(saves), count // factor))
        at = np.linspace(0, len(saves), wanted + 1).round().astype(int)[1:] - 1
        self.saves = saves[at]
        self.ends = np.concatenate(
            [
                start + np.cumsum(_parts(stop - start, factor)) - 1
                for start, stop in pairwise([0, *(last[at] + 1).tolist()])
            ]
        )
        merged = np.zeros(count)
        merged[self.ends] = np.diff(np.cumsum(sizes)[self.ends], prepend=0.0)
        self.coarse = Schedule(merged, slots, fine.saves)
        error = _sum_of_squares(of or fine, self.saves)
        differ = _sum_of_squares(self.coarse, self.saves) - _sum_of_squares(fine, self.saves)
        self.ratio = error / np.where(differ > 0, differ, np.nan)


def refined(plan: Schedule, factor: int) -> Schedule:
    """Every step cut into `factor` equal ones."""
    sizes = np.repeat(np.asarray(plan.sizes) / factor, factor)
    return Schedule(sizes, np.repeat(np.asarray(plan.slots), factor), plan.saves)


def _parts(steps: int, factor: int) -> Int[np.ndarray, " groups"]:
    """So many steps in equal groups of at most `factor`."""
    groups = -(-steps // factor)
    return np.diff(np.linspace(0, steps, groups + 1).round().astype(int))


def _sum_of_squares(
    plan: Schedule, saves: Int[np.ndarray, " saves"]
) -> Float[np.ndarray, " saves"]:
    """Sum of the squared steps up to each of the save times."""
    slots = np.asarray(plan.slots)
    squares = np.asarray(plan.sizes) ** 2
    return np.array([squares[slots <= save].sum() for save in saves])
