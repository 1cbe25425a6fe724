"""Propagation of chaos without scores: growth of the mean token, distances of tokens."""

import numpy as np
import pytest

from translimit.core import SPHERE, ArgumentError
from translimit.limits.homogenized import chaos


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_a_layer_moves_the_mean_of_isotropic_tokens_as_it_grows(dim):
    tokens = np.concatenate([np.eye(dim), -np.eye(dim)])  # sum x x^T / n = I / dim
    mean, size = np.linspace(1.0, 2.0, dim), 1e-4
    grown = 0.0
    for entry in range(dim**2):
        # Matrices of one entry have the second moments of V with variance 1 / dim, times dim.
        V = np.eye(dim**2)[entry].reshape(dim, dim) * dim**0.5
        moved = SPHERE.project(tokens + size * (V @ mean)).mean(axis=0) / size
        grown += float(moved @ moved) / dim**2
    assert grown / float(mean @ mean) == pytest.approx(chaos.mean_growth(dim), rel=1e-6)


def test_the_distance_of_a_chain_is_the_sum_over_its_layers():
    dim, size, layers = 5, 0.1, 7
    mean, distance = 1.0, 0.0
    for _ in range(layers):
        distance += chaos.first_layer_distance(dim, size, 0.0) * mean
        mean *= 1.0 + chaos.mean_growth(dim) * size
    assert chaos.token_distance(dim, layers * size, size) == pytest.approx(distance, rel=1e-12)
    fine = chaos.token_distance(dim, layers * size, 1e-7)
    assert chaos.token_distance(dim, layers * size) == pytest.approx(fine, rel=1e-6)


def test_the_first_layer_against_matrices_of_one_entry():
    dim, size, n = 4, 1e-6, 6
    draw = np.random.default_rng(0)
    tokens = SPHERE.project(draw.standard_normal((n, dim)) + 1.0)
    means = draw.standard_normal((2, dim))
    parted = 0.0
    for entry in range(dim**2):
        V = np.eye(dim**2)[entry].reshape(dim, dim) * (dim * size) ** 0.5
        both = [SPHERE.project(tokens + V @ mean) for mean in means]
        parted += float(np.sum((both[0] - both[1]) ** 2)) / n / dim**2
    # n E |delta|^2 for |Delta|^2 = (1 - |int x|^2) / n
    square = float(np.sum((means[0] - means[1]) ** 2))
    expected = chaos.first_layer_distance(dim, size, 0.0) * square
    assert parted == pytest.approx(expected, rel=2e-2)


@pytest.mark.parametrize(("dim", "time", "step"), [(1, 1.0, 0.0), (3, -1.0, 0.0), (3, 1.0, -0.1)])
def test_refusals(dim, time, step):
    with pytest.raises(ArgumentError):
        chaos.token_distance(dim, time, step)
