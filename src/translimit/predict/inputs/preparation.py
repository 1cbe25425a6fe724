"""How an image becomes the pixels that a model reads: resized, cropped, scaled, normalised.

`preprocessor_config.json` of Hugging Face beside a configuration says how. Without it the shorter
side is resized, the centre is cropped, and pixels in [0, 1] are shifted by 0.5 and divided by 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, ConfigError, brief, config
from translimit.describe import PatchEmbedding

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "preprocessor_config.json"
#: The smallest number that pixels are divided by.
SMALLEST_STD = 1e-6
#: Processors for which one number is the shorter side; for others it is both sides.
_SHORTER = ("CLIP", "ChineseCLIP", "Bit", "Siglip")
#: Filters by the numbers of Pillow.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
#: Pixels along a side, and in all, that an image is resized to at most.
_LARGEST_SIDE, _LARGEST_IMAGE = 2**14, 2**26

Sides = tuple[int, int]


@dataclass(frozen=True)
class Preparation:
    """Steps from an image to pixels, in the order of the fields; None leaves a step out.

    Attributes:
        shorter: the length that the shorter side is resized to.
        size: height and width that the image is resized to.
        crop: height and width of the centre that is kept; where it is larger than the image, zeros
            are put around.
        resample: filter of the resizing, as Pillow numbers them.
        factor: what pixel values are multiplied with.
        mean: subtracted, by channel.
        std: divided by, by channel.
        source: where this comes from, in words.
    """

    shorter: int | None
    size: Sides | None
    crop: Sides | None
    resample: int
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def __str__(self) -> str:
        """The steps in words."""
        steps = []
        kind = _FILTERS[self.resample]
        if self.shorter is not None:
            steps.append(f"shorter side resized to {self.shorter} ({kind})")
        if self.size is not None:
            steps.append(f"resized to {self.size[0]} x {self.size[1]} ({kind})")
        if self.crop is not None:
            steps.append(f"centre of {self.crop[0]} x {self.crop[1]} kept")
        mean, std = (", ".join(f"{one:g}" for one in many) for many in (self.mean, self.std))
        steps.append(f"values times {self.factor:.4g}, less {mean}, over {std}")
        return f"{', '.join(steps)} ({self.source})"

    def pixels(self, image: Image) -> Float[np.ndarray, "channels height width"]:
        """The pixels of an image that has as many channels as the model reads.

        Args:
            image: of Pillow.

        Raises:
            ArgumentError: an image so thin that it cannot be resized.
        """
        size = self._resized(image.height, image.width)
        if size != (image.height, image.width):
            image = image.resize((size[1], size[0]), resample=self.resample)
        values = np.asarray(image, dtype=np.float64)
        values = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
        if self.crop is not None:
            values = _centre(values, self.crop)
        values = self.factor * values
        shape = (-1, 1, 1)
        return (values - np.reshape(self.mean, shape)) / np.reshape(self.std, shape)

    def fitted(self, embedding: PatchEmbedding) -> tuple[Preparation, tuple[str, ...]]:
        """The steps that end in the patches of a model, and a warning where they were changed.

        Args:
            embedding: of the model.
        """
        rows, columns, patch = embedding.rows, embedding.columns, embedding.patch
        last = self.crop or self.size
        if last is not None and (last[0] // patch, last[1] // patch) == (rows, columns):
            return self, ()
        if last is None and self.shorter is None:
            return self, ()
        own = (rows * patch, columns * patch)
        if last is None:
            changed = replace(self, shorter=max(*own), crop=own)
            return changed, (f"{self.source} says no size of the whole: its centre is kept",)
        ratio = max(own) / max(last)
        grown = None if self.size is None or self.crop is None else _scaled(self.size, ratio)
        changed = replace(
            self,
            shorter=None if self.shorter is None else round(ratio * self.shorter),
            size=own if self.crop is None else grown,
            crop=None if self.crop is None else own,
        )
        told = f"{self.source} ends in {last[0]} x {last[1]} pixels and the configuration reads "
        return changed, (f"{told}{own[0]} x {own[1]}: the image is resized to that",)

    def _resized(self, height: int, width: int) -> Sides:
        size = self.size or (height, width)
        if self.size is None and self.shorter is not None:
            other = int(self.shorter * max(height, width) / min(height, width))
            size = (self.shorter, other) if height <= width else (other, self.shorter)
        if size[0] * size[1] > _LARGEST_IMAGE:
            problem = f"is {height} x {width}, which would be resized to {size[0]} x {size[1]}"
            raise ArgumentError("image", problem, "pass an image that is less thin")
        return size


def default_preparation(embedding: PatchEmbedding) -> Preparation:
    """The stated steps where no file says how: the image covers the model's, its centre is kept.

    Args:
        embedding: of the model.
    """
    own = (embedding.rows * embedding.patch, embedding.columns * embedding.patch)
    half = (0.5,) * embedding.channels
    source = f"no {FILE} was given"
    return Preparation(max(own), None, own, 3, 1 / 255, half, half, source)


def read_preparation(folder: str | Path | None, embedding: PatchEmbedding) -> Preparation:
    """The steps that the file beside a configuration says, or the default.

    Args:
        folder: where the configuration is, or None.
        embedding: of the model.

    Raises:
        ConfigError: the file is malformed, or says something that is not understood.
    """
    default = default_preparation(embedding)
    path = None if folder is None else Path(folder) / FILE
    if path is None or not path.is_file():
        return default
    values = config.read_file(path)
    k = _Values(values, str(path))
    kind = str(values.get("image_processor_type") or values.get("feature_extractor_type") or "")
    shorter = size = None
    if k.flag("do_resize", True):
        shorter, size = k.size(kind.startswith(_SHORTER), default)
    cropped = k.flag("do_center_crop", values.get("crop_size") is not None)
    crop = k.sides("crop_size", default.crop) if cropped else None
    normalised, channels = k.flag("do_normalize", True), embedding.channels
    factor = k.number("rescale_factor", 1 / 255) if k.flag("do_rescale", True) else 1.0
    mean = k.row("image_mean", channels, default.mean) if normalised else (0.0,) * channels
    std = k.row("image_std", channels, default.std) if normalised else (1.0,) * channels
    if min(std) < SMALLEST_STD:
        raise k.refuse("image_std", f"write numbers of at least {SMALLEST_STD:g}")
    return Preparation(shorter, size, crop, k.resample(), factor, mean, std, FILE)


class _Values:
    """The content of a preprocessor's file, value by value."""

    def __init__(self, values: dict[str, Any], where: str):
        self.values, self.where = values, where

    def refuse(self, name: str, remedy: str) -> ConfigError:
        return ConfigError(self.where, f"{name} is {brief(self.values.get(name))}", remedy)

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "write true or false")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.values.get(name)
        if value is None:
            return default
        if not _is_number(value):
            raise self.refuse(name, "write a number")
        return float(value)

    def row(self, name: str, channels: int, default: tuple[float, ...]) -> tuple[float, ...]:
        value = self.values.get(name)
        if value is None:
            return default
        many = value if isinstance(value, list) else [value] * channels
        if len(many) != channels or not all(_is_number(one) for one in many):
            raise self.refuse(name, f"write {channels} numbers, one for each channel")
        return tuple(float(one) for one in many)

    def resample(self) -> int:
        value = self.values.get("resample")
        if value is None:
            return 3
        if type(value) is not int or value not in _FILTERS:
            raise self.refuse("resample", "write a filter of Pillow, 0 to 5")
        return value

    def size(self, shorter: bool, default: Preparation) -> tuple[int | None, Sides | None]:
        """The shorter side, or both sides."""
        value = self.values.get("size")
        if value is None:
            return default.shorter, None
        if _is_side(value) and shorter:
            return value, None
        if isinstance(value, dict) and set(value) == {"shortest_edge"}:
            if not _is_side(value["shortest_edge"]):
                raise self.refuse("size", f"write a side of 1 to {_LARGEST_SIDE} pixels")
            return value["shortest_edge"], None
        return None, self.sides("size", None)

    def sides(self, name: str, default: Sides | None) -> Sides:
        """Height and width."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        both: list[Any] = [value, value]
        if isinstance(value, dict):
            both = [value.get("height"), value.get("width")]
        elif isinstance(value, list):
            both = value
        if len(both) != 2 or not all(_is_side(one) for one in both):
            known = "a number, {height, width}" + (", {shortest_edge}" if name == "size" else "")
            raise self.refuse(name, f"write {known} of 1 to {_LARGEST_SIDE} pixels")
        return both[0], both[1]


def _is_side(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and 0 < value <= _LARGEST_SIDE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _scaled(sides: Sides, ratio: float) -> Sides:
    return max(1, round(ratio * sides[0])), max(1, round(ratio * sides[1]))


def _centre(values: np.ndarray, crop: Sides) -> np.ndarray:
    """The centre [channels, *crop], with zeros around an image that is smaller."""
    height, width = crop
    lacks = [max(0, wanted - have) for wanted, have in zip(crop, values.shape[1:], strict=True)]
    # Of an odd number of rows that are lacking, one more is put above.
    padding = [(0, 0), *((-(-lack // 2), lack // 2) for lack in lacks)]
    values = np.pad(values, padding)
    top, left = (values.shape[1] - height) // 2, (values.shape[2] - width) // 2
    return values[:, top : top + height, left : left + width]
