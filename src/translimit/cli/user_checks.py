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
    SweepPlan,
    SweepRecord,
    TransferSweep,
    coordinate_check,
    horizon_sweeps,
    load_factory,
    make,
    sweep_plan,
)
from translimit.cli.model_arguments import CoordCheckCommand, TransferCommand
from translimit.core import (
    ConfigError,
    Json,
    JsonObject,
    StoreError,
    config,
    format_count,
    format_duration,
    progress_bar,
    unwritable,
    write_bytes,
)
from translimit.describe import Size
from translimit.scaling import Horizon, horizons_to_json, read_size
from translimit.store import JsonCells, dump_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from translimit.checks import AxisName, ScheduleName

#: Of the form of the cells; another form is another run.
_CELLS = 3
#: Of the documents that are written and printed.
FORMAT = 3


class Head(TypedDict):
    """What every document says first; `format` is the number of its keys."""

    format: int
    factory: str
    translimit: str
    base: dict[str, Json]
    seeds: int | list[int]


class CheckDocument(Head):
    """The coordinate checks of a factory, the worst verdict, and all of them in words."""

    verdict: str
    in_words: list[str]
    checks: list[CheckRecord]


class ToldSweep(SweepRecord):
    """A transfer sweep, under the rules or in the standard parameterization."""

    parameterization: str


class SweepDocument(Head):
    """The transfer sweeps of a factory, by axis, number of updates and parameterization."""

    steps: list[int]
    schedule: str
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


def coordinate_checks(
    command: CoordCheckCommand, announce: Callable[[str], object]
) -> Answer[CheckDocument]:
    """Run the checks of all axes.

    Args:
        command: what is asked for.
        announce: told what an axis will take, before most of it is done.
    """
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
                larger=not command.no_larger,
                budget=command.budget,
                standard=command.standard,
                cache=cells,
                progress=progress,
                announce=announce,
            )
        found.append(check.to_json())
        if command.plot is not None:
            from translimit.figures import draw_check

            figures[axis] = draw_check(check)
    verdicts = {one["verdict"] for one in found}
    worst = next(word for word in ("refuted", "underpowered", "supported") if word in verdicts)
    document: CheckDocument = {
        **_head(command, base),
        "verdict": worst,
        "in_words": [f"{one['axis']}: {one['in_words']}" for one in found],
        "checks": found,
    }
    _write(folder / "check.json", dump_json(document))
    return Answer(document, figures, folder)


def transfer_sweeps(
    command: TransferCommand, announce: Callable[[str], object]
) -> Answer[SweepDocument]:
    """Run the sweeps of all axes, under the rules and in the standard parameterization.

    Args:
        command: what is asked for.
        announce: told beforehand what is trained, and about how long it takes.
    """
    _require_plot(command.plot)
    factory, base = load_factory(command.factory), read_size(command.base).size
    steps, rates = tuple(sorted(set(command.steps))), _rates(command)
    facts = {"rates": rates, "schedule": command.schedule, "steps": steps}
    if command.schedule == "constant":
        facts["shifted from"] = steps[0]
    folder, cells = _folder("transfer", command, base, facts)
    kinds = ("rules",) if command.rules_only else ("rules", "standard")
    grid: _Grid = {"base": base, "rates": rates, "horizons": steps, "schedule": command.schedule}
    axes: dict[AxisName, tuple[int, ...]] = {
        axis: _sizes(base, axis, command.multiples) for axis in dict.fromkeys(command.axis)
    }
    plans = [
        sweep_plan(factory, axis, sizes, seeds=command.seeds, standard=kind == "standard", **grid)
        for axis, sizes in axes.items()
        for kind in kinds
    ]
    if any(plan.name(*cell) not in cells for plan in plans for cell in plan.cells()):
        networks = sum(len(plan.runs(own)) for plan in plans for _, _, own in plan.cells())
        seconds = sum(plan.seconds(cells) for plan in plans)
        announce(f"{networks} networks in all; what is left takes about {format_duration(seconds)}")
    found, figures = [], {}
    ruled: list[TransferSweep] = []
    for axis, sizes in axes.items():
        sweeps: dict[str, tuple[TransferSweep, ...]] = {}
        for kind in kinds:
            with progress_bar(f"{axis}, {kind}") as progress:
                sweeps[kind] = horizon_sweeps(
                    factory,
                    axis,
                    sizes,
                    seeds=command.seeds,
                    standard=kind == "standard",
                    cache=cells,
                    progress=progress,
                    **grid,
                )
        ruled += sweeps["rules"]
        found += [
            {"parameterization": kind, **sweeps[kind][place].to_json()}
            for place in range(len(steps))
            for kind in kinds
        ]
        if command.plot is not None:
            from translimit.figures import draw_sweeps

            titled = {
                (kind if len(steps) == 1 else f"{kind}, {format_count(one.steps, 'update')}"): one
                for told in zip(*sweeps.values(), strict=True)
                for kind, one in zip(kinds, told, strict=True)
            }
            figures[axis] = draw_sweeps(titled, across=len(kinds))
    document: SweepDocument = {
        **_head(command, base),
        "steps": list(steps),
        "schedule": command.schedule,
        "sweeps": found,
    }
    _write(folder / "transfer.json", dump_json(document))
    _write(folder / "horizons.json", dump_json(horizons_to_json(_horizons(command, plans, ruled))))
    return Answer(document, figures, folder)


def _horizons(
    command: TransferCommand, plans: list[SweepPlan], ruled: list[TransferSweep]
) -> list[Horizon]:
    """Records for `translimit scale --ledger`; none where the factory's model carries no rules."""
    first = plans[0]
    made = make(first.factory, first.trial(first.sizes[0], 0, first.grids[0][0], first.horizons[0]))
    if made.rules is None:
        return []
    name = made.rules.question.kind.name
    digest = config.digest([one.losses.tolist() for one in ruled])[:12]
    return [
        record
        for one in ruled
        for record in one.horizons(data=command.factory, optimizer=name, epochs=0.0, digest=digest)
    ]


class _Grid(TypedDict):
    """What all sweeps of a command have in common."""

    base: Size
    rates: list[float]
    horizons: tuple[int, ...]
    schedule: ScheduleName


def _rates(command: TransferCommand) -> list[float]:
    first, last = command.log2_rates
    if command.points < 1:
        raise ConfigError("--points", f"got {command.points}", "pass at least 1")
    if (last - first) * command.points < 2:
        raise ConfigError(
            "--log2-rates", f"got {first} {last}", "pass two exponents at least 2 apart"
        )
    count = (last - first) * command.points + 1
    return [2.0 ** (first + place / command.points) for place in range(count)]


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
        "seeds": command.seeds if isinstance(command.seeds, int) else list(command.seeds),
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
