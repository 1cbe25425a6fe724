"""Stacks as data: the covariance of their tokens, and what is refused by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from translimit.core import ArgumentError, ArgumentTypeError
from translimit.describe import (
    Activation,
    Attention,
    Embedding,
    Experts,
    FeedForward,
    Frequencies,
    LatentAttention,
    Norm,
    Normalisation,
    Scores,
    Stack,
    SubBlock,
    pre_norm_stack,
)

ATTENTION = Attention(4, 8, 0.1, 0.1, 0.1, 0.1)
UNITS = FeedForward(16, Activation.GELU, 0.1, 0.1)


def test_the_covariance_of_tokens_is_that_of_drawn_ones() -> None:
    embedding = Embedding(0.3, 2.0, position_std=0.2, type_std=0.1, padding=3)
    stack = pre_norm_stack(4096, 1, ATTENTION, embedding=embedding)
    ids = np.array([3, 5, 5, 7])
    rng = np.random.default_rng(0)
    table = 2.0 * 0.3 * rng.standard_normal((8, stack.dim))
    table[3] = 0.0
    x = (
        table[ids]
        + 0.2 * rng.standard_normal((4, stack.dim))
        + 0.1 * rng.standard_normal(stack.dim)
    )
    drawn = x @ x.T / stack.dim
    # Entries scatter by at most q (2 / D)^(1/2) = 0.009.
    assert np.abs(stack.initial_cov(ids) - drawn).max() < 4.5 * 0.41 * (2 / stack.dim) ** 0.5


def test_an_embedding_norm_makes_unit_tokens_and_layer_norms_centre_them() -> None:
    norm = Normalisation(Norm.LAYER)
    embedding = Embedding(0.02, position_std=0.02, type_std=0.02, norm=norm)
    stack = pre_norm_stack(64, 2, ATTENTION, UNITS, norm=norm, embedding=embedding)
    cov = stack.initial_cov(np.arange(5))
    assert np.allclose(np.diagonal(cov), 1.0)
    assert np.allclose(cov[0, 1], 1 / 3)
    plain = dataclasses.replace(stack, embedding=Embedding(1.0))
    assert np.allclose(plain.initial_cov(np.arange(3)), (63 / 64) * np.eye(3))
    assert stack.centred
    assert stack.free_dim == 63


def test_layers_are_repeated_in_their_order() -> None:
    one, two = ((SubBlock((ATTENTION,)),), (SubBlock((UNITS,)),))
    assert Stack(32, (one, two)).with_layers(3).layers == (one, two, one)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Stack(32, ()), "layers"),
        (lambda: Stack(32, ((),)), "layers"),
        (lambda: Stack(1, ((SubBlock((ATTENTION,)),),)), "dim"),
        (lambda: SubBlock(()), "branches"),
        (lambda: Attention(4, 8, 0.1, 0.1, 0.1, 0.1, kv_heads=3), "kv_heads"),
        (lambda: Attention(4, 8, 0.1, 0.1, 0.1, 0.1, rotary=Frequencies.geometric(16)), "rotary"),
        (lambda: Attention(4, 8, 0.1, 0.1, 0.1, 0.1, scores=Scores(slopes=(1.0,))), "slopes"),
        (lambda: Attention(4, 8, -0.1, 0.1, 0.1, 0.1), "query_std"),
        (lambda: LatentAttention(2, 8, 4, 8, 8, 0.1, 0.1, rotary=Frequencies((1.0,))), "rotary"),
        (lambda: Experts(8, 9, UNITS, 0.1), "active"),
        (lambda: Experts(8, 2, UNITS, 0.1, groups=3), "groups"),
        (lambda: Experts(8, 2, UNITS, 0.1, groups=2, open_groups=3), "open_groups"),
        (lambda: Scores(window=0), "window"),
        (lambda: Normalisation(norm_eps=-1.0), "norm_eps"),
    ],
)
def test_what_is_no_stack_is_refused_by_name(make, name: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{name}"):
        make()


def test_ids_need_an_embedding_and_whole_numbers() -> None:
    stack = pre_norm_stack(32, 1, ATTENTION, embedding=Embedding(0.1))
    with pytest.raises(ArgumentError, match="ids"):
        stack.initial_cov(np.zeros((2, 2), int))
    with pytest.raises(ArgumentError, match="ids"):
        dataclasses.replace(stack, embedding=None).initial_cov(np.arange(3))
