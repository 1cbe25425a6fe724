"""Parts of an experiment: what is computed, over which grid, at what cost; and what was found.

A part is a function from a configuration and one point of a grid to labelled arrays. Each point is
one cell of a run, named by the part's template. Results are found by the part and a point, so that
a misspelt part, coordinate or array, or a point of another part, is an error of the type checker.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from translimit.core import ConfigError, nearest
from translimit.experiments.records import Arrays

if TYPE_CHECKING:
    import xarray

    from translimit.core import Key

C = TypeVar("C")
P = TypeVar("P")
D = TypeVar("D", bound=Arrays)
T = TypeVar("T")

#: The stored data sets of an experiment by the names of their cells.
Results = Mapping[str, "xarray.Dataset"]


@dataclass(frozen=True)
class Alone:
    """The point of a part that has no grid."""


@dataclass(frozen=True)
class Cell:
    """The smallest unit of a run that is computed, stored and resumed by itself.

    Attributes:
        name: unique within the experiment; it names the stored folder and the random streams.
        parameters: its point as plain data.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hole:
    """A point of a grid at which nothing is computed.

    Attributes:
        cell: the name that its cell would have.
        reason: why there is none, as a clause.
    """

    cell: str
    reason: str


@dataclass(frozen=True)
class Cost:
    """What a cell, or a whole configuration, needs, roughly: told before it starts.

    Attributes:
        seconds: on one core.
        memory_bytes: of the process that computes the largest cell.
    """

    seconds: float
    memory_bytes: float = 1e9


@dataclass(frozen=True)
class Keys:
    """The random streams of one cell.

    Attributes:
        seed: of the run.
        experiment: its name.
        cell: the cell's name.
    """

    seed: int
    experiment: str
    cell: str

    @property
    def own(self) -> Key:
        """The cell's own key: no other cell has it."""
        return self.shared(self.cell)

    def shared(self, *path: str | int) -> Key:
        """The key that all cells of an experiment have at a path, for draws that they share.

        Args:
            path: a word and what else tells the draw (see `core.named_key`), as in "data".
        """
        from translimit.core import named_key

        return named_key(self.seed, self.experiment, *path)


def alone(config: Any) -> Sequence[Alone]:
    """The grid of one point."""
    del config
    return (Alone(),)


@dataclass(frozen=True)
class Part(Generic[C, P, D]):
    """One finite system, or one limit, over a grid.

    Attributes:
        name: template of the cells' names, with the point's coordinates in braces, as in
            `network/{start}/n={dim}` (see `fill`).
        record: the type of what `compute` returns.
        compute: from configuration, point and keys to labelled arrays; the same seed gives the
            same bits.
        grid: the points of a configuration, in the order in which their cells should start: single
            values, tuples, or frozen dataclasses.
        cost: roughly what the cell of a point needs.
        hole: why a point has no cell, or None where it has one.
    """

    name: str
    record: type[D]
    compute: Callable[[C, P, Keys], D]
    grid: Callable[[C], Sequence[P]]
    cost: Callable[[C, P], Cost]
    hole: Callable[[C, P], str | None] | None = None

    def points(self, config: C) -> list[P]:
        """The points at which something is computed."""
        reason = self.hole
        if reason is None:
            return list(self.grid(config))
        return [point for point in self.grid(config) if reason(config, point) is None]

    def holes(self, config: C) -> list[Hole]:
        """The points at which nothing is computed, with their reasons."""
        reason = self.hole
        if reason is None:
            return []
        reasons = [(point, reason(config, point)) for point in self.grid(config)]
        return [Hole(self.cell_name(point), why) for point, why in reasons if why is not None]

    def cell_name(self, point: P) -> str:
        """The name of a point's cell."""
        return fill(self.name, point)

    def cell(self, point: P) -> Cell:
        """The cell of a point."""
        return Cell(self.cell_name(point), _plain(point, self.name))


class Found(Generic[C]):
    """What was computed, found by part and point.

    Attributes:
        config: the configuration.
    """

    config: C

    def __init__(self, config: C, results: Results):
        self.config = config
        self._results = results
        self._records: dict[str, Arrays] = {}
        self._shared: dict[Callable[[Any], Any], Any] = {}

    @overload
    def __call__(self, part: Part[C, Alone, D]) -> D: ...
    @overload
    def __call__(self, part: Part[C, P, D], at: P) -> D: ...
    def __call__(self, part: Part[C, Any, Any], at: Any = None) -> Any:
        """The arrays of a part at a point.

        Args:
            part: the part.
            at: a point of its grid; left out where it has none.

        Raises:
            ConfigError: nothing was computed there, or something else.
        """
        name = part.cell_name(Alone() if at is None else at)
        if name not in self._records:
            if name not in self._results:
                raise ConfigError("at", f"no cell {name!r}", nearest(name, self._results))
            self._records[name] = part.record.from_dataset(self._results[name])
        return self._records[name]

    def each(self, part: Part[C, P, D]) -> list[tuple[P, D]]:
        """All points of a part with their arrays.

        Args:
            part: the part.
        """
        return [(point, self(part, point)) for point in part.points(self.config)]

    def once(self, function: Callable[[Found[C]], T]) -> T:
        """What a function makes of all this, computed once for all who ask.

        Args:
            function: of what was found, defined in a module.
        """
        if function not in self._shared:
            self._shared[function] = function(self)
        return self._shared[function]


def fill(template: str, point: object) -> str:
    """A template with the coordinates of a point in its braces.

    Args:
        template: as for `str.format`, with named braces.
        point: a dataclass, whose fields and properties are meant by name; a tuple, whose entries
            go into the braces in the order of their first use; or one value.
    """
    return template.format_map(_Coordinates(point, template))


class _Coordinates(dict[str, Any]):
    """The coordinates of a point by the names that a template gives them."""

    def __init__(self, point: object, template: str):
        if dataclasses.is_dataclass(point):
            super().__init__()
        else:
            values = point if isinstance(point, tuple) else (point,)
            named = (name for _, name, _, _ in Formatter().parse(template) if name)
            names = dict.fromkeys(re.split(r"[.\[]", name)[0] for name in named)
            super().__init__(zip(names, values, strict=bool(names)))
        self._point = point

    def __missing__(self, key: str) -> Any:
        return getattr(self._point, key)


def _plain(point: object, template: str) -> dict[str, Any]:
    """A point as plain data."""
    if dataclasses.is_dataclass(point) and not isinstance(point, type):
        values = dataclasses.asdict(point)
    else:
        values = dict(_Coordinates(point, template))
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: object) -> object:
    """Tuples as lists, records as dictionaries."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain_value(one) for name, one in dataclasses.asdict(value).items()}
    return [_plain_value(one) for one in value] if isinstance(value, tuple) else value
