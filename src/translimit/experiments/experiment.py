"""What an experiment is: parts to compute, claims to check, figures to draw, all declared.

An experiment knows neither where it runs nor where its results are stored. The module of an
experiment must import without JAX (rooms load lazily), because `translimit list` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from translimit.core import Claim, ConfigError, nearest
from translimit.experiments.claims import Claims
from translimit.experiments.figures import Figure, FigureSpec
from translimit.experiments.findings import Checked, Finding, found_sentence
from translimit.experiments.parts import Cell, Cost, Found, Hole, Keys, Part, Results

if TYPE_CHECKING:
    import xarray

C = TypeVar("C")

#: How the random streams of cells are named; a run that was drawn otherwise is not continued.
KEYS = "cell"
#: The sizes at which every experiment can run.
PRESETS = ("demo", "standard", "paper")


@final
@dataclass(frozen=True)
class Experiment(Generic[C]):
    """A named reproduction: its finite systems, its limits, its claims and its figures.

    Attributes:
        name: `paper/experiment`, as typed on the command line.
        title: one line.
        summary: what is compared with what and why, in a short paragraph (`$...$` is mathematics).
        citations: keys of `core.citations.BIBLIOGRAPHY`.
        presets: configuration by preset name.
        parts: what is computed; cells start in this order.
        claims: what is checked.
        figures: what is drawn; the first is the one that leads the report.
        reference: where the mathematics comes from, in one line.
        finding: what was found, as a sentence that claims fill with numbers; that of the first
            claim by default.
        question: what it answers, as a reader would ask; `translimit list` shows it, or the title.
    """

    name: str
    title: str
    summary: str
    citations: tuple[str, ...]
    presets: Mapping[str, C]
    parts: tuple[Part[C, Any, Any], ...]
    claims: tuple[Claims[C, Any], ...]
    figures: tuple[Figure[C], ...]
    reference: str = ""
    finding: Finding | None = None
    question: str = ""

    def cells(self, config: C) -> tuple[Cell, ...]:
        """The cells of a configuration, in the order in which they should start."""
        return tuple(part.cell(point) for part in self.parts for point in part.points(config))

    def holes(self, config: C) -> tuple[Hole, ...]:
        """The points of the grids at which nothing is computed, with their reasons."""
        return tuple(hole for part in self.parts for hole in part.holes(config))

    def costs(self, config: C) -> dict[str, Cost]:
        """Roughly what each cell needs, by its name."""
        return {
            part.cell_name(point): part.cost(config, point)
            for part in self.parts
            for point in part.points(config)
        }

    def cost(self, config: C) -> Cost:
        """Roughly what a configuration needs on one core."""
        costs = self.costs(config).values()
        return Cost(sum(one.seconds for one in costs), max(one.memory_bytes for one in costs))

    def compute_cell(self, config: C, cell: Cell, seed: int) -> xarray.Dataset:
        """One cell as a run with this seed computes it.

        Args:
            config: the configuration.
            cell: one of `cells(config)`.
            seed: of the run.

        Raises:
            ConfigError: the configuration has no such cell.
        """
        part, point = self._place(config, cell.name)
        record = part.compute(config, point, Keys(seed, self.name, cell.name))
        return record.to_dataset({"reference": self.reference, **part.cell(point).parameters})

    def claim_names(self, config: C) -> tuple[str, ...]:
        """The names of the claims that `check` will return."""
        return tuple(name for claims in self.claims for name in claims.names(config))

    def check(self, config: C, results: Results) -> list[Claim]:
        """The checked sentences, from the data sets of all cells by cell name."""
        found = Found(config, results)
        return [claim for claims in self.claims for claim in claims.check(found, self.reference)]

    def found(self, claims: Sequence[Checked]) -> str:
        """What was found, in one sentence with its uncertainty (`$...$` is mathematics).

        Args:
            claims: those of `check`, as `Claim.to_json` writes them.
        """
        return found_sentence(claims, self.finding)

    def drawings(self, config: C, results: Results) -> list[FigureSpec]:
        """The figures, from the data sets of all cells by cell name."""
        found, holes = Found(config, results), self.holes(config)
        shown = [one for one in self.figures if one.when is None or one.when(config)]
        return [figure.spec(found, holes) for figure in shown]

    def _place(self, config: C, name: str) -> tuple[Part[C, Any, Any], Any]:
        """The part and the point of a cell."""
        known: Sequence[tuple[str, Part[C, Any, Any], Any]] = [
            (part.cell_name(point), part, point)
            for part in self.parts
            for point in part.points(config)
        ]
        for cell, part, point in known:
            if cell == name:
                return part, point
        raise ConfigError("cell", f"no cell {name!r}", nearest(name, [one[0] for one in known]))
