"""The loss and the gradient of a readout against drawn weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from translimit.core import ArgumentError
from translimit.limits.signal import log_partition, readout_gradient


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
    assert log_partition(32_128, variance**0.5) == pytest.approx(loss, abs=error)


def test_equal_logits_give_the_log_of_the_words() -> None:
    assert log_partition(1000, 0.0) == pytest.approx(np.log(1000), abs=1e-6)


def test_the_gradient_is_that_of_drawn_readouts() -> None:
    n, words, dim, std = 24, 1000, 256, 1.2
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 40, n)
    traces, sums, expected = [], [], []
    for _ in range(24):
        y = rng.standard_normal((n, dim)) + 0.7 * rng.standard_normal(dim)
        y /= np.sqrt((y**2).mean(axis=1, keepdims=True))
        w = std / dim**0.5 * rng.standard_normal((words, dim))
        p = special.softmax(y @ w.T, axis=1)
        p[np.arange(n), targets] -= 1.0
        g = p @ w / n
        traces.append(np.trace(g @ g.T))
        sums.append((g @ g.T).sum())
        gram = readout_gradient(y @ y.T / dim, targets, words=words, dim=dim, logit_std=std)
        expected.append((np.trace(gram), gram.sum()))
    predicted = np.mean(expected, axis=0)
    for measured, value in zip((traces, sums), predicted, strict=True):
        error = np.std(measured, ddof=1) / len(measured) ** 0.5
        assert abs(np.mean(measured) - value) < 4.5 * error + 0.01 * value
        assert error < 0.05 * value


def test_logits_that_are_too_wide_are_refused() -> None:
    with pytest.raises(ArgumentError, match="logit_std"):
        readout_gradient(np.eye(3), [1, 2, 3], words=1000, dim=64, logit_std=3.0)
    with pytest.raises(ArgumentError, match="targets"):
        readout_gradient(np.eye(3), [1, 2], words=1000, dim=64, logit_std=1.0)
