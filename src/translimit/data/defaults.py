"""The embedded data sets of trained transformers: digits as patches, and bytes of English prose."""

from __future__ import annotations

import gzip
import hashlib
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
