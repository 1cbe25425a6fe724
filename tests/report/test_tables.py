"""Tables: every digit in the file, readable cells on the page."""

import csv
import io

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.figures import Table
from translimit.report.tables import cell_text, csv_text, numeric_columns, require_rectangular

TABLE = Table(
    ("name, with comma", "x", "n"),
    (("first\nline", np.float64(1 / 3), np.int64(200_000)), ('"second"', float("nan"), None)),
)


def test_csv_reads_back_exactly():
    header, first, second = csv.reader(io.StringIO(csv_text(TABLE), newline=""))
    assert header == list(TABLE.columns)
    assert first[0] == "first\nline"
    assert float(first[1]) == 1 / 3
    assert first[2] == "200000"
    assert second == ['"second"', "", ""]


def test_cells_for_a_reader():
    assert [cell_text(cell) for cell in TABLE.rows[0]] == [
        "first\nline",
        "0.333333",
        "200\N{NARROW NO-BREAK SPACE}000",
    ]
    assert [cell_text(cell) for cell in (None, float("nan"), True, -1.5)] == [
        "–",
        "–",
        "yes",
        "−1.5",
    ]
    assert numeric_columns(TABLE) == (False, True, True)


def test_ragged_table_is_refused(as_user):
    with pytest.raises(ArgumentError, match="row 1 has 1 values for 2 columns"):
        require_rectangular(Table(("a", "b"), ((1, 2), (3,))))
