"""What single families change of a decoder, as in the reference implementations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from translimit.describe.activation import Activation
from translimit.describe.families.decoders import Parts, experts, latent_attention
from translimit.describe.families.keys import Keys
from translimit.describe.families.positions import (
    FULL,
    SLIDING,
    alibi_slopes,
    alternating,
    frequencies,
    mpt_slopes,
)
from translimit.describe.mixers import Attention, Experts, FeedForward, QueryKeyNorm, Routing
from translimit.describe.norm import Norm


def _heads(parts: Parts) -> list[Attention]:
    return cast("list[Attention]", parts.attention)


def _units(parts: Parts) -> list[FeedForward]:
    return cast("list[FeedForward]", parts.units)


def _slopes(slopes: tuple[float, ...], parts: Parts, share: float = 1.0) -> Parts:
    """Biases of ALiBi in the place of rotary positions."""
    scaled = tuple(share * one for one in slopes)
    parts.score(lambda index, old: replace(old, slopes=scaled))
    parts.attention = [replace(one, rotary=None) for one in _heads(parts)]
    return parts


def gpt2(k: Keys, parts: Parts) -> Parts:
    """Scales of the scores: none, or divided by the number of the layer."""
    if not k.flag("scale_attn_weights", True):
        parts.score(lambda index, old: replace(old, scale=1.0))
    if k.flag("scale_attn_by_inverse_layer_idx", False):
        plain = parts.attention[0].score_scale
        parts.score(lambda index, old: replace(old, scale=plain / (index + 1)))
    return parts


def gpt_neo(k: Keys, parts: Parts) -> Parts:
    """Scores without a scale, windows on local layers."""
    kinds = k.words("attention_layers")
    k.inert("attention_types")
    window = k.count("window", 256)
    local = [
        (kinds[i] if kinds and i < len(kinds) else ("global", "local")[i % 2]) == "local"
        for i in range(parts.layers)
    ]
    parts.score(lambda index, old: replace(old, scale=1.0, window=window if local[index] else None))
    return parts


def bloom(k: Keys, parts: Parts) -> Parts:
    """ALiBi, and a norm of the embedding."""
    k.require("apply_residual_connection_post_layernorm", False)
    parts.embedding = replace(parts.embedding, norm=parts.norm)
    return _slopes(alibi_slopes(parts.attention[0].heads), parts)


def mpt(k: Keys, parts: Parts) -> Parts:
    """ALiBi with slopes of its own, and what `attn_config` says."""
    most, heads = 8.0, parts.attention[0].heads
    table = k.table("attn_config")
    if table is not None:
        most = table.number("alibi_bias_max", 8.0)
        table.require("alibi", True)
        table.require("attn_type", "multihead_attention", "multihead_attention")
        table.require("qk_ln", False)
        table.require("prefix_lm", False)
        table.pass_over("clip_qkv", "queries, keys and values are taken unclipped")
        if table.given("softmax_scale"):
            scale = table.number("softmax_scale")
            parts.score(lambda index, old: replace(old, scale=scale))
    k.inert("embedding_fraction", "logit_scale")
    k.inert("expansion_ratio", "learned_pos_emb", "init_config", "norm_type", "init_device")
    return _slopes(mpt_slopes(heads, most), parts)


def falcon(k: Keys, parts: Parts) -> Parts:
    """Shared keys, parallel blocks, ALiBi where it is asked for."""
    heads = parts.attention[0].heads
    multi = k.flag("multi_query", True)
    newer = k.flag("new_decoder_architecture", False)
    shared = k.count("kv_heads", heads) if newer else 1 if multi else heads
    parts.attention = [replace(one, kv_heads=shared) for one in _heads(parts)]
    parts.parallel = k.flag("parallel_attn", True) or newer
    k.inert("num_ln_in_parallel_attn")
    k.require("apply_residual_connection_post_layernorm", False)
    if k.flag("alibi", False):
        head_dim = parts.attention[0].head_dim
        return _slopes(alibi_slopes(heads), parts, head_dim**-0.5)
    return parts


def neox(k: Keys, parts: Parts) -> Parts:
    """Parallel or sequential blocks, also by their older name."""
    older = k.flag("gpt_j_residual", True)
    k.require("rotary", True)
    parts.parallel = k.flag("use_parallel_residual", older)
    return parts


def gpt_bigcode(k: Keys, parts: Parts) -> Parts:
    """One head of keys and values for all."""
    if k.flag("multi_query", True):
        parts.attention = [replace(one, kv_heads=1) for one in _heads(parts)]
    return gpt2(k, parts)


def baichuan(k: Keys, parts: Parts) -> Parts:
    """The larger model has ALiBi, and no number of positions in its configuration."""
    k.inert("model_max_length", "z_loss_weight")
    if k.given("max_position_embeddings"):
        return parts
    return _slopes(alibi_slopes(parts.attention[0].heads), parts)


def chatglm(k: Keys, parts: Parts) -> Parts:
    """Groups of queries."""
    k.require("rmsnorm", True)
    k.require("apply_residual_connection_post_layernorm", False)
    k.require("post_layer_norm", True)
    heads = parts.attention[0].heads
    shared = k.count("kv_heads", 2) if k.flag("multi_query_attention", False) else heads
    parts.attention = [replace(one, kv_heads=shared) for one in _heads(parts)]
    return parts


def qwen(k: Keys, parts: Parts) -> Parts:
    """The first Qwen, whose `intermediate_size` counts both halves of the gated units."""
    k.require("activation", "swiglu")
    k.inert("scale_attn_weights", "pos_emb", "ffn_inter_padding_size", "fp32", "params_dtype")
    k.inert("tokenizer_type", "use_logn_attn", "no_bias")
    k.require("apply_residual_connection_post_layernorm", False)
    parts.units = [replace(one, width=one.width // 2) for one in _units(parts)]
    return parts


def opt(k: Keys, parts: Parts) -> Parts:
    """Only the variant that normalises before its branches."""
    k.require("do_layer_norm_before", True)
    k.inert("enable_bias")
    k.require("word_embed_proj_dim", parts.dim)
    k.inert("_remove_final_layer_norm")
    return parts


def qwen2(k: Keys, parts: Parts) -> Parts:
    """A window only where it is switched on, from a certain layer."""
    k.inert("max_window_layers", "use_sliding_window")
    return parts


def qwen2_kinds(k: Keys) -> Callable[[int], str]:
    """A window where it is switched on, from a certain layer."""
    if not k.flag("use_sliding_window", False) or not k.given("window"):
        return lambda index: FULL
    first = k.count("max_window_layers", 28)
    return lambda index: SLIDING if index >= first else FULL


def windowed(k: Keys) -> Callable[[int], str]:
    """A window on all layers where there is one."""
    return lambda index: SLIDING if k.given("window") else FULL


def pattern(every: int) -> Callable[[Keys], Callable[[int], str]]:
    """Every so-manieth layer sees all, where the configuration does not say."""
    return lambda k: alternating(k.count("sliding_window_pattern", every))


def smollm3(k: Keys, parts: Parts) -> Parts:
    """Layers without rotary positions."""
    turned = k.numbers("no_rope_layers")
    every = k.count("no_rope_layer_interval", 4)
    keep = turned or [int((index + 1) % every != 0) for index in range(parts.layers)]
    parts.attention = [
        one if keep[index] else replace(one, rotary=None) for index, one in enumerate(_heads(parts))
    ]
    k.inert("use_sliding_window", "max_window_layers")
    return parts


def granite(k: Keys, parts: Parts) -> Parts:
    """Its four multipliers."""
    scale = k.number("attention_multiplier", 1.0)
    parts.score(lambda index, old: replace(old, scale=scale))
    multiplier = k.number("embedding_multiplier", 1.0)
    parts.embedding = replace(parts.embedding, multiplier=multiplier)
    parts.residual = k.number("residual_multiplier", 1.0)
    parts.logit_scale = 1.0 / k.number("logits_scaling", 1.0)
    return parts


def gemma(k: Keys, parts: Parts) -> Parts:
    """Embeddings times the root of the width."""
    k.require("use_bidirectional_attention", False)
    k.inert("_sliding_window_pattern", "sliding_window_pattern")
    parts.embedding = replace(parts.embedding, multiplier=math.sqrt(parts.dim))
    return parts


def gemma2(k: Keys, parts: Parts) -> Parts:
    """Its own scale of scores, and their cap."""
    scale = k.number("query_pre_attn_scalar", 256.0) ** -0.5
    cap = k.number("attn_logit_softcapping") if k.given("attn_logit_softcapping") else None
    if k.values.get("model_type") == "gemma2" and "attn_logit_softcapping" not in k.values:
        cap = 50.0
    parts.score(lambda index, old: replace(old, scale=scale, softcap=cap))
    return gemma(k, parts)


def gemma3(k: Keys, parts: Parts) -> Parts:
    """Other frequencies on layers with a window."""
    if k.table("rope_parameters") is None or not k.given("rope_parameters"):
        local = k.number("rope_local_base_freq", 10_000.0)
        own = frequencies(Keys({}, k.where), parts.attention[0].head_dim, theta=local)
        parts.attention = [
            replace(one, rotary=own) if parts.kinds[index] == SLIDING else one
            for index, one in enumerate(_heads(parts))
        ]
    k.inert("rope_local_base_freq")
    return gemma2(k, parts)


def cohere(k: Keys, parts: Parts) -> Parts:
    """A scale of logits, and norms of queries and keys where asked for."""
    parts.logit_scale = k.number("logit_scale", 0.0625)
    if k.flag("use_qk_norm", False):
        own = QueryKeyNorm(Norm.LAYER, parts.norm.eps)
        parts.attention = [replace(one, qk_norm=own) for one in _heads(parts)]
    k.inert("sliding_window_pattern")
    return parts


def stablelm(k: Keys, parts: Parts) -> Parts:
    """Parallel blocks and norms of queries and keys where asked for."""
    parts.parallel = k.flag("use_parallel_residual", False)
    if k.flag("qk_layernorm", False):
        own = QueryKeyNorm(Norm.LAYER, parts.norm.eps)
        parts.attention = [replace(one, qk_norm=own) for one in _heads(parts)]
    return parts


def phi(k: Keys, parts: Parts) -> Parts:
    """Parallel blocks."""
    parts = stablelm(k, parts)
    parts.parallel = True
    return parts


def clipped(k: Keys, parts: Parts) -> Parts:
    """Clipping of queries, keys and values is told and left out."""
    k.pass_over("clip_qkv", "queries, keys and values are taken unclipped")
    return parts


def mixture(
    routing: Routing, width: str, *, count: int, active: int, renormalised: str = ""
) -> Callable[[Keys, Parts], Parts]:
    """All layers with experts."""

    def adjust(k: Keys, parts: Parts) -> Parts:
        chosen: Routing = routing
        if renormalised and k.flag(renormalised, False):
            chosen = "softmax_renormalised"
        unit = _units(parts)[0]
        if k.given(width):
            unit = replace(unit, width=k.count(width))
        mixed: Experts = experts(k, parts.std, unit, routing=chosen, count=count, active=active)
        only = k.numbers("mlp_only_layers") or []
        step = k.count("decoder_sparse_step", 1)
        parts.units = [
            plain if index in only or (index + 1) % step else mixed
            for index, plain in enumerate(parts.units)
        ]
        return clipped(k, qwen2(k, parts))

    return adjust


def deepseek(k: Keys, parts: Parts) -> Parts:
    """Attention of latents, and experts in groups after a few dense layers."""
    heads = parts.attention[0].heads
    mixer = latent_attention(k, heads, parts.std)
    k.inert("qk_head_dim", "kv_heads")
    parts.attention = [mixer] * parts.layers
    unit = replace(_units(parts)[0], width=k.count("moe_intermediate_size", 2048))
    mixed = experts(k, parts.std, unit, routing="sigmoid", count=256, active=8)
    k.require("scoring_func", "sigmoid")
    k.require("topk_method", "noaux_tc")
    k.require("norm_topk_prob", True)
    k.require("moe_layer_freq", 1)
    shared = k.count("n_shared_experts", 1)
    groups, opened = k.count("n_group", 8), k.count("topk_group", 4)
    if opened > groups:
        raise k.refuse("topk_group", f"write at most {groups}")
    mixed = replace(
        mixed,
        shared=replace(unit, width=shared * unit.width),
        groups=groups,
        open_groups=opened,
        factor=k.number("routed_scaling_factor", 2.5),
    )
    dense = int(k.number("first_k_dense_replace", 3))
    parts.units = [plain if index < dense else mixed for index, plain in enumerate(parts.units)]
    return parts


def glm4_moe(k: Keys, parts: Parts) -> Parts:
    """Experts beside a shared one, after a few dense layers."""
    unit = replace(_units(parts)[0], width=k.count("moe_intermediate_size", 1408))
    mixed = experts(k, parts.std, unit, routing="sigmoid", count=128, active=8)
    k.require("norm_topk_prob", True)
    shared = k.count("n_shared_experts", 1)
    mixed = replace(
        mixed,
        shared=replace(unit, width=shared * unit.width),
        groups=k.count("n_group", 1),
        open_groups=k.count("topk_group", 1),
        factor=k.number("routed_scaling_factor", 1.0),
    )
    dense = int(k.number("first_k_dense_replace", 1))
    parts.units = [plain if index < dense else mixed for index, plain in enumerate(parts.units)]
    if k.flag("use_qk_norm", False):
        own = QueryKeyNorm(Norm.RMS, parts.norm.eps)
        parts.attention = [replace(one, qk_norm=own) for one in _heads(parts)]
    return parts


def gpt_oss(k: Keys, parts: Parts) -> Parts:
    """Experts with biases, clamped gates, sinks."""
    unit = replace(_units(parts)[0], activation=Activation.CLAMPED_SWISH, gated=True, shift=1.0)
    k.require("swiglu_limit", 7.0, 7)
    k.require("swiglu_alpha", 1.702)
    mixed = experts(k, parts.std, unit, routing="softmax_top", count=128, active=4)
    k.inert("experts_per_token")
    parts.units = [replace(mixed, bias_std=parts.std)] * parts.layers
    parts.score(lambda index, old: replace(old, sink=True))
    return parts
