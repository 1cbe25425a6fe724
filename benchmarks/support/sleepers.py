"""An experiment whose cells only take time: what is left is the machinery's own."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import translimit.experiments as ex


@dataclass(frozen=True)
class Config:
    """How many cells, how long, and whether they compute or sleep."""

    cells: int = 4
    seconds: float = 0.01
    busy: bool = False


@dataclass(frozen=True)
class Slept(ex.Arrays):
    """When a cell began and ended, and in which process."""

    began: float
    ended: float
    pid: int


def take_time(config: Config, number: int, keys: ex.Keys) -> Slept:
    """Take the time, asleep or busy."""
    began = time.time()
    if config.busy:
        spent = time.process_time()
        while time.process_time() - spent < config.seconds:
            sum(range(10_000))
    else:
        time.sleep(config.seconds)
    return Slept(began, time.time(), os.getpid())


CELLS = ex.Part(
    "cell-{number:06d}",
    Slept,
    take_time,
    grid=lambda c: range(c.cells),
    cost=lambda c, number: ex.Cost(c.seconds),
)


def nothing(number: int) -> int:
    """A job that only comes back."""
    return number


EXPERIMENT = ex.Experiment(
    name="benchmark/sleepers",
    title="Sleepers",
    summary="Cells that take time.",
    citations=(),
    presets={"demo": Config()},
    parts=(CELLS,),
    claims=(),
    figures=(),
)
