"""The tokens that enter a stack, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Tokens:
    """The tokens that enter the first layer, by their inner products.

    Attributes:
        cov: C of the tokens, <x_i, x_j> / D in infinite width; centred by the share 1 - 1 / D where
            the norms of the stack remove the mean. A given covariance is left as it is.
        ids: of the tokens; None for images and for a given covariance.
        targets: the next tokens, of all n, or of all but the last where nothing follows it; None
            where there are none: images, a given covariance, a stack without a causal mask.
        source: what entered, one sentence.
        warnings: what was cut, and what is zero, one sentence each.
        groups: labels of the tokens; equal ones have equal ids.
        pixel_gram: inner products of the pixels of an image's patches; None without an image.
    """

    cov: Float[np.ndarray, "n n"]
    ids: Int[np.ndarray, " n"] | None
    targets: Int[np.ndarray, " m"] | None
    source: str
    warnings: tuple[str, ...]
    groups: Int[np.ndarray, " n"]
    pixel_gram: Float[np.ndarray, "patches patches"] | None = None

    @property
    def count(self) -> int:
        """n, how many tokens enter."""
        return len(self.groups)

    @property
    def different(self) -> int:
        """How many of them differ at the start."""
        return int(self.groups.max()) + 1
