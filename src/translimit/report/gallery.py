"""`build_gallery`: one page over many runs, every figure with its claims and the time it took.

The page stands in a folder that holds the runs, and shows their stored figures: it can be moved
with them, and asks nothing of the network.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from translimit._version import __version__
from translimit.core import StoreError, cause_of, format_duration, unwritable, write_bytes
from translimit.experiments import PAPERS, found_sentence, stored_experiment
from translimit.report.build import FIGURES_INDEX, build_report, read_index
from translimit.report.ledger import ClaimRow, claim_row, count_verdicts
from translimit.report.names import slug
from translimit.report.typesetting import style, template
from translimit.store import CellState, ExperimentEntry, RunFolder

PAGE = "index.html"


@dataclass(frozen=True)
class Picture:
    """A stored figure: where it lies below the gallery, and what it shows."""

    source: str
    title: str
    width: int
    height: int


@dataclass(frozen=True)
class Card:
    """One experiment.

    Attributes:
        name: of the experiment.
        slug: the name as an anchor.
        title: its title.
        summary: its summary.
        finding: what was found, in one sentence; empty without claims.
        seconds: summed over its cells, in words.
        missing: how many cells are not whole.
        cells: how many there are.
        counts: claims by verdict.
        claims: rows of the ledger.
        pictures: its figures.
        report: the report below the gallery; empty where the run is not complete.
        command: remakes the run.
    """

    name: str
    slug: str
    title: str
    summary: str
    finding: str
    seconds: str
    missing: int
    cells: int
    counts: tuple[tuple[str, int], ...]
    claims: tuple[ClaimRow, ...]
    pictures: tuple[Picture, ...]
    report: str
    command: str

    @property
    def errata(self) -> int:
        """How many printed forms are refuted beside the claims that correct them."""
        return sum(len(claim.errata) for claim in self.claims)


def build_gallery(
    folder: str | Path, runs: Sequence[str | Path], experiments: Sequence[str] = ()
) -> Path:
    """Write the page over runs that lie in one folder; a whole run without a report gets one.

    Args:
        folder: where the page goes.
        runs: run folders below it, each of one experiment or several.
        experiments: those of neither translimit nor an installed package, as `module:OBJECT`,
            whose code may be loaded; of others the page shows what is stored.

    Returns:
        The path of `index.html`.

    Raises:
        StoreError: a run cannot be read or does not lie in the folder; the page cannot be written.
        ConfigError: something of `experiments` cannot be loaded.
        ReportError: a report that was missing cannot be drawn.
    """
    folder = Path(folder)
    opened = [RunFolder.open(run) for run in runs]
    cards = [
        _card(folder, run, entry, states, experiments)
        for run in opened
        for entry, states in _entries(run)
    ]
    known = list(PAPERS)
    shelves = [
        (title, [card for card in cards if card.name.split("/")[0] == paper])
        for paper, title in PAPERS.items()
    ]
    shelves.append(("More", [card for card in cards if card.name.split("/")[0] not in known]))
    from markupsafe import Markup

    content = template("gallery.html.j2").render(
        style=Markup(style()),  # a file of this package
        shelves=[(title, found) for title, found in shelves if found],
        presets=sorted({run.info["preset"] for run in opened}),
        counts=count_verdicts([claim for card in cards for claim in card.claims]),
        errata=sum(card.errata for card in cards),
        experiments=len(cards),
        generator=__version__,
    )
    try:
        write_bytes(folder / PAGE, (content + "\n").encode())
    except OSError as error:
        remedy = "make the folder writable"
        raise unwritable(folder / PAGE, error, remedy=remedy) from error
    return folder / PAGE


def _entries(run: RunFolder) -> list[tuple[ExperimentEntry, list[CellState]]]:
    """The experiments of a run with the states of their cells."""
    states = run.states()
    return [
        (entry, [state for state in states if state.experiment == entry["name"]])
        for entry in run.info["experiments"]
    ]


def _card(
    folder: Path,
    run: RunFolder,
    entry: ExperimentEntry,
    states: Sequence[CellState],
    experiments: Sequence[str],
) -> Card:
    name = entry["name"]
    experiment = stored_experiment(name, experiments)
    missing = sum(not state.whole for state in states)
    claims: tuple[ClaimRow, ...] = ()
    pictures: tuple[Picture, ...] = ()
    report = finding = ""
    if not missing:
        with contextlib.suppress(StoreError):
            stored = run.claims()[name]
            claims = tuple(claim_row(name, claim) for claim in stored)
            finding = experiment.found(stored) if experiment else found_sentence(stored)
    if claims:
        if not (run.figures / FIGURES_INDEX).exists():
            build_report(run.path, experiments)
        pictures = _pictures(folder, run, name)
        report = _below(folder, run.report)
    times = [state.manifest.get("seconds", 0.0) for state in states if state.manifest is not None]
    return Card(
        name=name,
        slug=slug("experiment", name),
        title=experiment.title if experiment else entry["title"],
        summary=experiment.summary if experiment else "",
        finding=finding,
        seconds=format_duration(sum(times)) if times else "",
        missing=missing,
        cells=len(states),
        counts=count_verdicts(claims),
        claims=claims,
        pictures=pictures,
        report=report,
        command=run.command,
    )


def _pictures(folder: Path, run: RunFolder, name: str) -> tuple[Picture, ...]:
    """The stored figures of an experiment, in its own order."""
    found = []
    for figure in read_index(run.figures / FIGURES_INDEX).get(name, ()):
        path = run.figures / f"{figure['file']}.png"
        try:
            with path.open("rb") as png:
                width, height = struct.unpack(">II", png.read(24)[16:])  # of its header
        except (OSError, struct.error) as error:
            problem = f"cannot be read ({cause_of(error)})"
            raise StoreError(path, problem, "build the report again") from error
        found.append(Picture(_below(folder, path), figure["title"], width, height))
    return tuple(found)


def _below(folder: Path, path: Path) -> str:
    """A path relative to the gallery, as a link."""
    try:
        return path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError as error:
        raise StoreError(
            path, f"does not lie in {folder}", "keep the runs of a gallery in its folder"
        ) from error
