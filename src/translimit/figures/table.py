"""The numbers behind a figure: a header and rows of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from translimit.core import ArgumentError, nearest

#: What a table may hold.
Plain = str | float | int | bool | np.generic | None
Row = tuple[Plain, ...]
#: Which rows a layer shows: a value, or several, by column.
Where = Mapping[str, Plain | tuple[Plain, ...]]


@dataclass(frozen=True)
class Table:
    """The numbers behind a figure: a header and rows of plain values."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, name: str) -> list[Any]:
        """The values of a column.

        Args:
            name: of the column.

        Raises:
            ArgumentError: there is no such column.
        """
        if name not in self.columns:
            raise ArgumentError("column", f"unknown {name!r}", nearest(name, self.columns))
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def values(self, name: str) -> list[Any]:
        """The values of a column, each once, as they come; one None for no column.

        Args:
            name: of the column, or "".
        """
        return list(dict.fromkeys(self.column(name))) if name else [None]

    def where(self, kept: Where) -> Table:
        """The rows with these values.

        Args:
            kept: a value, or several, by column.
        """
        rows = self.rows
        for name, value in kept.items():
            values = value if isinstance(value, tuple) else (value,)
            pairs = zip(rows, Table(self.columns, rows).column(name), strict=True)
            rows = tuple(row for row, one in pairs if one in values)
        return Table(self.columns, rows)

    def numbers(self, name: str) -> np.ndarray:
        """A column as numbers; NaN where there is none.

        Args:
            name: of the column.
        """
        return np.array([np.nan if one is None else one for one in self.column(name)], float)
