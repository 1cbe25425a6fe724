"""A run as one netCDF file, for a colleague who reads it with xarray or any tool for HDF5.

Every cell is a group `/<experiment>/<cell>`, named as the folders of the run; the real names are
in the attributes `experiment` and `cell`. The file's own attributes hold `run.json` and the ledger
as JSON, those of an experiment's group its title, configuration and claims. In Python:
`xarray.open_datatree(path)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from translimit.core import ArgumentError, JsonObject, StoreError, unwritable, whole_file
from translimit.store.cells import CellAddress, CellState, read_cell, slug
from translimit.store.folder import RunFolder
from translimit.store.jsonfiles import dump_json
from translimit.store.records import ClaimRecord
from translimit.store.tolerant_file import TolerantFile

if TYPE_CHECKING:
    import xarray

    from translimit.core import Progress

_ENGINE = "h5netcdf"


def export_run(
    run: RunFolder,
    path: str | Path,
    *,
    partial: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a run into one netCDF file, whole or not at all.

    Args:
        run: open for reading.
        path: the file, ending in .nc; an old one is replaced.
        partial: write what is whole of a run that is not finished.
        progress: called with the fraction of the groups that is written.

    Raises:
        ArgumentError: another suffix.
        StoreError: cells are missing or damaged and `partial` is not set, none is whole, or the
            file cannot be written (a full disk is a `DiskFullError`).
    """
    path = Path(path)
    if path.suffix != ".nc":
        raise ArgumentError("--out", f"got {str(path)!r}", "name a file ending in .nc")
    states = run.states()
    _require_whole(run, states, partial)
    remedy, again = "name another file", "export again"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, remedy=remedy, again=again) as temporary:
            _write(run, states, temporary, progress)
    except StoreError:
        raise
    except (OSError, RuntimeError) as error:  # HDF5 tells what goes wrong by either
        raise unwritable(path, error, remedy=remedy, again=again) from error
    return path


def _require_whole(run: RunFolder, states: list[CellState], partial: bool) -> None:
    whole = sum(state.whole for state in states)
    if whole == len(states) or (partial and whole):
        return
    remedy = f"finish the run: {run.command}"
    if whole:
        remedy += "; or export what is whole with --partial"
    raise StoreError(run.path, f"{whole} of {len(states)} cells are whole", remedy)


def _write(run: RunFolder, states: list[CellState], path: Path, progress: Progress | None) -> None:
    """One group after the other, so that one cell is in memory at a time."""
    groups = 1 + len(run.info["experiments"]) + sum(state.whole for state in states)
    with TolerantFile(path) as file:
        for number, (group, dataset) in enumerate(_groups(run, states)):
            mode = "a" if number else "w"
            dataset.to_netcdf(file, mode=mode, group=group, engine=_ENGINE)
            file.require_written()
            if progress is not None:
                progress((number + 1) / groups)


def _groups(run: RunFolder, states: list[CellState]) -> Iterator[tuple[str | None, xarray.Dataset]]:
    """What the file holds: its own attributes, those of the experiments, and the cells."""
    import xarray

    ledger: Mapping[str, list[ClaimRecord]] = (
        run.claims() if all(state.whole for state in states) else {}
    )
    about = {
        "Conventions": "netCDF-4",
        "title": f"translimit run of {', '.join(run.experiments)}",
        "run": dump_json(run.info),
        "claims": dump_json(ledger),
        "whole_cells": sum(state.whole for state in states),
        "cells": len(states),
    }
    yield None, xarray.Dataset(attrs=about)
    for entry in run.info["experiments"]:
        attributes = {
            "experiment": entry["name"],
            "title": entry["title"],
            "configuration": dump_json(entry["config"]),
            "claims": dump_json(ledger.get(entry["name"], [])),
        }
        yield slug(entry["name"]), xarray.Dataset(attrs=attributes)
    for state, address in zip(states, run.addresses(), strict=True):
        if state.whole:
            yield f"{slug(address.experiment)}/{slug(address.cell)}", _plain(address, state)


def _plain(address: CellAddress, state: CellState) -> xarray.Dataset:
    """A cell with attributes that netCDF has words for: numbers and text."""
    dataset = read_cell(address).drop_encoding()
    manifest: JsonObject = cast("JsonObject", state.manifest or {})
    about = {key: manifest[key] for key in ("seconds", "device", "digest") if key in manifest}
    dataset = dataset.assign_attrs(about)
    for attributes in (dataset.attrs, *(array.attrs for array in dataset.variables.values())):
        for key, value in attributes.items():
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                attributes[key] = dump_json(value).strip()
    return dataset
