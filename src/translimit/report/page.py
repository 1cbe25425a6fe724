"""What a page holds: plain values, formatted for a reader, that the template sets in type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from translimit.report.ledger import ClaimRow, RivalRow, count_verdicts
from translimit.report.tables import data_uri

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Column:
    """A column of the table behind a figure."""

    name: str
    numeric: bool


@dataclass(frozen=True)
class FigureView:
    """One figure with its caption, its table and its files."""

    number: int
    slug: str
    file: str
    title: str
    caption: str
    shown: int
    excluded: int
    width: int
    drawing: Markup
    columns: tuple[Column, ...]
    cells: tuple[tuple[str, ...], ...]
    rows: int
    long: bool
    csv_uri: str
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Setting:
    """A configuration value beside the preset's; empty where the experiment was not loaded."""

    key: str
    value: str
    preset: str
    changed: bool


@dataclass(frozen=True)
class StoredCell:
    """A whole cell and how long it took."""

    name: str
    seconds: str


@dataclass(frozen=True)
class MissingCell:
    """A cell that cannot be read, with how it is damaged or how its computation failed."""

    name: str
    damage: str
    error: str

    @property
    def reason(self) -> str:
        """Both in one line; empty for a cell that has not been computed."""
        return "; ".join(filter(None, (self.damage, self.error)))


@dataclass(frozen=True)
class Section:
    """One experiment of the run; what of it is not stored is there only if its code was loaded."""

    name: str
    slug: str
    loaded: bool
    title: str
    question: str
    """What the experiment answers; empty where it asks none."""
    summary: str
    finding: str
    """What was found, in one sentence; empty without claims."""
    preset: str
    command: str
    configuration: tuple[Setting, ...]
    cells: tuple[StoredCell, ...]
    missing: tuple[MissingCell, ...]
    expected: int
    seconds: str
    claims: tuple[ClaimRow, ...]
    figures: tuple[FigureView, ...]
    outdated: str
    """Why the figures cannot be drawn: another version of the experiment stored the cells."""

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """How many claims have each verdict."""
        return count_verdicts(self.claims)

    @property
    def errata(self) -> int:
        """How many printed forms are refuted beside the claims that correct them."""
        return sum(len(claim.errata) for claim in self.claims)


@dataclass(frozen=True)
class Pointer:
    """A line of what to look at first: its text (`$...$` is mathematics) and where it leads."""

    text: str
    target: str


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    run_name: str
    generator: str
    heading: str
    facts: str
    first: tuple[Pointer, ...]
    command: str
    report_command: str
    sections: tuple[Section, ...]
    environment: tuple[tuple[str, str], ...]
    bibtex: str

    @property
    def not_loaded(self) -> tuple[Section, ...]:
        """The experiments whose code was not loaded."""
        return tuple(section for section in self.sections if not section.loaded)

    @property
    def incomplete(self) -> tuple[Section, ...]:
        """The experiments that lack cells."""
        return tuple(section for section in self.sections if section.missing)

    @property
    def claims(self) -> tuple[ClaimRow, ...]:
        """All claims of the run."""
        return tuple(claim for section in self.sections for claim in section.claims)

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """How many claims have each verdict."""
        return count_verdicts(self.claims)

    @property
    def errata(self) -> tuple[tuple[ClaimRow, RivalRow], ...]:
        """The printed forms that are refuted, each with the claim that corrects it."""
        return tuple((claim, rival) for claim in self.claims for rival in claim.errata)

    @property
    def bibtex_uri(self) -> str:
        """The BibTeX entries as an address to download."""
        return data_uri(self.bibtex.encode(), "application/x-bibtex")

    @property
    def files(self) -> dict[str, bytes]:
        """The files of all figures by name."""
        return {
            f"{figure.file}.{kind}": content
            for section in self.sections
            for figure in section.figures
            for kind, content in figure.files.items()
        }
