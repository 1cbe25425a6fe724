"""Our own format: what is written reads back as an equal stack; the short forms; refusals."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from translimit.core import ArgumentError, ConfigError
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
    PatchEmbedding,
    QueryKeyNorm,
    Scores,
    Sinusoids,
    Stack,
    SubBlock,
    pre_norm_stack,
    read_stack,
)
from translimit.describe.families.own import _BESIDE
from translimit.describe.stack_format import _KEYS

PAGE = Path(__file__).parents[2] / "docs" / "predict.md"
FILES = sorted((Path(__file__).parent / "configurations").glob("*.json"))
SHORT: dict[str, Any] = {
    "kind": "stack",
    "dim": 64,
    "layers": 3,
    "norm": "layer",
    "attention": {"heads": 4},
    "feed_forward": {"width": 96},
}


def again(stack: Stack) -> Stack:
    return read_stack(json.loads(json.dumps(stack.to_json()))).stack


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_what_a_public_configuration_is_read_as_is_written_and_read_back(path: Path) -> None:
    try:
        stack = read_stack(path).stack
    except ConfigError:
        pytest.skip("it is refused")
    assert again(stack) == stack


def test_every_part_is_written_and_read_back() -> None:
    turned = Frequencies.geometric(8, 5e5)
    scores = Scores(
        score_scale=0.2,
        softcap=50.0,
        window=4,
        chunk=8,
        slopes=(0.5, 0.25),
        bias_std=0.1,
        bias_buckets=16,
        bias_reach=64,
        sink=True,
    )
    own = QueryKeyNorm(Norm.LAYER, 1e-6, 2.0, over="all", turned=True)
    heads = Attention(2, 8, 0.1, 0.2, 0.3, 0.4, 1, 5, turned, own, scores)
    stretched = turned.yarn(4.0, 2048, base=5e5)
    latent = LatentAttention(2, 4, 8, 6, 12, 0.02, 0.01, 10, stretched, Scores(score_scale=0.3))
    units = FeedForward(12, Activation.SILU, 0.1, 0.2, True, 0.3, 1.0)
    mixed = Experts(8, 2, units, 0.1, "sigmoid", units, 4, 2, 2.5, 0.01)
    norm, other = Normalisation(Norm.RMS, 1e-6, 2.0), Normalisation(Norm.LAYER)
    layers = (
        (SubBlock((heads, units), norm, other, None, 0.5, 2.0),),
        *2 * ((SubBlock((latent,), None, None, norm), SubBlock((mixed,), norm)),),
    )
    words = Embedding(0.02, 8.0, 0.01, 0.03, 3, other)
    patches = PatchEmbedding(0.02, 2, 3, 4, 1, 0.1, (0.0, 0.2), norm, registers=2)
    for embedding in (words, patches, None):
        stack = Stack(16, layers, embedding, causal=False, norm_final=norm)
        assert again(stack) == stack
    written: Any = stack.to_json()
    assert [entry["repeat"] for entry in written["layers"]] == [1, 2]


def test_the_short_form_is_a_stack_of_equal_layers(tmp_path: Path) -> None:
    norm = Normalisation(Norm.LAYER)
    attention = Attention(4, 16, 0.02, 0.02, 0.02, 0.02)
    expected = pre_norm_stack(
        64, 3, attention, FeedForward(96, Activation.GELU, 0.02, 0.02), norm=norm
    )
    read = read_stack(SHORT).stack
    assert read.layers == expected.layers
    assert read.norm_final == norm
    path = tmp_path / "stack.toml"
    path.write_text(
        'kind = "stack"\ndim = 64\nlayers = 3\nnorm = "layer"\n'
        "attention = {heads = 4}\nfeed_forward = {width = 96}\n"
    )
    assert read_stack(path).stack == read


@pytest.mark.parametrize(
    ("placement", "norms"),
    [
        ("pre", (True, False, False)),
        ("post", (False, False, True)),
        ("peri", (True, True, False)),
        ("reordered", (False, True, False)),
    ],
)
def test_placements(placement: str, norms: tuple[bool, ...]) -> None:
    stack = read_stack({**SHORT, "placement": placement}).stack
    for block in stack.sub_blocks:
        found = (block.norm_in, block.norm_out, block.norm_post)
        assert tuple(one is not None for one in found) == norms
    assert (stack.norm_final is None) == (placement == "post")
    (both,) = read_stack({**SHORT, "placement": placement, "parallel": True}).stack.layers[0]
    assert len(both.branches) == 2
    assert not read_stack({**SHORT, "norm": "none"}).stack.sub_blocks[0].norms


def test_entries_of_layers_change_what_they_name() -> None:
    windowed = {"repeat": 2, "attention": {"scores": {"window": 8}}}
    experts = {
        "feed_forward": {"kind": "experts", "count": 4, "active": 2, "expert": {"width": 32}}
    }
    bare = {**SHORT, "init_std": 0.1, "layers": [windowed, {}, {**windowed, "repeat": 1}]}
    stack = read_stack(bare).stack
    windows = [layer[0].branches[0].scores.window for layer in stack.layers]  # pyright: ignore[reportAttributeAccessIssue]
    assert windows == [8, 8, None, 8]
    assert stack.layers[0][0].branches[0].heads == 4  # pyright: ignore[reportAttributeAccessIssue]
    assert stack.layers[0][0].branches[0].query_std == 0.1  # pyright: ignore[reportAttributeAccessIssue]
    values = {key: value for key, value in SHORT.items() if key != "feed_forward"}
    mixed = read_stack({**values, "layers": [experts]}).stack.layers[0][1].branches[0]
    assert isinstance(mixed, Experts)
    assert (mixed.expert.width, mixed.router_std) == (32, 0.02)


def test_what_stands_beside_the_stack_is_read() -> None:
    told = {"vocabulary": 500, "tied": True, "readout_std": 0.1, "context": 64, "logit_scale": 2}
    told |= {"logit_softcap": 30}
    reading = read_stack({**SHORT, **told, "own_token": True})
    assert (reading.vocabulary, reading.tied, reading.readout_std) == (500, True, 0.1)
    assert (reading.context, reading.logit_scale, reading.own_token) == (64, 2.0, True)
    assert reading.logit_softcap == 30.0
    patches = {"kind": "patches", "std": 0.1, "rows": 2, "columns": 3, "patch": 4}
    assert read_stack({**SHORT, "embedding": patches}).image_tokens == 6


def test_the_flat_format_of_the_first_edition_is_a_stack() -> None:
    flat = {
        "kind": "pre-norm",
        "layers": 2,
        "dim": 48,
        "heads": 4,
        "kv_heads": 2,
        "init_std": 0.1,
        "qk_std": 0.2,
        "out_std": 0.3,
        "mlp_dim": 96,
        "mlp_out_std": 0.4,
        "activation": "silu",
        "gated": True,
        "norm": "rms",
        "norm_eps": 1e-5,
        "rotary_dims": 8,
        "token_std": 0.5,
        "context": 32,
    }
    reading = read_stack(flat)
    norm = Normalisation(Norm.RMS, 1e-5)
    turned = Frequencies.geometric(8)
    attention = Attention(4, 12, 0.2, 0.2, 0.1, 0.3, 2, rotary=turned)
    units = FeedForward(96, Activation.SILU, 0.1, 0.4, True)
    made = pre_norm_stack(48, 2, attention, units, norm=norm, embedding=Embedding(0.5))
    assert reading.stack.layers == made.layers
    assert reading.stack.embedding == made.embedding
    assert (reading.family, reading.context) == ("pre-norm", 32)
    image = read_stack({**flat, "first_token_std": 0.7, "image_tokens": 5})
    cov = image.stack.image_cov()
    assert cov.shape == (5, 5)
    assert cov.diagonal() == pytest.approx([0.49, 0.25, 0.25, 0.25, 0.25])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "stacks"}, "unknown kind 'stacks'; known: stack, pre-norm"),
        ({"layer": 3}, "unknown key 'layer'"),
        ({"layers": "many"}, "give a number or a list"),
        ({"layers": []}, "layers"),
        ({"layers": 10**9}, "give 1 to 100000 layers"),
        ({"layers": [{"repeat": 0}]}, "repeat is 0"),
        ({"layers": [{"blocks": 3}]}, "blocks is 3"),
        ({"layers": [{"blocks": [{}]}]}, "branches is None"),
        ({"layers": [{"blocks": [{"branches": [{"kind": "convolution"}]}]}]}, "'convolution'"),
        ({"dim": "wide"}, "dim: got 'wide'"),
        ({"norm": "batch"}, "norm: kind: is 'batch'"),
        ({"norm": 3}, "norm: is 3"),
        ({"norm": {"kind": "rms", "eps": 1e-6}}, "it is 'norm_eps' now"),
        ({"attention": {"heads": 4, "qk_norm": {"eps": 1e-6}}}, "it is 'norm_eps' now"),
        ({"attention": {"heads": 4, "qk_norm": {"gains": "all"}}}, "gains"),
        ({"placement": "after"}, "placement is 'after'"),
        ({"attention": {}}, "heads"),
        ({"attention": {"heads": 5}}, "write a divisor of 64"),
        ({"attention": {"heads": 4, "std": 1.0}}, "unknown key 'std'"),
        ({"attention": {"heads": 4, "scores": {"scale": 1.0}}}, "it is 'score_scale' now"),
        ({"attention": {"heads": 4, "rotary": {"dims": "all"}}}, "dims"),
        ({"feed_forward": {"width": 96, "activation": "gelou"}}, "'gelou'"),
        ({"feed_forward": {"kind": "experts", "count": 4}}, "missing key 'active'"),
        ({"embedding": {"kind": "sounds"}}, "'sounds'"),
        ({"embedding": {"kind": "patches", "std": 1.0}}, "missing key 'rows'"),
        ({"causal": "yes"}, "causal: got 'yes'"),
        ({"vocabulary": "large"}, "vocabulary: got 'large'"),
    ],
)
def test_a_description_that_cannot_be_read_names_its_key(change: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        read_stack({**SHORT, **change})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dims": 3}, "unknown key 'dims'"),
        ({"heads": None}, "heads"),
        ({"first_token_std": 0.1}, "give image_tokens too"),
        ({"parallel": True}, "parallel is given without mlp_dim"),
        ({"heads": 5}, "write a divisor of 64"),
        ({"norm": "batch"}, "'batch'"),
    ],
)
def test_a_flat_description_that_cannot_be_read_names_its_key(change: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_stack({"kind": "pre-norm", "layers": 2, "dim": 64, "heads": 4, **change})


def test_the_page_names_every_key_of_the_format() -> None:
    told = PAGE.read_text().partition("Its keys:")[2].partition("### A model in memory")[0]
    words = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", told))))
    kinds = (Attention, LatentAttention, Scores, QueryKeyNorm, FeedForward, Experts, SubBlock)
    kinds = (*kinds, Embedding, PatchEmbedding, Normalisation, Frequencies, Sinusoids)
    keys = {one.name for kind in kinds for one in dataclasses.fields(kind)}
    keys |= {*_KEYS, *_BESIDE}
    assert keys <= words, keys - words
