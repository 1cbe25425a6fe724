"""Overlaps of routings: A_ij = E sum_e omega_e(i) omega_e(j) against figures of the theory."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from translimit.core import in_float64
from translimit.describe import Activation, Experts, FeedForward
from translimit.limits.signal.experts import routing_overlap

DIM, TOKENS = 64, 8
#: Overlaps of what the router reads.
OVERLAPS = (1.0, 0.9, 0.5, 0.0)
#: Variance of logits; A at these overlaps, each within half a percent.
FIGURES = {
    "softmax of 8, 2 open, renormalised": (1.6384, (0.578, 0.472, 0.275, 0.1256)),
    "sigmoid of 256, 8 open in 4 of 8 groups": (2.867, (0.7814, 0.4386, 0.1450, 0.0243)),
    "softmax over the 4 open of 32": (1.152, (0.2983, 0.2331, 0.1086, 0.0309)),
}
KINDS: dict[str, dict[str, Any]] = {
    "softmax of 8, 2 open, renormalised": {"count": 8, "active": 2},
    "sigmoid of 256, 8 open in 4 of 8 groups": {
        "count": 256,
        "active": 8,
        "groups": 8,
        "open_groups": 4,
        "routing": "sigmoid",
        "factor": 2.5,
    },
    "softmax over the 4 open of 32": {"count": 32, "active": 4, "routing": "softmax_top"},
}
#: Of the same routers: what another rule of choice would give.
NEIGHBOURS: dict[str, dict[str, Any]] = {
    "softmax of 8, 2 open, renormalised": {"routing": "softmax"},
    "sigmoid of 256, 8 open in 4 of 8 groups": {"groups": 1, "open_groups": 1},
    "softmax over the 4 open of 32": {"routing": "softmax_renormalised", "active": 3},
}
BATCHES, DRAWS = 8, 1000


def mixture(kind: str) -> Experts:
    variance = FIGURES[kind][0]
    expert = FeedForward(16, Activation.SILU, 0.1, 0.1)
    return Experts(expert=expert, router_std=(variance / DIM) ** 0.5, **KINDS[kind])


def overlaps(block: Experts) -> np.ndarray:
    """A of tokens that all have the same overlap, in independent batches [batches, overlaps].

    All pairs of eight tokens are averaged: a drawn router is one sample.
    """
    of = jax.jit(functools.partial(routing_overlap, block, DIM, draws=DRAWS))

    def one(overlap: float, key: jax.Array) -> float:
        cov = (1 - overlap) * np.eye(TOKENS) + overlap
        found = np.asarray(of(cov, key=key))
        apart = ~np.eye(TOKENS, dtype=bool)
        return float(found[apart].mean()) if overlap < 1 else float(np.diagonal(found).mean())

    keys = jax.random.split(jax.random.key(0), BATCHES)
    return np.array([[one(overlap, key) for overlap in OVERLAPS] for key in keys])


SLOW = "sigmoid of 256, 8 open in 4 of 8 groups"


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=pytest.mark.slow) if one == SLOW else one for one in KINDS]
)
def test_overlaps_of_routings_have_their_figures(kind: str) -> None:
    expected = np.array(FIGURES[kind][1])

    def off(block: Experts) -> np.ndarray:
        found = in_float64(overlaps, block)
        error = found.std(axis=0, ddof=1) / BATCHES**0.5
        assert np.all(error < 0.008 * expected)
        return np.abs(found.mean(axis=0) - expected) / (0.005 * expected + 4 * error)

    block = mixture(kind)
    assert off(block).max() < 1
    assert off(dataclasses.replace(block, **NEIGHBOURS[kind])).max() > 3
