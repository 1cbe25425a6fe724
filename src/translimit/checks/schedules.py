r"""Schedules of a sweep: what multiplies the rates of a factory's optimiser at step t = 0 .. T - 1.

| name | factor |
|---|---|
| constant | 1 |
| cosine | (1 + cos(pi t / (T - 1))) / 2 |
| linear | 1 - t / (T - 1) |
| wsd | min(1, 4 (1 - t / T)): stable, and a linear decay in the last quarter |

Runs of several horizons share what their schedules have in common: at a constant rate one run
passes through all of them; under wsd each horizon branches its decay off one stable run. With `own`
the factory schedules, and every horizon is a run of its own.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from translimit.core import ArgumentError, brief, nearest, require_count

ScheduleName = Literal["constant", "cosine", "wsd", "linear", "own"]
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)
#: The part of a run in which wsd keeps its rate.
STABLE = 0.75


def schedule_factor(schedule: ScheduleName, step: int, steps: int) -> float:
    """What multiplies the rate at one step.

    Args:
        schedule: its name; that of `own` is 1, since the factory multiplies.
        step: counted from 0.
        steps: of the whole run.
    """
    done = step / max(1, steps - 1)
    match schedule:
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return 1 - done
        case "wsd":
            return min(1.0, (1 - step / steps) / (1 - STABLE))
        case _:
            return 1.0


def decay_begins(steps: int) -> int:
    """The first step of a wsd run whose rate is below the stable one.

    Args:
        steps: of the whole run.
    """
    return math.floor(STABLE * steps) + 1


def require_schedule(schedule: str) -> None:
    """Refuse a name that is none.

    Raises:
        ArgumentError: an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ArgumentError("schedule", f"got {schedule!r}", nearest(str(schedule), SCHEDULES))


def require_horizons(steps: Sequence[int]) -> tuple[int, ...]:
    """The horizons of a sweep.

    Args:
        steps: numbers of updates after which the loss is taken.

    Raises:
        ArgumentError: none, one below 1, or horizons that do not increase.
    """
    horizons = tuple(require_count(count, "steps", 0) for count in steps)
    if not horizons or horizons[0] < 1 or any(a >= b for a, b in pairwise(horizons)):
        raise ArgumentError("steps", f"got {brief(horizons)}", "pass increasing counts from 1")
    return horizons


def updates_of(schedule: ScheduleName, horizons: Sequence[int]) -> int:
    """How many updates the runs of one rate take to reach some horizons.

    Args:
        schedule: its name.
        horizons: increasing.
    """
    if schedule == "constant":
        return horizons[-1]
    if schedule == "wsd":
        starts = [decay_begins(steps) for steps in horizons]
        return starts[-1] + sum(
            steps - begun for steps, begun in zip(horizons, starts, strict=True)
        )
    return sum(horizons)
