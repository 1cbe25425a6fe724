"""Files of tensors as NumPy arrays: safetensors, and weights of PyTorch without a pickle.

A safetensors file is the length of a header (eight bytes, little-endian), the header in JSON with
type, shape and place of every tensor, and their bytes. Nothing in it is executed, and arrays are
memory-mapped. A file of PyTorch goes through its weights-only load, or is refused.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from translimit.core import ConfigError, MissingExtraError, cause_of, require_package
from translimit.diagnose.gguf_files import read_gguf

#: Types of safetensors by name; bfloat16 are the upper halves of float32.
_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
#: The largest header that the format allows.
_LARGEST_HEADER = 100_000_000
#: Files that hold the weights of a folder, in the order in which they are looked for.
FILES = (
    *("model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors"),
    *("pytorch_model.bin", "ckpt.pt"),
)


class TensorFile(Mapping[str, np.ndarray]):
    """The tensors of one or several files, read when they are asked for.

    Attributes:
        where: the file or folder, for messages.
        extra: what a file holds beside tensors, as plain data.
    """

    def __init__(
        self, where: str, tensors: Mapping[str, Any], extra: Mapping[str, Any] | None = None
    ):
        self.where, self.extra = where, dict(extra or {})
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> np.ndarray:
        found = self._tensors[name]
        return found if isinstance(found, np.ndarray) else found()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open_tensors(path: str | Path) -> TensorFile:
    """The tensors of a checkpoint.

    Args:
        path: a `.safetensors` file, its index of several, a `.bin`, `.pt` or `.pth` of PyTorch, a
            `.gguf`, or a folder that holds one of `FILES`.

    Raises:
        ConfigError: nothing is there, the file is damaged or of another kind, or a weights-only
            load refuses it.
        MissingExtraError: a file of PyTorch, and torch is not installed.
    """
    path = Path(path)
    if path.is_dir():
        there = [path / name for name in FILES if (path / name).is_file()]
        there += [*sorted(path.glob("*.safetensors")), *sorted(path.glob("*.gguf"))]
        if not there:
            remedy = f"give a folder with {FILES[0]}"
            raise ConfigError(str(path), "holds no file of weights", remedy)
        path = there[0]
    if not path.is_file():
        raise ConfigError(str(path), "is not there", "give a file or folder of weights")
    if path.name.endswith(".index.json"):
        return _several(path)
    if path.suffix == ".safetensors":
        return TensorFile(str(path), read_safetensors(path))
    if path.suffix in (".bin", ".pt", ".pth"):
        return _weights_only(path)
    if path.suffix == ".gguf":
        tensors, told = read_gguf(path)
        return TensorFile(str(path), tensors, {"config": told})
    raise ConfigError(str(path), "is of no kind that is read", "give a .safetensors file")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, memory-mapped; bfloat16 become float32.

    Args:
        path: the file.

    Raises:
        ConfigError: the file is damaged, or holds a type that is not known.
    """
    remedy = "download or write the file again"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _LARGEST_HEADER):
                raise ConfigError(str(path), "has a header longer than the file", remedy)
            header = json.loads(file.read(length))
        data = (
            np.memmap(path, np.uint8, "r", 8 + length) if size > 8 + length else np.zeros(0, "u1")
        )
        header.pop("__metadata__", None)
        return {name: _tensor(data, one, name, path) for name, one in header.items()}
    except ConfigError:
        raise
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            str(path), f"is no safetensors file ({cause_of(error)})", remedy
        ) from error


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write float32 tensors as a safetensors file, in the order of their names.

    Args:
        path: of the file.
        tensors: by name.
    """
    header, place = {}, 0
    ordered = sorted(tensors)
    for name in ordered:
        end = place + 4 * int(np.size(tensors[name]))
        shape = list(np.shape(tensors[name]))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, end]}
        place = end
    told = json.dumps(header, separators=(",", ":")).encode()
    told += b" " * (-len(told) % 8)
    parts = [np.ascontiguousarray(tensors[name], "<f4").tobytes() for name in ordered]
    path.write_bytes(struct.pack("<Q", len(told)) + told + b"".join(parts))


def _tensor(data: np.ndarray, told: Mapping[str, Any], name: str, path: Path) -> np.ndarray:
    kind, shape, (start, end) = told["dtype"], tuple(told["shape"]), told["data_offsets"]
    if kind not in _TYPES:
        known = ", ".join(_TYPES)
        raise ConfigError(str(path), f"{name} is of type {kind}", f"read are {known}")
    dtype = np.dtype(_TYPES[kind]).newbyteorder("<")
    if not 0 <= start <= end <= len(data) or end - start != dtype.itemsize * math.prod(shape):
        raise ConfigError(str(path), f"{name} lies outside the file", "download the file again")
    found = np.asarray(data[start:end]).view(dtype).reshape(shape)
    if kind == "BF16":
        return (found.astype(np.uint32) << 16).view(np.float32)
    return found.astype(np.float32) if kind == "F16" else found


def _several(index: Path) -> TensorFile:
    """The tensors of all files that an index names."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        parts = [index.with_name(Path(name).name) for name in sorted(names)]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        problem = f"is no index of weights ({cause_of(error)})"
        raise ConfigError(str(index), problem, "download it again") from error
    missing = [one.name for one in parts if not one.is_file()]
    if missing:
        raise ConfigError(str(index), f"names {missing[0]}, which is not there", "download it")
    return TensorFile(str(index), {k: v for one in parts for k, v in read_safetensors(one).items()})


def _weights_only(path: Path) -> TensorFile:
    """A file of PyTorch: tensors, of which the rest is plain data. No pickle is run."""
    try:
        require_package("torch", "torch")
    except MissingExtraError as error:
        problem = "is a file of PyTorch, which is not installed"
        raise ConfigError(
            str(path), problem, "convert it to safetensors, or install torch"
        ) from error
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = cause_of(error).split(". ")[0]
        problem = f"a weights-only load refuses it ({first[:120]})"
        raise ConfigError(str(path), problem, "convert it to safetensors") from error
    if not isinstance(held, Mapping):
        raise ConfigError(str(path), "holds no table of tensors", "convert it to safetensors")
    nested = next(
        (held[k] for k in ("model", "state_dict") if isinstance(held.get(k), Mapping)), held
    )
    found = {
        name: (lambda tensor=tensor: tensor.detach().to(torch.float32).numpy())
        for name, tensor in nested.items()
        if isinstance(tensor, torch.Tensor)
    }
    extra = {k: v for k, v in held.items() if isinstance(v, Mapping) and v is not nested}
    return TensorFile(str(path), found, extra)
