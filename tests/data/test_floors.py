"""Floors of loss plots on laws that are known."""

import numpy as np
import pytest
from scipy.special import softmax

from translimit import data


def test_floors_of_known_laws():
    """Entropies of a chain of known transitions; least squares of an exactly linear rule."""
    rng = np.random.default_rng(0)
    moves = np.array([[0.9, 0.1], [0.4, 0.6]])
    ids = np.zeros(200_000, int)
    uniform = rng.random(len(ids))
    for i in range(1, len(ids)):
        ids[i] = uniform[i] > moves[ids[i - 1], 0]
    rest = np.array([0.8, 0.2])  # invariant: 0.2 * 0.4 = 0.8 * 0.1
    bigram = -np.sum(rest[:, None] * moves * np.log(moves))
    # Standard errors of these averages are below 0.003.
    assert data.unigram_entropy(ids) == pytest.approx(-np.sum(rest * np.log(rest)), abs=0.012)
    assert data.bigram_entropy(ids) == pytest.approx(bigram, abs=0.012)
    narrow = ids.astype(np.uint8)  # as bytes come
    assert data.bigram_entropy(narrow) == data.bigram_entropy(ids)
    assert data.unigram_entropy(narrow) == data.unigram_entropy(ids)
    inputs = rng.normal(size=(50, 2, 3))
    targets = inputs.reshape(50, 6) @ rng.normal(size=(6, 2)) + 1.5
    assert data.linear_mse(inputs, targets) < 1e-20
    noise = rng.normal(size=(2000, 2))
    assert data.linear_mse(rng.normal(size=(2000, 3)), noise) == pytest.approx(1.0, abs=0.1)
    x = rng.normal(size=(20_000, 1))
    odds = softmax(x * np.array([[0.0, 2.0]]), axis=1)
    labels = (rng.random(20_000) < odds[:, 1]).astype(int)
    entropy = float(-np.mean(np.sum(odds * np.log(odds), axis=1)))
    assert data.linear_cross_entropy(x, labels) == pytest.approx(entropy, abs=0.015)
