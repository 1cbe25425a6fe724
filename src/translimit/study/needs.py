"""What a run will need before it starts: cells, memory and time, by the cost models of experiments.

The seconds are those of the experiments' cost models on one core. The wall time is that of workers
which take the missing cells in the order of the run, each as soon as it is free.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from translimit.core import ConfigError, MemoryLimitError, available_host_memory, nearest
from translimit.execute import AbstractExecutor
from translimit.experiments import Cell, Experiment
from translimit.store import (
    CellAddress,
    ExperimentEntry,
    RemoteCells,
    RunIdentity,
    cell_state,
    require_resumable,
)
from translimit.study.plan import Plan


@dataclass(frozen=True)
class CellForecast:
    """One cell before it starts.

    Attributes:
        experiment: the experiment's name.
        cell: the cell's name.
        state: "whole", "missing" or "damaged" in the run folder; "stored" where it is missing and
            whole in the store from which the run would fetch it.
        seconds: on one core, if it is computed.
        memory_bytes: of the process that computes it.
    """

    experiment: str
    cell: str
    state: str
    seconds: float
    memory_bytes: float

    @property
    def left(self) -> bool:
        """Whether it will be computed."""
        return self.state not in ("whole", "stored")


class CellNeeds(TypedDict):
    """A cell of `ForecastRecord`."""

    name: str
    state: str
    seconds: float
    memory_bytes: float


class ExperimentNeeds(TypedDict):
    """An experiment of `ForecastRecord`: what is left of it, and its largest cell."""

    name: str
    seconds: float
    memory_bytes: float
    cells: list[CellNeeds]


class ForecastRecord(TypedDict):
    """A forecast as plain data; `cells` and `whole` are numbers of cells."""

    path: str
    command: str
    workers: int | None
    device: str
    available_memory_bytes: float
    cells: int
    whole: int
    seconds: float
    wall_seconds: float | None
    experiments: list[ExperimentNeeds]


@dataclass(frozen=True)
class Forecast:
    """A run before it starts.

    Attributes:
        path: the run folder, which need not exist.
        cells: in the order of the run.
        workers: cells that share this machine at once, or None where they may run on others.
        device: of every cell.
        memory_bytes: what is free on this machine.
        command: the command line of the run.
    """

    path: Path
    cells: tuple[CellForecast, ...]
    workers: int | None
    device: str
    memory_bytes: float
    command: str

    @property
    def left(self) -> tuple[CellForecast, ...]:
        """The cells that will be computed."""
        return tuple(cell for cell in self.cells if cell.left)

    @property
    def seconds(self) -> float:
        """What is left, on one core."""
        return sum((cell.seconds for cell in self.left), 0.0)

    @property
    def wall_seconds(self) -> float | None:
        """What is left, with the workers; None where nobody knows how many there will be."""
        return wall_seconds([cell.seconds for cell in self.left], self.workers)

    def require_fits(self) -> None:
        """Refuse what cannot fit into the memory of this machine; a GPU's is not looked at.

        Raises:
            MemoryLimitError: a cell needs more than a worker's share of what is free.
        """
        if self.workers is None or self.device != "cpu" or not self.left:
            return
        at_once = min(self.workers, len(self.left))
        largest = max(self.left, key=lambda cell: cell.memory_bytes)
        share = self.memory_bytes / at_once
        if largest.memory_bytes <= share:
            return
        fitting = int(self.memory_bytes // largest.memory_bytes)
        of_all = f"a share of {_gigabytes(share)} for each of {at_once} workers"
        free = of_all if at_once > 1 else "all that is free"
        raise MemoryLimitError(
            "memory",
            f"{largest.experiment}: {largest.cell} needs about {_gigabytes(largest.memory_bytes)}, "
            f"and {_gigabytes(self.memory_bytes)} are free here, {free}",
            f"run with --workers {fitting}"
            if fitting
            else "choose a smaller preset or sizes, or a machine with more memory",
        )

    def to_json(self) -> ForecastRecord:
        """Plain data, as `translimit run --plan --json` prints it."""
        experiments: dict[str, list[CellForecast]] = {}
        for cell in self.cells:
            experiments.setdefault(cell.experiment, []).append(cell)
        return {
            "path": str(self.path),
            "command": self.command,
            "workers": self.workers,
            "device": self.device,
            "available_memory_bytes": self.memory_bytes,
            "cells": len(self.cells),
            "whole": len(self.cells) - len(self.left),
            "seconds": self.seconds,
            "wall_seconds": self.wall_seconds,
            "experiments": [
                {
                    "name": name,
                    "seconds": sum((cell.seconds for cell in cells if cell.left), 0.0),
                    "memory_bytes": max(cell.memory_bytes for cell in cells),
                    "cells": [
                        {
                            "name": cell.cell,
                            "state": cell.state,
                            "seconds": cell.seconds,
                            "memory_bytes": cell.memory_bytes,
                        }
                        for cell in cells
                    ],
                }
                for name, cells in experiments.items()
            ],
        }


def forecast(
    plan: Plan,
    executor: AbstractExecutor,
    *,
    out: str | Path | None = None,
    fresh: bool = False,
    store: str | None = None,
) -> Forecast:
    """What a run would compute, and what that needs. Nothing starts and nothing is written.

    Args:
        plan: the run.
        executor: which would run it.
        out: the folder; by default the plan's own.
        fresh: count nothing that is there as whole.
        store: a URL through which cells travel (see `run_experiments`); what is whole there counts.

    Raises:
        StoreError: the folder cannot be used for this run, or the store cannot be reached.
    """
    chosen = None if out is None else Path(out)
    path = plan.path(chosen)
    entries = plan.entries()
    require_resumable(path, _identity(plan, entries), fresh=fresh)
    remote = None if store is None or fresh else RemoteCells(store)
    costs = cell_costs(plan)
    cells = []
    for entry in entries:
        for cell in entry["cells"]:
            address = CellAddress(path, entry["name"], cell["name"], cell["digest"])
            state = "missing" if fresh else cell_state(address).state
            if state == "missing" and remote is not None and remote.present(address):
                state = "stored"
            seconds, memory = costs[entry["name"], cell["name"]]
            cells.append(CellForecast(entry["name"], cell["name"], state, seconds, memory))
    return Forecast(
        path,
        tuple(cells),
        executor.local_workers(threads=plan.threads, device=plan.device),
        plan.device,
        available_host_memory(),
        plan.command(chosen),
    )


def require_memory(
    plan: Plan, path: Path, executor: AbstractExecutor, *, fresh: bool, store: str | None = None
) -> None:
    """Refuse a run that cannot fit; what is whole already is looked at only if it matters.

    Raises:
        MemoryLimitError: see `Forecast.require_fits`.
    """
    workers = executor.local_workers(threads=plan.threads, device=plan.device)
    if workers is None or plan.device != "cpu":
        return
    free = available_host_memory()
    costs = cell_costs(plan)
    at_once = min(workers, len(costs))
    if max(memory for _, memory in costs.values()) > free / at_once:
        forecast(plan, executor, out=path, fresh=fresh, store=store).require_fits()


def cell_costs(plan: Plan) -> dict[tuple[str, str], tuple[float, float]]:
    """Seconds and bytes of every cell of a plan, by experiment and cell."""
    found = {}
    for one in plan.experiments:
        costs = costs_of_cells(one.experiment, one.config, one.cells)
        for cell, (seconds, memory) in zip(one.cells, costs, strict=True):
            found[one.name, cell.name] = seconds, memory
    return found


def costs_of_cells(
    experiment: Experiment[Any], configuration: object, cells: Sequence[Cell]
) -> list[tuple[float, float]]:
    """Seconds and bytes of each cell of an experiment.

    Raises:
        ConfigError: a cell that the configuration does not have, or for which the cost model gives
            no finite number.
    """
    known = experiment.costs(configuration)
    for cell in cells:
        if cell.name not in known:
            raise ConfigError(experiment.name, f"no cell {cell.name!r}", nearest(cell.name, known))
    costs = [known[cell.name] for cell in cells]
    found = [(float(cost.seconds), float(cost.memory_bytes)) for cost in costs]
    for cell, needs in zip(cells, found, strict=True):
        if not all(map(math.isfinite, needs)):
            raise ConfigError(
                experiment.name,
                f"cell {cell.name} would need {needs[0]:g} s and {needs[1]:g} bytes",
                "choose smaller sizes",
            )
    return found


def wall_seconds(seconds: Sequence[float], workers: int | None) -> float | None:
    """When the last of `workers` is done that take jobs in this order, each once it is free."""
    if workers is None:
        return None
    busy = [0.0] * max(1, min(workers, len(seconds)))
    for one in seconds:
        heapq.heapreplace(busy, busy[0] + one)
    return max(busy)


def _identity(plan: Plan, entries: Iterable[ExperimentEntry]) -> RunIdentity:
    """What `run.json` would say of which run this is."""
    return {
        "digest": plan.digest,
        "experiments": list(entries),
        "seed": plan.seed,
        "threads": plan.threads,
        "device": plan.device,
    }


def _gigabytes(amount: float) -> str:
    return f"{amount / 1e9:.1f} GB"
