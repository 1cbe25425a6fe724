"""When an overlap reaches a threshold: between the times kept, at the start, never."""

import math

import numpy as np
import pytest

from translimit.core import ArgumentError, NotEstimated, Outcome
from translimit.limits.homogenized import OverlapSolution
from translimit.limits.signal import SignalSolution
from translimit.models import StackPaths
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


#: Overlaps of two tokens at three times, of two paths, with what one of them adds in the middle.
ANGLES = np.array([[np.pi / 2, np.pi / 3, 0.0], [np.pi / 2, np.pi / 2, np.pi / 3]])
TIMES = np.arange(3.0)


def covs() -> np.ndarray:
    """[paths, times, 2, 2], the first token three times as long."""
    tokens = np.stack([3 * circle(np.zeros((2, 3))), circle(ANGLES)], axis=-2)
    return tokens @ tokens.swapaxes(-1, -2)


def circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def test_paths_of_tokens_tell_it_one_by_one():
    """Overlaps 0, 1/2, 1 and 0, 0, 1/2 cross 1/4 half way up."""
    paths = OverlapSolution(
        ts=TIMES,
        tokens=np.stack([circle(np.zeros((2, 3))), circle(ANGLES)], axis=-2),
        dim=2,
        max_step=0.1,
        discretisation=0.0,
        outcome=Outcome.successful,
        samples=2,
    )
    np.testing.assert_allclose(paths.collapse_time(0.25), [0.5, 1.5])
    np.testing.assert_allclose(paths.collapse_time(0.75), [1.5, np.inf])
    np.testing.assert_array_equal(paths.clusters(1.2), [[2, 1, 1], [2, 2, 1]])


def test_networks_tell_it_one_by_one_and_the_recursion_for_their_mean():
    none = np.zeros((2, 2))
    networks = StackPaths(
        ts=TIMES,
        covs=covs(),
        attention_entropies=none,
        attention_entropy_stds=none,
        groups=(),
        samples=2,
    )
    np.testing.assert_allclose(networks.collapse_time(0.25), [0.5, 1.5])
    recursion = SignalSolution(
        ts=TIMES,
        covs=covs(),
        grad_grams=np.zeros((2, 0, 2, 2)),
        entropies=none,
        attention_entropies=none,
        attention_entropy_stds=none,
        participations=none,
        added=np.zeros((2, 2, 2)),
        weight_squares=np.zeros((2, 0, 0)),
        groups=(),
        outcome=Outcome.successful,
        discretisation=NotEstimated("of a test"),
        samples=2,
    )
    # The mean over copies is 0, 1/4, 3/4.
    assert recursion.collapse_time(0.25) == pytest.approx(1.0)
    assert recursion.collapse_time() == pytest.approx(1.5)
