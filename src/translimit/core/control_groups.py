"""How much memory the control group of this process leaves it (Linux: containers, Slurm, systemd).

A process belongs to a group whose limit may be tighter than the machine's, and so may be that of
any group above it. What the group uses already is counted, its other processes included; pages of
files that the kernel would give up first are not. Both hierarchies are read: the second version,
and the memory controller of the first.

Reference: the kernel's documentation, "Control Group v2" and "Memory Resource Controller".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

#: By kind of file system: limit, use, and the row of memory.stat with what can be given up.
_FILES = {
    "cgroup2": ("memory.max", "memory.current", "inactive_file"),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_in_group(root: Path = Path("/")) -> float:
    """Bytes that this process may still take before its control groups refuse; infinite without.

    Args:
        root: of the file system that is looked at.
    """
    return min((_free(folder, kind) for folder, kind in _groups(root)), default=float("inf"))


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    """Folders of the groups of this process and of those above them, with their kind."""
    for kind, mounted, point in _mounts(root):
        own = _own_group(root, kind)
        if own is None:
            continue
        # A container sees its own group as the root of the mount, or below it.
        inside = own.relative_to(mounted) if own.is_relative_to(mounted) else PurePosixPath()
        if ".." in inside.parts:
            inside = PurePosixPath()
        base = root / point.relative_to("/")
        for part in (inside, *inside.parents):
            yield base / part, kind


def _mounts(root: Path) -> Iterator[tuple[str, PurePosixPath, PurePosixPath]]:
    """Kind, mounted group and mount point of every hierarchy that can limit memory."""
    for row in _rows(root / "proc/self/mountinfo"):
        before, _, after = row.partition(" - ")
        fields, system = before.split(), after.split()
        if len(fields) < 5 or len(system) < 3 or system[0] not in _FILES:
            continue
        if system[0] == "cgroup" and "memory" not in system[2].split(","):
            continue
        yield system[0], PurePosixPath(fields[3]), PurePosixPath(fields[4])


def _own_group(root: Path, kind: str) -> PurePosixPath | None:
    """The group of this process in the hierarchy of a kind."""
    for row in _rows(root / "proc/self/cgroup"):
        number, _, rest = row.partition(":")
        controllers, _, path = rest.partition(":")
        second = number == "0" and not controllers
        if second if kind == "cgroup2" else "memory" in controllers.split(","):
            return PurePosixPath(path)
    return None


def _free(folder: Path, kind: str) -> float:
    """What a group leaves; infinite where it sets no limit."""
    limit_file, use_file, given_up = _FILES[kind]
    limit, use = _number(folder / limit_file), _number(folder / use_file)
    if limit is None:
        return float("inf")
    stat = dict(row.split()[:2] for row in _rows(folder / "memory.stat") if len(row.split()) == 2)
    reclaimed = float(stat.get(given_up, 0))
    return max(0.0, limit - max(0.0, (use or 0.0) - reclaimed))


def _number(path: Path) -> float | None:
    """The number in a file; None for no file, and for "max"."""
    for row in _rows(path):
        return float(row) if row.strip().isdigit() else None
    return None


def _rows(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
