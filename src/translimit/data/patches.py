"""Images as tokens: cut into patches, embedded as points of R^dim."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from translimit.core import ArgumentError


def image_patches(
    images: Shaped[np.ndarray, "images height width"], patch: int | tuple[int, int]
) -> Float[np.ndarray, "images tokens dim"]:
    """Cut images into non-overlapping patches, rows first.

    Args:
        images: pixel values [images, height, width].
        patch: side of a square patch, or its height and width; they divide those of the images.

    Returns:
        Tokens [images, (height / patch height) (width / patch width), pixels] in float64.

    Raises:
        ArgumentError: the patch does not divide the image.
    """
    count, height, width = images.shape
    rows, columns = (patch, patch) if isinstance(patch, int) else patch
    if min(rows, columns) < 1 or height % rows or width % columns:
        raise ArgumentError(
            "patch",
            f"{patch} does not divide {height} x {width} images",
            f"pass a divisor of {height} and {width}",
        )
    blocks = images.reshape(count, height // rows, rows, width // columns, columns)
    return blocks.transpose(0, 1, 3, 2, 4).reshape(count, -1, rows * columns).astype(np.float64)


def standardise(
    tokens: Float[np.ndarray, "... dim"],
) -> Float[np.ndarray, "... dim"]:
    """Centre tokens and divide by one common scale, so that the trace of their covariance is dim.

    One scale for all components keeps the shape of the law: nothing is whitened.

    Raises:
        ArgumentError: all tokens are equal.
    """
    flat = tokens.reshape(-1, tokens.shape[-1])
    centred = tokens - flat.mean(axis=0)
    scale = np.sqrt(np.mean(flat.var(axis=0)))
    if scale == 0:
        raise ArgumentError("tokens", "all tokens are equal", "pass tokens that differ")
    return centred / scale
