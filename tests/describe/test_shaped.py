"""Shaped blocks that make no sense are refused."""

import pytest

from translimit.core import ArgumentError
from translimit.limits.shaped import (
    Block,
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gamma": 0.0, "tau0": 1.0}, "gamma: got 0"),
        ({"gamma": 1.2, "tau0": 1.0}, "gamma: got 1.2"),
        ({"gamma": float("nan"), "tau0": 1.0}, "gamma: got nan"),
        ({"gamma": 0.5, "tau0": 0.0}, "tau0: got 0"),
        ({"gamma": 0.5, "tau0": -1.0}, "tau0: got -1"),
        ({"gamma": 0.5, "tau0": 1.0, "lam": 0.9}, "lam: got 0.9: lam.2 . gamma.2 = 1.06"),
        ({"gamma": 0.5, "tau0": 1.0, "heads": 0}, "heads: got 0"),
        ({"gamma": 0.5, "tau0": 1.0, "value_ratio": 2.0}, "value_ratio: got 2 without projection"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Block(**arguments)
