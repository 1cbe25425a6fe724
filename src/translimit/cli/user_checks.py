"""Coordinate checks and transfer sweeps of a user's factory: what the commands ask for and keep.

Every finished network is a file of the run folder, so that an interrupted command is finished by
the same command. The folder's name has a digest of the factory's source and of all options that
change a number.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypedDict, TypeVar

from translimit._version import __version__
from translimit.checks import (
    CheckRecord,
    SweepRecord,
    coordinate_check,
    load_factory,
    transfer_sweep,
)
from translimit.cli.model_arguments import CoordCheckCommand, TransferCommand
from translimit.core import (
    ConfigError,
    Json,
    JsonObject,
    StoreError,
    config,
    progress_bar,
    unwritable,
    write_bytes,
)
from translimit.describe import Size
from translimit.scaling import read_size
from translimit.store import JsonCells, dump_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Of the form of the cells; another form is another run.
_CELLS = 2
#: Of the documents that are written and printed.
FORMAT = 2


class Head(TypedDict):
    """What every document says first; `format` is the number of its keys."""

    format: int
    factory: str
    translimit: str
    base: dict[str, Json]
    seeds: int


class CheckDocument(Head):
    """The coordinate checks of a factory, and the worst verdict."""

    verdict: str
    checks: list[CheckRecord]


class ToldSweep(SweepRecord):
    """A transfer sweep, under the rules or in the standard parameterization."""

    parameterization: str


class SweepDocument(Head):
    """The transfer sweeps of a factory."""

    steps: int
    sweeps: list[ToldSweep]


Document = TypeVar("Document", CheckDocument, SweepDocument)


@dataclass(frozen=True)
class Answer(Generic[Document]):
    """What a command found.

    Attributes:
        document: plain data, as `--json` prints it.
        figures: by axis, where a plot was asked for.
        folder: where finished networks are.
    """

    document: Document
    figures: dict[str, Figure]
    folder: Path


def coordinate_checks(command: CoordCheckCommand) -> Answer[CheckDocument]:
    """Run the checks of all axes."""
    _require_plot(command.plot)
    factory, base = load_factory(command.factory), read_size(command.base).size
    facts = {"rate": command.rate, "steps": sorted(set(command.steps))}
    folder, cells = _folder("coord-check", command, base, facts)
    found, figures = [], {}
    for axis in dict.fromkeys(command.axis):
        with progress_bar(axis) as progress:
            check = coordinate_check(
                factory,
                axis,
                _sizes(base, axis, command.multiples),
                base=base,
                rate=command.rate,
                steps=command.steps,
                seeds=command.seeds,
                standard=command.standard,
                cache=cells,
                progress=progress,
            )
        found.append(check.to_json())
        if command.plot is not None:
            from translimit.figures import draw_check

            figures[axis] = draw_check(check)
    verdicts = {one["verdict"] for one in found}
    worst = next(word for word in ("refuted", "underpowered", "supported") if word in verdicts)
    document: CheckDocument = {**_head(command, base), "verdict": worst, "checks": found}
    _write(folder / "check.json", dump_json(document))
    return Answer(document, figures, folder)


def transfer_sweeps(command: TransferCommand) -> Answer[SweepDocument]:
    """Run the sweeps of all axes, under the rules and in the standard parameterization."""
    _require_plot(command.plot)
    factory, base = load_factory(command.factory), read_size(command.base).size
    first, last = command.log2_rates
    if last - first < 2:
        raise ConfigError(
            "--log2-rates", f"got {first} {last}", "pass two exponents at least 2 apart"
        )
    rates = [2.0**power for power in range(first, last + 1)]
    folder, cells = _folder("transfer", command, base, {"rates": rates, "steps": command.steps})
    found, figures = [], {}
    for axis in dict.fromkeys(command.axis):
        sweeps = {}
        for kind in ("rules",) if command.rules_only else ("rules", "standard"):
            with progress_bar(f"{axis}, {kind}") as progress:
                sweeps[kind] = transfer_sweep(
                    factory,
                    axis,
                    _sizes(base, axis, command.multiples),
                    base=base,
                    rates=rates,
                    steps=command.steps,
                    seeds=command.seeds,
                    standard=kind == "standard",
                    cache=cells,
                    progress=progress,
                )
            found.append({"parameterization": kind, **sweeps[kind].to_json()})
        if command.plot is not None:
            from translimit.figures import draw_sweeps

            figures[axis] = draw_sweeps(sweeps)
    document: SweepDocument = {**_head(command, base), "steps": command.steps, "sweeps": found}
    _write(folder / "transfer.json", dump_json(document))
    return Answer(document, figures, folder)


def plot_path(command: CoordCheckCommand | TransferCommand, axis: str) -> Path:
    """The file of one axis: the given one, with the axis in its name if there are several."""
    path = command.plot or Path("check.png")
    alone = len(set(command.axis)) == 1
    return path if alone else path.with_name(f"{path.stem}-{axis}{path.suffix}")


def _head(command: CoordCheckCommand | TransferCommand, base: Size) -> Head:
    return {
        "format": FORMAT,
        "factory": command.factory,
        "translimit": __version__,
        "base": config.to_json(base),
        "seeds": command.seeds,
    }


def _sizes(base: Size, axis: str, multiples: tuple[int, ...]) -> tuple[int, ...]:
    if not multiples or min(multiples) < 1:
        raise ConfigError(
            "--multiples",
            f"got {' '.join(map(str, multiples))}",
            "pass whole numbers of at least 1",
        )
    return tuple(getattr(base, axis) * multiple for multiple in sorted(set(multiples)))


def _require_plot(path: Path | None) -> None:
    if path is not None and path.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError("--plot", f"got {str(path)!r}", "name a .png, .pdf or .svg file")


def _folder(
    kind: str, command: CoordCheckCommand | TransferCommand, base: Size, facts: JsonObject
) -> tuple[Path, JsonCells]:
    """The run folder and its cells, for exactly this factory and these numbers."""
    identity = {
        "factory": command.factory,
        "source": _source(command.factory),
        "base": config.to_json(base),
        "translimit": __version__,
        "cells": _CELLS,
        **facts,
    }
    digest = config.digest(identity)
    slug = re.sub(r"[^\w]+", "-", command.factory)
    folder = command.out or Path("runs") / f"{kind}-{slug}-{digest[:8]}"
    cells = JsonCells(folder / "cells")
    mark = cells.path / ".digest"
    kept = mark.read_text(encoding="utf-8", errors="replace") if mark.is_file() else None
    if kept is not None and kept != digest and not command.fresh:
        raise StoreError(folder, "holds another check or sweep", "add --fresh, or choose another")
    if command.fresh:
        for name in list(cells):
            del cells[name]
    _write(mark, digest)
    return folder, cells


def _write(path: Path, text: str) -> None:
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        raise unwritable(path, error, remedy="choose another with --out", again="resume") from error


def _source(name: str) -> str:
    """The text of the factory's module, so that another text is another run."""
    module = sys.modules[name.partition(":")[0]]
    file = getattr(module, "__file__", None)
    return Path(file).read_text(encoding="utf-8") if file and Path(file).is_file() else ""
