"""Gradients of norms of queries and keys, of latents and of patches: classes of transformers.

Networks are built small with fixed seeds; an isotropic gradient is put on what leaves the second
layer and pulled back by autograd to the parameters. No line of this project is passed.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import jax
import numpy as np
import pytest

from translimit.core import ArgumentError, solve
from translimit.describe import Attention, PatchEmbedding, Stack, matrices, read_stack
from translimit.describe.blocks import Branch
from translimit.limits.signal import Recursion, SignalPropagation, patch_squares

IDS = 10 + np.arange(16) ** 2 % 7
NETWORKS, LAYERS, DIM = 24, 2, 256
SIZES: dict[str, Any] = {
    "hidden_size": DIM,
    "num_hidden_layers": LAYERS + 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 100,
    "initializer_range": 0.05,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 192,
    "kv_lora_rank": 128,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 32,
    "v_head_dim": 48,
    "first_k_dense_replace": LAYERS + 1,
    "n_routed_experts": 8,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
}
#: Norms within a head, over all heads, with weights of zero, of every head, and latents.
MORE: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 32},
    "olmo2": {},
    "gemma3_text": {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8},
    "cohere": {"use_qk_norm": True},
    "deepseek_v3": LATENT,
}
NORMS = {"norm_query": r"self_attn\.q_norm", "norm_key": r"self_attn\.k_norm"}
LATENTS = {
    "query_down": "q_a_proj",
    "norm_query_latent": "q_a_layernorm",
    "query_up": "q_b_proj",
    "key_value_down": "kv_a_proj",
    "norm_key_value_latent": "kv_a_layernorm",
    "key_value_up": "kv_b_proj",
}
#: The parameters of an image's tokens by family.
IMAGES: dict[str, dict[str, str]] = {
    "vit": {
        "patches": r"patch_embeddings\.projection\.weight",
        "positions": "position_embeddings",
        "class_tokens": "cls_token",
    },
    "clip_vision_model": {
        "patches": r"patch_embedding\.weight",
        "positions": "position_embedding",
        "class_tokens": "class_embedding",
    },
    "dinov2_with_registers": {
        "patches": r"patch_embeddings\.projection\.weight",
        "positions": "position_embeddings",
        "class_tokens": "cls_token",
        "registers": "register_tokens",
    },
}
IMAGE_SIZES = {
    **SIZES,
    "image_size": 12,
    "patch_size": 4,
    "num_register_tokens": 2,
    "mlp_ratio": 2,
}


def config_of(name: str) -> Any:
    kind = pytest.importorskip("transformers").CONFIG_MAPPING[name]
    sizes = {**(IMAGE_SIZES if name in IMAGES else SIZES), **MORE.get(name, {})}
    known = kind().to_dict()
    return kind(**{key: value for key, value in sizes.items() if key in known})


def stack_of(name: str) -> Stack:
    stack = read_stack(config_of(name).to_dict()).stack
    return dataclasses.replace(stack, layers=stack.layers[:LAYERS])


def entering(name: str) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    if name not in IMAGES:
        return {"input_ids": torch.tensor(IDS)[None]}
    return {"pixel_values": torch.tensor(image()[None], dtype=torch.float32)}


def image() -> np.ndarray:
    """Pixels that share much."""
    rng = np.random.default_rng(2)
    return 0.8 * rng.standard_normal((3, 1, 1)) + 0.6 * rng.standard_normal((3, 12, 12))


@functools.cache
def measured(name: str) -> dict[str, np.ndarray]:
    """Squares of gradients of all networks by the name of the parameter."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    found: dict[str, list[float]] = {}
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(config_of(name)).eval()
        states = model(**entering(name), output_hidden_states=True).hidden_states
        last = states[LAYERS]
        torch.sum(last * torch.randn(last.shape) / DIM**0.5).backward()
        for key, one in model.named_parameters():
            if one.grad is not None:
                found.setdefault(key, []).append(float((one.grad.double() ** 2).sum()))
    return {key: np.array(row) for key, row in found.items()}


def of_layer(name: str, pattern: str, layer: int) -> np.ndarray:
    rows = [
        row
        for key, row in measured(name).items()
        if re.search(pattern, key) and f"layers.{layer}." in key
    ]
    assert len(rows) == 1
    return rows[0]


@functools.cache
def predicted(name: str) -> dict[tuple[str, int], float]:
    stack = stack_of(name)
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(IDS))
    limit = solve(problem, Recursion(pairs=64, copies=4), key=jax.random.key(0))
    return {
        (group, layer): float(limit.weight_squares[:, layer, place].mean()) / of[group].std ** 2
        for place, group in enumerate(limit.groups)
        for layer, of in enumerate(matrices(one, DIM) for one in stack.layers)
        if group in of
    }


def gap(row: np.ndarray, told: float, bias: float) -> float:
    """How far a prediction lies from networks, over what is allowed."""
    error = row.std(ddof=1) / len(row) ** 0.5
    assert 4 * error < 0.7 * row.mean()
    return abs(row.mean() - told) / (4 * error + bias * told)


