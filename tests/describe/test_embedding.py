"""Patches of an image as they enter the first layer: against drawn ones, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.describe import Attention, Norm, Normalisation, PatchEmbedding, pre_norm_stack

ATTENTION = Attention(4, 8, 0.1, 0.1, 0.1, 0.1)


def test_the_covariance_of_patches_is_that_of_drawn_ones() -> None:
    embedding = PatchEmbedding(
        0.3, 2, 2, 2, channels=1, position_std=0.2, class_stds=(0.5,), registers=1
    )
    stack = pre_norm_stack(4096, 1, ATTENTION, embedding=embedding)
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((4, 4))
    dim = stack.dim
    patches = 0.3 * pixels @ rng.standard_normal((4, dim)) + 0.2 * rng.standard_normal((4, dim))
    token = 0.5 * rng.standard_normal((1, dim)) + 0.2 * rng.standard_normal((1, dim))
    x = np.concatenate([token, np.zeros((1, dim)), patches])
    cov = stack.image_cov(pixels)
    assert embedding.tokens == 6
    # Entries scatter by at most q (2 / D)^(1/2).
    assert np.abs(cov - x @ x.T / dim).max() < 4.5 * (2 / dim) ** 0.5 * cov.max()
    assert not cov[1].any()
    alone = stack.image_cov()
    assert np.diagonal(alone)[2:] == pytest.approx(4 * 0.09 + 0.04)
    assert np.count_nonzero(alone - np.diag(np.diagonal(alone))) == 0


def test_a_norm_of_the_embedding_makes_unit_tokens_and_leaves_zeros() -> None:
    norm = Normalisation(Norm.LAYER)
    embedding = PatchEmbedding(0.1, 1, 3, 2, class_stds=(0.0,), norm=norm)
    stack = pre_norm_stack(64, 1, ATTENTION, norm=norm, embedding=embedding)
    assert np.diagonal(stack.image_cov()) == pytest.approx([0.0, 1.0, 1.0, 1.0])


def test_what_does_not_fit_is_refused() -> None:
    stack = pre_norm_stack(64, 1, ATTENTION, embedding=PatchEmbedding(0.1, 1, 3, 2))
    with pytest.raises(ArgumentError, match="call image_cov"):
        stack.initial_cov(np.arange(3))
    with pytest.raises(ArgumentError, match="pixels"):
        stack.image_cov(np.zeros((3, 5)))
    with pytest.raises(ArgumentError, match="call initial_cov"):
        pre_norm_stack(64, 1, ATTENTION).image_cov()
