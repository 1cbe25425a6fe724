"""Readers of the large sets that papers train on, memory-mapped: nothing is loaded but batches.

- CIFAR-10 and CIFAR-5M as `.npz` (arrays of images and labels, stored without compression) or as
  pairs of `.npy` files;
- tokenised text as one binary file of uint16 or uint32 ids, the nanoGPT convention; C4 prepared
  that way.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np

from translimit.core import ArgumentError, StoreError, cause_of
from translimit.data.sources import Examples, TokenStream

#: Names of the arrays of images and labels, in the order in which they are looked for.
_NAMES = (("X", "Y"), ("x_train", "y_train"), ("images", "labels"), ("data", "labels"))
#: Images from which the mean and the standard deviation are taken.
_SAMPLE = 10_000


def open_npz(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file as memory maps.

    Args:
        path: a file written by `numpy.savez`, not by `savez_compressed`.

    Raises:
        StoreError: no such file, not an `.npz`, arrays of objects, or compressed arrays, which
            cannot be mapped.
    """
    path = Path(path)
    try:
        return _mapped(path)
    except StoreError:
        raise
    except Exception as error:  # the bytes may be anybody's
        raise StoreError(
            path, f"cannot be read as .npz ({cause_of(error)})", "pass an .npz file"
        ) from error


def _mapped(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, by their places in it."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    arrays = {}
    with path.open("rb") as file:
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise StoreError(
                    path,
                    f"{member.filename} is compressed and cannot be memory-mapped",
                    "write it again with numpy.savez",
                )
            file.seek(member.header_offset)
            header = file.read(30)
            name_length, extra_length = struct.unpack("<HH", header[26:30])
            file.seek(member.header_offset + 30 + name_length + extra_length)
            version = np.lib.format.read_magic(file)
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
            shape, fortran, dtype = read(file)
            if dtype.hasobject:
                raise StoreError(path, f"{member.filename} holds objects", "store plain arrays")
            arrays[member.filename.removesuffix(".npy")] = np.memmap(
                path, dtype, "r", file.tell(), shape, "F" if fortran else "C"
            )
    return arrays


def open_images(
    path: str | Path, patch: tuple[int, int], *, labels: str | Path | None = None
) -> Examples:
    """Images and labels as a source of tokens, scaled by one mean and one standard deviation.

    Args:
        path: an `.npz` with images [examples, height, width, channels] and labels under one of the
            usual pairs of names (X, Y; x_train, y_train; images, labels; data, labels), or an
            `.npy` of images.
        patch: height and width of a patch.
        labels: the `.npy` of the labels, where the images are an `.npy`.

    Raises:
        StoreError: files that cannot be read, or no pair of names.
        ArgumentError: labels missing for an `.npy`, or images that are no images.
    """
    path = Path(path)
    if path.suffix == ".npy":
        if labels is None:
            raise ArgumentError("labels", "are missing", "pass the .npy file of the labels")
        images, classes = _open_npy(path), _open_npy(Path(labels))
    else:
        arrays = open_npz(path)
        pair = next((p for p in _NAMES if set(p) <= set(arrays)), None)
        if pair is None:
            known = ", ".join(" and ".join(p) for p in _NAMES)
            raise StoreError(path, f"holds {sorted(arrays)}", f"name the arrays {known}")
        images, classes = arrays[pair[0]], arrays[pair[1]]
    if images.ndim not in (3, 4):
        raise ArgumentError(
            "path",
            f"holds images of shape {images.shape}",
            "store [examples, height, width, channels]",
        )
    sample = np.asarray(images[:_SAMPLE], dtype=np.float64)
    classes = np.asarray(classes).reshape(-1).astype(np.int32)
    return Examples(images, classes, patch, float(sample.mean()), float(sample.std()))


def open_tokens(path: str | Path, tokens: int, *, dtype: str = "uint16") -> TokenStream:
    """A binary file of token ids as a source of windows.

    Args:
        path: ids one after the other, little-endian, nothing else.
        tokens: length of a window.
        dtype: "uint16" or "uint32".

    Raises:
        ArgumentError: another dtype, or a text shorter than a window.
        StoreError: no such file, or one whose length is no multiple of an id's.
    """
    if dtype not in ("uint16", "uint32"):
        raise ArgumentError("dtype", f"got {dtype!r}", 'pass "uint16" or "uint32"')
    path, size = Path(path), np.dtype(dtype).itemsize
    try:
        length = path.stat().st_size
    except OSError as error:
        raise StoreError(
            path, f"cannot be read ({cause_of(error)})", "pass a file of token ids"
        ) from error
    if not length or length % size:
        raise StoreError(
            path,
            f"has {length} bytes, no multiple of the {size} of {dtype}",
            "pass the dtype that it was written with",
        )
    return TokenStream(np.memmap(path, np.dtype(dtype).newbyteorder("<"), "r"), tokens)


def _open_npy(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the bytes may be anybody's
        raise StoreError(
            path, f"cannot be read as .npy ({cause_of(error)})", "pass an .npy file"
        ) from error
