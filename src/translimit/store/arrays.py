"""Which arrays a cell may hold: numbers, truth values, times and text of a fixed width.

An array of Python objects, and what its bytes are decoded by, is code that a file names: pickle is
one such codec. A cell comes from whoever made the run, so neither is read, and none is written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from translimit.core import StoreError
from translimit.store.jsonfiles import load_json
from translimit.store.shapes import require_shape

#: What describes an array, in format 2 of zarr; format 3 is not written here, and not read.
_ARRAY, _OTHER_FORMAT = ".zarray", "zarr.json"
_SHAPE = {"zarr_format": int, "dtype": (str, list), "compressor": (dict, type(None))}
#: Types of elements as zarr writes them: integers, floats, complex numbers, booleans, text, bytes,
#: and times with their unit.
_PLAIN = re.compile(r"[<>|]([biufcSU]\d+|[mM]8(\[\w+\])?)")
#: Compressors, from bytes to bytes. Filters (pickle, msgpack, ...) are never written.
_COMPRESSORS = {"blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"}


def array_problem(folder: Path) -> str | None:
    """Why the arrays below a folder must not be read, or None where they may.

    Only their descriptions are looked at, as data; nothing is decoded.

    Args:
        folder: of a cell.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).parent.as_posix()
        if path.name == _OTHER_FORMAT:
            return f"{name} is of another format of zarr than 2"
        if path.name != _ARRAY:
            continue
        try:
            about = load_json(path)
            require_shape(about, _SHAPE, path)
        except StoreError:
            return f"{name} has no description that can be read"
        if not isinstance(about["dtype"], str) or not _PLAIN.fullmatch(about["dtype"]):
            return f"{name} holds objects and no plain values (dtype {about['dtype']!r})"
        if about.get("filters"):
            return f"{name} would be decoded by {_named(about['filters'])}"
        compressor = about["compressor"]
        if compressor is not None and compressor.get("id") not in _COMPRESSORS:
            return f"{name} would be decoded by {_named(compressor)}"
    return None


def _named(codec: Any) -> str:
    """A codec in words."""
    listed = codec if isinstance(codec, list) else [codec]
    names = [str(one.get("id")) if isinstance(one, dict) else str(one) for one in listed]
    return f"{', '.join(map(repr, names))}, which cells do not use"
