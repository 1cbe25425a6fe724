"""Cells on disk: a folder of labelled arrays whose manifest, written last, makes it whole.

A cell is written into a temporary sibling, flushed to the disk and renamed. It is whole if and
only if its manifest exists, belongs to this very computation, and lists exactly the files that
are there with their digests. Anything else is never read as whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from translimit.core import TEMPORARY, JsonObject, StoreError, cause_of, sync_folder, temporary_name
from translimit.store.arrays import array_problem, plain_arrays
from translimit.store.jsonfiles import write_json
from translimit.store.records import FileEntry, ManifestRecord
from translimit.store.shapes import MANIFEST as MANIFEST_SHAPE
from translimit.store.shapes import load_record
from translimit.store.start import require_start

if TYPE_CHECKING:
    import xarray

MANIFEST = "manifest.json"
DATA = "data.zarr"
_LONGEST_SLUG = 80


@dataclass(frozen=True)
class CellAddress:
    """Where a cell belongs and which computation it holds.

    Attributes:
        run: the run folder.
        experiment: the experiment's name.
        cell: the cell's name.
        digest: of everything that fixes the result (configuration, parameters, seed, threads,
            version): a stored cell with another digest is not this cell.
    """

    run: Path
    experiment: str
    cell: str
    digest: str

    @property
    def folder(self) -> Path:
        """`cells/<experiment>/<cell>` below the run folder."""
        return self.run / "cells" / slug(self.experiment) / slug(self.cell)


@dataclass(frozen=True)
class CellState:
    """What is stored of a cell.

    Attributes:
        experiment: the experiment's name.
        cell: the cell's name.
        state: "whole", "missing", or "damaged" (there, but never read).
        problem: why it is damaged.
        manifest: of a whole cell, else None.
    """

    experiment: str
    cell: str
    state: Literal["whole", "missing", "damaged"]
    problem: str = ""
    manifest: ManifestRecord | None = None

    @property
    def whole(self) -> bool:
        """Whether the cell can be read."""
        return self.state == "whole"


def slug(name: str) -> str:
    """A name as one folder name: `/` becomes `-`; a digest is added where more had to change."""
    safe = re.sub(r"[^A-Za-z0-9._+=-]", "-", name)
    if safe == name.replace("/", "-") and len(safe) <= _LONGEST_SLUG and safe[:1] not in ".":
        return safe
    return f"{safe[:_LONGEST_SLUG].lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_cell(
    address: CellAddress,
    dataset: xarray.Dataset,
    about: JsonObject | None = None,
    *,
    token: str | None = None,
) -> Path:
    """Store a cell, whole or not at all.

    Args:
        address: where it belongs; whatever is there, whole or damaged, is replaced.
        dataset: the labelled arrays, of NumPy or JAX; encodings left from another file are
            dropped.
        about: plain data for the manifest (seconds, device, ...).
        token: of the start of the run for which the cell was computed. With it, nothing is
            written for an earlier start, and a cell that is whole already stays: the first of
            two jobs that compute the same cell wins.

    Returns:
        The cell's folder.

    Raises:
        ArgumentTypeError: an array of something that a cell cannot hold.
        OvertakenError: the run was started again meanwhile; nothing is left behind.
        OSError: the folder is not writable, or the disk is full; nothing is left behind.
    """
    if token is not None:
        require_start(address.run, token)  # also before a folder is made: the store may be gone
    final = address.folder
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(final)
    try:
        temporary.mkdir()
        # Format 2 of zarr, because format 3 has no specification of text coordinates yet.
        plain_arrays(dataset).drop_encoding().to_zarr(
            str(temporary / DATA), mode="w", consolidated=False, zarr_format=2
        )
        manifest = {
            "experiment": address.experiment,
            "cell": address.cell,
            "digest": address.digest,
            "pid": os.getpid(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **(about or {}),
            "files": {name: _file_entry(temporary / name) for name in _files(temporary)},
        }
        flush_folder(temporary)
        write_json(temporary / MANIFEST, manifest)
        if token is not None:
            require_start(address.run, token)
        put_in_place(temporary, address, keep_whole=token is not None)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(final.parent)
    return final


def flush_folder(folder: Path) -> None:
    """Flush all files below a folder, and the entries of its folders, to the disk."""
    for inner, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync_file(Path(inner, name))
        sync_folder(Path(inner))


def cell_state(address: CellAddress, folder: Path | None = None) -> CellState:
    """What is stored at an address, or of its cell in another folder; digests are computed anew."""

    def damaged(problem: str) -> CellState:
        return CellState(address.experiment, address.cell, "damaged", problem)

    folder = folder or address.folder
    if not folder.exists():
        return CellState(address.experiment, address.cell, "missing")
    if not (folder / MANIFEST).exists():
        return damaged("it has no manifest")
    try:
        manifest = load_record(folder / MANIFEST, MANIFEST_SHAPE, ManifestRecord)
        listed = manifest["files"]
        owner = (manifest["experiment"], manifest["cell"])
        digest = manifest["digest"]
        present = set(_files(folder))
        if owner != (address.experiment, address.cell) or digest != address.digest:
            return damaged("it belongs to another configuration")
        for name in sorted(present.symmetric_difference(listed)):
            return damaged(f"{name} is {'not in its manifest' if name in present else 'missing'}")
        for name, entry in listed.items():
            if _file_entry(folder / name) != entry:
                return damaged(f"{name} was changed or truncated")
        problem = array_problem(folder)
        if problem is not None:
            return damaged(problem)
    except (StoreError, KeyError, TypeError, AttributeError):
        return damaged("its manifest cannot be read")
    except OSError as error:
        return damaged(f"it cannot be read ({error.strerror})")
    return CellState(address.experiment, address.cell, "whole", manifest=manifest)


def read_cell(address: CellAddress) -> xarray.Dataset:
    """Load a whole cell into memory.

    Raises:
        StoreError: the cell is missing or damaged, or holds something else than plain arrays.
    """
    import xarray

    state = cell_state(address)
    if not state.whole:
        raise StoreError(
            address.folder,
            f"the cell {address.cell!r} is {state.state}"
            + (f": {state.problem}" if state.problem else ""),
            "start the same run again to compute it",
        )
    place = address.folder / DATA
    try:
        with xarray.open_zarr(place, consolidated=False, chunks=None, zarr_format=2) as stored:
            return stored.load()
    except Exception as error:  # its digests agree, and it is not what `write_cell` writes
        raise StoreError(
            place,
            f"cannot be read ({cause_of(error)})",
            "remove the cell, and start the same run again to compute it",
        ) from error


def _files(folder: Path) -> Iterator[str]:
    """The files below a folder but its own manifest, as sorted relative POSIX paths."""
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path != folder / MANIFEST:
            yield path.relative_to(folder).as_posix()


def _file_entry(path: Path) -> FileEntry:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def put_in_place(temporary: Path, address: CellAddress, *, keep_whole: bool) -> None:
    """Rename a finished folder to its name, which a damaged cell or another job may have taken."""
    final = address.folder
    while True:
        aside = None
        if final.exists():
            if keep_whole and cell_state(address).whole:
                shutil.rmtree(temporary, ignore_errors=True)
                return
            aside = final.with_name(f"{TEMPORARY}{final.name}-aside-{secrets.token_hex(4)}")
            with contextlib.suppress(FileNotFoundError):  # another job was faster
                os.rename(final, aside)
        try:
            os.rename(temporary, final)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)
