r"""A sample of a vocabulary by Zipf's law, for those who give no text.

In Mandelbrot's form the word of rank r has the share

    p(r) proportional to (r + 2.7)^{-1},        r = 1, ..., V.

Which id has which rank does not enter: only which tokens are equal. The id of the padding row has
no rank.

Reference: Mandelbrot, "An informational theory of the statistical structure of language" (1953).
"""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from translimit.core import Key, kept_jit

#: Exponent and shift of the law.
EXPONENT, SHIFT = 1.0, 2.7


def zipf_shares(ranks: int) -> Float[np.ndarray, " ranks"]:
    """p(r) of all ranks.

    Args:
        ranks: how many.
    """
    shares = (np.arange(1, ranks + 1) + SHIFT) ** -EXPONENT
    return shares / shares.sum()


def zipf_ids(
    count: int, vocabulary: int, padding: int | None, key: Key
) -> Int[np.ndarray, " count"]:
    """Independent ids by Zipf's law.

    Args:
        count: how many.
        vocabulary: V, entries of the vocabulary.
        padding: the id that is never drawn, or None.
        key: of the draw.
    """
    allowed = np.arange(vocabulary)
    if padding is not None:
        allowed = allowed[allowed != padding]
    bits = np.asarray(_bits(count, key))
    places = np.searchsorted(np.cumsum(zipf_shares(len(allowed))), (bits + 0.5) / 2.0**32)
    return allowed[np.minimum(places, len(allowed) - 1)]


@kept_jit(static=1)
def _bits(count: int, key: Key) -> UInt32[Array, " count"]:
    return jax.random.bits(key, (count,), "uint32")
