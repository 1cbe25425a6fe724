"""What the JSON files of a run must look like; a file of another shape is told in one line.

A shape is a type, a tuple of types, a list with the shape of its entries, a dictionary with the
shape of each key (a key that ends in "?" may be absent), or `Every` with the shape of all values.
Keys that are not named are not looked at: newer versions may write more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

from translimit.core import Json, StoreError
from translimit.store.jsonfiles import load_json

#: A number; JSON's true and false are none.
NUMBER = (int, float)


@dataclass(frozen=True)
class Every:
    """An object of whatever keys, whose values have one shape."""

    shape: Shape


if TYPE_CHECKING:
    #: What a file must look like.
    Shape: TypeAlias = type | tuple[type, ...] | list["Shape"] | Mapping[str, "Shape"] | Every
else:
    Shape = type | tuple | list | Mapping | Every

Record = TypeVar("Record")

ESTIMATE: Shape = {
    "value?": NUMBER,
    "stderr?": NUMBER,
    "count?": int,
    "discretisation?": NUMBER,
}
RIVAL: Shape = {
    "name": str,
    "prediction": NUMBER,
    "estimate?": (dict, type(None)),
    "stderr": NUMBER,
    "printed": bool,
    "gap": NUMBER,
    "floor": NUMBER,
    "excluded_by": NUMBER,
    "refuted": bool,
}
CLAIM: Shape = {
    "name?": str,
    "statement?": str,
    "prediction?": NUMBER,
    "estimate?": ESTIMATE,
    "tol?": NUMBER,
    "printed?": str,
    "reference?": str,
    "one_sided?": bool,
    "gap?": NUMBER,
    "floor?": NUMBER,
    "verdict?": str,
    "rivals?": [RIVAL],
    "nearest?": (str, type(None)),
    "decided_by?": str,
    "remark?": str,
}
LEDGER: Shape = {"experiments": Every([CLAIM])}
RUN: Shape = {
    "format": int,
    "translimit?": str,
    "status?": str,
    "digest?": str,
    "command?": str,
    "preset?": str,
    "seed?": int,
    "threads?": int,
    "device?": str,
    "keys?": str,
    "executor?": str,
    "workers?": (int, type(None)),
    "overrides?": [str],
    "experiments": [
        {
            "name": str,
            "source?": str,
            "title?": str,
            "citations?": [str],
            "config?": dict,
            "cells": [{"name": str, "parameters?": dict, "digest?": str}],
        }
    ],
    "packages?": Every(str),
    "python?": str,
    "platform?": str,
    "devices?": [str],
    "started?": str,
    "wall_seconds?": NUMBER,
    "failed?": [{"cell?": str, "error?": str}],
    "retried?": list,
}
MANIFEST: Shape = {
    "experiment": str,
    "cell": str,
    "digest": str,
    "files": Every({"sha256": str, "bytes": int}),
    "seconds?": NUMBER,
    "device?": str,
    "threads?": int,
    "finished?": str,
}


class StoredObject(dict[str, Json]):
    """An object of a file, in which a key that is asked for and absent is told as what it is."""

    path: Path

    def __missing__(self, key: str) -> Json:
        raise StoreError(
            self.path,
            f"is not what translimit writes: it has no {key!r}",
            "restore the file or run again with --fresh",
        )


def as_stored(data: Json, path: Path) -> Json:
    """The contents of a file with all their objects as `StoredObject`."""
    if isinstance(data, dict):
        made = StoredObject({key: as_stored(value, path) for key, value in data.items()})
        made.path = path
        return made
    return [as_stored(value, path) for value in data] if isinstance(data, list) else data


def load_record(path: Path, shape: Shape, kind: type[Record]) -> Record:
    """The contents of a file that must be of a shape.

    Args:
        path: the file.
        shape: what it must look like.
        kind: the type of the record that a file of this shape holds; a key that is asked for and
            absent is told as what it is.

    Raises:
        StoreError: the file is absent, unreadable, no strict JSON or of another shape.
    """
    data = load_json(path)
    require_shape(data, shape, path)
    return cast("Record", as_stored(data, path))


def require_shape(data: object, shape: Shape, path: Path) -> None:
    """Refuse the contents of a file that are not of a shape.

    Raises:
        StoreError: the message names the first place that differs, and what is there.
    """
    found = _difference(data, shape, "")
    if found is not None:
        raise StoreError(
            path,
            f"is not what translimit writes: {found}",
            "restore the file or run again with --fresh",
        )


def _difference(data: object, shape: Shape, place: str) -> str | None:
    """What is wrong at or below a place, or None."""
    if isinstance(shape, (Mapping, Every)):
        if not isinstance(data, dict):
            return _mismatch(place, data, "an object")
        if isinstance(shape, Every):
            inner = [(data[key], shape.shape, f"{place}[{key!r}]") for key in data]
        else:
            inner = []
            for key, part in shape.items():
                name = key.removesuffix("?")
                if name in data:
                    inner.append((data[name], part, f"{place}.{name}" if place else name))
                elif name == key:
                    return f"{place or 'the object'} has no {name!r}"
    elif isinstance(shape, list):
        if not isinstance(data, list):
            return _mismatch(place, data, "a list")
        inner = [(entry, shape[0], f"{place}[{number}]") for number, entry in enumerate(data)]
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        named = _NAMES[float if kinds == NUMBER else kinds[0]]
        if (isinstance(data, bool) and bool not in kinds) or not isinstance(data, kinds):
            return _mismatch(place, data, named)
        return None
    differences = (_difference(*part) for part in inner)
    return next((found for found in differences if found is not None), None)


_NAMES = {
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def _mismatch(place: str, data: object, wanted: str) -> str:
    kind = "null" if data is None else _NAMES.get(type(data), type(data).__name__)
    return f"{place or 'it'} is {kind} where {wanted} belongs"
