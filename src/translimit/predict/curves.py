"""Mean overlaps by layer and the collapse depth, from the recursion and from networks' Grams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import PRNGKeyArray

from translimit.core import available_threads, named_key, side_by_side, solve
from translimit.describe import PreNormArchitecture
from translimit.limits.homogenized import GramChain, GramRecursion, PreNormRecursion
from translimit.predict.records import Collapse, OverlapCurve

#: Networks of the architecture's width whose spread is the error of a single one.
NETWORKS = 16


def overlap_curve(
    architecture: PreNormArchitecture,
    tokens: int,
    threshold: float,
    *,
    causal: bool,
    key: PRNGKeyArray,
    progress: Callable[[float], object] | None = None,
) -> OverlapCurve:
    """The mean overlap by layer with its error, and when it reaches the threshold."""
    problem = PreNormRecursion(replace(architecture, causal=causal), tokens=tokens)
    # Side by side, so that their two programs are compiled at the same time.
    limit, finite = side_by_side(
        [
            lambda report, method=method, name=name: solve(
                problem, method, key=named_key(key, name), progress=report
            )
            for method, name in ((GramRecursion(), "limit"), (GramChain(NETWORKS), "networks"))
        ],
        min(2, available_threads()),
        progress,
    )
    copies, networks = limit.mean_overlaps, finite.mean_overlaps
    mean, centre = copies.mean(axis=0), networks.mean(axis=0)
    sampling = copies.std(axis=0, ddof=1) / np.sqrt(len(copies))
    spread = networks.std(axis=0, ddof=1)
    error = np.sqrt(spread**2 + (centre - mean) ** 2 + sampling**2)
    return OverlapCurve(
        causal=causal,
        layers=tuple(range(architecture.layers + 1)),
        overlap=_floats(mean),
        error=_floats(error),
        networks_mean=_floats(centre),
        networks=NETWORKS,
        square=_floats(limit.squares.mean(axis=0)),
        collapse=_collapse(mean, networks, threshold),
    )


def crossing(overlap: np.ndarray, threshold: float) -> float | None:
    """The layer at which a curve first reaches the threshold, linear between layers.

    >>> crossing(np.array([0.1, 0.3, 0.7]), 0.5)
    1.5
    """
    above = np.flatnonzero(overlap >= threshold)
    if above.size == 0:
        return None
    layer = int(above[0])
    if layer == 0:
        return 0.0
    low, high = overlap[layer - 1], overlap[layer]
    return float(layer - 1 + (threshold - low) / (high - low))


def _collapse(mean: np.ndarray, networks: np.ndarray, threshold: float) -> Collapse:
    layer = crossing(mean, threshold)
    single = [crossing(one, threshold) for one in networks]
    reached = [one for one in single if one is not None]
    share = len(reached) / len(single)
    if layer is None:
        return Collapse(threshold, None, None, share)
    error = float("inf")
    if len(reached) > 1:
        error = float(np.hypot(np.std(reached, ddof=1), np.mean(reached) - layer))
    return Collapse(threshold, layer, error, share)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
