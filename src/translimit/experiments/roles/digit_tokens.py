"""Digits as few tokens: what the networks of these experiments read."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from translimit import data

#: Tokens of an image, pixels of a token, and digits.
TOKENS, PIXELS, CLASSES = 4, 16, 10


def digit_tokens(
    images: int,
) -> tuple[Float[np.ndarray, "images tokens pixels"], Int[np.ndarray, " images"]]:
    """The first digits as quarters, of mean 0 and variance 1 over all pixels, with their labels.

    Args:
        images: how many, at most `data.DIGITS`.
    """
    digits = data.load_digits()
    pixels = digits.images[:images] / 16
    pixels = (pixels - pixels.mean()) / pixels.std()
    quarters = pixels.reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4)
    return quarters.reshape(-1, TOKENS, PIXELS).astype(np.float32), digits.labels[:images]
