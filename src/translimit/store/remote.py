"""Cells behind a URL, so that machines without a shared folder can serve one run.

A worker computes into a folder of its own and uploads the cell; whoever drives the run fetches it
into the run folder. Below the URL lie

start                                        the token of the run's last start (see `start`)
cells/<experiment>/<cell>/<digest>/          the files of a cell; its manifest, written last

The digest is in the path, so that runs of other configurations may share the place. A cell counts
as whole if its manifest is there, and is taken over only if all digests agree.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from translimit.core import (
    ConfigError,
    DiskFullError,
    OvertakenError,
    StoreError,
    disk_full,
    sync_folder,
    temporary_name,
    unwritable,
)
from translimit.store.cells import (
    MANIFEST,
    CellAddress,
    cell_state,
    flush_folder,
    put_in_place,
    slug,
)
from translimit.store.patience import PATIENCE, patiently

T = TypeVar("T")

_START = "start"
#: Errors that no waiting mends.
_FINAL = (PermissionError, NotImplementedError, ImportError, ValueError, TypeError, StoreError)


class RemoteCells:
    """The cells of runs behind a URL that fsspec understands.

    Args:
        url: `s3://bucket/run`, `file:///shared/run`, `memory://run`, ...
        patience: seconds to wait for a store that is out of reach, with growing pauses.

    Raises:
        ConfigError: no URL, or one that nothing installed here understands.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE):
        import fsspec

        if "://" not in url:
            raise ConfigError(
                "store", f"{url!r} is not a URL", "write file:///shared/run or s3://bucket/run"
            )
        try:
            self.files, root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            remedy = "install the package that serves it, or use another URL"
            raise ConfigError("store", f"{url!r} cannot be opened ({error})", remedy) from error
        self.url, self.root, self.patience = url, str(root).rstrip("/"), patience

    def new_start(self, token: str) -> None:
        """Begin a start of the run: jobs of earlier ones may upload no more.

        Raises:
            StoreError: the store was out of reach for too long.
        """
        self._patiently(lambda: self._write(f"{self.root}/{_START}", token.encode()))

    def require_start(self, token: str) -> None:
        """Refuse to go on for an earlier start.

        Raises:
            OvertakenError: the run was started again.
            StoreError: the store was out of reach for too long.
        """
        # A store without this object is one that has vanished: whoever drives the run wrote it.
        found = self._patiently(lambda: self.files.cat_file(f"{self.root}/{_START}"), absent=True)
        if found.decode() != token:
            raise OvertakenError(
                self.url,
                "the run was started again since this job began; what it computed is dropped",
                "nothing is lost: the later start computes the cell",
            )

    def upload(self, address: CellAddress) -> None:
        """Store a cell that is whole in a folder here; its manifest comes last.

        Raises:
            StoreError: the store cannot be written, or was out of reach for too long.
        """
        content = (address.folder / MANIFEST).read_bytes()
        place = self._place(address)
        for name in json.loads(content)["files"]:
            data = (address.folder / name).read_bytes()
            self._patiently(lambda name=name, data=data: self._write(f"{place}/{name}", data))
        self._patiently(lambda: self._write(f"{place}/{MANIFEST}", content))

    def present(self, address: CellAddress) -> bool:
        """Whether a cell is there by its manifest; `fetch` looks at the digests.

        Raises:
            StoreError: the store was out of reach for too long.
        """
        return self._manifest(address) is not None

    def fetch(self, address: CellAddress) -> bool:
        """Take a cell over into the run folder if it is whole; what is not is removed.

        Returns:
            Whether the run folder now has it.

        Raises:
            StoreError: the store was out of reach for too long, or the run folder cannot be
                written (a full disk is a `DiskFullError`).
        """
        content = self._manifest(address)
        if content is None:
            return False
        final = address.folder
        temporary = temporary_name(final)
        try:
            temporary.mkdir(parents=True)
            whole = self._download(address, content, temporary)
            if whole and cell_state(address, temporary).whole:
                flush_folder(temporary)
                put_in_place(temporary, address, keep_whole=True)
                sync_folder(final.parent)
                return True
        except StoreError:
            raise
        except OSError as error:
            remedy = "choose a writable folder with --out"
            raise unwritable(final, error, remedy=remedy, again="resume") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.forget(address)
        return False

    def forget(self, address: CellAddress) -> None:
        """Remove a cell: its manifest first.

        Raises:
            StoreError: the store cannot be written, or was out of reach for too long.
        """
        place = self._place(address)

        def remove() -> None:
            if self.files.exists(f"{place}/{MANIFEST}"):
                self.files.rm_file(f"{place}/{MANIFEST}")
            if self.files.exists(place):
                self.files.rm(place, recursive=True)

        self._patiently(remove)

    def _download(self, address: CellAddress, manifest: bytes, folder: Path) -> bool:
        """The files of a cell into a folder; False where one is absent or badly named."""
        try:
            names = list(json.loads(manifest)["files"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        for name in names:
            if not isinstance(name, str) or not _stays_inside(name):
                return False
            data = self._read(f"{self._place(address)}/{name}")
            if data is None:
                return False
            target = folder / PurePosixPath(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        (folder / MANIFEST).write_bytes(manifest)
        return True

    def _manifest(self, address: CellAddress) -> bytes | None:
        return self._read(f"{self._place(address)}/{MANIFEST}")

    def _place(self, address: CellAddress) -> str:
        names = (slug(address.experiment), slug(address.cell), address.digest)
        return "/".join((self.root, "cells", *names))

    def _read(self, path: str) -> bytes | None:
        """The content of an object, or None where there is none."""

        def read() -> bytes | None:
            self.files.invalidate_cache()
            try:
                return self.files.cat_file(path)
            except FileNotFoundError:
                return None

        return self._patiently(read)

    def _write(self, path: str, content: bytes) -> None:
        self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(path, content)

    def _patiently(self, action: Callable[[], T], *, absent: bool = False) -> T:
        """Do something, again while the store is out of reach (or, with `absent`, empty)."""

        def away(error: BaseException) -> bool:
            if isinstance(error, FileNotFoundError):
                return absent
            return not isinstance(error, _FINAL)

        def tried() -> T:
            try:
                return action()
            except OSError as error:
                if disk_full(error):
                    raise DiskFullError(
                        self.url, "is full", "make room there, and resume"
                    ) from error
                if not isinstance(error, PermissionError):
                    raise
                raise StoreError(
                    self.url,
                    f"is refused ({error})",
                    "give this process the right to read and write there",
                ) from error

        return patiently(tried, self.url, seconds=self.patience, away=away)


def _stays_inside(name: str) -> bool:
    """Whether a relative path names a file below its folder, on every system."""
    drives = PureWindowsPath(name)
    parts = {*PurePosixPath(name).parts, *drives.parts}
    return ".." not in parts and not name.startswith("/") and not drives.anchor
