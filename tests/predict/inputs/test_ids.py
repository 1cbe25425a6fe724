"""Files and rows of ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.predict.inputs.readings import llama

from translimit.core import ArgumentError, ArgumentTypeError
from translimit.predict.inputs import read_tokens
from translimit.predict.inputs.ids import read_ids

IDS = [5, 3, 5, 50_000, 0]


@pytest.mark.parametrize(
    "text",
    [
        "5 3 5 50000 0",
        "5,3,5,50000,0\n",
        "5\n3\n5\n50000\n0\n",
        "\ufeff5, 3, 5;\t50000 ,0,",
        json.dumps(IDS),
        json.dumps([IDS], indent=1),
    ],
)
def test_every_way_to_write_ids_is_one_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(read_ids(path), IDS)


@pytest.mark.parametrize("dtype", ["int64", "uint16", "int32", "float32", "uint64"])
@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_arrays_of_ids(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.array(IDS).reshape(shape).astype(dtype)
    np.save(tmp_path / "ids.npy", array)
    for found in (read_ids(tmp_path / "ids.npy"), read_ids(array), read_ids(array.tolist())):
        np.testing.assert_array_equal(found, IDS)
        assert found.dtype == np.int64


def test_a_tensor_of_ids() -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(read_ids(torch.tensor([IDS])), IDS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 2 3.5", r"position 2 \(from 0\) is '3.5', no id"),
        ("1 two 3", r"position 1 \(from 0\) is 'two', no id"),
        ("1_0 2", r"position 0 \(from 0\) is '1_0', no id"),
        ("1 " + "9" * 5000, r"position 1 \(from 0\) is '9999.* \.\.\., no id"),
        (f"1 {2**31}", "position 1"),
        ("[1, true]", r"position 1 \(from 0\) is True"),
        ("[1, NaN]", r"position 1 \(from 0\) is nan"),
        ("[1, null]", r"position 1 \(from 0\) is None"),
        ("[1, [2]]", r"position 1 \(from 0\) is \[2\]"),
        ("[1, 2", "malformed JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("1 \0 2", "null characters"),
        (" \n ", "0 tokens are in it"),
    ],
)
def test_what_is_no_row_of_ids_names_its_position(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=says) as caught:
        read_tokens(llama(), ids=path, key=0)
    assert caught.value.argument == "ids"


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array([1.0, np.nan]), "position 1"),
        (np.array([1.0, 2.5]), r"position 1 \(from 0\) is 2.5"),
        (np.ones((2, 2), int), r"have shape \(2, 2\)"),
        (np.array(3), r"have shape \(\)"),
        (np.array([1 + 2j]), "complex"),
        (np.array(["a"]), "no real numbers"),
    ],
)
def test_arrays_that_are_no_ids(tmp_path: Path, array: np.ndarray, says: str) -> None:
    np.save(tmp_path / "ids.npy", array)
    with pytest.raises(ArgumentError, match=says):
        read_ids(tmp_path / "ids.npy")


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("value", ["ids", object(), [[1, 2], [3]], [1, "two"]])
def test_values_that_are_no_ids(value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        read_ids(value)
    assert isinstance(caught.value, ArgumentTypeError) or value == "ids"
    assert caught.value.argument == "ids"


def test_nothing_is_unpickled(tmp_path: Path, trap: Any) -> None:
    np.save(tmp_path / "ids.npy", np.array([trap], dtype=object))
    with pytest.raises(ArgumentError, match=r"no whole .npy file"):
        read_ids(tmp_path / "ids.npy")
    assert not trap.mark.exists()
