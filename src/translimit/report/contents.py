"""What stands on the page: a run folder and its experiments, read into plain values.

A figure or a claim needs every cell of its experiment. An experiment with missing cells is
therefore listed with what is missing and shown without claims and figures; the others are shown in
full. A failure of an experiment's own code (its figures, a table) is a `ReportError`
that names the experiment: a page that silently lacks a figure would be worse than none.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translimit._version import __version__
from translimit.core import (
    JsonObject,
    ReportError,
    StoreError,
    TranslimitError,
    bibtex,
    config,
    format_duration,
)
from translimit.experiments import (
    Experiment,
    FigureSpec,
    OtherVersionError,
    found_sentence,
    stored_experiment,
)
from translimit.report.drawing import Drawing, draw, inline
from translimit.report.leading import look_first
from translimit.report.ledger import ClaimRow, claim_row
from translimit.report.mathematics import plain
from translimit.report.names import slug
from translimit.report.page import (
    Column,
    FigureView,
    MissingCell,
    Page,
    Section,
    Setting,
    StoredCell,
)
from translimit.report.record import command_line, environment, facts, heading, report_command
from translimit.report.tables import (
    cell_text,
    csv_text,
    data_uri,
    numeric_columns,
    require_rectangular,
)
from translimit.store import CellState, ClaimRecord, ExperimentEntry, RunFolder, RunRecord

if TYPE_CHECKING:
    from translimit.core import Progress

#: Rows of a table that the page holds; the file holds all.
MOST_ROWS = 1000

#: Rows beyond which a table is not printed on paper.
LONG_TABLE = 40

#: Bytes of a table beyond which the page holds no copy of the file.
LARGEST_CSV = 1_000_000


def read_page(
    run: str | Path, experiments: Sequence[str] = (), progress: Progress | None = None
) -> Page:
    """Read a run folder and draw the figures of its whole experiments.

    Args:
        run: the run folder.
        experiments: those of other code that may be loaded, as `module:OBJECT`.
        progress: called with the share of the experiments that are drawn.

    Raises:
        StoreError: no run folder, or one that cannot be read.
        ConfigError: something of `experiments` cannot be loaded.
        ReportError: an experiment's figures or tables cannot be shown.
    """
    folder = RunFolder.open(run)
    states = folder.states()
    ledger = _ledger(folder)
    sections: list[Section] = []
    for entry in folder.info["experiments"]:
        own = [state for state in states if state.experiment == entry["name"]]
        drawn = sum(len(section.figures) for section in sections)
        experiment = stored_experiment(entry["name"], experiments)
        claims = ledger.get(entry["name"], [])
        sections.append(_section(folder, entry, experiment, own, claims, drawn + 1))
        if progress is not None:
            progress(len(sections) / len(folder.info["experiments"]))
    name = folder.path.resolve().name
    preset = folder.info["preset"]
    titles = [section.title for section in sections]
    return Page(
        title=titles[0] if len(titles) == 1 else f"{len(titles)} experiments, {preset} preset",
        run_name=name,
        generator=__version__,
        heading=heading(folder.info),
        facts=facts(folder.info),
        first=look_first(sections),
        command=folder.command,
        report_command=report_command(folder.path),
        sections=tuple(sections),
        environment=environment(folder.info),
        bibtex=bibtex(key for entry in folder.info["experiments"] for key in entry["citations"]),
    )


def _ledger(folder: RunFolder) -> Mapping[str, list[ClaimRecord]]:
    """The stored claims; a run that was never finished has none."""
    try:
        return folder.claims()
    except StoreError:
        if folder.info["status"] == "complete":
            raise
        return {}


def _section(
    folder: RunFolder,
    entry: ExperimentEntry,
    experiment: Experiment[Any] | None,
    states: list[CellState],
    claims: list[ClaimRecord],
    first: int,
) -> Section:
    name, preset = entry["name"], folder.info["preset"]
    with _naming(name, "its configuration"):
        settings = _settings(experiment, preset, entry["config"])
    missing = _missing(folder.info, states)
    rows: list[ClaimRow] = []
    figures: tuple[FigureView, ...] = ()
    outdated = finding = ""
    if not missing:
        for claim in claims:
            with _naming(name, f"the claim {claim['name']!r}"):
                rows.append(claim_row(name, claim))
        outdated = _outdated(folder.info["translimit"]) if experiment is not None else ""
        if experiment is not None and not outdated:
            try:
                figures = _figures(folder, name, experiment, preset, entry["config"], first)
            except OtherVersionError as error:
                outdated = str(error)
        with _naming(name, "its finding"):
            told = None if experiment is None or outdated else experiment.finding
            finding = found_sentence(claims, told)
    times = {
        state.cell: state.manifest.get("seconds") for state in states if state.manifest is not None
    }
    known = [seconds for seconds in times.values() if seconds is not None]
    return Section(
        name=name,
        slug=slug(name),
        loaded=experiment is not None,
        title=experiment.title if experiment else entry["title"],
        question=experiment.question if experiment else "",
        summary=experiment.summary if experiment else "",
        finding=finding,
        preset=preset,
        command=command_line(folder.info, entry, _changes(folder.info, experiment, settings)),
        configuration=settings,
        cells=tuple(
            StoredCell(cell, "–" if seconds is None else format_duration(seconds))
            for cell, seconds in times.items()
        ),
        missing=missing,
        expected=len(states),
        seconds=format_duration(sum(known)) if known else "",
        claims=tuple(rows),
        figures=figures,
        outdated=outdated,
    )


def _outdated(version: str) -> str:
    """Why figures of a run of another version are not drawn; "" where they are.

    A new minor version may change what an array of a name holds.
    """
    if version.split(".")[:2] == __version__.split(".")[:2]:
        return ""
    return f"translimit {version} stored them, and this is {__version__}"


def _missing(info: RunRecord, states: list[CellState]) -> tuple[MissingCell, ...]:
    """The cells that cannot be read, each with what is known of the reason."""
    errors = {failure["cell"]: failure["error"] for failure in info.get("failed") or ()}
    return tuple(
        MissingCell(
            state.cell,
            f"damaged: {state.problem}" if state.state == "damaged" else "",
            errors.get(f"{state.experiment}: {state.cell}", ""),
        )
        for state in states
        if not state.whole
    )


def _settings(
    experiment: Experiment[Any] | None, preset: str, stored: JsonObject
) -> tuple[Setting, ...]:
    if experiment is None:
        return tuple(Setting(key, json.dumps(value), "", False) for key, value in stored.items())
    usual = config.to_json(experiment.presets[preset])
    return tuple(
        Setting(
            key,
            json.dumps(value),
            json.dumps(usual.get(key)),
            value != usual.get(key),
        )
        for key, value in stored.items()
    )


def _changes(
    info: RunRecord,
    experiment: Experiment[Any] | None,
    settings: Sequence[Setting],
) -> dict[str, str]:
    """What a command must set: what differs from the preset, or what the run was told to set."""
    if experiment is not None:
        return {one.key: one.value for one in settings if one.changed}
    told = {key: value for key, _, value in (text.partition("=") for text in info["overrides"])}
    return {one.key: told[one.key] for one in settings if one.key in told}


def _figures(
    folder: RunFolder,
    name: str,
    experiment: Experiment[Any],
    preset: str,
    stored: JsonObject,
    first: int,
) -> tuple[FigureView, ...]:
    with _naming(name, "its configuration"):
        values = config.from_json(type(experiment.presets[preset]), stored)
    results = folder.read_cells(name)
    with _naming(name, "its list of figures"):
        specs = experiment.drawings(values, results)
    names = [slug(spec.name) for spec in specs]
    for repeated in sorted({n for n in names if names.count(n) > 1}):
        raise ReportError(name, f"the figure {repeated!r}", "two figures have this name")
    views = []
    for number, spec in enumerate(specs, start=first):
        with _naming(name, f"the figure {spec.name!r}"):
            views.append(_view(name, spec, number))
    return tuple(views)


def _view(experiment: str, spec: FigureSpec, number: int) -> FigureView:
    require_rectangular(spec.table)
    drawing: Drawing = draw(spec)
    identifier = slug("figure", experiment, spec.name)
    label = f"Figure {number}: {plain(spec.title)}"
    content = csv_text(spec.table).encode()
    rows = spec.table.rows
    shown = tuple(tuple(cell_text(cell) for cell in row) for row in rows[:MOST_ROWS])
    return FigureView(
        number=number,
        slug=identifier,
        file=slug(experiment, spec.name),
        title=spec.title.rstrip("."),
        caption=spec.caption,
        shown=spec.shown,
        excluded=spec.excluded,
        width=round(96 * spec.size[0] * 1.12),
        drawing=inline(drawing, identifier, label, f"{identifier}-caption"),
        columns=tuple(
            Column(*pair)
            for pair in zip(spec.table.columns, numeric_columns(spec.table), strict=True)
        ),
        cells=shown,
        rows=len(rows),
        long=len(rows) > LONG_TABLE,
        csv_uri=data_uri(content, "text/csv") if len(content) <= LARGEST_CSV else "",
        files={"svg": drawing.svg, "png": drawing.png, "csv": content},
    )


@contextlib.contextmanager
def _naming(experiment: str, part: str) -> Iterator[None]:
    """Turn any failure into one that names the experiment: its code is not ours to foresee."""
    try:
        yield
    except (ReportError, OtherVersionError):
        raise
    except TranslimitError as error:
        raise ReportError(experiment, part, str(error)) from error
    except Exception as error:
        raise ReportError(experiment, part, f"{type(error).__name__}: {error}") from error
