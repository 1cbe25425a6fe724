r"""Clusters of tokens on the sphere: how many, when they merge, and how spread out they are.

Two tokens are neighbours if their angle is below delta; a cluster is a connected component of this
graph. A cluster count means nothing without its delta: report it. The usual choice is
1 / (2 beta^(1/2)), half the width of the kernel e^{beta cos(angle)}. Everything here runs on the
host, in float64.

Reference: Geshkovski, Koubbi, Polyanskiy and Rigollet, arXiv 2410.06833; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from translimit.core import ArgumentError, ArrayInput, as_float64, directions


def cluster_angle(beta: float) -> float:
    """The angle delta = 1 / (2 beta^(1/2)) below which two tokens count as neighbours.

    Args:
        beta: inverse temperature, positive.

    Raises:
        ArgumentError: beta not positive, or so small that the angle exceeds pi.
    """
    if not (math.isfinite(beta) and beta > 0 and 0.5 / math.sqrt(beta) <= math.pi):
        raise ArgumentError(
            "beta", f"got {beta:g}", "pass a number of at least 1 / (2 pi)^2, or choose delta"
        )
    return 0.5 / math.sqrt(beta)


def cluster_labels(tokens: ArrayInput, delta: float) -> Int[np.ndarray, " tokens"]:
    """The cluster of every token: connected components of the graph "angle < delta".

    On the circle by sorted angular gaps, O(n log n); otherwise on the graph, O(n^2).

    Args:
        tokens: tokens [tokens, dim], dim at least 2; their norms do not matter.
        delta: angle in (0, pi].

    Returns:
        Labels from 0, in the order of first appearance.

    Raises:
        ArgumentError: shapes that do not match, a token of norm zero or not finite, delta outside
            (0, pi].
    """
    points = _directions(tokens, 2)
    _require_delta(delta)
    if points.shape[1] == 2:
        labels = _labels_on_circle(np.arctan2(points[:, 1], points[:, 0]), delta)
    else:
        labels = _labels_by_graph(points, delta)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def cluster_counts(tokens: ArrayInput, delta: float) -> Int[np.ndarray, "*batch"]:
    """The number of clusters of every cloud.

    Args:
        tokens: clouds [..., tokens, dim].
        delta: angle in (0, pi]; `cluster_angle(beta)` is the usual one.

    Returns:
        Counts [...].

    Raises:
        ArgumentError: as `cluster_labels`.
    """
    tokens = np.asarray(as_float64(tokens, "tokens"))
    if tokens.ndim < 2:
        raise ArgumentError("tokens", f"has shape {tokens.shape}", "pass [..., tokens, dim]")
    flat = tokens.reshape(-1, *tokens.shape[-2:])
    counts = [int(cluster_labels(cloud, delta).max()) + 1 for cloud in flat]
    return np.array(counts, dtype=int).reshape(tokens.shape[:-2])


def merger_times(
    ts: Float[np.ndarray, " times"], counts: Int[np.ndarray, " times"]
) -> Float[np.ndarray, " mergers"]:
    """When clusters merged: from the largest count c on, the first times of c - 1, c - 2, ...

    Before its largest value the count grows as a cloud breaks up (tokens spread evenly are one
    cluster). Several mergers between two saved times get the same, later, time; a count that rises
    again does not undo a merger.

    Args:
        ts: the times [times].
        counts: number of clusters at these times [times].

    Raises:
        ArgumentError: shapes that do not match.
    """
    if ts.ndim != 1 or ts.shape != counts.shape or ts.size == 0:
        raise ArgumentError(
            "counts", f"has shape {counts.shape} for times {ts.shape}", "pass one count per time"
        )
    begin = int(np.argmax(counts))
    lowest = np.minimum.accumulate(counts[begin:])
    levels = np.arange(lowest[0] - 1, lowest[-1] - 1, -1)
    return np.array([ts[begin + np.argmax(lowest <= level)] for level in levels], dtype=np.float64)


def cosine_histogram(
    tokens: ArrayInput, bins: int = 50
) -> tuple[Int[np.ndarray, " bins"], Float[np.ndarray, " edges"]]:
    """The histogram of the cosines of all pairs of different tokens, over [-1, 1].

    Args:
        tokens: tokens [tokens, dim], at least two; their norms do not matter.
        bins: equal bins of [-1, 1].

    Returns:
        Counts [bins], which sum to n (n - 1) / 2, and edges [bins + 1].

    Raises:
        ArgumentError: shapes that do not match, a token of norm zero, fewer than two tokens or
            one bin.
    """
    points = _directions(tokens, 1)
    if len(points) < 2:
        raise ArgumentError("tokens", "holds one token", "pass at least two, to have a pair")
    if bins < 1:
        raise ArgumentError("bins", f"got {bins}", "pass at least 1")
    rows, columns = np.triu_indices(len(points), 1)
    cosines = np.clip((points @ points.T)[rows, columns], -1.0, 1.0)
    return np.histogram(cosines, bins=bins, range=(-1.0, 1.0))


def effective_rank(tokens: ArrayInput) -> Float[np.ndarray, "*batch"]:
    """The effective rank of the Gram matrix of unit tokens: e^entropy of its scaled eigenvalues.

    1 if all tokens are parallel, at most min(tokens, dim).

    Args:
        tokens: clouds [..., tokens, dim]; their norms do not matter.

    Raises:
        ArgumentError: fewer than two axes, or a token of norm zero.

    Reference: Roy and Vetterli, The effective rank, EUSIPCO 2007.
    """
    tokens = np.asarray(as_float64(tokens, "tokens"))
    if tokens.ndim < 2 or 0 in tokens.shape[-2:]:
        raise ArgumentError("tokens", f"has shape {tokens.shape}", "pass [..., tokens, dim]")
    # Unit tokens: the eigenvalues of their Gram matrix sum to the number of tokens.
    share = np.linalg.svd(_unit(tokens), compute_uv=False) ** 2 / tokens.shape[-2]
    logs = np.log(np.where(share > 0, share, 1.0))
    return np.asarray(np.exp(-np.sum(share * logs, axis=-1)))


def _labels_on_circle(angles: np.ndarray, delta: float) -> np.ndarray:
    """A gap of at least delta between neighbours on the circle opens a new cluster."""
    order = np.argsort(angles)
    gaps = np.diff(angles[order], append=angles[order[0]] + 2.0 * np.pi)  # gap after each token
    labels = np.empty(len(angles), dtype=int)
    labels[order] = np.concatenate([[0], np.cumsum(gaps[:-1] >= delta)])
    if gaps[-1] < delta:  # the last cluster goes on across the cut at pi
        labels[labels == labels.max()] = 0
    return labels


def _labels_by_graph(points: np.ndarray, delta: float) -> np.ndarray:
    from scipy.sparse.csgraph import connected_components  # scipy is loaded when it is needed
    from scipy.spatial import KDTree

    # Chords instead of cosines, which cannot tell small angles apart.
    chord = 2.0 * math.sin(min(delta, math.pi) / 2.0)
    near = KDTree(points).sparse_distance_matrix(
        KDTree(points), np.nextafter(chord, 0.0), output_type="coo_matrix"
    )
    # A distance of exactly zero would be no edge: the pattern counts, not the values.
    near.data = np.ones_like(near.data)
    return connected_components(near, directed=False)[1]


def _directions(tokens: ArrayInput, least_dim: int) -> np.ndarray:
    """Tokens [tokens, dim] in float64, scaled to norm one."""
    tokens = np.asarray(as_float64(tokens, "tokens"))
    if tokens.ndim != 2 or tokens.shape[0] == 0 or tokens.shape[1] < least_dim:
        raise ArgumentError(
            "tokens",
            f"has shape {tokens.shape}",
            f"pass [tokens, dim] with at least one token and dim at least {least_dim}",
        )
    return _unit(tokens)


def _unit(tokens: np.ndarray) -> np.ndarray:
    """Tokens [..., dim] scaled to norm one."""
    points, norms = directions(tokens)
    if np.any(norms == 0):
        raise ArgumentError("tokens", "a token has norm zero", "pass tokens that are not zero")
    return points


def _require_delta(delta: float) -> None:
    if not 0 < delta <= math.pi:
        raise ArgumentError("delta", f"got {delta:g}", "pass an angle in (0, pi]")
