"""Which arrays a cell may hold: numbers, truth values, times and text of a fixed width.

An array of Python objects, and what its bytes are decoded by, is code that a file names: pickle is
one such codec. A cell comes from whoever made the run, so neither is read, and none is written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translimit.core import ArgumentTypeError, Json, StoreError
from translimit.store.records import ArrayRecord
from translimit.store.shapes import load_record

if TYPE_CHECKING:
    import numpy as np
    import xarray

#: What describes an array, in format 2 of zarr; format 3 is not written here, and not read.
_ARRAY, _OTHER_FORMAT = ".zarray", "zarr.json"
_SHAPE = {"zarr_format": int, "dtype": (str, list), "compressor": (dict, type(None))}
#: Types of elements as zarr writes them: integers, floats, complex numbers, booleans, text, bytes,
#: and times with their unit.
_PLAIN = re.compile(r"[<>|]([biufcSU]\d+|[mM]8(\[\w+\])?)")
#: Compressors, from bytes to bytes. Filters (pickle, msgpack, ...) are never written.
_COMPRESSORS = {"blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"}


def plain_arrays(dataset: xarray.Dataset) -> xarray.Dataset:
    """A dataset as a cell holds it: its arrays as plain ones of NumPy, with the same values.

    Arrays of JAX become NumPy's, numbers that NumPy lacks (bfloat16, float8) become float32, and
    text of any width takes the width of the longest. What is plain stays as it is.

    Raises:
        ArgumentTypeError: a variable that is none of this, as an array of objects or random keys.
    """
    changed = {}
    for name, variable in dataset.variables.items():
        array = _plain_array(str(name), variable)
        if array is not None:
            changed[name] = (variable.dims, array, variable.attrs)
    data = {name: found for name, found in changed.items() if name in dataset.data_vars}
    coordinates = {name: found for name, found in changed.items() if name not in data}
    dataset = dataset.assign(data).assign_coords(coordinates)
    attributes = (dataset.attrs, *(one.attrs for one in dataset.variables.values()))
    if any(_of_jax(value) for found in attributes for value in found.values()):
        dataset = dataset.copy()
        for found in (dataset.attrs, *(one.attrs for one in dataset.variables.values())):
            found.update({k: v.tolist() for k, v in found.items() if _of_jax(v)})
    return dataset


def _plain_array(name: str, variable: xarray.Variable) -> np.ndarray | None:
    """The values of a variable as a plain array, or None where they are one."""
    import numpy as np

    try:
        array = np.asarray(variable.values)
    except TypeError as error:  # random keys of JAX have no values
        raise _no_values(name, variable.dtype) from error
    if array.dtype.kind == "O" and all(isinstance(one, str) for one in array.flat):
        return array.astype(np.str_)
    if array.dtype.isbuiltin == 2:  # of the package that gives NumPy JAX's types
        array = array.astype(np.float32)
    elif array.dtype.kind not in "biufcSUmM":
        raise _no_values(name, variable.dtype)
    elif not _of_jax(variable.data):
        return None
    return array


def _of_jax(value: Any) -> bool:
    """Whether a value is an array of JAX, or a scalar of one; JAX is not loaded to tell."""
    return type(value).__module__.partition(".")[0] in ("jax", "jaxlib")


def _no_values(name: str, dtype: Any) -> ArgumentTypeError:
    return ArgumentTypeError(
        name,
        f"has elements of type {dtype}, which a cell cannot hold",
        "store numbers, truth values, times or text; of a random key jax.random.key_data(key)",
    )


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
            about = load_record(path, _SHAPE, ArrayRecord)
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


def _named(codec: Json) -> str:
    """A codec in words."""
    listed = codec if isinstance(codec, list) else [codec]
    names = [str(one.get("id")) if isinstance(one, dict) else str(one) for one in listed]
    return f"{', '.join(map(repr, names))}, which cells do not use"
