"""The pixels of an image's patches, from a file or an array."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, ArrayInput, as_numpy, require_finite
from translimit.describe import PatchEmbedding
from translimit.predict.inputs.files import is_npy, npy_array, read_whole
from translimit.predict.inputs.preparation import read_preparation

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_REMEDY = "pass an image (png, jpeg, webp, bmp, gif) or an array as .npy"
#: Pixels of the largest image that is read.
LARGEST_IMAGE = 2**26
#: The largest value of a pixel as a model reads it.
LARGEST_PIXEL = 1e6


def read_image(
    source: str | Path | ArrayInput, embedding: PatchEmbedding, folder: str | Path | None
) -> tuple[Float[np.ndarray, "patches entries"], str, tuple[str, ...]]:
    """The pixels of the patches, what was done to the image in words, and warnings.

    An array of floats with the channels first, of the model's own size, holds pixels as the model
    reads them, and is taken as it is. Any other is an image: [height, width], or with 1, 3 or 4
    channels last, of whole numbers from 0 to 255 or of shares from 0 to 1.

    Args:
        source: an image file, or an array in an .npy file or at hand.
        embedding: of the model.
        folder: where its configuration is, or None.

    Raises:
        ArgumentError: no image, or one that does not fit.
        ConfigError: the preprocessor's file is not understood.
    """
    found, name = _found(source, embedding)
    if isinstance(found, np.ndarray):
        return _patches(found, embedding), f"{name}: pixels as the model reads them", ()
    steps, told = read_preparation(folder, embedding).fitted(embedding)
    prepared = steps.pixels(_in_channels(found, embedding.channels))
    height, width = prepared.shape[1:]
    rows, columns, patch = embedding.rows, embedding.columns, embedding.patch
    if (height // patch, width // patch) != (rows, columns):
        raise ArgumentError(
            "image",
            f"is {height} x {width} as {steps.source} leaves it",
            f"pass one of {rows * patch} x {columns * patch}",
        )
    source_told = f"{name}, {found.height} x {found.width} pixels: {steps}"
    return _patches(prepared, embedding), source_told, told


def _found(source: Any, embedding: PatchEmbedding) -> tuple[Any, str]:
    """An image of Pillow, or an array of pixels as the model reads them, and its name."""
    if not isinstance(source, str | Path):
        whole = "int" in str(getattr(source, "dtype", ""))
        return _of_array(as_numpy(source, "image"), whole, embedding), "an array"
    content, name = read_whole(source, "image", _REMEDY), Path(source).name
    if is_npy(content):
        array = npy_array(content, source, "image")
        return _of_array(array, array.dtype.kind in "iu", embedding), name
    return _of_file(content, source), name


def _of_file(content: bytes, path: str | Path) -> Image:
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
            if image.width * image.height > LARGEST_IMAGE:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            image.load()
            return ImageOps.exif_transpose(image)
    except Exception as error:  # whatever the reader of a format raises
        raise ArgumentError("image", f"{path} cannot be read as an image", _REMEDY) from error


def _of_array(array: np.ndarray, whole: bool, embedding: PatchEmbedding) -> Any:
    """An array as an image, or as it is where it holds pixels as the model reads them.

    Args:
        array: the values.
        whole: whether they came as integers.
        embedding: of the model.
    """
    from PIL import Image

    require_finite(array, "image")
    if array.ndim == 4 and len(array) == 1:  # a batch of one
        array = array[0]
    rows, columns, patch = embedding.rows, embedding.columns, embedding.patch
    own = (embedding.channels, rows * patch, columns * patch)
    if array.shape == own and not whole:
        if np.abs(array).max() > LARGEST_PIXEL:
            problem = f"has values up to {float(np.abs(array).max()):.3g}"
            raise ArgumentError("image", problem, f"pass pixels of at most {LARGEST_PIXEL:g}")
        return array.astype(np.float64)
    grey = array.ndim == 2
    if not (grey or (array.ndim == 3 and array.shape[2] in (1, 3, 4))) or array.size == 0:
        raise ArgumentError(
            "image",
            f"has shape {array.shape}",
            f"pass [height, width] or [height, width, 3], or pixels as the model reads them {own}",
        )
    if array.size > 4 * LARGEST_IMAGE:
        raise ArgumentError("image", f"has shape {array.shape}", "pass a smaller one")
    low, high = float(array.min()), float(array.max())
    whole = whole or high > 1
    if low < 0 or high > 255 or (whole and not np.all(array == np.floor(array))):
        raise ArgumentError(
            "image",
            f"has values from {low:.3g} to {high:.3g}",
            "pass whole numbers from 0 to 255 or shares from 0 to 1",
        )
    bytes_ = np.asarray(array if whole else np.round(255 * array), dtype=np.uint8)
    return Image.fromarray(bytes_ if grey or array.shape[2] != 1 else bytes_[:, :, 0])


def _in_channels(image: Image, channels: int) -> Image:
    """An image in the channels that a model reads: grey, or red, green and blue."""
    if channels not in (1, 3):
        raise ArgumentError(
            "image", f"is a picture, and the model reads {channels} channels", "pass its pixels"
        )
    if image.mode.startswith("I"):  # 16 bits a pixel
        from PIL import Image

        values = np.clip(np.asarray(image, dtype=np.int64) // 257, 0, 255)
        image = Image.fromarray(values.astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")


def _patches(
    pixels: Float[np.ndarray, "channels height width"], embedding: PatchEmbedding
) -> Float[np.ndarray, "patches entries"]:
    """Patches row by row; what is left over at the right and at the bottom is not read."""
    rows, columns, patch = embedding.rows, embedding.columns, embedding.patch
    kept = pixels[:, : rows * patch, : columns * patch]
    blocks = kept.reshape(len(pixels), rows, patch, columns, patch)
    return blocks.transpose(1, 3, 0, 2, 4).reshape(rows * columns, -1)
