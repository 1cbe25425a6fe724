"""Strict JSON: written whole or not at all, and read with what is wrong told in one line.

JSON has no word for NaN and the infinities, and Python's own literals are refused by other
readers. They are written as the strings "NaN", "Infinity" and "-Infinity" (the convention of
Protocol Buffers, which `float` understands in Python and `Number` in JavaScript) and read back as
floats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from translimit.core import Json, StoreError, config, write_bytes

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def dump_json(data: object) -> str:
    """Plain data as strict JSON text; NaN and the infinities become strings.

    Scalars of NumPy and JAX are plain data.

    Raises:
        TypeError: something in it is no plain data.
    """
    return json.dumps(_encode(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load_json(path: str | Path) -> Json:
    """Read strict JSON.

    Raises:
        StoreError: the file is absent, unreadable or no strict JSON.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        if config.too_deep(data):
            raise RecursionError
        return _decode(data)
    except RecursionError as error:
        raise StoreError(
            path, "is nested too deeply", "restore the file or run again with --fresh"
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(
            path, f"cannot be read ({reason})", "restore the file or run again with --fresh"
        ) from error


def write_json(path: str | Path, data: object) -> None:
    """Write strict JSON atomically.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    write_bytes(path, dump_json(data).encode())


def _encode(data: object) -> Json:
    if isinstance(data, Mapping):
        return {str(key): _encode(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_encode(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return "NaN" if math.isnan(data) else "Infinity" if data > 0 else "-Infinity"
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    scalar = getattr(data, "item", None) if getattr(data, "ndim", None) == 0 else None
    if scalar is not None:
        return _encode(scalar())  # of NumPy or JAX
    raise TypeError(f"{type(data).__name__} is no plain data")


def _decode(data: Json) -> Json:
    if isinstance(data, dict):
        return {key: _decode(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_decode(value) for value in data]
    return _WORDS.get(data, data) if isinstance(data, str) else data


def _refuse(literal: str) -> None:
    raise ValueError(f"the literal {literal} is no JSON")