@pytest.mark.parametrize(
    "name",
    ["qwen3", *(pytest.param(one, marks=pytest.mark.slow) for one in MORE if one[0] in "ogc")],
)
def test_gains_of_norms_of_queries_and_keys(name: str) -> None:
    """Those of the first layer; below it the bias of scores is one of n / D_eff."""
    told = predicted(name)
    for group, pattern in NORMS.items():
        row = of_layer(name, pattern, 0)
        assert gap(row, told[group, 0], len(IDS) / DIM) < 1, group
        assert gap(of_layer(name, pattern, 1), told[group, 1], 0.2) < 1, group
        # A gain that all heads share counts the squares of all heads; one head alone is refuted.
        assert gap(row, told[group, 0] / 4, len(IDS) / DIM) > 1, group


@pytest.mark.parametrize("name", ["qwen3", "olmo2", "cohere"])
def test_a_stack_has_the_gains_of_its_class(name: str) -> None:
    """As many entries as the class has, from which the gradient of one entry follows."""
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_config(config_of(name))
    counted = matrices(stack_of(name).layers[0], DIM)
    for group, pattern in NORMS.items():
        (gains,) = (
            one
            for key, one in model.named_parameters()
            if re.search(pattern, key) and "layers.0." in key
        )
        assert counted[group].entries == gains.numel(), group


def test_a_norm_without_gains_has_no_gradient_of_them() -> None:
    """NanoChat's norms have no weights; what flows through them is as with gains."""
    stack = stack_of("nanochat")
    assert not {"norm_query", "norm_key"} & set(matrices(stack.layers[0], DIM))

    def with_gains(branch: Branch) -> Branch:
        if not isinstance(branch, Attention) or branch.qk_norm is None:
            return branch
        return dataclasses.replace(
            branch, qk_norm=dataclasses.replace(branch.qk_norm, gains="shared")
        )

    gained = stack.with_branches(with_gains)
    both = [
        solve(
            SignalPropagation(stack=one, initial=stack.initial_cov(IDS)),
            Recursion(pairs=8, copies=2),
            key=jax.random.key(0),
        )
        for one in (stack, gained)
    ]
    place = both[0].groups.index("norm_query")
    assert np.all(np.nan_to_num(np.asarray(both[0].weight_squares[:, :, place])) == 0)
    assert np.all(np.asarray(both[1].weight_squares[:, :, place]) > 0)
    np.testing.assert_allclose(both[0].grad_gram, both[1].grad_gram, rtol=1e-12)


def test_gradients_of_latents_matrix_by_matrix() -> None:
    name, rank = "deepseek_v3", 128
    told = predicted(name)
    for group, pattern in LATENTS.items():
        assert gap(of_layer(name, pattern, 0), told[group, 0], len(IDS) / DIM) < 1, group
        # Drawn tokens, read through latents of few entries.
        assert gap(of_layer(name, pattern, 1), told[group, 1], len(IDS) / rank) < 1, group
    # What values send down a latent, and what turning keys add to its matrix, decide.
    down, up = (told[f"key_value_{way}", 0] for way in ("down", "up"))
    row = of_layer(name, LATENTS["key_value_down"], 0)
    assert down > up
    assert gap(row, told["query_down", 0], len(IDS) / DIM) > 1
    # The two gradients of one network differ by the keys that turn, and by little else.
    turning = row / of_layer(name, LATENTS["key_value_up"], 0)
    error = turning.std(ddof=1) / NETWORKS**0.5
    assert abs(turning.mean() - down / up) < 4 * error + len(IDS) / rank
    assert "key" not in {group for group, _ in told}


@pytest.mark.parametrize(
    "name", ["vit", *(pytest.param(o, marks=pytest.mark.slow) for o in list(IMAGES)[1:])]
)
def test_patches_positions_and_class_tokens(name: str) -> None:
    stack = stack_of(name)
    of = stack.embedding
    assert isinstance(of, PatchEmbedding)
    blocks = image().reshape(3, of.rows, 4, of.columns, 4).transpose(1, 3, 0, 2, 4)
    pixels = blocks.reshape(of.patches, of.entries)
    problem = SignalPropagation(stack=stack, initial=stack.image_cov(pixels))
    limit = solve(problem, Recursion(pairs=64, copies=4), key=jax.random.key(0))
    told = patch_squares(stack, pixels @ pixels.T, limit.grad_gram[0])
    assert set(told) == set(IMAGES[name])
    rows = {}
    for group, pattern in IMAGES[name].items():
        (rows[group],) = (row for key, row in measured(name).items() if re.search(pattern, key))
        assert gap(rows[group], float(told[group]), 2 * of.tokens / DIM) < 1, group
    # Patches that share no pixels, or tokens that no norm scales, have another gradient.
    inner = np.diag(np.diag(pixels @ pixels.T)) if of.norm is None else pixels @ pixels.T
    bare = dataclasses.replace(stack, embedding=dataclasses.replace(of, norm=None))
    other = patch_squares(bare, inner, limit.grad_gram[0])
    assert gap(rows["patches"], float(other["patches"]), 2 * of.tokens / DIM) > 1


def test_matrices_of_other_sizes_are_named() -> None:
    stack = stack_of("vit")
    with pytest.raises(ArgumentError, match="pixel_gram"):
        patch_squares(stack, np.eye(3), np.eye(10))
    with pytest.raises(ArgumentError, match="grad_gram"):
        patch_squares(stack, np.eye(9), np.eye(9))
    with pytest.raises(ArgumentError, match="no embedding of patches"):
        patch_squares(stack_of("qwen3"), np.eye(9), np.eye(10))
