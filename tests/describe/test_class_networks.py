"""Classes of the library transformers with random weights, forward and backward, and the limit.

Every family is built small from a configuration, width 256, four layers, sixteen times with fixed
seeds, and passed a text with repeats. A gradient of independent unit tokens is put on what enters
the last layer and pulled back by autograd to what enters the first: no line of this project is
passed. The chain's means must lie within four standard errors, the recursion within four plus
n / D.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from translimit.core import solve
from translimit.describe import FAMILIES, Stack, read_stack
from translimit.limits.signal import Chain, Recursion, SignalPropagation, SignalSolution

SMALL = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "emb_dim"), 256),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_ff", "hidden_dim"), 640),
    "ffn_hidden_size": 640,
    "vocab_size": 500,
    "num_key_value_heads": 2,
    "initializer_range": 0.05,
    "init_std": 0.05,
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
}
WINDOW = {"sliding_window": 8}
NO_PAD = {"pad_token_id": 0}
SPARSE = {"num_experts": 8, "num_experts_per_tok": 2}
MORE: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 64},
    "gemma2": {
        "head_dim": 32,
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": 2.0,
        **WINDOW,
    },
    "gemma3_text": {"head_dim": 32, "query_pre_attn_scalar": 32, **WINDOW},
    "qwen3": {"head_dim": 32},
    "seed_oss": {"head_dim": 64},
    "qwen3_moe": {"head_dim": 32, "moe_intermediate_size": 320, **SPARSE},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {**SPARSE, "num_key_value_heads": 4},
    "deepseek_v3": {
        "q_lora_rank": 192,
        "kv_lora_rank": 128,
        "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 32,
        "v_head_dim": 48,
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 320,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "num_experts_per_tok": 2,
        "num_key_value_heads": 4,
    },
    "gpt_oss": {"head_dim": 32, "num_local_experts": 8, "num_experts_per_tok": 2},
    "gptj": {"rotary_dim": 16},
    "codegen": {"rotary_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 8},
    "granite": {
        "embedding_multiplier": 6.0,
        "residual_multiplier": 0.22,
        "attention_multiplier": 0.25,
    },
    "glm4_moe": {
        "head_dim": 64,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 320,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    },
    "glm": {"head_dim": 64, **NO_PAD},
    "glm4": {"head_dim": 64, **NO_PAD},
    "opt": {"word_embed_proj_dim": 256},
    "t5": {"d_kv": 64},
    "electra": {"embedding_size": 128},
    "flint": {"head_dim": 32, "moe_intermediate_size": 320, **SPARSE, **WINDOW},
    "mimo_v2_flash": {
        "head_dim": 32,
        "v_head_dim": 48,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 320,
        **WINDOW,
    },
    "aria_text": {"head_dim": 64, "moe_num_experts": 4, "moe_topk": 2, "pad_token_id": 2},
    "apertus": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "modernbert": {"local_attention": 8, **NO_PAD},
    "modernbert-decoder": {"local_attention": 8, **NO_PAD},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 99.0},
        "ffn_config": {"ffn_hidden_size": 320, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "xlm": {"embed_init_std": 0.05},
    "flaubert": {"embed_init_std": 0.05},
    "phi3": {**WINDOW, **NO_PAD},
    "smollm3": NO_PAD,
    "helium": {"head_dim": 64},
    "ernie4_5": {"head_dim": 64},
    **dict.fromkeys(("exaone4", "olmo3", "cohere2", "mistral", "starcoder2"), WINDOW),
}
MORE |= dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), MORE["deepseek_v3"])
#: One of each placement and mixer: post-LN, parallel branches, latents with a shared expert, sinks
#: and experts, biases of distance, norms around branches, norms of queries and keys, of outputs.
QUICK = ("bert", "gptj", "deepseek_v3", "gpt_oss", "bloom", "gemma2", "qwen3", "olmo2")
#: Images, whose tokens are no ids, and families that the library does not have.
APART = {
    *("vit", "vit_mae", "deit", "vit_msn", "ijepa", "dinov2", "dinov2_with_registers", "beit"),
    *("data2vec-vision", "clip_vision_model", "siglip_vision_model", "siglip_text_model"),
    *("whisper", "baichuan", "chatglm", "qwen"),
}
#: Families that are compared entry by entry only, in `test_classes`.
ENTRIES = {
    *(
        "ministral",
        "exaone",
        "internlm3",
        "ministral3",
        "hyperclovax",
        "jais2",
        "cwm",
        "vaultgemma",
    ),
    *("hunyuan_v1_dense", "nanochat", "persimmon", "biogpt", "gpt_neox_japanese", "openai-gpt"),
    *("eurobert", "esm", "granitemoe", "flex_olmo", "dots1", "mellum", "ernie4_5_moe"),
    *("deepseek_v2", "minicpm3", "ernie", "roberta-prelayernorm", "megatron-bert"),
    *("xlm-roberta-xl", "clip_text_model", "xglm", "ctrl", "qwen2_moe", "bert-generation"),
    *("exaone_moe", "hunyuan_v1_moe", "hy_v3", "kolibri1", "minimax_m2", "sarvam_moe"),
    *("solar_open", "granitemoeshared", "granite_swa", "granitemoe_swa", "cohere2_moe"),
    *("glm4_moe_lite", "sarvam_mla", "axk1", "youtu", "iquestcoder"),
    *("imagegpt", "esmc", "ultrabert", "cohere_compass_text", "emu3_text_model"),
    *("metaclip_2_vision_model", "metaclip_2_text_model", "siglip2_text_model"),
    *("nomic_bert", "gte", "jina_embeddings_v3", "rembert", "vit_mae"),
}
IDS = 10 + np.arange(16) ** 2 % 7

NETWORKS = 16
#: Levels that are compared: of four layers the last one's output is what the class normalises.
LEVELS = 4


def config_of(name: str) -> Any:
    """The small configuration of a family."""
    transformers = pytest.importorskip("transformers")
    kind = transformers.CONFIG_MAPPING[name]
    mapped = getattr(kind, "attribute_map", {})
    known = {*kind().to_dict(), *mapped.values()}
    told = {key: value for key, value in SMALL.items() if key in known and key not in mapped}
    return kind(**{**told, **MORE.get(name, {})})


def stack_of(name: str) -> Stack:
    """What is read of the configuration, without the last layer."""
    reading = read_stack(config_of(name).to_dict())
    assert not [one for one in reading.ignored if "not known" in one]
    stack = reading.stack
    return dataclasses.replace(stack, layers=stack.layers[: LEVELS - 1])


@functools.cache
def networks(name: str) -> np.ndarray:
    """Overlap, log mean square and log square of the gradient by level [networks, 3, levels]."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config, centred = config_of(name), stack_of(name).centred
    made = transformers.T5EncoderModel if name == "t5" else transformers.AutoModel.from_config
    found = []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        model = made(config).eval()
        inputs = torch.tensor(IDS)[None]
        states = model(input_ids=inputs, output_hidden_states=True).hidden_states[:LEVELS]
        top = torch.randn(states[-1].shape) / states[-1].shape[-1] ** 0.5
        grads = [*torch.autograd.grad(states[-1], states[:-1], top), top]
        x, g = (
            np.stack([one[0].detach().double().numpy() for one in of]) for of in (states, grads)
        )
        if centred:
            x -= x.mean(axis=2, keepdims=True)
        found.append(summary(x @ x.transpose(0, 2, 1) / x.shape[2], g @ g.transpose(0, 2, 1)))
    return np.stack(found)


