"""What families with experts or attention of latents change of a decoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from translimit.describe.activation import Activation
from translimit.describe.families.decoder_changes import (
    clipped,
    granite,
    heads_of,
    qwen2,
    units_of,
)
from translimit.describe.families.decoders import Parts, experts, latent_attention
from translimit.describe.families.keys import Keys
from translimit.describe.families.positions import FULL, SLIDING
from translimit.describe.mixers import Experts, QueryKeyNorm, Routing
from translimit.describe.norm import Norm


def mixture(
    routing: Routing, width: str, *, count: int, active: int, renormalised: str = ""
) -> Callable[[Keys, Parts], Parts]:
    """All layers with experts."""

    def adjust(k: Keys, parts: Parts) -> Parts:
        chosen: Routing = routing
        if renormalised and k.flag(renormalised, False):
            chosen = "softmax_renormalised"
        unit = units_of(parts)[0]
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


def qwen2_moe(k: Keys, parts: Parts) -> Parts:
    """Experts beside a shared one behind a gate of its own."""
    plain, width = units_of(parts)[0], "moe_intermediate_size"
    adjust = mixture("softmax", width, count=60, active=4, renormalised="norm_topk_prob")
    shared = replace(plain, width=k.count("shared_expert_intermediate_size", 5632))
    parts = adjust(k, parts)
    parts.units = [
        replace(one, shared=shared, shared_gate_std=parts.std) if isinstance(one, Experts) else one
        for one in parts.units
    ]
    return parts


def qwen2_moe_kinds(k: Keys) -> Callable[[int], str]:
    """A window on every other layer up to a certain one, where it is switched on."""
    if not k.flag("use_sliding_window", False) or not k.given("window"):
        return lambda index: FULL
    last = k.count("max_window_layers", 28)
    return lambda index: SLIDING if index % 2 == 0 and index < last else FULL


def deepseek(k: Keys, parts: Parts) -> Parts:
    """Attention of latents, and experts in groups after a few dense layers."""
    heads = parts.attention[0].heads
    mixer = latent_attention(k, heads, parts.std)
    k.inert("qk_head_dim", "kv_heads")
    parts.attention = [mixer] * parts.layers
    unit = replace(units_of(parts)[0], width=k.count("moe_intermediate_size", 2048))
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
    unit = replace(units_of(parts)[0], width=k.count("moe_intermediate_size", 1408))
    mixed = experts(k, parts.std, unit, routing="sigmoid", count=128, active=8)
    k.require("norm_topk_prob", True)
    k.inert("max_window_layers")
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
        parts.attention = [replace(one, qk_norm=own) for one in heads_of(parts)]
    return parts


def gpt_oss(k: Keys, parts: Parts) -> Parts:
    """Experts with biases, clamped gates, sinks."""
    unit = replace(units_of(parts)[0], activation=Activation.CLAMPED_SWISH, gated=True, shift=1.0)
    k.require("swiglu_limit", 7.0, 7)
    k.require("swiglu_alpha", 1.702)
    mixed = experts(k, parts.std, unit, routing="softmax_top", count=128, active=4)
    k.inert("experts_per_token")
    parts.units = [replace(mixed, bias_std=parts.std)] * parts.layers
    parts.score(lambda index, old: replace(old, sink=True))
    return parts


def granitemoe(k: Keys, parts: Parts) -> Parts:
    """Experts chosen by their logits, and Granite's multipliers."""
    mixed = experts(k, parts.std, units_of(parts)[0], routing="softmax_top", count=8, active=2)
    parts.units = [mixed] * parts.layers
    return granite(k, parts)


def mellum(k: Keys, parts: Parts) -> Parts:
    """Experts on all layers but those that are told to be dense."""
    plain = units_of(parts)[0]
    unit = replace(plain, width=k.count("moe_intermediate_size", 896))
    k.require("norm_topk_prob", True)
    mixed = experts(k, parts.std, unit, routing="softmax_renormalised", count=64, active=8)
    kinds = k.words("mlp_layer_types") or ["sparse"] * parts.layers
    if len(kinds) < parts.layers or set(kinds) - {"sparse", "dense"}:
        raise k.refuse(
            "mlp_layer_types", f"write sparse or dense for each of {parts.layers} layers"
        )
    parts.units = [mixed if kind == "sparse" else plain for kind in kinds[: parts.layers]]
    k.inert("num_nextn_predict_layers", "num_mtp_layers", "mtp_layer_types", "mtp_mlp_layer_types")
    return parts


def ernie4_5_moe(k: Keys, parts: Parts) -> Parts:
    """Experts beside a shared one, between two layers that are told."""
    plain = units_of(parts)[0]
    unit = replace(plain, width=k.count("moe_intermediate_size", 1536))
    mixed = experts(k, parts.std, unit, routing="softmax_renormalised", count=64, active=6)
    shared = int(k.number("moe_num_shared_experts", 2))
    if shared:
        mixed = replace(mixed, shared=replace(unit, width=shared * unit.width))
    first = int(k.number("moe_layer_start_index", 1))
    told = k.values.get("moe_layer_end_index", -1)
    last = told if isinstance(told, int) and told >= 0 else parts.layers - 1
    step = k.count("moe_layer_interval", 1)
    k.inert("moe_layer_end_index", "moe_norm_min")
    parts.units = [
        mixed if (index + 1) % step == 0 and first <= index <= last else plain
        for index in range(parts.layers)
    ]
    return parts


def deepseek_v2(k: Keys, parts: Parts) -> Parts:
    """Attention of latents, and the likeliest experts beside a shared one."""
    k.inert("qk_head_dim", "kv_heads", "seq_aux", "moe_layer_freq")
    parts.attention = [latent_attention(k, parts.attention[0].heads, parts.std)] * parts.layers
    unit = replace(units_of(parts)[0], width=k.count("moe_intermediate_size", 1407))
    k.require("topk_method", "greedy")
    k.require("norm_topk_prob", False)
    k.require("scoring_func", "softmax")
    k.inert("n_group", "topk_group")
    mixed = experts(k, parts.std, unit, routing="softmax", count=64, active=6)
    shared = k.count("n_shared_experts", 2)
    factor = k.number("routed_scaling_factor", 1.0)
    mixed = replace(mixed, shared=replace(unit, width=shared * unit.width), factor=factor)
    dense = int(k.number("first_k_dense_replace", 0))
    parts.units = [plain if index < dense else mixed for index, plain in enumerate(parts.units)]
    return parts


def minicpm3(k: Keys, parts: Parts) -> Parts:
    """Attention of latents, and multipliers of the embedding, the branches and the logits."""
    heads, dim = parts.attention[0].heads, parts.dim
    k.inert("qk_head_dim", "kv_heads")
    if not k.given("v_head_dim"):
        k.values = {**k.values, "v_head_dim": dim // heads}
    parts.attention = [latent_attention(k, heads, parts.std)] * parts.layers
    multiplier = k.number("scale_emb", 12)
    parts.embedding = replace(parts.embedding, multiplier=multiplier)
    parts.residual = k.number("scale_depth", 1.4) / math.sqrt(parts.layers)
    parts.logit_scale = k.number("dim_model_base", 256) / dim
    return parts
