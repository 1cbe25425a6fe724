"""The classes of transformers compute what the stack of their configuration says, entry by entry.

A small class is built with random weights. Every matrix must have the standard deviation that the
stack tells of its role, the tokens that enter the first layer its covariance, and every layer must
make of its input what `exact_layers` makes of it with the same matrices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.describe import exact_layers
from tests.describe.exact_layers import Matrices, Turning
from tests.describe.small_classes import small_config

from translimit.describe import (
    FAMILIES,
    Attention,
    Embedding,
    Experts,
    Normalisation,
    PatchEmbedding,
    Role,
    Stack,
    SubBlock,
    read_stack,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

IDS = 10 + np.arange(16) ** 2 % 7
#: Families without names of their own, and whose their layers have.
LIKE = {
    "siglip_vision_model": "clip_vision_model",
    "siglip_text_model": "clip_vision_model",
    "siglip2_text_model": "clip_vision_model",
    "metaclip_2_vision_model": "clip_vision_model",
    "metaclip_2_text_model": "clip_vision_model",
    "emu3_text_model": "llama",
    "granite_swa": "llama",
    "granitemoe_swa": "granitemoeshared",
    "cohere2_moe": "mixtral",
}
#: Classes that are not registered by their configuration.
BARE = {
    "siglip_text_model": "SiglipTextModel",
    "siglip2_text_model": "Siglip2TextModel",
    "metaclip_2_text_model": "MetaClip2TextModel",
    "metaclip_2_vision_model": "MetaClip2VisionModel",
    "emu3_text_model": "Emu3TextModel",
}
#: Families with attention of latents, and their names; queries and keys have two matrices each.
OF_LATENTS = (
    *("deepseek_v2", "deepseek_v3", "minicpm3", "glm4_moe_lite", "sarvam_mla", "axk1", "youtu"),
)
LATENTS = dataclasses.replace(
    FAMILIES["mixtral"].names,
    roles={
        **FAMILIES["mixtral"].names.roles,
        "layers.*.self_attn.{q_a_proj,q_b_proj}.weight": Role.QUERY,
        "layers.*.self_attn.{kv_a_proj_with_mqa,kv_b_proj}.weight": Role.KEY,
    },
)
#: Families compared by drawn networks: with a drawn table of relative positions, with numbers of
#: an activation or sinks that are parameters, with chosen keys, without a norm of the first branch.
DRAWN = (
    *("mpnet", "apertus", "gpt_oss", "flint", "mimo_v2_flash"),
    *("deepseek_v32", "glm_moe_dsa", "modernbert", "modernbert-decoder"),
)
#: Families whose classes are built here.
COMPARED = [
    n
    for n, one in FAMILIES.items()
    if (one.names or n in LIKE or n in OF_LATENTS) and n not in DRAWN
]
#: Single precision over a few hundred operations.
CLOSE = 3e-6


def run(name: str, ids: np.ndarray = IDS) -> tuple[Stack, list[Matrices], list[np.ndarray]]:
    """The stack that is read, the matrices of a class, and its stream after every layer."""
    config = small_config(name)
    reading = read_stack(config.to_dict())
    assert not [one for one in reading.ignored if "not known" in one]
    torch.manual_seed(0)
    kind = getattr(transformers, BARE.get(name, "AutoModel"))
    model = (kind(config) if name in BARE else kind.from_config(config)).eval()
    if name == "vit_mae":  # its positions are written by hand: the class leaves them at zero
        del model.embeddings.patch_embeddings.projection._is_hf_initialized
        model.embeddings.initialize_weights()
    with torch.no_grad():
        if isinstance(reading.stack.embedding, PatchEmbedding):
            told: Any = {"pixel_values": torch.randn(1, 3, 32, 32)}
            if name == "vit_mae":
                told["noise"] = torch.arange(4.0)[None]  # patches stay in their order
        else:
            told = {"input_ids": torch.tensor(ids)[None]}
        states = model(**told, output_hidden_states=True).hidden_states
    table = LATENTS if name in OF_LATENTS else FAMILIES[LIKE.get(name, name)].names
    assert table is not None
    parameters = [(key, one.detach().double().numpy()) for key, one in model.named_parameters()]
    matrices = exact_layers.matrices(parameters, table, reading.stack)
    return reading.stack, matrices, [one[0].double().numpy() for one in states]


def furthest(stack: Stack, w: list[Matrices], states: list[np.ndarray], how: Turning) -> float:
    """The largest difference of any layer over the largest entry; the class normalises the last."""
    off = 0.0
    for index in range(len(stack.layers)):
        made = exact_layers.layer(stack, index, states[index], w[index], how)
        ends = [made]
        if index == len(stack.layers) - 1:
            ends.append(exact_layers.norm(made, stack.norm_final))
        after = states[index + 1]
        off = max(off, min(np.abs(one - after).max() for one in ends) / np.abs(after).max())
    return off


@pytest.mark.parametrize("name", COMPARED)
def test_a_class_computes_what_its_stack_says(name: str) -> None:
    stack, w, states = run(name)
    for index, roles in enumerate(w):
        stds = exact_layers.stds(stack, index)
        assert set(roles) == set(stds) - ({Role.MLP_GATE} - set(roles))
        for role, matrices in roles.items():
            for one in matrices:
                assert exact_layers.off(stds[role], one) < 5, (index, role)
    assert min(furthest(stack, w, states, how) for how in Turning) < CLOSE
    image = isinstance(stack.embedding, PatchEmbedding)
    expected = stack.image_cov() if image else stack.initial_cov(IDS)
    tokens = states[0] - states[0].mean(axis=1, keepdims=True) if stack.centred else states[0]
    cov = tokens @ tokens.T / tokens.shape[1]
    # Entries of a Wishart matrix of 64 dimensions scatter by at most q (2 / 64)^(1/2); rows of
    # fewer entries that a matrix maps to the stream do so once more.
    inner = stack.embedding.inner if isinstance(stack.embedding, Embedding) else None
    wide = (2 / 64 + (0 if inner is None else 2 / inner)) ** 0.5
    assert np.abs(cov - expected).max() < 5 * wide * expected.max()


Change = Callable[[SubBlock], SubBlock]


def changed(stack: Stack, change: Change) -> Stack:
    layers = tuple(tuple(change(block) for block in layer) for layer in stack.layers)
    return dataclasses.replace(stack, layers=layers)


def attention(**fields: Any) -> Change:
    """Another field of every attention."""

    def change(block: SubBlock) -> SubBlock:
        branches = tuple(
            dataclasses.replace(one, **fields) if isinstance(one, Attention) else one
            for one in block.branches
        )
        return dataclasses.replace(block, branches=branches)

    return change


def scores(**fields: Any) -> Change:
    """Another field of every mask and scale."""

    def change(block: SubBlock) -> SubBlock:
        for one in block.branches:
            if isinstance(one, Attention):
                block = attention(scores=dataclasses.replace(one.scores, **fields))(block)
        return block

    return change


def dense(block: SubBlock) -> SubBlock:
    """All experts in the place of those that are chosen."""
    branches = tuple(
        dataclasses.replace(one, active=one.count) if isinstance(one, Experts) else one
        for one in block.branches
    )
    return dataclasses.replace(block, branches=branches)


def ungated(block: SubBlock) -> SubBlock:
    branches = tuple(
        dataclasses.replace(one, shared_gate_std=None) if isinstance(one, Experts) else one
        for one in block.branches
    )
    return dataclasses.replace(block, branches=branches)


def plain_gain(block: SubBlock) -> SubBlock:
    return dataclasses.replace(block, norm_in=dataclasses.replace(block.norm_in, gain=1.0))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("qwen3", attention(qk_norm=None)),
        ("qwen2_moe", ungated),
        ("axk1", lambda block: dataclasses.replace(block, norm_out=None)),
        ("granite_swa", scores(sink=False)),
        ("gpt_neo", scores(score_scale=None)),
        ("gemma2", lambda block: dataclasses.replace(block, norm_out=None)),
        ("gemma2", scores(window=None)),
        ("cohere2", attention(rotary=None)),
        ("nemotron", plain_gain),
        ("mixtral", dense),
        ("granite", lambda block: dataclasses.replace(block, branch=1.0)),
        ("bloom", scores(slopes=())),
        ("olmo2", lambda block: dataclasses.replace(block, norm_in=block.norm_out, norm_out=None)),
        ("bert", lambda block: dataclasses.replace(block, norm_post=None, norm_in=Normalisation())),
    ],
)
def test_a_neighbour_of_a_stack_is_refuted(name: str, change: Change) -> None:
    stack, w, states = run(name)
    other = changed(stack, change)
    assert other != stack
    assert min(furthest(other, w, states, how) for how in Turning) > 100 * CLOSE


@pytest.mark.parametrize("name", ["smollm3", "exaone4", "cohere2"])
def test_rotary_positions_on_all_layers_are_refuted(name: str) -> None:
    stack, w, states = run(name)
    turned = [
        one.rotary
        for block in stack.sub_blocks
        for one in block.branches
        if isinstance(one, Attention)
    ]
    assert [one is None for one in turned] == [False, True]
    other = changed(stack, attention(rotary=turned[0]))
    assert min(furthest(stack, w, states, how) for how in Turning) < CLOSE
    assert min(furthest(other, w, states, how) for how in Turning) > 100 * CLOSE


@pytest.mark.parametrize("name", ["llama", "helium"])
def test_a_padding_row_that_is_drawn_is_refuted(name: str) -> None:
    """A row of 64 entries with the variance of the others scatters by (2 / 64)^(1/2) of it."""
    padded = np.where(np.arange(16) % 3 == 1, 0, IDS)
    stack, w, states = run(name, padded)
    embedding = stack.embedding
    assert isinstance(embedding, Embedding)
    assert embedding.padding == 0
    at, squares = padded == 0, (states[0] ** 2).mean(axis=1)
    assert not squares[at].any()
    np.testing.assert_array_equal(np.diagonal(stack.initial_cov(padded)) == 0, at)
    other = dataclasses.replace(stack, embedding=dataclasses.replace(embedding, padding=None))
    drawn = np.diagonal(other.initial_cov(padded))
    off = np.abs(squares - drawn) / (drawn * (2 / stack.dim) ** 0.5)
    assert off[at].min() > 5
    assert off[~at].max() < 4
    assert min(furthest(stack, w, states, how) for how in Turning) < CLOSE


def test_what_enters_the_encoder_of_whisper_must_be_given() -> None:
    reading = read_stack(small_config("whisper").to_dict())
    assert reading.stack.embedding is None
    assert any("must be given" in one for one in reading.assumptions)


def test_the_embedding_norm_of_nanochat_is_read() -> None:
    embedding = read_stack(small_config("nanochat").to_dict()).stack.embedding
    assert isinstance(embedding, Embedding)
    assert embedding.norm is not None
