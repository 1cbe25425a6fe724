"""How a run stands: what is done, running and failed, what was slow, and how long the rest takes.

The time left is the cost model's, corrected by what the finished cells of the same experiment
really took (of any experiment, where none of its own is finished).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from translimit.core import config
from translimit.experiments import Cell, stored_experiment
from translimit.store import CellFailure, RunFolder, being_written, read_mark
from translimit.study.needs import costs_of_cells, wall_seconds

#: How many of the slowest cells are named.
SLOWEST = 3


class CellStatus(TypedDict):
    """How a cell stands: "whole", "running", "failed", "damaged" or "missing"."""

    experiment: str
    cell: str
    state: str
    problem: str
    error: str | None
    seconds: float | None
    running_seconds: float | None


class SlowCell(TypedDict):
    """A cell and what it took."""

    experiment: str
    cell: str
    seconds: float


class RunStatus(TypedDict):
    """How a run stands.

    `status` is "running", "complete", "incomplete", "interrupted" or "damaged"; `whole`,
    `running`, `failing` and `damaged` are numbers of cells; `seconds_left` is on one core, and both
    times left are None where unknown; `not_loaded` are experiments whose code was not loaded;
    `command` finishes the run.
    """

    path: str
    status: str
    whole: int
    running: int
    failing: int
    damaged: int
    cells: list[CellStatus]
    failed: list[CellFailure]
    slowest: list[SlowCell]
    workers: int | None
    seconds_left: float | None
    wall_seconds_left: float | None
    not_loaded: list[str]
    command: str


def run_status(path: str | Path, experiments: Sequence[str] = ()) -> RunStatus:
    """How a run stands, as plain data; nothing is changed.

    Args:
        path: the run folder.
        experiments: those of neither translimit nor an installed package, as `module:OBJECT`,
            whose cost models may be asked; the files of a run name no code.

    Raises:
        StoreError: there is no readable run.
        ConfigError: something of `experiments` cannot be loaded.
    """
    run = RunFolder.open(path)
    alive = being_written(run.path)
    errors = {failure["cell"]: failure["error"] for failure in run.info["failed"]}
    cells: list[CellStatus] = []
    for state, address in zip(run.states(), run.addresses(), strict=True):
        mark = read_mark(address) if alive and not state.whole else None
        error = None if state.whole else errors.get(f"{state.experiment}: {state.cell}")
        cells.append(
            {
                "experiment": state.experiment,
                "cell": state.cell,
                "state": "running" if mark else "failed" if error else state.state,
                "problem": state.problem,
                "error": error,
                "seconds": None if state.manifest is None else state.manifest.get("seconds"),
                "running_seconds": max(0.0, time.time() - mark["started"]) if mark else None,
            }
        )
    count = {name: sum(cell["state"] == name for cell in cells) for name in _STATES}
    workers = run.info.get("workers")
    modelled, not_loaded = _modelled(run, experiments)
    left = _seconds_left(modelled, cells)
    finished: list[SlowCell] = [
        {"experiment": cell["experiment"], "cell": cell["cell"], "seconds": cell["seconds"]}
        for cell in cells
        if cell["seconds"] is not None
    ]
    return {
        "path": str(run.path),
        "status": _status(run, alive, count["whole"] == len(cells)),
        "whole": count["whole"],
        "running": count["running"],
        "failing": count["failed"],
        "damaged": count["damaged"],
        "cells": cells,
        "failed": run.info["failed"],
        "slowest": sorted(finished, key=lambda cell: -cell["seconds"])[:SLOWEST],
        "workers": workers,
        "seconds_left": None if left is None else sum(left, 0.0),
        "wall_seconds_left": None if left is None else wall_seconds(left, workers),
        "not_loaded": not_loaded,
        "command": run.command,
    }


_STATES = ("whole", "running", "failed", "damaged", "missing")


def _status(run: RunFolder, alive: bool, whole: bool) -> str:
    status = run.info["status"]
    if status == "running" and not alive:
        return "interrupted"
    if status == "complete" and not whole:
        return "damaged"
    return str(status)


def _seconds_left(
    modelled: Mapping[tuple[str, str], float], cells: Sequence[CellStatus]
) -> list[float] | None:
    """Seconds of each cell that is not whole; None where nothing says how long cells take."""
    took: dict[str, float] = defaultdict(float)
    thought: dict[str, float] = defaultdict(float)
    done: list[str] = []
    for cell in cells:
        if cell["seconds"] is None:
            continue
        done.append(cell["experiment"])
        for group in (cell["experiment"], ""):
            took[group] += cell["seconds"]
            thought[group] += modelled.get((cell["experiment"], cell["cell"]), 0.0)
    left = []
    for cell in cells:
        if cell["state"] == "whole":
            continue
        seconds = modelled.get((cell["experiment"], cell["cell"]))
        group = cell["experiment"] if took[cell["experiment"]] else ""
        if seconds is None:
            if not done:
                return None
            seconds = took[group] / sum(not group or other == group for other in done)
        elif thought[group]:
            seconds *= took[group] / thought[group]
        left.append(max(0.0, seconds - (cell["running_seconds"] or 0.0)))
    return left


def _modelled(
    run: RunFolder, experiments: Sequence[str]
) -> tuple[dict[tuple[str, str], float], list[str]]:
    """Seconds by the cost models of what may be loaded, and the experiments that may not."""
    found: dict[tuple[str, str], float] = {}
    not_loaded = []
    for entry in run.info["experiments"]:
        experiment = stored_experiment(entry["name"], experiments)
        if experiment is None:
            not_loaded.append(entry["name"])
            continue
        try:
            kind = type(experiment.presets[run.info["preset"]])
            resolved = config.from_json(kind, entry["config"])
            named = [Cell(cell["name"], cell["parameters"]) for cell in entry["cells"]]
            costs = costs_of_cells(experiment, resolved, named)
        except Exception:
            # A configuration from a file of which the cost model makes nothing: the time left is
            # then not told.
            continue
        for cell, (seconds, _) in zip(named, costs, strict=True):
            found[entry["name"], cell.name] = seconds
    return found, not_loaded
