"""Files that appear whole or not at all, and why one cannot be written.

A file is written under a temporary name beside its own, flushed to the disk and renamed: a reader
sees the old file or the new one, never half of one. Libraries tell a full disk in words of their
own, with the system's somewhere in them, and as errors of other types than `OSError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from translimit.core.errors import DiskFullError, StoreError, cause_of

#: Names of unfinished files and folders start with this.
TEMPORARY = ".tmp-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, is a full disk, an exhausted quota or file limit."""
    words = [os.strerror(code) for code in _FULL]
    while error is not None:
        if isinstance(error, DiskFullError) or getattr(error, "errno", None) in _FULL:
            return True
        if isinstance(error, (OSError, RuntimeError)) and any(w in str(error) for w in words):
            return True  # of a library that tells the system's error in a text
        error = error.__cause__ or error.__context__
    return False


def unwritable(
    path: Path | str, error: BaseException, *, remedy: str, again: str = "do it again"
) -> StoreError:
    """The error of a path that cannot be written.

    Args:
        path: the file or folder.
        error: why.
        remedy: what the caller can do, as in "choose a writable folder with --out".
        again: what to do once a full disk has space again.
    """
    if disk_full(error):
        return DiskFullError(path, "the disk is full", f"free space and {again}")
    return StoreError(path, f"cannot be written ({cause_of(error)})", remedy)


@contextlib.contextmanager
def whole_file(path: Path, *, remedy: str, again: str = "do it again") -> Iterator[Path]:
    """A file that appears whole or not at all: write to the path that is given.

    Args:
        path: of the file, which takes its name when the block ends; an old one is replaced.
        remedy: what the caller can do where it cannot be written (see `unwritable`).
        again: what to do once a full disk has space again.

    Yields:
        A name beside it, at which nothing is; what the block leaves there is the file.

    Raises:
        DiskFullError: the disk is full.
        StoreError: the folder cannot be written. Of both, nothing is left behind.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except StoreError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or disk_full(error):
            raise unwritable(path, error, remedy=remedy, again=again) from error
        raise
    finally:
        _remove(temporary)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: the folder is not writable, or the disk is full; the old file is untouched.
    """
    write_all({Path(path): content})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files so that they appear together: all are on the disk before the first is renamed.

    Raises:
        OSError: a folder is not writable, or the disk is full; the old files are untouched.
    """
    names = {path: temporary_name(path) for path in files}
    try:
        for path, content in files.items():
            with open(names[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in names.items():
            os.replace(temporary, path)
    except BaseException:
        for temporary in names.values():
            _remove(temporary)
        raise
    for folder in dict.fromkeys(path.parent for path in files):
        sync_folder(folder)


def temporary_name(path: Path) -> Path:
    """A name beside a path that no other process uses."""
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")


def sync_folder(path: Path) -> None:
    """Flush the entries of a folder to the disk, where the system can (Windows can not)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the folder may be none
        path.unlink(missing_ok=True)
