"""Byte-level text as tokens: every byte an embedding from one random table."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError

#: The opening of Jane Austen's "Pride and Prejudice" (1813), which is in the public domain.
SENTENCE = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, "
    "must be in want of a wife."
)


def embed_bytes(text: str, dim: int, *, seed: int = 0) -> Float[np.ndarray, "tokens dim"]:
    """The bytes of a text as rows of a table of N(0, 1) embeddings; equal bytes, equal tokens.

    Args:
        text: at least one character; encoded as UTF-8.
        dim: dimension of the embeddings, at least 1.
        seed: of the table.

    Raises:
        ArgumentError: an empty text or a dimension below 1.
    """
    if not text:
        raise ArgumentError("text", "is empty", "pass at least one character")
    if dim < 1:
        raise ArgumentError("dim", f"got {dim}", "pass at least 1")
    table = np.random.default_rng(seed).standard_normal((256, dim))
    return table[np.frombuffer(text.encode(), dtype=np.uint8)]
