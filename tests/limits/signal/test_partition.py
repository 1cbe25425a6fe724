"""Log partitions and overlaps of softmax against drawn logits, and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from translimit.core import ArgumentError
from translimit.limits.signal import (
    concentration,
    log_partition,
    log_partition_cov,
    softmax_overlap,
)


@pytest.mark.parametrize(("words", "std"), [(1, 1.0), (10, 0.5), (50, 3.0), (1000, 6.0)])
def test_the_mean_log_partition_is_that_of_drawn_logits(words: int, std: float) -> None:
    logits = std * np.random.default_rng(1).standard_normal((20_000, words))
    drawn = np.asarray(special.logsumexp(logits, axis=1))
    error = drawn.std() / len(drawn) ** 0.5
    assert abs(log_partition(words, std) - drawn.mean()) < 4.5 * error
    assert error < 0.06


@pytest.mark.parametrize(
    ("variance", "loss", "error"), [(8.0, 14.36, 0.01), (12.0, 16.29, 0.3), (512.0, 97.2, 2.9 * 3)]
)
def test_wide_logits_have_their_reference_losses(variance, loss, error) -> None:
    """Those of the documentation; the expansion log V + w / 2 - (e^w - 1) / 2 V is refuted."""
    assert log_partition(32_128, variance**0.5) == pytest.approx(loss, abs=error)
    expansion = np.log(32_128) + variance / 2 - np.expm1(variance) / 32_128 / 2
    assert abs(expansion - loss) > 2 * min(error, 0.01)


def test_equal_logits_give_the_log_of_the_words() -> None:
    assert log_partition(1000, 0.0) == pytest.approx(np.log(1000), abs=1e-6)
    assert softmax_overlap(1000, 0.0, 0.5) == pytest.approx(1e-3)


def drawn_rows(words: int, std: float, rho: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlap, and product of centred log partitions, of drawn pairs of rows."""
    rng = np.random.default_rng(3)
    one = rng.standard_normal((count, words))
    two = rho * one + (1 - rho**2) ** 0.5 * rng.standard_normal((count, words))
    logs = [np.log(np.exp(std * row).sum(axis=1)) for row in (one, two)]
    overlap = np.sum(
        special.softmax(std * one, axis=1) * special.softmax(std * two, axis=1), axis=1
    )
    mean = log_partition(words, std)
    return overlap, (logs[0] - mean) * (logs[1] - mean)


@pytest.mark.parametrize(
    ("words", "std", "rho"),
    [(200, 0.4, 0.5), (200, 1.0, 0.6), (200, 2.5, 0.7), (200, 2.5, -0.7), (200, 8.0, 0.9)],
)
def test_the_overlap_of_two_softmaxes_is_that_of_drawn_logits(
    words: int, std: float, rho: float
) -> None:
    overlap, product = drawn_rows(words, std, rho, 20_000)
    for drawn, predicted in (
        (overlap, softmax_overlap(words, std, rho)),
        (product, log_partition_cov(words, std, rho)),
    ):
        error = drawn.std() / len(drawn) ** 0.5
        assert abs(float(predicted) - drawn.mean()) < 4.5 * error + 5e-3 * abs(float(predicted))
    if std > 1:  # e^{w rho} / V holds for narrow logits only
        error = overlap.std() / len(overlap) ** 0.5
        assert abs(np.exp(std**2 * rho) / words - overlap.mean()) > 4.5 * error


@pytest.mark.parametrize(("words", "std"), [(1000, 1.3), (1000, 6.0), (32_128, 512**0.5)])
def test_equal_rows_have_the_concentration_of_one(words: int, std: float) -> None:
    """A(1) = F_V, A(0) = 1 / V, and d E log Z / dw = (1 - A(1)) / 2."""
    assert softmax_overlap(words, std, 1.0) == pytest.approx(concentration(words, std), rel=1e-4)
    assert softmax_overlap(words, std, 0.0) == pytest.approx(1 / words, rel=1e-9)
    step = 1e-3 * std**2
    ends = [log_partition(words, (std**2 + sign * step) ** 0.5) for sign in (-1, 1)]
    slope = (ends[1] - ends[0]) / (2 * step)
    assert slope == pytest.approx((1 - concentration(words, std)) / 2, rel=1e-3)


def test_between_angles_the_overlap_is_interpolated() -> None:
    """As fine a comparison as the table's words promise: against direct sums at its own nodes."""
    from translimit.limits.signal import partition

    for words, std in ((1000, 3.0), (256_000, 5.0)):
        start, stop = partition.window(words, std)
        for angle in (0.05, 0.4, 0.9, 1.3):
            direct = partition._overlap(words, std, np.cos(angle), start, stop)
            assert softmax_overlap(words, std, np.cos(angle)) == pytest.approx(direct, rel=3e-3)


def test_bad_input_is_named() -> None:
    with pytest.raises(ArgumentError, match="logit_std"):
        softmax_overlap(1000, 41.0, 0.5)
    with pytest.raises(ArgumentError, match="correlation"):
        softmax_overlap(1000, 1.0, np.nan)
    with pytest.raises(ArgumentError, match="words"):
        log_partition_cov(1, 1.0, 0.5)
