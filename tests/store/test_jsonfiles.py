"""Identities and refusals: strict JSON that keeps NaN; files are the old or the new one."""

import errno
import json
import math
import os

import numpy as np
import pytest

from translimit.core import StoreError
from translimit.store import dump_json, load_json, write_json


def strict(text):
    def refuse(literal):
        raise AssertionError(f"{literal} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_round_trip_is_exact_and_strict(tmp_path):
    data = {"a": [1, 2.5, None, True, "wörter"], "inf": [math.inf, -math.inf], "x": 0.1 + 0.2}
    write_json(tmp_path / "a.json", data)
    assert load_json(tmp_path / "a.json") == data
    assert strict((tmp_path / "a.json").read_text())["inf"] == ["Infinity", "-Infinity"]


def test_nan_comes_back_as_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": np.float64("nan")})
    read = load_json(tmp_path / "a.json")
    assert math.isnan(read["x"])
    assert math.isnan(read["y"])
    assert strict((tmp_path / "a.json").read_text()) == {"x": "NaN", "y": "NaN"}


def test_numpy_scalars_are_numbers():
    assert strict(dump_json({"n": np.int64(3), "f": np.float32(0.5)})) == {"n": 3, "f": 0.5}


def test_what_is_no_data_is_refused():
    with pytest.raises(TypeError, match="object is no plain data"):
        dump_json({"x": object()})


@pytest.mark.parametrize("text", ['{"x": NaN}', '{"x": 1', "", "\x00\x01"])
def test_unreadable_files_are_refused_with_a_remedy(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StoreError, match="--fresh"):
        load_json(tmp_path / "a.json")
    with pytest.raises(StoreError, match=r"cannot be read \(No such file"):
        load_json(tmp_path / "absent.json")


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    write_json(tmp_path / "a.json", {"x": 1})

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "a.json", {"x": 2})
    assert load_json(tmp_path / "a.json") == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