def summary(covs: np.ndarray, grads: np.ndarray) -> np.ndarray:
    """Mean overlap of all pairs, log mean square and log tr B / n by level [..., 3, levels]."""
    squares = np.diagonal(covs, axis1=-2, axis2=-1)
    s = 1 / np.sqrt(squares)
    overlaps = (covs * s[..., :, None] * s[..., None, :]).mean(axis=(-2, -1))
    back = np.diagonal(grads, axis1=-2, axis2=-1).mean(axis=-1)
    return np.stack([overlaps, np.log(squares.mean(axis=-1)), np.log(back)], axis=-2)


def solved(stack: Stack, method: Recursion | Chain) -> SignalSolution:
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(IDS))
    return solve(problem, method, key=jax.random.key(0))


def of_recursion(stack: Stack, measured: np.ndarray) -> np.ndarray:
    """How far the recursion lies, over what is allowed [3, levels]."""
    limit = solved(stack, Recursion(pairs=24, copies=3))
    error = measured.std(axis=0, ddof=1) / NETWORKS**0.5
    gap = np.abs(summary(limit.cov, limit.grad_gram) - measured.mean(axis=0))
    return gap / (4 * error + len(IDS) / stack.dim)


def of_chain(stack: Stack, measured: np.ndarray) -> np.ndarray:
    """How far the chain's mean lies, over four standard errors; backward n / D as well."""
    chain = solved(stack, Chain(networks=48, pairs=6))
    drawn = summary(chain.covs, chain.grad_grams)
    error = np.hypot(
        measured.std(axis=0, ddof=1) / NETWORKS**0.5, drawn.std(axis=0, ddof=1) / len(drawn) ** 0.5
    )
    # The way back is the recursion on what was drawn: its bias is that of one gradient.
    share = np.array([0.0, 0.0, len(IDS) / stack.dim])[:, None]
    gap = np.abs(drawn.mean(axis=0) - measured.mean(axis=0))
    return gap / (4 * error + share + 1e-6)


@pytest.mark.parametrize("name", QUICK)
def test_a_family_is_that_of_its_class(name: str) -> None:
    assert of_recursion(stack_of(name), networks(name)).max() < 1


def test_gradients_alone_tell_a_neighbour_apart() -> None:
    stack, measured = stack_of("qwen3"), networks("qwen3")
    layers = tuple(
        tuple(dataclasses.replace(block, branch=0.8) for block in layer) for layer in stack.layers
    )
    back = of_recursion(dataclasses.replace(stack, layers=layers), measured)[2]
    assert back.max() > 1  # what is allowed


EVERY = sorted(set(FAMILIES) - APART - ENTRIES)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_family_is_that_of_its_class(name: str) -> None:
    stack, measured = stack_of(name), networks(name)
    assert of_recursion(stack, measured).max() < 1
    assert of_chain(stack, measured).max() < 1
