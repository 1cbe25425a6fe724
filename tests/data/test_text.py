"""Bytes as tokens."""

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.data import SENTENCE, embed_bytes


def test_equal_bytes_are_equal_tokens() -> None:
    tokens = embed_bytes("abca", 16)
    np.testing.assert_array_equal(tokens[0], tokens[3])
    assert not np.allclose(tokens[0], tokens[1])
    assert embed_bytes(SENTENCE, 4).shape == (len(SENTENCE), 4)
    np.testing.assert_array_equal(embed_bytes("abca", 16), tokens)


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="text: is empty"):
        embed_bytes("", 3)
    with pytest.raises(ArgumentError, match="dim: got 0"):
        embed_bytes("a", 0)
