"""The table behind a figure: as comma-separated text, and as cells for a reader."""

from __future__ import annotations

import base64
import csv
import io
import math

from translimit.core import ArgumentError, format_number
from translimit.figures import Table


def require_rectangular(table: Table) -> None:
    """Check that every row has one value per column.

    Raises:
        ArgumentError: the first row that does not.
    """
    for number, row in enumerate(table.rows):
        if len(row) != len(table.columns):
            problem = f"row {number} has {len(row)} values for {len(table.columns)} columns"
            raise ArgumentError("table", problem, "give one value per column")


def csv_text(table: Table) -> str:
    """The table as comma-separated text: every digit of a number, nothing for a missing value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        values = (_value(cell) for cell in row)
        writer.writerow(["" if value is None else value for value in values])
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """The content as a `data:` address, which a page can hold without a second file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def cell_text(cell: object) -> str:
    """One cell for a reader: six significant digits, a dash for a missing value."""
    value = _value(cell)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return format_number(value)
    return str(value)


def numeric_columns(table: Table) -> tuple[bool, ...]:
    """Which columns hold numbers only, to be set flush right."""
    return tuple(
        bool(table.rows) and all(_is_number(_value(row[i])) for row in table.rows)
        for i in range(len(table.columns))
    )


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _value(cell: object) -> object:
    """A cell as a plain Python value; scalars of NumPy are unwrapped."""
    item = getattr(cell, "item", None)
    value = item() if callable(item) else cell
    return None if isinstance(value, float) and math.isnan(value) else value
