"""A covariance of tokens that somebody measured, from a file or an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from translimit.core import (
    ArgumentError,
    ArrayInput,
    as_float64,
    brief,
    require_covariance,
    require_finite,
)
from translimit.predict.inputs.files import (
    decoded,
    is_npy,
    json_list,
    npy_array,
    read_whole,
    words_of,
)

_REMEDY = "pass <x_i, x_j> / D of the tokens, [n, n], as .npy, .csv or a list of rows in JSON"
#: What single precision and few decimals leave, over the largest eigenvalue.
ROUNDING = 1e-5


def read_gram(source: str | Path | ArrayInput) -> tuple[Float[np.ndarray, "n n"], tuple[str, ...]]:
    """The covariance in a file or an array, and what was mended in it.

    A matrix of single precision is symmetric and positive only up to its rounding: what it lacks
    below `ROUNDING` of the largest eigenvalue is mended, and told.

    Args:
        source: .npy, rows of numbers between commas or spaces, or a list of rows in JSON; or an
            array [n, n].

    Raises:
        ArgumentError: no such file, not square, below two tokens, NaN, not symmetric, or with a
            negative eigenvalue.
    """
    matrix = _read(source) if isinstance(source, str | Path) else as_float64(source, "gram")
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ArgumentError("gram", f"has shape {matrix.shape}", _REMEDY)
    if len(matrix) < 2:
        raise ArgumentError("gram", f"has shape {matrix.shape}", "pass two tokens at least")
    require_finite(matrix, "gram")
    if np.abs(matrix).max() > 1e100:  # squares of it are met on the way
        raise ArgumentError("gram", "has entries above 1e100", _REMEDY)
    mended, told = _without_rounding(matrix)
    return require_covariance(mended, "gram"), told


def _without_rounding(matrix: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """The nearest covariance, where it is within rounding; else the matrix as it is."""
    even = (matrix + matrix.T) / 2
    values, vectors = np.linalg.eigh(even)
    scale = float(np.abs(values).max())
    lack = max(-float(values[0]), float(np.abs(matrix - even).max()))
    if not 0 < lack <= ROUNDING * scale:
        return matrix, ()
    mended = (vectors * np.maximum(values, 0.0)) @ vectors.T if values[0] < 0 else even
    mended = (mended + mended.T) / 2
    if lack < 1e-12 * scale:  # of double precision
        return mended, ()
    told = f"the covariance was symmetric and positive up to {lack / scale:.1g} of its largest "
    return mended, (told + "eigenvalue: that was mended",)


def _read(path: str | Path) -> np.ndarray:
    content = read_whole(path, "gram", _REMEDY)
    if is_npy(content):
        return npy_array(content, path, "gram")
    text = decoded(content, path, "gram", _REMEDY)
    if text.lstrip().startswith("["):
        rows = json_list(text, path, "gram", _REMEDY)
    else:
        rows = [words_of(line) for line in text.splitlines() if line.strip()]
    return _matrix(rows)


def _matrix(rows: list[Any]) -> np.ndarray:
    """Rows of equal length, of numbers or of words that are numbers."""
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(rows):
            length = f"{len(row)} entries" if isinstance(row, list) else brief(row)
            problem = f"row {place} (from 0) has {length}, and there are {len(rows)} rows"
            raise ArgumentError("gram", problem, _REMEDY)
    return np.array(
        [[_entry(one, i, j) for j, one in enumerate(row)] for i, row in enumerate(rows)]
    )


def _entry(value: Any, row: int, column: int) -> float:
    try:
        if isinstance(value, bool | list | dict) or value is None:
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        problem = f"the entry in row {row}, column {column} (from 0) is {brief(value)}, no number"
        raise ArgumentError("gram", problem, _REMEDY) from error
