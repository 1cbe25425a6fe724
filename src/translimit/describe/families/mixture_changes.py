"""What families with experts or attention of latents change of a decoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from translimit.describe.activation import Activation
from translimit.describe.families.decoder_changes import (
    clipped,
    cohere,
    granite,
    heads_of,
    hunyuan,
    qwen2,
    units_of,
    with_head_norms,
)
from translimit.describe.families.decoders import Parts, experts, latent_attention
from translimit.describe.families.keys import Keys
from translimit.describe.families.positions import FULL, SLIDING, frequencies
from translimit.describe.families.sparse_layers import Sparse
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


def latents(k: Keys, parts: Parts) -> Parts:
    """Attention of latents; a choice of keys, where there is one, leaves all of a short text."""
    k.inert("qk_head_dim", "kv_heads", "index_n_heads", "index_head_dim", "indexer_types")
    k.inert("indexer_rope_interleave", "index_topk_freq", "index_topk_pattern", "mlp_bias")
    parts.attention = [latent_attention(k, parts.attention[0].heads, parts.std)] * parts.layers
    if k.given("index_topk"):
        most = k.count("index_topk")
        k.ignored.append(f"index_topk: all keys are seen, as they are up to {most} tokens")
    return parts


def deepseek(
    *, count: int = 256, factor: float = 2.5, groups: tuple[int, int] = (8, 4), dense: int = 3
) -> Callable[[Keys, Parts], Parts]:
    """Attention of latents, and experts in groups after a few dense layers."""
    sparse = Sparse(
        count=count,
        active=8,
        routing="sigmoid",
        width=("moe_intermediate_size", 2048),
        shared=("n_shared_experts", 1),
        factor=("routed_scaling_factor", factor),
        groups=groups,
        dense=dense,
    )

    def adjust(k: Keys, parts: Parts) -> Parts:
        k.require("scoring_func", "sigmoid")
        k.require("topk_method", "noaux_tc")
        k.require("moe_layer_freq", 1)
        return sparse(k, latents(k, parts))

    return adjust


def axk1(k: Keys, parts: Parts) -> Parts:
    """Experts whose sum is normalised once more."""
    parts = deepseek(count=192, dense=1)(k, parts)
    parts.normed_units = [isinstance(one, Experts) for one in parts.units]
    return parts


def youtu(k: Keys, parts: Parts) -> Parts:
    """Attention of latents, and an embedding of its own deviation."""
    std = 2.0 / math.sqrt(5.0 * parts.dim)
    if not k.given("std"):
        raise k.refuse("std", f"write it: {std:.6g} is the class's own for this width")
    own = k.number("embedding_initializer_range", 2.0 * parts.std)
    parts.embedding = replace(parts.embedding, std=own)
    return latents(k, parts)


#: Experts beside a shared one, after a few dense layers, chosen by their sigmoids.
GLM4_MOE = Sparse(
    count=128,
    active=8,
    routing="sigmoid",
    width=("moe_intermediate_size", 1408),
    shared=("n_shared_experts", 1),
    factor=("routed_scaling_factor", 1.0),
    groups=(1, 1),
    dense=1,
)


def normed_heads(default: bool) -> Callable[[Keys, Parts], Parts]:
    """Norms of queries and keys where asked for."""

    def adjust(k: Keys, parts: Parts) -> Parts:
        k.inert("max_window_layers")
        if k.flag("use_qk_norm", default):
            with_head_norms(parts, QueryKeyNorm(Norm.RMS, parts.norm.norm_eps))
        return parts

    return adjust


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


def sinks(k: Keys, parts: Parts) -> Parts:
    """Sinks in every head, and frequencies that differ by layer, or are none."""
    parts.score(lambda index, old: replace(old, sink=True))
    thetas = k.values.get("layer_rope_theta")
    k.inert("layer_rope_theta")
    if isinstance(thetas, list) and len(thetas) >= parts.layers:
        parts.attention = [
            replace(one, rotary=frequencies(Keys({}, k.where), one.head_dim, theta=float(theta)))
            if isinstance(theta, int | float) and theta > 0
            else replace(one, rotary=None)
            for one, theta in zip(heads_of(parts), thetas, strict=False)
        ]
    return parts


def hunyuan_moe(k: Keys, parts: Parts) -> Parts:
    """Experts beside a shared block as wide as one of them."""
    sparse = Sparse(count=1, active=1, routing="softmax_renormalised")
    unit = units_of(parts)[0]
    parts = sparse(k, hunyuan(k, parts))
    parts.units = [replace(one, shared=unit) for one in parts.units if isinstance(one, Experts)]
    return parts


def mimo(k: Keys, parts: Parts) -> Parts:
    """Windows with twice the heads of keys, and sinks; values times a number."""
    key = "attention_value_scale"
    scale = k.positive(key, 0.707) if k.given(key) or key not in k.values else 1.0
    values = k.count("v_head_dim", 128)
    made = []
    for kind, one in zip(parts.kinds, heads_of(parts), strict=True):
        slides = kind == SLIDING
        keys = one.key_heads * (2 if slides else 1)
        scores = replace(one.scores, sink=slides)
        made.append(replace(one, value_scale=scale, value_dim=values, kv_heads=keys, scores=scores))
    parts.attention = made
    return parts


def flint(k: Keys, parts: Parts) -> Parts:
    """Sinks, and dense layers that are told by number."""
    told = k.numbers("mlp_only_layers")
    dense = [0, 1] if told is None else told
    k.inert("decoder_sparse_step")
    kinds = ["dense" if index in dense else "sparse" for index in range(parts.layers)]
    k.values = {**k.values, "mlp_layer_types": kinds}
    return sinks(k, parts)


def flint_kinds(k: Keys) -> Callable[[int], str]:
    """Two full layers, then every fourth, and the last."""
    last = k.count("layers") - 1
    return lambda index: FULL if index < 2 or index % 4 == 1 or index == last else SLIDING


def cohere2_moe(k: Keys, parts: Parts) -> Parts:
    """Experts of Cohere's parallel blocks, by softmax or sigmoid of the chosen ones."""
    parts = cohere(k, parts)
    if k.given("rms_norm_eps"):
        raise k.refuse("rms_norm_eps", "leave it out: its other norm is not understood")
    kind = k.word("expert_selection_fn", "softmax")
    if kind not in ("softmax", "sigmoid"):
        raise k.refuse("expert_selection_fn", "write softmax or sigmoid")
    if "dense" in (k.words("mlp_layer_types") or []):
        raise k.refuse("mlp_layer_types", "write sparse: its dense layers are not understood")
    k.inert("prefix_dense_intermediate_size", "prefix_dense_sliding_window_pattern")
    normalised = k.flag("norm_topk_prob", True)
    if kind == "softmax":
        routing: Routing = "softmax_top"
    else:
        routing = "sigmoid" if normalised else "sigmoid_kept"
    k.values = {**k.values, "norm_topk_prob": True}
    parts = Sparse(count=8, active=2, routing=routing, shared=("num_shared_experts", 0))(k, parts)
    if k.given("num_shared_experts"):
        k.require("shared_expert_combination_strategy", "sum")
    k.inert("shared_expert_combination_strategy")
    return parts


def granitemoe(k: Keys, parts: Parts) -> Parts:
    """Experts chosen by their logits, Granite's multipliers, a shared block where one is told."""
    sparse = Sparse(
        count=8, active=2, routing="softmax_top", shared_width=("shared_intermediate_size", 0)
    )
    return granite(k, sparse(k, parts))


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
    k.inert("seq_aux", "moe_layer_freq")
    parts = latents(k, parts)
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
    dim = parts.dim
    if not k.given("v_head_dim"):
        k.values = {**k.values, "v_head_dim": dim // parts.attention[0].heads}
    parts = latents(k, parts)
    multiplier = k.number("scale_emb", 12)
    parts.embedding = replace(parts.embedding, multiplier=multiplier)
    parts.residual = k.number("scale_depth", 1.4) / math.sqrt(parts.layers)
    parts.logit_scale = k.number("dim_model_base", 256) / dim
    return parts
