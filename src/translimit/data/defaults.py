"""Data sets that need no file: digits as patches, bytes of English prose, drawn images."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from importlib import resources

import numpy as np

from translimit.core import StoreError, cause_of
from translimit.data.digits import load_digits
from translimit.data.sources import Examples, TokenStream

#: Digest of the shipped text; its origin and licence are in `files/README.md`.
TEXT_SHA256 = "0b74bb5ec49f6257b602bce386e1b18939abec364661a465254e008816f65993"
_TEXT = "files/python_reference.txt.gz"
#: Token ids of byte-level text.
BYTES = 256


def digit_patches(patch: tuple[int, int] = (2, 4)) -> Examples:
    """The 1,797 digits as tokens, shuffled once, with one common mean and standard deviation.

    Args:
        patch: height and width of a patch; (2, 4) gives 8 tokens of 8 pixels.

    Raises:
        StoreError: the shipped file is absent or altered.

    Reference: documentation, "Scaling rules", the reference model.
    """
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    pixels = digits.images.astype(np.float64)
    return Examples(
        digits.images[order],
        digits.labels[order].astype(np.int32),
        patch=patch,
        shift=float(pixels.mean()),
        scale=float(pixels.std()),
    )


@lru_cache(maxsize=2)
def synthetic_images(examples: int = 20_000, patch: tuple[int, int] = (4, 4)) -> Examples:
    """Drawn images of the size of CIFAR's, 32 x 32 in three channels, of ten classes.

    An image is the template of its class plus noise. Both are Gaussian fields whose amplitude falls
    with the wave number k like 1 / (1 + k), as in natural images; the template has no wave beyond
    2, and noise is twice as large at each wave. Always the same images, drawn once in a process.

    Args:
        examples: how many, in classes that take turns.
        patch: height and width of a patch; (4, 4) gives 64 tokens of 48 numbers.

    Raises:
        ArgumentError: no example.
    """
    rng = np.random.default_rng(0)
    waves = np.fft.fftfreq(32, 1 / 32)
    length = np.hypot(waves[:, None], waves)[..., None]
    amplitude = 1 / (1 + length)
    amplitude /= np.sqrt(np.mean(amplitude**2))

    def fields(count: int, most: float = np.inf) -> np.ndarray:
        white = rng.standard_normal((count, 32, 32, 3))
        spectrum = np.fft.fft2(white, axes=(1, 2)) * np.where(length <= most, amplitude, 0)
        return np.fft.ifft2(spectrum, axes=(1, 2)).real

    templates, labels = fields(10, 2.0), np.arange(examples, dtype=np.int32) % 10
    images = np.empty((examples, 32, 32, 3), dtype=np.float16)
    for first in range(0, examples, 1000):
        chosen = labels[first : first + 1000]
        images[first : first + 1000] = templates[chosen] + 2 * fields(len(chosen))
    return Examples(images, labels, patch=patch, scale=2.0)


def byte_text(tokens: int = 32) -> TokenStream:
    """Windows of the shipped excerpt of Python's reference manual, a token for each byte.

    Args:
        tokens: length of a window.

    Raises:
        StoreError: the shipped file is absent or altered.
    """
    remedy = "install translimit again"
    try:
        compressed = resources.files("translimit.data").joinpath(_TEXT).read_bytes()
    except OSError as error:
        raise StoreError(_TEXT, f"cannot be read ({cause_of(error)})", remedy) from error
    if hashlib.sha256(compressed).hexdigest() != TEXT_SHA256:
        raise StoreError(_TEXT, "does not have the digest it was shipped with", remedy)
    return TokenStream(np.frombuffer(gzip.decompress(compressed), dtype=np.uint8), tokens)
