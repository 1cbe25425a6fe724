"""Changing a run folder: one writer at a time, and never somebody else's folder."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from translimit._version import __version__
from translimit.core import TEMPORARY, Json, StoreError, unwritable
from translimit.store.cells import slug
from translimit.store.folder import CLAIMS_FILE, FORMAT, RUN_FILE, RunFolder, require_format
from translimit.store.jsonfiles import load_json, write_json
from translimit.store.patience import patiently
from translimit.store.records import ClaimRecord, RunIdentity, RunRecord, RunStart
from translimit.store.shapes import RUN, require_shape
from translimit.store.start import START, new_start

LOCK = ".lock"
#: What a run folder may hold; a folder with anything else is never emptied.
_OURS = {RUN_FILE, CLAIMS_FILE, "cells", "figures", "report.html", LOCK, START}
#: What a resumed run keeps from its first start.
_CARRIED = ("started", "wall_seconds")
_LONGEST_NAMES = 80


def run_name(experiments: Sequence[str], preset: str, digest: str) -> str:
    """The name of a default run folder: `<experiments>-<preset>-<first 8 of the digest>`.

    Several experiments are joined by `+` in alphabetical order; where that grows too long, the
    first one stands with how many more there are (the digest tells such runs apart).
    """
    names = sorted(slug(name) for name in experiments)
    joined = "+".join(names)
    if len(joined) > _LONGEST_NAMES and len(names) > 1:
        joined = f"{names[0]}+{len(names) - 1}-more"
    return f"{joined}-{preset}-{digest[:8]}"


class RunWriter(RunFolder):
    """A run folder, locked for writing; made by `writing` only.

    Attributes:
        previous: the `run.json` that was there before, or None for a new run.
        token: of this start; jobs carry it (see `write_cell`).
    """

    def __init__(
        self,
        path: Path,
        info: RunRecord,
        previous: RunRecord | None = None,
        token: str = "",
    ):
        super().__init__(path, info)
        self.previous, self.token = previous, token

    def update(self, **changes: Any) -> None:
        """Change entries of `run.json`, atomically.

        Args:
            changes: by the keys of `RunRecord`.

        Raises:
            StoreError: it cannot be written.
        """
        self.info = cast("RunRecord", {**self.info, **changes})
        self._write(RUN_FILE, self.info)

    def write_claims(self, claims: Mapping[str, Sequence[ClaimRecord]]) -> None:
        """Write the ledger, atomically.

        Args:
            claims: by experiment name, each claim as `Claim.to_json` gives it.

        Raises:
            StoreError: it cannot be written.
        """
        self._write(CLAIMS_FILE, {"format": FORMAT, "experiments": claims})

    def remove_temporaries(self) -> None:
        """Remove what a killed writer left unfinished."""
        below = (self.path.glob(f"{folder}{TEMPORARY}*") for folder in ("", "figures/", "cells/*/"))
        for leftover in itertools.chain.from_iterable(below):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def remove_claims(self) -> None:
        """Remove a ledger that is about to be outdated."""
        (self.path / CLAIMS_FILE).unlink(missing_ok=True)

    def _write(self, name: str, data: object) -> None:
        try:
            patiently(lambda: write_json(self.path / name, data), self.path)
        except StoreError:
            raise
        except OSError as error:
            raise _unwritable(self.path / name, error) from error


def _unwritable(path: Path, error: OSError) -> StoreError:
    """The error of a part of a run that cannot be written."""
    remedy = "choose a writable folder with --out"
    return unwritable(path, error, remedy=remedy, again="start the same run again")


@contextlib.contextmanager
def writing(path: str | Path, info: RunStart, *, fresh: bool = False) -> Iterator[RunWriter]:
    """Open a run folder for writing, new or to be finished, while nobody else writes to it.

    Args:
        path: the folder; it is made where it does not exist.
        info: what `run.json` says of the run; `digest` and `experiments`
            must agree with what is there.
        fresh: remove the run that is there and start over.

    Yields:
        The run; its `run.json` is written, temporaries of a killed writer are gone, and jobs of
        earlier starts may store nothing more.

    Raises:
        StoreError: the folder cannot be made or written, is a file, holds something else than a
            run, is being written by another process, or holds a run of another format, version
            or configuration.
    """
    import filelock

    path = Path(path)
    _require_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _require_ours(path)
        lock = filelock.FileLock(path / LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise StoreError(
            path, "another process is writing this run", "wait for it, or choose another --out"
        ) from error
    except StoreError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error
    token = ""
    try:
        if fresh:
            _empty(path)
        previous = None
        if (path / RUN_FILE).exists():
            previous = _require_same(path, load_json(path / RUN_FILE), info)
        carried = {key: previous[key] for key in _CARRIED if key in previous} if previous else {}
        head = {"format": FORMAT, "translimit": __version__}
        try:
            token = new_start(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        made = cast("RunRecord", {**head, **info, **carried})
        run = RunWriter(path, made, previous, token)
        folders = [address.folder for address in run.addresses()]
        if len(set(folders)) < len(folders):
            raise StoreError(path, "two of its cells share a folder", "rename a cell")
        run.remove_temporaries()
        run.update()
        yield run
    finally:
        if token:
            with contextlib.suppress(OSError):
                new_start(path)  # so that no job of this start writes when it has ended
        lock.release()


def require_resumable(path: str | Path, info: RunIdentity, *, fresh: bool = False) -> None:
    """Refuse a folder in which `writing` would refuse to start, changing nothing.

    Raises:
        StoreError: it is a file, holds something else than a run, or a run of another format,
            version or configuration (which `fresh` would remove).
    """
    path = Path(path)
    _require_folder(path)
    if not path.exists():
        return
    _require_ours(path)
    if (path / RUN_FILE).exists() and not fresh:
        _require_same(path, load_json(path / RUN_FILE), info)


def being_written(path: str | Path) -> bool:
    """Whether a living process holds the run's lock right now."""
    import filelock

    lock = Path(path) / LOCK
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return False  # a folder that may only be read: nobody here can be writing to it


