"""What an experiment is: cells to compute, claims to check, figures to draw.

An experiment knows neither where it runs nor where its results are stored: it turns a frozen
configuration into cells (plain data), computes one cell at a time into a labelled dataset, and
turns whole datasets into claims and figures. The module of an experiment must import without JAX
(rooms load lazily), because `translimit list` reads it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from translimit.experiments.figures import FigureSpec as FigureSpec
from translimit.experiments.parts import Cost
from translimit.figures.layers import Table as Table

if TYPE_CHECKING:
    import xarray
    from jaxtyping import PRNGKeyArray

    from translimit.core import Claim

C = TypeVar("C")

Results = Mapping[str, "xarray.Dataset"]


@dataclass(frozen=True)
class Cell:
    """The smallest unit of a run that is computed, stored and resumed by itself.

    Attributes:
        name: unique within the experiment; it names the stored folder and the random streams.
        parameters: plain JSON data that `compute` needs beyond the configuration.
        stream: the seed and the experiment, set in the cell that `compute` receives.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    stream: tuple[int, str] | None = field(default=None, repr=False, compare=False)

    def shared_key(self, *path: str | int) -> PRNGKeyArray:
        """The key that all cells of an experiment have at a path, for draws that they share.

        Args:
            path: a word and what else tells the draw (see `core.named_key`), as in "data".

        Raises:
            ArgumentError: no path, or a cell that `compute` did not receive and that has no seed.
        """
        from translimit.core import ArgumentError, named_key

        if self.stream is None:
            raise ArgumentError(
                "cell",
                f"{self.name!r} belongs to no seed",
                "ask the cell that `compute` receives; `compute_cell(config, cell, seed)` gives it",
            )
        if not path:
            raise ArgumentError("path", "is missing", 'name what is shared, as in "data"')
        return named_key(*self.stream, *path)


@dataclass(frozen=True)
class AbstractExperiment(abc.ABC, Generic[C]):
    """A named reproduction: its finite systems, its limits, its claims and its figures.

    What it costs is told by `cost`, or by `cell_cost` where its cells differ: a subclass defines
    one of the two, and the other follows.

    Attributes:
        name: `paper/experiment`, as typed on the command line.
        title: one line.
        summary: what is compared with what and why, in a short paragraph (`$...$` is mathematics).
        citations: keys of `core.citations.BIBLIOGRAPHY`.
        presets: configuration by preset name.
    """

    name: str
    title: str
    summary: str
    citations: tuple[str, ...]
    presets: Mapping[str, C]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.cost is AbstractExperiment.cost and cls.cell_cost is AbstractExperiment.cell_cost:
            raise TypeError(f"{cls.__name__} says nothing of its cost: define cost or cell_cost")

    def cost(self, config: C) -> Cost:
        """Roughly what this configuration needs on one core; by default the sum over cells."""
        each = [self.cell_cost(config, cell) for cell in self.cells(config)]
        return Cost(sum(one.seconds for one in each), max(one.memory_bytes for one in each))

    def cell_cost(self, config: C, cell: Cell) -> Cost:
        """Roughly what one cell needs; by default an even share of the seconds."""
        whole = self.cost(config)
        return Cost(whole.seconds / len(self.cells(config)), whole.memory_bytes)

    @abc.abstractmethod
    def cells(self, config: C) -> tuple[Cell, ...]:
        """The cells of this configuration, in the order in which they should start."""

    @abc.abstractmethod
    def compute(self, config: C, cell: Cell, key: PRNGKeyArray) -> xarray.Dataset:
        """Compute one cell; the same seed gives the same bits.

        Args:
            config: the configuration.
            cell: the cell; what it shares with others it draws with `cell.shared_key("data")`.
            key: the cell's own: no other cell has it.
        """

    def compute_cell(self, config: C, cell: Cell, seed: int) -> xarray.Dataset:
        """One cell as a run with this seed computes it: the one caller of `compute`.

        Args:
            config: the configuration.
            cell: one of `cells(config)`.
            seed: of the run.
        """
        from translimit.core import named_key

        own = Cell(cell.name, cell.parameters, (seed, self.name))
        return self.compute(config, own, named_key(seed, self.name, cell.name))

    @abc.abstractmethod
    def claims(self, config: C, results: Results) -> list[Claim]:
        """The checked sentences, from the datasets of all cells by cell name."""

    @abc.abstractmethod
    def figures(self, config: C, results: Results) -> list[FigureSpec]:
        """The figures, from the datasets of all cells by cell name."""

    def check(self, config: C, results: Results) -> list[Claim]:
        """See `Experiment`."""
        return self.claims(config, results)

    def drawings(self, config: C, results: Results) -> list[FigureSpec]:
        """See `Experiment`."""
        return self.figures(config, results)

    def costs(self, config: C) -> dict[str, Cost]:
        """See `Experiment`."""
        return {cell.name: self.cell_cost(config, cell) for cell in self.cells(config)}

    def holes(self, config: C) -> tuple[Any, ...]:
        """See `Experiment`."""
        return ()

    @abc.abstractmethod
    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """The names of the claims that `claims` will return (for `translimit list`)."""
