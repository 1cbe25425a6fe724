"""Compiled programs that are kept from one process to the next.

JAX compiles a function once in a process, and can keep the machine code in a folder, where the next
process finds it under a digest of the program, the compiler's version and its flags. Here is the
folder that translimit's commands use: one for each kind of processor and number of threads, since
machine code of one is wrong on another and clusters share a home; below the user's cache folder;
and only if nobody else can write there, because what is read from it is executed.

Commands switch it on, importing the library does not. A Python program does so by one call,
`keep_programs()`. A user's own setting of JAX wins: JAX_COMPILATION_CACHE_DIR, or
`jax.config.jax_compilation_cache_dir`. TRANSLIMIT_PROGRAMS=off switches it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import stat
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from translimit.core.resources import allowed_threads

#: "off": nothing is kept; "on": a worker keeps programs as the process that started it does.
PROGRAMS_SWITCH = "TRANSLIMIT_PROGRAMS"
#: Above so many bytes the programs that were not used for longest are removed.
MOST_BYTES = 2**30
#: How often that is looked at, in seconds.
_EVERY = 3600.0
#: What JAX is told: every program is worth keeping, however small and however soon compiled.
_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}

_in_use: Path | None = None


@dataclass(frozen=True)
class KeptPrograms:
    """What is kept, and whether it is used.

    Attributes:
        folder: of this kind of processor and number of threads, or the user's own.
        root: of all kinds.
        programs: how many files, in all of them.
        size: bytes.
        status: "on", or why nothing is read or written.
    """

    folder: Path
    root: Path
    programs: int
    size: int
    status: str


def keep_programs() -> Path | None:
    """Keep what JAX compiles from now on, and use what is kept.

    A folder that cannot be made or written, or that others can write, is not used: programs are
    compiled as if this had not been called.

    Returns:
        The folder, or None where nothing is kept.

    Examples:
        >>> from translimit.core import keep_programs
        >>> folder = keep_programs()  # doctest: +SKIP
    """
    global _in_use
    import jax

    own = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    folder = programs_folder()
    if own and Path(own) != folder:
        return Path(own)
    if _switched_off() or _make(folder) is not None:
        return None
    if not own:
        for name, value in _SETTINGS.items():
            jax.config.update(name, value)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        from jax.experimental.compilation_cache import compilation_cache

        # What was compiled before had no folder, and that is remembered.
        compilation_cache.reset_cache()
        # A full disk, or a file that another process is writing: compiled again, and no error.
        warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")
    _in_use = folder
    _bound(programs_root())
    return folder


def folder_in_use() -> Path | None:
    """The folder where this process keeps programs; None where it keeps none, or in one's own."""
    return _in_use


def worker_switch() -> str:
    """The value of TRANSLIMIT_PROGRAMS for workers of this process; empty where they decide."""
    return "on" if _in_use else os.environ.get(PROGRAMS_SWITCH, "")


def keep_as_told() -> None:
    """In a worker: keep programs if the process that started it does."""
    if os.environ.get(PROGRAMS_SWITCH) == "on":
        keep_programs()


def programs_root() -> Path:
    """Where programs of all kinds of processors are kept: below XDG_CACHE_HOME, or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()
    return base / "translimit" / "programs"


def programs_folder() -> Path:
    """The folder of this kind of processor and of the number of threads that JAX uses here."""
    digest = hashlib.sha256(_processor().encode()).hexdigest()[:12]
    return programs_root() / f"{platform.machine() or 'cpu'}-{digest}-{allowed_threads()}"


def kept_programs() -> KeptPrograms:
    """Where programs are kept, how many and how large; nothing is changed. Loads no JAX."""
    root, folder = programs_root(), programs_folder()
    status = "on"
    if own := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        folder, status = Path(own), "JAX_COMPILATION_CACHE_DIR names another folder"
    elif _switched_off():
        status = f"switched off by {PROGRAMS_SWITCH}"
    elif folder.exists() and (problem := _problem(folder)) is not None:
        status = problem
    files = list(_files(root))
    return KeptPrograms(folder, root, len(files), sum(size for _, size, _ in files), status)


def clear_programs() -> KeptPrograms:
    """Remove what is kept for every kind of processor; what there was.

    Programs in a folder that the user named to JAX are left alone.
    """
    before = kept_programs()
    shutil.rmtree(before.root, ignore_errors=True)
    return before


def _switched_off() -> bool:
    return os.environ.get(PROGRAMS_SWITCH, "").lower() in ("off", "0", "no", "false")


def _processor() -> str:
    """What tells kinds of processors apart: the model, and the instructions that it has."""
    table = Path("/proc/cpuinfo")
    with contextlib.suppress(OSError):
        wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
        rows = table.read_text(errors="replace").split("\n\n")[0].splitlines()
        found = [row for row in rows if row.partition("\t")[0].strip(" :\t") in wanted]
        if found:
            return "\n".join(found)
    return f"{platform.processor()} {platform.machine()}"


def _make(folder: Path) -> str | None:
    """Make a folder that only its owner can enter; why it cannot be used, or None."""
    try:
        for one in (folder.parent.parent, folder.parent, folder):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    return _problem(folder)


def _problem(folder: Path) -> str | None:
    """Why what lies in a folder must not be executed, or cannot be added to; None if it may."""
    if not hasattr(os, "geteuid"):
        return None if os.access(folder, os.W_OK) else "the folder cannot be written"
    for place in (folder, *folder.resolve().parents):
        try:
            status = place.stat()
        except OSError as error:
            return f"the folder cannot be read ({error.strerror})"
        ours = place in (folder, *folder.parents[:2])
        others = stat.S_IWGRP | stat.S_IWOTH if ours else stat.S_IWOTH
        writable = bool(status.st_mode & others) and (ours or not status.st_mode & stat.S_ISVTX)
        if writable or status.st_uid not in ((os.geteuid(),) if ours else (os.geteuid(), 0)):
            return f"others can write to {place}"
    return None if os.access(folder, os.W_OK | os.X_OK) else "the folder cannot be written"


def _files(root: Path) -> Iterator[tuple[float, int, Path]]:
    """When it was last used, size and path of every file below a folder."""
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                path = Path(folder, name)
                found = path.stat()
                yield max(found.st_atime, found.st_mtime), found.st_size, path


def _bound(root: Path) -> None:
    """Remove what was not used for longest until the rest is within the bound."""
    stamp = root / ".looked-at"
    with contextlib.suppress(OSError):
        if stamp.exists() and time.time() - stamp.stat().st_mtime < _EVERY:
            return
        stamp.touch()
        files = sorted(_files(root))
        excess = sum(size for _, size, _ in files) - MOST_BYTES
        for _, size, path in files:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size