def _require_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise StoreError(path, "is a file", "choose a folder with --out")


def _require_ours(path: Path) -> None:
    """Refuse a folder that holds anything but a run."""
    present = {entry.name for entry in path.iterdir() if not entry.name.startswith(TEMPORARY)}
    foreign = sorted(present - _OURS)
    if foreign:
        raise StoreError(
            path,
            f"holds {foreign[0]!r}, which is no part of a run",
            "choose a new or empty folder with --out",
        )
    if present - {LOCK, START} and RUN_FILE not in present:
        raise StoreError(
            path, f"has no {RUN_FILE}, so it is not a run", "choose a new folder with --out"
        )


def _empty(path: Path) -> None:
    """Remove a run but its lock; `run.json` last, so that a kill in between is recognised."""
    try:
        for name in sorted(_OURS - {LOCK}, key=lambda name: name == RUN_FILE):
            entry = path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _require_same(path: Path, found: Json, wanted: RunIdentity | RunStart) -> RunRecord:
    """What stands in `run.json`; refuses one of another format, version or configuration."""
    require_format(path, found)
    stored = cast("RunRecord", found)
    if stored.get("translimit") != __version__:
        raise StoreError(
            path,
            f"is a run folder of translimit {stored.get('translimit')} (this is {__version__})",
            "start over with --fresh, or choose another --out",
        )
    require_shape(stored, RUN, path / RUN_FILE)
    if stored.get("digest") != wanted["digest"]:
        raise StoreError(
            path,
            f"holds a run of another configuration ({first_difference(stored, wanted)})",
            "start over with --fresh, or choose another --out",
        )
    return stored


def first_difference(stored: RunIdentity | RunStart, wanted: RunIdentity | RunStart) -> str:
    """Where two `run.json` differ first, in words."""
    theirs = {entry["name"]: entry["config"] for entry in stored["experiments"]}
    ours = {entry["name"]: entry["config"] for entry in wanted["experiments"]}
    if set(theirs) != set(ours):
        return f"its experiments are {', '.join(sorted(theirs))}"
    for name in sorted(ours):
        for key in sorted({*ours[name], *theirs[name]}):
            if theirs[name].get(key) != ours[name].get(key):
                return (
                    f"{name}: {key} is {theirs[name].get(key)!r} there "
                    f"and {ours[name].get(key)!r} here"
                )
    if stored.get("keys") != wanted.get("keys"):
        return "the random streams of its cells are named otherwise"
    for key, usual in (("seed", 0), ("threads", 1), ("device", "cpu")):
        there, here = stored.get(key, usual), wanted.get(key, usual)
        if there != here:
            return f"{key} is {there!r} there and {here!r} here"
    return "its cells differ"
