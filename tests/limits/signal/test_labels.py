"""Labels hold where their thresholds say, and carry their numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.limits.signal import (
    distinct_overlap,
    entropy_collapse,
    gradient_label,
    lost_in_bf16,
    overflow,
    rank_collapse,
)


def test_overlap_counts_different_tokens_only() -> None:
    overlaps = np.array([[1.0, 1.0, 0.2], [1.0, 1.0, 0.4], [0.2, 0.4, 1.0]])
    groups = np.array([7, 7, 3])
    assert distinct_overlap(overlaps, groups) == pytest.approx(0.3)
    assert distinct_overlap(np.stack([overlaps] * 2), groups) == pytest.approx(np.array([0.3] * 2))
    assert distinct_overlap(overlaps, np.zeros(3, int)) is None
    with pytest.raises(ArgumentError, match="groups"):
        distinct_overlap(overlaps, np.zeros(2, int))


def test_rank_collapse_is_of_the_top_or_of_the_angle() -> None:
    assert rank_collapse(0.95).holds
    assert not rank_collapse(0.85).holds
    contracted = rank_collapse(0.5, -math.log(20.0))
    assert contracted.holds
    assert "20 times nearer" in contracted.says
    # A tenfold contraction is the threshold.
    assert not rank_collapse(0.5, -math.log(9.0)).holds


def test_entropy_collapse_is_told_by_either_number() -> None:
    assert entropy_collapse([0.1, 0.6], np.array([0.8, 0.5])).number == 0.6
    assert entropy_collapse([0.1, 0.6], np.array([0.8, 0.5])).holds
    focused = entropy_collapse([0.1, 0.4], np.array([0.2, np.nan]))
    assert (focused.holds, focused.number) == (True, 0.2)
    assert not entropy_collapse([0.1, 0.4], np.array([0.9, 0.5])).holds


def test_gradients_are_judged_after_the_first_layer() -> None:
    exploding = gradient_label([1e9, 400.0, 2.0, 1.0])
    assert (exploding.name, exploding.number, exploding.holds) == (
        "exploding gradients",
        20.0,
        True,
    )
    assert "embedding" in exploding.says
    vanishing = gradient_label([1.0, 1e-4, 1.0])
    assert (vanishing.name, vanishing.holds) == ("vanishing gradients", True)
    # Gradients of the embedding alone are no explosion.
    assert not gradient_label([1e9, 4.0, 1.0]).holds
    with pytest.raises(ArgumentError, match="grad_squares"):
        gradient_label([1.0])


def test_overflow_is_that_of_the_largest_gaussian_entry() -> None:
    n, dim = 64, 1024
    rng = np.random.default_rng(0)
    largest = np.abs(rng.standard_normal((20, n * dim))).max(axis=1).mean()
    found = overflow([0.5, 1.0], n, dim)
    assert found.number == pytest.approx(largest, rel=0.1)
    assert not found.holds
    assert overflow([1.0, (65504 / 4) ** 2], n, dim).holds


def test_bf16_rounds_away_what_its_spacing_cannot_hold() -> None:
    """By rounding to eight bits of mantissa, written from the format."""

    def bf16(x: np.ndarray) -> np.ndarray:
        bits = x.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)

    x = bf16(np.random.default_rng(1).uniform(1.0, 2.0, 10_000).astype(np.float32))
    rms = float(np.sqrt((x.astype(float) ** 2).mean()))
    assert np.all(bf16(x + np.float32(0.4 * 2.0**-8)) == x)
    assert lost_in_bf16([(0.4 * 2.0**-8) ** 2], [rms**2]).holds
    assert not np.any(bf16(x + np.float32(2.5 * 2.0**-8)) == x)
    kept = lost_in_bf16([(2.5 * 2.0**-8) ** 2, 1.0], [rms**2, rms**2])
    assert (kept.holds, "sub-block 1" in kept.says) == (False, True)
    with pytest.raises(ArgumentError, match="added"):
        lost_in_bf16([1.0], [1.0, 2.0])
