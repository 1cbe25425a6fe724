"""Bytes of files that anybody may have written, and the plain arrays and numbers in them."""

from __future__ import annotations

import io
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from translimit.core import ArgumentError, cause_of
from translimit.core.config import too_deep

#: Bytes of the largest file that is read whole.
LARGEST_FILE = 2**28
_NPY = b"\x93NUMPY"
_SEPARATOR = re.compile(r"[\s,;]+")


def read_start(path: str | Path, name: str, most: int, remedy: str) -> tuple[bytes, bool]:
    """The first bytes of a file, and whether they are all.

    Args:
        path: of the file.
        name: of the argument.
        most: how many bytes.
        remedy: what may be passed, as in "pass a file of text".

    Raises:
        ArgumentError: no file, a folder, not readable, or empty.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        raise ArgumentError(name, f"{path} cannot be read ({cause_of(error)})", remedy) from error
    if not content:
        raise ArgumentError(name, f"{path} is empty", remedy)
    return content[:most], len(content) <= most


def read_whole(path: str | Path, name: str, remedy: str) -> bytes:
    """All bytes of a file; see `read_start`.

    Args:
        path: of the file.
        name: of the argument.
        remedy: what may be passed.

    Raises:
        ArgumentError: as there, and for a file above `LARGEST_FILE`.
    """
    content, whole = read_start(path, name, LARGEST_FILE, remedy)
    if not whole:
        raise ArgumentError(name, f"{path} is larger than {LARGEST_FILE // 2**20} MiB", remedy)
    return content


def is_npy(content: bytes) -> bool:
    """Whether bytes begin like an array file of NumPy."""
    return content.startswith(_NPY)


def npy_array(content: bytes, path: str | Path, name: str) -> np.ndarray:
    """The array in the bytes of an .npy file; nothing is unpickled.

    Args:
        content: the bytes.
        path: of the file.
        name: of the argument.

    Raises:
        ArgumentError: no whole array of plain numbers.
    """
    remedy = "write a plain array with numpy.save"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # whatever the header makes NumPy raise
        raise ArgumentError(name, f"{path} is no whole .npy file", remedy) from error
    if array.dtype.kind not in "iuf":
        raise ArgumentError(name, f"{path} holds {array.dtype}, no real numbers", remedy)
    return array


def decoded(content: bytes, path: str | Path, name: str, remedy: str) -> str:
    """Bytes as UTF-8, without a byte order mark.

    Args:
        content: the bytes.
        path: of the file.
        name: of the argument.
        remedy: what may be passed.

    Raises:
        ArgumentError: they are no text.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArgumentError(name, f"{path} is not UTF-8 text", remedy) from error
    if "\0" in text:
        raise ArgumentError(name, f"{path} is no text (it holds null characters)", remedy)
    return text


def json_list(text: str, path: str | Path, name: str, remedy: str) -> list[Any]:
    """A list in JSON.

    Args:
        text: of the file.
        path: of the file.
        name: of the argument.
        remedy: what may be passed.

    Raises:
        ArgumentError: malformed, no list, or nested too deeply.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ArgumentError(name, f"{path} is nested too deeply", remedy) from error
    except ValueError as error:  # also a number with more digits than Python reads
        problem = f"{path} is malformed JSON ({cause_of(error)})"
        raise ArgumentError(name, problem, remedy) from error
    if not isinstance(found, list) or too_deep(found):
        raise ArgumentError(name, f"{path} holds no list of numbers", remedy)
    return found


def words_of(line: str) -> list[str]:
    """What stands between spaces, commas and semicolons."""
    return [word for word in _SEPARATOR.split(line) if word]
