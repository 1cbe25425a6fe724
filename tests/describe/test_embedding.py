"""Patches of an image as they enter the first layer: against drawn ones, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.describe import (
    Attention,
    Embedding,
    Norm,
    Normalisation,
    PatchEmbedding,
    Scores,
    Sinusoids,
    Stack,
    SubBlock,
    pre_norm_stack,
    read_stack,
)

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


def test_fixed_positions_add_their_inner_products_without_the_mean_where_norms_remove_it() -> None:
    fixed = Sinusoids.spread_evenly(32, first=2)
    places, pairs = np.arange(2, 7), np.array(fixed.thetas)
    assert pairs[[0, -1]] == pytest.approx([1.0, 1e-4])
    rows = np.concatenate([np.sin(np.outer(places, pairs)), np.cos(np.outer(places, pairs))], 1)
    ids, embedding = np.array([3, 4, 3, 5, 6]), Embedding(0.1, sinusoids=fixed)
    plain = pre_norm_stack(32, 1, ATTENTION, embedding=embedding)
    drawn = pre_norm_stack(32, 1, ATTENTION, embedding=Embedding(0.1))
    assert plain.initial_cov(ids) - drawn.initial_cov(ids) == pytest.approx(rows @ rows.T / 32)
    norm = Normalisation(Norm.LAYER)
    plain, drawn = (
        pre_norm_stack(32, 1, ATTENTION, norm=norm, embedding=one)
        for one in (embedding, Embedding(0.1))
    )
    rows -= rows.mean(axis=1, keepdims=True)
    gained = plain.initial_cov(ids) - drawn.initial_cov(ids)
    assert gained == pytest.approx(rows @ rows.T / 32)
    assert plain.fixed_cov(5) == pytest.approx(gained)
    assert drawn.fixed_cov(5) is None


def test_fixed_positions_of_patches_have_rows_and_columns() -> None:
    fixed = Sinusoids.geometric(16, plane=True)
    embedding = PatchEmbedding(0.0, 2, 3, 1, class_stds=(0.5,), sinusoids=fixed)
    cov = pre_norm_stack(16, 1, ATTENTION, embedding=embedding).image_cov()
    thetas = 1e4 ** (-np.arange(4) / 4)
    place = np.array([(i, j) for i in range(2) for j in range(3)])
    apart = place[:, None] - place[None, :]
    expected = np.cos(apart[..., None] * thetas).sum(axis=(2, 3)) / 16
    assert cov[1:, 1:] == pytest.approx(expected)
    assert cov[0] == pytest.approx([0.25] + [0.0] * 6)


def test_a_matrix_of_the_embedding_maps_normalised_rows() -> None:
    norm = Normalisation(Norm.LAYER, 1e-12)
    embedding = Embedding(0.1, type_std=0.1, padding=3, norm=norm, inner=24, inner_std=0.2)
    stack = Stack(64, (((SubBlock((ATTENTION,), norm_post=norm)),),), embedding)
    cov = stack.initial_cov([3, 4, 5, 4])
    # Rows of unit mean square, of which two different words share a half.
    assert np.diagonal(cov) == pytest.approx(24 * 0.04 * 63 / 64)
    assert cov[1, 2] / cov[1, 1] == pytest.approx(0.5)
    assert cov[1, 3] == pytest.approx(cov[1, 1])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Sinusoids(()), "thetas"),
        (lambda: Embedding(0.1, sinusoids=Sinusoids((1.0,)), norm=Normalisation()), "sinusoids"),
        (lambda: PatchEmbedding(0.1, 2, 2, 1, sinusoids=Sinusoids((1.0,))), "sinusoids"),
        (
            lambda: pre_norm_stack(
                64, 1, ATTENTION, embedding=Embedding(0.1, sinusoids=Sinusoids((1.0,)))
            ),
            "2 entries, and tokens have 64",
        ),
    ],
)
def test_positions_that_do_not_fit_are_refused(make, says) -> None:
    with pytest.raises(ArgumentError, match=says):
        make()


@pytest.mark.parametrize(("reach", "causal", "fits"), [(16, True, False), (17, True, True)])
def test_a_table_reaches_beyond_the_distances_with_buckets_of_their_own(
    reach: int, causal: bool, fits: bool
) -> None:
    scores = Scores(bias_std=0.1, bias_buckets=32, bias_reach=reach)
    mixer = Attention(4, 8, 0.1, 0.1, 0.1, 0.1, scores=scores)
    if fits:
        assert pre_norm_stack(64, 1, mixer, causal=causal)
        return
    with pytest.raises(ArgumentError, match="bias_reach"):
        pre_norm_stack(64, 1, mixer, causal=causal)


def test_a_t5_whose_table_does_not_reach_beyond_its_near_rows_is_refused() -> None:
    sizes = {"d_model": 64, "num_layers": 2, "num_heads": 4, "d_kv": 16, "d_ff": 96}
    told = {"model_type": "t5", "relative_attention_max_distance": 8, **sizes}
    with pytest.raises(ArgumentError, match="bias_reach"):
        read_stack(told)
