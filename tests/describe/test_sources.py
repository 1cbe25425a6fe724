"""What people point at: folders, weights alone, towers of CLIP, open_clip and timm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from translimit.core import ArgumentError, ConfigError
from translimit.describe import Attention, FeedForward, PatchEmbedding, Stack, read_stack

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "model_type": "clip_text_model",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 10, "width": 768, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 500, "width": 512, "heads": 4, "layers": 11},
}


def branches(stack: Stack) -> tuple[Attention, FeedForward]:
    attention, units = (block.branches[0] for block in stack.layers[0])
    assert isinstance(attention, Attention)
    assert isinstance(units, FeedForward)
    return attention, units


def test_a_folder_is_read_by_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert read_stack(tmp_path).stack == read_stack(LLAMA).stack
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        read_stack(empty)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "x.pt", "x.gguf"])
def test_weights_alone_are_refused_with_the_file_that_is_wanted(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"0")
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_stack(path)


def test_a_tower_is_chosen() -> None:
    both = {"model_type": "clip", "text_config": TEXT, "vision_config": VISION}
    text, vision = read_stack(both), read_stack(both, tower="vision")
    assert (text.family, vision.family) == ("clip_text_model", "clip_vision_model")
    assert text.stack.causal
    assert not vision.stack.causal
    assert vision.image_tokens == 17
    assert text.assumptions[0] == "the text tower is read; tower='vision' reads the other"
    assert read_stack(both, tower="text").stack == text.stack
    llava = {"model_type": "llava", "text_config": LLAMA, "vision_config": VISION}
    assert read_stack(llava).stack == read_stack(LLAMA).stack
    assert read_stack({"model_type": "llava", "text_config": LLAMA}).family == "llama"
    with pytest.raises(ConfigError, match="has no vision tower"):
        read_stack(LLAMA, tower="vision")
    with pytest.raises(ConfigError, match="it has text"):
        read_stack({"model_type": "llava", "text_config": LLAMA}, tower="vision")


@pytest.mark.usefixtures("as_user")
def test_a_tower_of_another_name_is_refused() -> None:
    with pytest.raises(ArgumentError, match="tower: got 'sound'"):
        read_stack(LLAMA, tower="sound")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("nested", [False, True])
def test_towers_of_open_clip_are_drawn_as_its_code_draws_them(nested: bool) -> None:
    torch = pytest.importorskip("torch")
    told = {"model_cfg": OPEN_CLIP, "preprocess_cfg": {}} if nested else OPEN_CLIP
    vision = read_stack(told, tower="vision")
    assert (vision.layers, vision.dim, vision.heads, vision.mlp_dim) == (10, 768, 12, 3072)
    assert not [one for one in vision.ignored if "not known" in one]
    attention, units = branches(vision.stack)
    torch.manual_seed(0)
    drawn = torch.nn.MultiheadAttention(768, 12)
    # Standard errors of the standard deviations are below one in a thousand.
    assert attention.query_std == pytest.approx(drawn.in_proj_weight.std().item(), rel=0.005)
    assert attention.out_std == pytest.approx(drawn.out_proj.weight.std().item(), rel=0.005)
    first, second = torch.nn.Linear(768, 3072), torch.nn.Linear(3072, 768)
    assert units.in_std == pytest.approx(first.weight.std().item(), rel=0.005)
    assert units.out_std == pytest.approx(second.weight.std().item(), rel=0.005)
    embedding = vision.stack.embedding
    assert isinstance(embedding, PatchEmbedding)
    patches = torch.nn.Conv2d(3, 768, 32, stride=32, bias=False)
    assert embedding.std == pytest.approx(patches.weight.std().item(), rel=0.005)
    assert embedding.norm is not None
    text = read_stack(told)
    assert (text.layers, text.dim, text.heads, text.context) == (11, 512, 4, 77)
    attention, units = branches(text.stack)
    assert attention.out_std == pytest.approx(512**-0.5 / 22**0.5)
    assert units.in_std == pytest.approx(1024**-0.5)


@pytest.mark.parametrize(
    ("tower", "change", "says"),
    [
        ("vision", {"layers": [3, 4, 6, 3]}, "write a positive integer"),
        ("vision", {"timm_model_name": "resnet50"}, "give the config.json of that model"),
        ("vision", {"pos_embed_type": "sin_cos_2d"}, "pos_embed_type is 'sin_cos_2d'"),
        ("text", {"hf_model_name": "roberta-base"}, "give the config.json of that model"),
        ("text", {"embed_cls": True}, "embed_cls is True"),
    ],
)
def test_other_towers_of_open_clip_are_refused(tower: Any, change: Any, says: str) -> None:
    values = {**OPEN_CLIP, f"{tower}_cfg": {**OPEN_CLIP[f"{tower}_cfg"], **change}}
    with pytest.raises(ConfigError, match=says):
        read_stack(values, tower=tower)


def test_a_vision_transformer_of_timm_is_read_by_its_name() -> None:
    values = {
        "architecture": "vit_base_patch16_224.augreg_in21k",
        "num_classes": 1000,
        "num_features": 768,
        "global_pool": "token",
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5]},
    }
    reading = read_stack(values)
    assert (reading.layers, reading.dim, reading.heads, reading.mlp_dim) == (12, 768, 12, 3072)
    assert (reading.image_tokens, reading.ignored) == (197, ())
    # A convolution that torch draws: variance 1 / (3 fan-in), of pixels of variance one.
    diagonal = np.diagonal(reading.stack.image_cov())
    assert diagonal[1:] == pytest.approx((1 / 3 + 0.02**2) * 767 / 768)
    distilled = read_stack({"architecture": "deit_small_distilled_patch16_224"})
    assert (distilled.image_tokens, distilled.dim) == (198, 384)
    for bad in ("resnet50", "vit_base_patch16_clip_224", "vit_medium_patch16_224"):
        with pytest.raises(ConfigError, match="architecture is"):
            read_stack({"architecture": bad})
    with pytest.raises(ConfigError, match="qk_norm is True"):
        read_stack({**values, "model_args": {"qk_norm": True}})
