"""Ids of tokens, from a file or an array: whole numbers of the vocabulary."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from translimit.core import ArgumentError, ArrayInput, as_numpy, brief
from translimit.predict.inputs.files import (
    decoded,
    is_npy,
    json_list,
    npy_array,
    read_whole,
    words_of,
)

_REMEDY = "pass whole numbers: between spaces or commas, as a list in JSON, or as .npy"
_LARGEST = 2**31 - 1


def read_ids(source: str | Path | ArrayInput) -> Int[np.ndarray, " n"]:
    """The ids in a file, or in an array.

    Args:
        source: a file of whole numbers between spaces or commas, a list in JSON, or .npy; or one
            row of ids.

    Raises:
        ArgumentError: no such file, or something in it that is no id; it names position and value.
    """
    if not isinstance(source, str | Path):
        return _row(as_numpy(source, "ids"))
    content = read_whole(source, "ids", _REMEDY)
    if is_npy(content):
        return _row(npy_array(content, source, "ids"))
    text = decoded(content, source, "ids", _REMEDY)
    if text.lstrip().startswith("["):
        return _listed(json_list(text, source, "ids", _REMEDY))
    return _listed([_number(word) for word in words_of(text)])


def require_vocabulary(
    ids: Int[np.ndarray, " n"], vocabulary: int | None, name: str, remedy: str
) -> None:
    """Refuse ids that are no rows of the table.

    Args:
        ids: of the tokens.
        vocabulary: entries of the vocabulary, or None where it is not told.
        name: of the argument.
        remedy: what the caller can do.

    Raises:
        ArgumentError: it names the first position, counted from 0, and its value.
    """
    end = _LARGEST + 1 if vocabulary is None else vocabulary
    wrong = np.flatnonzero((ids < 0) | (ids >= end))
    if wrong.size:
        place = int(wrong[0])
        problem = f"the id at position {place} (from 0) is {int(ids[place])}"
        entries = "" if vocabulary is None else f", and the vocabulary has {vocabulary} entries"
        raise ArgumentError(name, problem + entries, remedy)


def _row(array: np.ndarray) -> Int[np.ndarray, " n"]:
    """One row of ids out of an array of numbers."""
    if array.ndim == 2 and len(array) == 1:  # a batch of one
        array = array[0]
    if array.ndim != 1:
        raise ArgumentError("ids", f"have shape {array.shape}", "pass one row of whole numbers")
    return _listed([int(one) if float(one).is_integer() else one for one in array.tolist()])


def _listed(values: list[Any]) -> Int[np.ndarray, " n"]:
    if len(values) == 1 and isinstance(values[0], list):  # a batch of one
        values = values[0]
    for place, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
            problem = f"the entry at position {place} (from 0) is {brief(value)}, no id"
            raise ArgumentError("ids", problem, _REMEDY)
    return np.array(values, dtype=np.int64)


def _number(word: str) -> int | str:
    """A word as a number of at most ten digits, where it is one."""
    return int(word) if re.fullmatch(r"[+-]?[0-9]{1,10}", word) else word
