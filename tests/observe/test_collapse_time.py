"""When an overlap reaches a threshold: between the times kept, at the start, never."""

import math

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.observe import collapse_time


@pytest.mark.parametrize(
    ("overlaps", "threshold", "time"),
    [
        ([0.0, 0.4, 0.8], 0.5, 1.25),
        ([0.0, 0.5, 0.8], 0.5, 1.0),
        ([0.6, 0.7, 0.8], 0.5, 0.0),
        ([0.0, 0.6, 0.1], 0.3, 0.5),  # the first time, though it falls again
        ([0.0, 0.1, 0.2], 0.5, math.inf),
        ([0.0, 0.4, np.nan], 0.5, math.inf),
    ],
)
def test_the_first_time(overlaps, threshold, time):
    assert collapse_time([0.0, 1.0, 2.0], overlaps, threshold) == pytest.approx(time)


def test_refusals():
    with pytest.raises(ArgumentError, match="pass one number for each time"):
        collapse_time([0.0, 1.0], [0.0])
    with pytest.raises(ArgumentError, match="threshold"):
        collapse_time([0.0], [0.0], 2.0)
