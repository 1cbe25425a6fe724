"""The 8 x 8 handwritten digits (UCI, 1,797 images), read from the file beside this module."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jaxtyping import Int, UInt8

from translimit.core import StoreError, cause_of

#: How many digits there are.
DIGITS = 1797
#: Digest of the shipped file; its origin and licence are in `files/README.md`.
SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
_FILE = "files/digits.csv.gz"


@dataclass(frozen=True)
class Digits:
    """Images with pixel values 0 to 16, and their labels 0 to 9."""

    images: UInt8[np.ndarray, "images 8 8"]
    labels: Int[np.ndarray, " images"]


def load_digits() -> Digits:
    """All 1,797 digits in the order of the file.

    Raises:
        StoreError: the shipped file is absent or altered.

    Reference: E. Alpaydin and C. Kaynak (1998), doi 10.24432/C50P49.
    """
    remedy = "install translimit again"
    try:
        compressed = resources.files("translimit.data").joinpath(_FILE).read_bytes()
    except OSError as error:
        raise StoreError(_FILE, f"cannot be read ({cause_of(error)})", remedy) from error
    if hashlib.sha256(compressed).hexdigest() != SHA256:
        raise StoreError(_FILE, "does not have the digest it was shipped with", remedy)
    rows = gzip.decompress(compressed).decode().splitlines()
    table = np.array([[int(float(value)) for value in row.split(",")] for row in rows])
    images = table[:, :64].reshape(-1, 8, 8).astype(np.uint8)
    return Digits(images, table[:, 64].astype(np.int64))
