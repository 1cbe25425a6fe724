"""Stacks that explode, collapse or look at one key are mended, by the full recursion."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.describe import (
    Activation,
    Attention,
    Embedding,
    Experts,
    FeedForward,
    Norm,
    Normalisation,
    Stack,
    SubBlock,
)
from translimit.limits.signal import (
    Recursion,
    Redesign,
    ScaleFactors,
    changed,
    entropy_collapse,
    gradient_label,
    rank_collapse,
    redesign,
)
from translimit.limits.signal.reduced import Reduced

DIM, N, LAYERS = 64, 8, 8
NORM = Normalisation(Norm.RMS, 1e-6)
METHOD = Recursion(pairs=6, copies=2)


def stack(
    placement: dict[str, Any], scores: float = 1.0, values: float = 1.0, into: float = 1.0
) -> Stack:
    """Score deviation, and the standard deviations of other weights times the root of the width."""
    root = DIM**-0.5
    query, other, inner = root * scores**0.5, root * values, root * into
    attention = Attention(4, 16, query, query, other, other)
    units = FeedForward(128, Activation.GELU, inner, other)
    layer = tuple(SubBlock((one,), **placement) for one in (attention, units))
    return Stack(DIM, (layer,) * LAYERS, Embedding(1.0), causal=False)


def mended(one: Stack, square: float = 1.0) -> Redesign:
    return redesign(one, square * np.eye(N), key=jax.random.key(0), method=METHOD)


def test_a_stack_that_grows_out_of_its_embedding_is_mended() -> None:
    """A pre-LN stack of embeddings of 0.02: gradients a hundred times larger at the bottom."""
    one = stack({"norm_in": NORM})
    found = mended(one, 4e-4)
    before, after = (
        gradient_label(np.concatenate([s.grad_square[:1], s.grad_square]))
        for s in (found.before, found.after)
    )
    assert before.holds
    assert not after.holds
    assert found.before.mean_square[-1] / found.before.mean_square[0] > 1000
    assert found.after.mean_square[-1] / found.after.mean_square[0] < 4
    # The reduced stack told what the full one does, tokens being exchangeable.
    course = Reduced(one, N, jax.random.key(1)).course(4e-4, 0.0, ScaleFactors())
    assert np.allclose(course.mean_square, found.before.mean_square, rtol=0.08)
    assert np.allclose(course.overlap, found.before.overlap, atol=0.06)
    assert np.allclose(course.gradient, found.before.grad_square, rtol=0.15)


@pytest.mark.slow
def test_a_post_ln_stack_that_collapses_is_mended() -> None:
    found = mended(stack({"norm_post": NORM}))
    assert rank_collapse(float(found.before.overlap[-1])).holds
    assert not rank_collapse(float(found.after.overlap[-1])).holds
    assert found.changes.attention < 0.7
    assert not gradient_label(found.after.grad_square).holds


@pytest.mark.slow
def test_scores_that_pick_one_key_are_mended() -> None:
    one = stack({"norm_in": NORM}, scores=12.0, values=0.3)
    found = mended(one)
    for solution, holds in ((found.before, True), (found.after, False)):
        shares = solution.entropies.mean(axis=0)
        assert entropy_collapse(solution.participations.mean(axis=0), shares).holds is holds
    assert found.changes.scores < 0.3


@pytest.mark.slow
def test_a_peri_ln_stack_is_mended_by_the_gains_of_its_norms() -> None:
    found = mended(stack({"norm_in": NORM, "norm_out": NORM}), 1e-3)
    assert found.after.mean_square[-1] / found.after.mean_square[0] < 4
    norms = [block.norm_out for block in found.stack.layers[0]]
    assert all(one is not None and one.gain < 1 for one in norms)


def test_changes_reach_every_kind_of_branch() -> None:
    units = FeedForward(128, Activation.GELU, 0.1, 0.1)
    experts = Experts(4, 2, units, 0.1, shared=units)
    attention = Attention(4, 16, 0.1, 0.1, 0.1, 0.1)
    layer = (SubBlock((attention, experts), NORM), SubBlock((units,), NORM, NORM))
    one = Stack(DIM, (layer,), Embedding(0.5, position_std=0.2))
    new = changed(one, ScaleFactors(2.0, 3.0, 5.0, 7.0))
    first, second = new.layers[0][0].branches
    assert isinstance(first, Attention)
    assert isinstance(second, Experts)
    assert second.shared is not None
    assert first.out_std == pytest.approx(0.3)
    assert first.score_scale == pytest.approx(7 * attention.score_scale)
    assert (second.expert.out_std, second.shared.out_std) == pytest.approx((0.5, 0.5))
    out = new.layers[0][1].norm_out
    assert out is not None
    assert out.gain == 5.0
    assert new.layers[0][1].branches == (units,)
    assert np.allclose(new.initial_cov([1, 2, 1]), 4 * one.initial_cov([1, 2, 1]))


def test_bad_input_is_named() -> None:
    one = stack({"norm_in": NORM})
    with pytest.raises(ArgumentError, match="keep"):
        redesign(one, np.eye(N), key=jax.random.key(0), keep=("depth",))
    with pytest.raises(ArgumentError, match="keys"):
        redesign(one, np.eye(N), key=jax.random.key(0), keys=0.5)
    with pytest.raises(ArgumentError, match="initial"):
        redesign(one, np.zeros((N, N)), key=jax.random.key(0))
