"""One cell, from plain data to the store: what an executor runs, wherever it runs it."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from translimit._version import __version__
from translimit.core import (
    ArgumentError,
    DiskFullError,
    Json,
    JsonObject,
    cause_of,
    config,
    disk_full,
    write_bytes,
)
from translimit.experiments import Cell, get_experiment
from translimit.store import (
    START,
    CellAddress,
    CellEntry,
    RemoteCells,
    cell_state,
    patiently,
    require_start,
    running_mark,
    write_cell,
)


def compute_cell(
    *,
    run: str,
    source: str,
    configuration: JsonObject,
    preset: str,
    cell: CellEntry,
    seed: int,
    threads: int,
    device: str,
    token: str,
    patience: float,
    store: str | None = None,
) -> dict[str, Json]:
    """Compute one cell and store it; one that is whole already is left as it is.

    Args:
        run: the run folder.
        source: the experiment's name or `module:OBJECT`.
        configuration: of the experiment, as plain data.
        preset: names the type of the configuration.
        cell: its `name`, `parameters` and `digest`.
        seed: of the run; the cell gets the key `named_key(seed, experiment, cell)`.
        threads: that this process is limited to.
        device: "cpu" or "gpu", on which this process computes.
        token: of the start of the run that wants the cell.
        patience: seconds to wait for a run folder or store that is out of reach.
        store: a URL through which the cell goes; the run folder is then not looked at.

    Returns:
        Plain data: `seconds`, `device` and `threads`, or `kept` where it was whole.

    Raises:
        OvertakenError: the run was started again.
        DiskFullError: the disk is full, with the system's message.
        StoreError: the run folder was out of reach for too long.
        ArgumentError: this process computes on another device.
    """
    if store is not None:
        arguments = {key: value for key, value in locals().items() if key not in ("run", "store")}
        return _compute_for_store(store, arguments)
    experiment = get_experiment(source)
    address = CellAddress(Path(run), experiment.name, cell["name"], cell["digest"])
    patiently(lambda: require_start(address.run, token), address.run, seconds=patience)
    if cell_state(address).whole:
        return {"kept": True}

    _require_device(device)
    resolved = config.from_json(type(experiment.presets[preset]), configuration)
    started = time.monotonic()
    with _telling_a_full_disk(address.run):
        with running_mark(address):
            named = Cell(cell["name"], cell["parameters"])
            dataset = experiment.compute_cell(resolved, named, seed)
        about: dict[str, Json] = {
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
        labelled = dataset.assign_attrs(labels)
        patiently(
            lambda: write_cell(address, labelled, about, token=token),
            address.run,
            seconds=patience,
        )
    return about


@contextlib.contextmanager
def _telling_a_full_disk(run: Path) -> Iterator[None]:
    """Whatever fails because the disk is full says so, with the system's message."""
    try:
        yield
    except Exception as error:
        if disk_full(error):
            problem = f"the disk is full ({cause_of(error)})"
            raise DiskFullError(run, problem, "free space and start the run again") from error
        raise


def _compute_for_store(url: str, arguments: Mapping[str, Any]) -> dict[str, Json]:
    """Compute a cell into a folder of this machine, and upload it."""
    remote = RemoteCells(url, patience=arguments["patience"])
    remote.require_start(arguments["token"])
    cell, name = arguments["cell"], get_experiment(arguments["source"]).name
    with tempfile.TemporaryDirectory(prefix="translimit-") as folder:
        address = CellAddress(Path(folder), name, cell["name"], cell["digest"])
        if remote.present(address):
            return {"kept": True}
        with _telling_a_full_disk(address.run):
            write_bytes(address.run / START, arguments["token"].encode())
        about = compute_cell(run=folder, **arguments)
        remote.require_start(arguments["token"])
        remote.upload(address)
    return about


def _require_device(device: str) -> None:
    """Refuse to compute a cell on a device that its digest does not name."""
    import jax

    found = jax.devices()[0].platform
    if found != device:
        raise ArgumentError(
            "device",
            f"the run fixes {device!r}, and JAX computes on {found!r} here",
            "start it in a process that has not loaded JAX, or check JAX_PLATFORMS",
        )


def _device() -> str:
    """The device that JAX computes on here."""
    device = sys.modules["jax"].devices()[0]
    return f"{device.platform} ({device.device_kind})"
