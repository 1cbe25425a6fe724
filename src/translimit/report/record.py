"""The record of a run in words: when, where, with what, and the command that remakes it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from translimit.core import format_count, format_duration
from translimit.store import ExperimentEntry, RunRecord

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)


def heading(info: RunRecord) -> str:
    """The run in a few words: preset, seed, day, wall time."""
    parts = [f"{info['preset']} preset", f"seed {info['seed']}"]
    if info.get("started"):
        parts.append(moment(info["started"]).partition(" at ")[0])
    if info.get("wall_seconds"):
        parts.append(format_duration(info["wall_seconds"]))
    return " · ".join(parts)


def facts(info: RunRecord) -> str:
    """The rest of the sentence "This run computed X ..."."""
    packages = info["packages"]
    versions = [f"translimit {info['translimit']}", f"Python {info['python']}"]
    versions += [f"{name} {packages[name]}" for name in ("jax", "numpy") if name in packages]
    parts = [f"at the {info['preset']} preset with seed {info['seed']}"]
    if info.get("started"):
        parts.append(f"on {moment(info['started'])}")
    if info.get("wall_seconds"):
        parts.append(f"in {format_duration(info['wall_seconds'])} of wall time")
    where = f"on {_devices(info)}" if _devices(info) else ""
    if info.get("threads"):
        where += f" with {format_count(info['threads'], 'thread')}"
    return f"{', '.join(parts)}{' ' if where else ''}{where}, using {_list(versions)}."


def environment(info: RunRecord) -> tuple[tuple[str, str], ...]:
    """Machine and versions, as rows of a table."""
    rows = [
        ("status", info["status"]),
        ("started", moment(info["started"]) if info.get("started") else ""),
        ("seed", str(info["seed"])),
        ("device", _devices(info)),
        ("threads", str(info.get("threads") or "")),
        ("platform", str(info.get("platform") or "")),
        ("Python", str(info["python"])),
        ("translimit", str(info["translimit"])),
        *((k, str(v)) for k, v in sorted(info["packages"].items()) if k != "translimit"),
    ]
    if info.get("wall_seconds"):
        rows.insert(2, ("wall time", format_duration(info["wall_seconds"])))
    return tuple((name, value) for name, value in rows if value)


def command_line(info: RunRecord, entry: ExperimentEntry, changes: Mapping[str, str]) -> str:
    """The command that computes one experiment anew: `translimit run NAME --preset P --seed S`.

    Args:
        info: the contents of `run.json`.
        entry: the experiment's entry there.
        changes: the configuration values that differ from the preset, as JSON.
    """
    words = ["translimit", "run", entry["source"], "--preset", info["preset"]]
    words += ["--seed", str(info["seed"])]
    words += ["--threads", str(info["threads"])] if info["threads"] != 1 else []
    for key, value in changes.items():
        words += ["--set", f"{key}={value}"]
    return shlex.join(words)


def report_command(path: Path) -> str:
    """The command that rebuilds the page, as typed beside `runs/`, or beside the folder itself."""
    path = path.resolve()
    folder = f"runs/{path.name}" if path.parent.name == "runs" else path.name
    return shlex.join(["translimit", "report", folder])


def moment(stamp: str) -> str:
    """An ISO time stamp as `22 November 2026 at 12:05 UTC`; anything else stays as it is."""
    with contextlib.suppress(ValueError):
        time = datetime.fromisoformat(stamp)
        day = f"{time.day} {MONTHS[time.month - 1]} {time.year}"  # whatever the reader's locale
        return f"{day} at {time:%H:%M} {time.tzname() or ''}".strip()
    return stamp


def _devices(info: RunRecord) -> str:
    devices = info.get("devices") or []
    if isinstance(devices, str):
        return devices
    return _list([_device(device) for device in dict.fromkeys(map(str, devices))])


def _device(name: str) -> str:
    """`cpu (cpu)` as `cpu`: JAX tells the kind of a device that has no other name."""
    platform, _, kind = name.partition(" (")
    return platform if kind == f"{platform})" else name


def _list(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
