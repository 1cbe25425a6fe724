"""Run folders, made through the store, with the small experiment of `averages.py`."""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from translimit.core import config
from translimit.report import build_report
from translimit.store import CellAddress, write_cell, writing

HERE = Path(__file__).parent
MakeRun = Callable[..., Path]
#: What a user names beside the run, so that its figures are drawn.
OWN = ["averages:EXPERIMENT", "averages:SECOND"]


@pytest.fixture(scope="session")
def averages() -> Iterator[ModuleType]:
    """The module that holds the experiments, importable by name as a user's own would be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield importlib.import_module("averages")
        patch.delitem(sys.modules, "averages")


@pytest.fixture
def make_run(tmp_path: Path, averages: ModuleType) -> MakeRun:
    """A function that makes a run folder of the named experiments of `averages`."""
    return run_maker(tmp_path, averages)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory, averages: ModuleType) -> Path:
    """A run of two experiments with its report, for tests that only look at it."""
    make = run_maker(tmp_path_factory.mktemp("reported"), averages)
    run = make(["EXPERIMENT", "SECOND"], bias="0.25")
    build_report(run, OWN)
    return run


def run_maker(root: Path, averages: ModuleType) -> MakeRun:
    """A function that makes run folders below `root`."""

    def make(
        objects: Sequence[str] = ("EXPERIMENT",),
        *,
        without: Sequence[str] = (),
        claims: Callable[[list], list] = lambda claims: claims,
        failed: Sequence[dict[str, str]] = (),
        folder: str = "averages-demo-0123abcd",
        **changes: str,
    ) -> Path:
        entries, ledger, path = [], {}, root / folder
        for name in objects:
            experiment = getattr(averages, name)
            settings = config.replace(experiment.presets["demo"], changes)
            cells = experiment.cells(settings)
            results = {cell.name: experiment.compute_cell(settings, cell, 0) for cell in cells}
            entries.append(
                {
                    "name": experiment.name,
                    "source": f"averages:{name}",
                    "title": experiment.title,
                    "citations": list(experiment.citations),
                    "config": config.to_json(settings),
                    "cells": [
                        {"name": c.name, "parameters": dict(c.parameters), "digest": f"{c.name}-0"}
                        for c in cells
                    ],
                }
            )
            for cell in cells:
                if cell.name not in without:
                    address = CellAddress(path, experiment.name, cell.name, f"{cell.name}-0")
                    path.mkdir(exist_ok=True)
                    write_cell(address, results[cell.name], {"seconds": 0.25})
            ledger[experiment.name] = [
                c.to_json() for c in claims(experiment.check(settings, results))
            ]
        cells_ready = (path / "cells").rename(root / "cells")
        path.rmdir()
        info = {
            "status": "incomplete" if without else "complete",
            "digest": "0123abcd",
            "preset": "demo",
            "seed": 7,
            "threads": 2,
            "overrides": [f"{key}={value}" for key, value in changes.items()],
            "command": f"translimit run averages:{objects[0]} --preset demo --seed 7",
            "experiments": entries,
            "packages": {"jax": "0.10.2", "numpy": "2.4.1", "xarray": "2026.9.0"},
            "python": "3.11.2",
            "platform": "Linux-6.1-x86_64",
            "devices": ["cpu:0"],
            "started": "2026-11-22T12:05:27+0000",
            "wall_seconds": 83.4,
            "failed": failed,
        }
        with writing(path, info) as run:
            cells_ready.rename(path / "cells")
            if not without:
                run.write_claims(ledger)
        return path

    return make
