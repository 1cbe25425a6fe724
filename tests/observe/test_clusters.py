"""Cluster counts against brute force, mergers, histograms."""

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.observe import (
    cluster_angle,
    cluster_counts,
    cluster_labels,
    cosine_histogram,
    effective_rank,
    interaction_energy,
    merger_times,
    partition_function,
    stability_ratio,
)


def components(points: np.ndarray, delta: float) -> list[set[int]]:
    """Connected components of "angle < delta" by flooding."""
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    near = np.arccos(np.clip(unit @ unit.T, -1, 1)) < delta
    left, found = set(range(len(points))), []
    while left:
        group, front = set(), {min(left)}
        while front:
            group |= front
            front = {j for i in front for j in np.flatnonzero(near[i])} - group
        found.append(group)
        left -= group
    return found


@pytest.mark.parametrize("dim", [2, 3, 5])
@pytest.mark.parametrize("delta", [0.05, 0.2, 0.5])
def test_labels_are_connected_components(dim, delta):
    points = np.random.default_rng(dim).standard_normal((40, dim))
    expected = components(points, delta)
    labels = cluster_labels(points, delta)
    assert [set(np.flatnonzero(labels == k)) for k in range(labels.max() + 1)] == expected
    assert cluster_counts(np.stack([points, points[::-1]]), delta).tolist() == [len(expected)] * 2


def test_circle_and_sphere_agree_across_the_cut():
    """A cluster across the angle pi is one; on a great circle of S^2 the graph says the same."""
    angles = np.array([np.pi - 0.05, -np.pi + 0.04, 0.0, 0.3, 0.31])
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert cluster_labels(circle, 0.1).tolist() == [0, 0, 1, 2, 2]
    assert cluster_labels(np.pad(circle, ((0, 0), (0, 1))), 0.1).tolist() == [0, 0, 1, 2, 2]
    assert cluster_counts(circle[:1], 0.1) == 1
    assert cluster_counts(np.repeat(np.eye(3), 2, axis=0), 1e-6) == 3  # coinciding tokens
    ring = 2 * np.pi * np.arange(10) / 10
    ring = np.stack([np.cos(ring), np.sin(ring)], axis=1)
    assert (cluster_counts(ring, 0.64), cluster_counts(ring, 0.62)) == (1, 10)


def test_merger_times():
    ts = np.arange(6.0)
    assert merger_times(ts, np.array([5, 5, 3, 4, 2, 2])).tolist() == [2.0, 2.0, 4.0]
    assert merger_times(ts, np.full(6, 3)).size == 0
    # One cluster of evenly spread tokens breaks up into four before any two merge.
    assert merger_times(ts, np.array([1, 2, 4, 4, 3, 2])).tolist() == [4.0, 5.0]


def test_cosine_histogram_counts_every_pair_once():
    counts, edges = cosine_histogram(np.vstack([np.eye(3), [[0.0, 0.0, 2.0]]]), bins=4)
    # Five orthogonal pairs in [0, 0.5), one parallel pair in [0.5, 1].
    assert counts.tolist() == [0, 0, 5, 1]
    np.testing.assert_allclose(edges, [-1, -0.5, 0, 0.5, 1])


def test_norms_of_tokens_do_not_matter_for_directions():
    """The observables of directions see the same tokens whatever their norms, however large."""
    tokens = np.random.default_rng(0).standard_normal((60, 100))
    norms = np.exp(np.random.default_rng(1).normal(scale=3.0, size=(60, 1)))
    norms[:2] = [[1e200], [1e-200]]
    for observable in (
        effective_rank,
        lambda x: cluster_labels(x, 1.4),
        lambda x: cosine_histogram(x)[0],
    ):
        np.testing.assert_allclose(observable(norms * tokens), observable(tokens), rtol=1e-12)
    assert effective_rank(tokens) > 35


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ArgumentError, match="delta: got 0"):
        cluster_labels(np.eye(2), 0.0)
    with pytest.raises(ArgumentError, match="delta: got 4"):
        cluster_labels(np.eye(2), 4.0)
    with pytest.raises(ArgumentError, match="norm zero"):
        cluster_labels(np.zeros((2, 2)), 0.1)
    with pytest.raises(ArgumentError, match="dim at least 2"):
        cluster_labels(np.ones((2, 1)), 0.1)
    with pytest.raises(ArgumentError, match="tokens: has shape"):
        cluster_counts(np.ones(2), 0.1)
    with pytest.raises(ArgumentError, match="beta: got 0"):
        cluster_angle(0.0)
    with pytest.raises(ArgumentError, match="counts: has shape"):
        merger_times(np.arange(3.0), np.arange(2))
    with pytest.raises(ArgumentError, match="one token"):
        cosine_histogram(np.ones((1, 2)))
    with pytest.raises(ArgumentError, match="bins: got 0"):
        cosine_histogram(np.eye(2), bins=0)
    with pytest.raises(ArgumentError, match=r"tokens: has shape \(2,\); pass"):
        effective_rank(np.ones(2))
    with pytest.raises(ArgumentError, match=r"tokens: has shape \(2,\); pass"):
        interaction_energy(np.ones(2), 1.0)
    with pytest.raises(ArgumentError, match="norm zero"):
        effective_rank(np.array([[[1.0, 0.0], [0.0, 0.0]]]))
    with pytest.raises(ArgumentError, match="beta: got 0"):
        interaction_energy(np.eye(2), 0.0)
    with pytest.raises(ArgumentError, match="beta: got -1"):
        partition_function(np.eye(2), -1.0)
    with pytest.raises(ArgumentError, match="weights: have least entry"):
        interaction_energy(np.eye(2), 1.0, weights=[0.5, 0.6])
    with pytest.raises(ArgumentError, match="agrees with first"):
        stability_ratio(np.ones((2, 3, 2)), np.ones((2, 3, 2)))
    with pytest.raises(ArgumentError, match="second: has shape"):
        stability_ratio(np.ones((2, 3, 2)), np.ones((2, 4, 2)))
    with pytest.raises(ArgumentError, match="first: has shape"):
        stability_ratio(np.ones((3, 2)), np.ones((3, 2)))
