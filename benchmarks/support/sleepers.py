"""An experiment whose cells only take time: what is left is the machinery's own."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from translimit.experiments import AbstractExperiment, Cell, Cost


@dataclass(frozen=True)
class Config:
    """How many cells, how long, and whether they compute or sleep."""

    cells: int = 4
    seconds: float = 0.01
    busy: bool = False


@dataclass(frozen=True)
class Sleepers(AbstractExperiment[Config]):
    """Cells that remember when they began and ended, and in which process."""

    name: str = "benchmark/sleepers"
    title: str = "Sleepers"
    summary: str = "Cells that take time."
    citations: tuple[str, ...] = ()
    presets: Mapping[str, Config] = field(default_factory=lambda: {"demo": Config()})

    def cost(self, config: Config) -> Cost:
        """The seconds of all cells."""
        return Cost(seconds=config.cells * config.seconds)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """All alike."""
        return tuple(Cell(f"cell-{number:06d}") for number in range(config.cells))

    def compute(self, config: Config, cell: Cell, key: Any) -> Any:
        """Take the time, asleep or busy."""
        import xarray

        began = time.time()
        if config.busy:
            spent = time.process_time()
            while time.process_time() - spent < config.seconds:
                sum(range(10_000))
        else:
            time.sleep(config.seconds)
        facts = {"began": began, "ended": time.time(), "pid": os.getpid()}
        return xarray.Dataset({name: ((), value) for name, value in facts.items()})

    def claims(self, config: Config, results: Any) -> list[Any]:
        """None."""
        return []

    def claim_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def figures(self, config: Config, results: Any) -> list[Any]:
        """None."""
        return []


def nothing(number: int) -> int:
    """A job that only comes back."""
    return number


EXPERIMENT = Sleepers()
