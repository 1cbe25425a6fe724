"""One cell, from plain data to the store: what an executor runs, wherever it runs it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from translimit._version import __version__
from translimit.core import config
from translimit.experiments import Cell, get_experiment
from translimit.store import CellAddress, disk_full, marked, write_cell


def compute_cell(
    *,
    run: str,
    source: str,
    configuration: Mapping[str, Any],
    preset: str,
    cell: Mapping[str, Any],
    seed: int,
    threads: int,
) -> dict[str, Any]:
    """Compute one cell and store it.

    Args:
        run: the run folder.
        source: the experiment's name or `module:OBJECT`.
        configuration: of the experiment, as plain data.
        preset: names the type of the configuration.
        cell: its `name`, `parameters` and `digest`.
        seed: of the run; every cell gets the key `named_key(seed, experiment)`.
        threads: that this process is limited to.

    Returns:
        Plain data: `seconds` and `device`, or `disk_full` with the system's message.
    """
    from translimit.core import named_key  # here, because it loads JAX

    experiment = get_experiment(source)
    resolved = config.from_json(type(experiment.presets[preset]), configuration)
    address = CellAddress(Path(run), experiment.name, cell["name"], cell["digest"])
    started = time.monotonic()
    try:
        with marked(address):
            dataset = experiment.compute(
                resolved,
                Cell(cell["name"], cell["parameters"]),
                named_key(seed, experiment.name),
            )
        about = {
            "seconds": round(time.monotonic() - started, 3),
            "device": _device(),
            "threads": threads,
        }
        labels = {
            "experiment": experiment.name,
            "cell": cell["name"],
            "seed": seed,
            "configuration": config.digest(configuration),
            "translimit": __version__,
        }
        write_cell(address, dataset.assign_attrs(labels), about)
    except Exception as error:
        if disk_full(error):
            return {"disk_full": str(error)}
        raise
    return about


def _device() -> str:
    """The device that JAX computes on here."""
    jax = sys.modules.get("jax")
    if jax is None:
        return "cpu"
    device = jax.devices()[0]
    return f"{device.platform} ({device.device_kind})"
