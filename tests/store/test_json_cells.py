"""Pieces of a long computation as JSON files: whole or absent, read again by name."""

import errno
import math
import os

import pytest

from translimit.core import DiskFullError, StoreError
from translimit.store import JsonCells


def test_a_mapping_on_a_folder(tmp_path):
    cells = JsonCells(tmp_path / "cells")
    assert not list(cells)
    cells["one-8-seed0"] = {"values": [1.0, math.nan]}
    (tmp_path / "cells" / ".tmp-half.json").write_text("{")  # what a kill leaves behind
    again = JsonCells(tmp_path / "cells")
    assert list(again) == ["one-8-seed0"]
    assert len(again) == 1
    assert math.isnan(again["one-8-seed0"]["values"][1])
    del again["one-8-seed0"]
    assert "one-8-seed0" not in cells
    for call in (lambda: cells["x"], lambda: cells.pop("x")):
        with pytest.raises(KeyError):
            call()


def test_what_cannot_be_read_or_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        JsonCells(tmp_path / "file")
    cells = JsonCells(tmp_path / "cells")
    (tmp_path / "cells" / "bad.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        cells["bad"]
    for number, error, message in (
        (errno.ENOSPC, DiskFullError, "the disk is full; free space and resume"),
        (errno.EACCES, StoreError, r"cannot be written \(Permission denied\); choose another"),
    ):

        def write(path, data, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("translimit.store.json_cells.write_json", write)
        with pytest.raises(error, match=message):
            cells["one"] = 1
