"""The families of decoders: what distinguishes each, as in the reference implementations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from translimit.describe.activation import Activation
from translimit.describe.mixers import Attention, Experts, FeedForward, QueryKeyNorm, Routing
from translimit.describe.pre_norm import Norm
from translimit.describe.stacks.decoders import Decoder, Parts, experts, latent_attention
from translimit.describe.stacks.keys import Keys
from translimit.describe.stacks.positions import (
    FULL,
    SLIDING,
    alibi_slopes,
    alternating,
    frequencies,
    mpt_slopes,
)

LAYER = Norm.LAYER


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


def _gpt2(k: Keys, parts: Parts) -> Parts:
    if not k.flag("scale_attn_weights", True):
        parts.score(lambda index, old: replace(old, scale=1.0))
    if k.flag("scale_attn_by_inverse_layer_idx", False):
        plain = parts.attention[0].score_scale
        parts.score(lambda index, old: replace(old, scale=plain / (index + 1)))
    return parts


def _gpt_neo(k: Keys, parts: Parts) -> Parts:
    kinds = k.words("attention_layers")
    k.inert("attention_types")
    window = k.count("window", 256)
    local = [
        (kinds[i] if kinds and i < len(kinds) else ("global", "local")[i % 2]) == "local"
        for i in range(parts.layers)
    ]
    parts.score(lambda index, old: replace(old, scale=1.0, window=window if local[index] else None))
    return parts


def _bloom(k: Keys, parts: Parts) -> Parts:
    k.require("apply_residual_connection_post_layernorm", False)
    parts.embedding = replace(parts.embedding, norm=parts.norm)
    return _slopes(alibi_slopes(parts.attention[0].heads), parts)


def _mpt(k: Keys, parts: Parts) -> Parts:
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


def _falcon(k: Keys, parts: Parts) -> Parts:
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


def _neox(k: Keys, parts: Parts) -> Parts:
    older = k.flag("gpt_j_residual", True)
    k.require("rotary", True)
    parts.parallel = k.flag("use_parallel_residual", older)
    return parts


def _gpt_bigcode(k: Keys, parts: Parts) -> Parts:
    if k.flag("multi_query", True):
        parts.attention = [replace(one, kv_heads=1) for one in _heads(parts)]
    return _gpt2(k, parts)


def _baichuan(k: Keys, parts: Parts) -> Parts:
    """The larger model has ALiBi, and no number of positions in its configuration."""
    k.inert("model_max_length", "z_loss_weight")
    if k.given("max_position_embeddings"):
        return parts
    return _slopes(alibi_slopes(parts.attention[0].heads), parts)


def _chatglm(k: Keys, parts: Parts) -> Parts:
    k.require("rmsnorm", True)
    k.require("apply_residual_connection_post_layernorm", False)
    k.require("post_layer_norm", True)
    heads = parts.attention[0].heads
    shared = k.count("kv_heads", 2) if k.flag("multi_query_attention", False) else heads
    parts.attention = [replace(one, kv_heads=shared) for one in _heads(parts)]
    return parts


def _qwen(k: Keys, parts: Parts) -> Parts:
    """The first Qwen, whose `intermediate_size` counts both halves of the gated units."""
    k.require("activation", "swiglu")
    k.inert("scale_attn_weights", "pos_emb", "ffn_inter_padding_size", "fp32", "params_dtype")
    k.inert("tokenizer_type", "use_logn_attn", "no_bias")
    k.require("apply_residual_connection_post_layernorm", False)
    parts.units = [replace(one, width=one.width // 2) for one in _units(parts)]
    return parts


def _opt(k: Keys, parts: Parts) -> Parts:
    k.require("do_layer_norm_before", True)
    k.inert("enable_bias")
    k.require("word_embed_proj_dim", parts.dim)
    k.inert("_remove_final_layer_norm")
    return parts


def _qwen2(k: Keys, parts: Parts) -> Parts:
    """A window only where it is switched on, from a certain layer."""
    k.inert("max_window_layers", "use_sliding_window")
    return parts


def _qwen2_kinds(k: Keys) -> Callable[[int], str]:
    if not k.flag("use_sliding_window", False) or not k.given("window"):
        return lambda index: FULL
    first = k.count("max_window_layers", 28)
    return lambda index: SLIDING if index >= first else FULL


def _windowed(k: Keys) -> Callable[[int], str]:
    """A window on all layers where there is one."""
    return lambda index: SLIDING if k.given("window") else FULL


def _pattern(every: int) -> Callable[[Keys], Callable[[int], str]]:
    return lambda k: alternating(k.count("sliding_window_pattern", every))


def _smollm3(k: Keys, parts: Parts) -> Parts:
    turned = k.numbers("no_rope_layers")
    every = k.count("no_rope_layer_interval", 4)
    keep = turned or [int((index + 1) % every != 0) for index in range(parts.layers)]
    parts.attention = [
        one if keep[index] else replace(one, rotary=None) for index, one in enumerate(_heads(parts))
    ]
    k.inert("use_sliding_window", "max_window_layers")
    return parts


def _granite(k: Keys, parts: Parts) -> Parts:
    scale = k.number("attention_multiplier", 1.0)
    parts.score(lambda index, old: replace(old, scale=scale))
    multiplier = k.number("embedding_multiplier", 1.0)
    parts.embedding = replace(parts.embedding, multiplier=multiplier)
    parts.residual = k.number("residual_multiplier", 1.0)
    parts.logit_scale = 1.0 / k.number("logits_scaling", 1.0)
    return parts


def _gemma(k: Keys, parts: Parts) -> Parts:
    k.require("use_bidirectional_attention", False)
    k.inert("_sliding_window_pattern", "sliding_window_pattern")
    parts.embedding = replace(parts.embedding, multiplier=math.sqrt(parts.dim))
    return parts


def _gemma2(k: Keys, parts: Parts) -> Parts:
    scale = k.number("query_pre_attn_scalar", 256.0) ** -0.5
    cap = k.number("attn_logit_softcapping") if k.given("attn_logit_softcapping") else None
    if k.values.get("model_type") == "gemma2" and "attn_logit_softcapping" not in k.values:
        cap = 50.0
    parts.score(lambda index, old: replace(old, scale=scale, softcap=cap))
    return _gemma(k, parts)


def _gemma3(k: Keys, parts: Parts) -> Parts:
    if k.table("rope_parameters") is None or not k.given("rope_parameters"):
        local = k.number("rope_local_base_freq", 10_000.0)
        own = frequencies(Keys({}, k.where), parts.attention[0].head_dim, theta=local)
        parts.attention = [
            replace(one, rotary=own) if parts.kinds[index] == SLIDING else one
            for index, one in enumerate(_heads(parts))
        ]
    k.inert("rope_local_base_freq")
    return _gemma2(k, parts)


def _cohere(k: Keys, parts: Parts) -> Parts:
    parts.logit_scale = k.number("logit_scale", 0.0625)
    if k.flag("use_qk_norm", False):
        own = QueryKeyNorm(Norm.LAYER, parts.norm.eps)
        parts.attention = [replace(one, qk_norm=own) for one in _heads(parts)]
    k.inert("sliding_window_pattern")
    return parts


def _stablelm(k: Keys, parts: Parts) -> Parts:
    parts.parallel = k.flag("use_parallel_residual", False)
    if k.flag("qk_layernorm", False):
        own = QueryKeyNorm(Norm.LAYER, parts.norm.eps)
        parts.attention = [replace(one, qk_norm=own) for one in _heads(parts)]
    return parts


def _phi(k: Keys, parts: Parts) -> Parts:
    parts = _stablelm(k, parts)
    parts.parallel = True
    return parts


def _clipped(k: Keys, parts: Parts) -> Parts:
    k.pass_over("clip_qkv", "queries, keys and values are taken unclipped")
    return parts


def _mixture(
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
        return _clipped(k, _qwen2(k, parts))

    return adjust


def _deepseek(k: Keys, parts: Parts) -> Parts:
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


def _glm4_moe(k: Keys, parts: Parts) -> Parts:
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


def _gpt_oss(k: Keys, parts: Parts) -> Parts:
    unit = replace(_units(parts)[0], activation=Activation.CLAMPED_SWISH, gated=True, shift=1.0)
    k.require("swiglu_limit", 7.0, 7)
    k.require("swiglu_alpha", 1.702)
    mixed = experts(k, parts.std, unit, routing="softmax_top", count=128, active=4)
    k.inert("experts_per_token")
    parts.units = [replace(mixed, bias_std=parts.std)] * parts.layers
    parts.score(lambda index, old: replace(old, sink=True))
    return parts


_LLAMA = Decoder()
_PYTHIA = Decoder(
    norm=LAYER,
    eps=1e-5,
    parallel=True,
    rotary=0.25,
    activation="gelu",
    gated=False,
    padded=False,
    adjust=_neox,
)
_GPT2 = Decoder(
    norm=LAYER,
    eps=1e-5,
    rotary=0.0,
    learned=True,
    activation="gelu_new",
    gated=False,
    mlp_ratio=4.0,
    depth_scaled=True,
    tied=True,
    padded=False,
    adjust=_gpt2,
)
_GEMMA = Decoder(head_dim=256, activation="gelu_pytorch_tanh", tied=True, pad=0, adjust=_gemma)
_GEMMA2 = replace(_GEMMA, placement="peri", kinds=_pattern(2), window=4096, adjust=_gemma2)
_OLMO2 = Decoder(eps=1e-5, placement="reordered", qk_norm="all", pad=1, theta=1e4)

#: Families of decoders by `model_type`.
DECODERS: dict[str, Decoder] = {
    "gpt2": _GPT2,
    "gpt_neo": replace(_GPT2, depth_scaled=False, adjust=_gpt_neo),
    "gptj": replace(
        _PYTHIA,
        rotary=1.0,
        activation="gelu_new",
        mlp_ratio=4.0,
        adjust=lambda k, parts: parts,
    ),
    "gpt_neox": _PYTHIA,
    "codegen": Decoder(
        norm=LAYER,
        eps=1e-5,
        parallel=True,
        activation="gelu_new",
        gated=False,
        mlp_ratio=4.0,
        padded=False,
    ),
    "gpt_bigcode": replace(_GPT2, activation="gelu_pytorch_tanh", adjust=_gpt_bigcode),
    "opt": replace(_GPT2, activation="relu", depth_scaled=False, padded=True, pad=1, adjust=_opt),
    "bloom": replace(
        _GPT2, activation="gelu_tanh", learned=False, depth_scaled=False, adjust=_bloom
    ),
    "mpt": replace(_GPT2, activation="gelu", learned=False, depth_scaled=False, adjust=_mpt),
    "falcon": Decoder(
        norm=LAYER,
        eps=1e-5,
        activation="gelu",
        gated=False,
        mlp_ratio=4.0,
        tied=True,
        padded=False,
        adjust=_falcon,
    ),
    "llama": _LLAMA,
    "mistral": replace(_LLAMA, kv_heads=8, kinds=_windowed, window=4096),
    "ministral": replace(_LLAMA, kv_heads=8, kinds=_windowed),
    "qwen2": replace(_LLAMA, kinds=_qwen2_kinds, adjust=_qwen2),
    "phi3": replace(_LLAMA, eps=1e-5, kinds=_windowed, pad=32000),
    "arcee": replace(_LLAMA, eps=1e-5, activation="relu2", gated=False),
    "helium": replace(_LLAMA, eps=1e-8, pad=3, theta=1e5),
    "seed_oss": replace(_LLAMA, head_dim=128, pad=1),
    "ernie4_5": replace(_LLAMA, eps=1e-5, pad=0, theta=5e5, tied=True),
    "smollm3": replace(_LLAMA, pad=128004, theta=2e6, tied=True, adjust=_smollm3),
    "granite": replace(_LLAMA, adjust=_granite),
    "qwen3": replace(_LLAMA, head_dim=128, qk_norm="head", kinds=_qwen2_kinds, adjust=_qwen2),
    "exaone4": Decoder(
        eps=1e-5,
        placement="reordered",
        qk_norm="head",
        kinds=_pattern(4),
        rotary_kinds=(SLIDING,),
        window=4096,
    ),
    "olmo": Decoder(norm=LAYER, eps=1e-5, pad=1, adjust=_clipped),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, kinds=_pattern(4), window=4096),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": replace(_GEMMA2, qk_norm="head", kinds=_pattern(6), theta=1e6, adjust=_gemma3),
    "glm": Decoder(eps=1.5625e-7, rotary=0.5),
    "glm4": Decoder(eps=1.5625e-7, rotary=0.5, placement="peri"),
    "glm4_moe": Decoder(eps=1e-5, rotary=0.5, adjust=_glm4_moe),
    "phi": Decoder(
        norm=LAYER,
        eps=1e-5,
        parallel=True,
        rotary=0.5,
        activation="gelu_new",
        gated=False,
        adjust=_phi,
    ),
    "stablelm": Decoder(norm=LAYER, eps=1e-5, rotary=0.25, adjust=_stablelm),
    "starcoder2": Decoder(
        norm=LAYER,
        eps=1e-5,
        kv_heads=2,
        kinds=_windowed,
        activation="gelu_pytorch_tanh",
        gated=False,
        std=0.018042,
        tied=True,
    ),
    "nemotron": Decoder(
        norm=LAYER,
        eps=1e-5,
        gain=2.0,
        rotary=0.5,
        activation="relu2",
        gated=False,
        std=0.0134,
    ),
    "cohere": Decoder(norm=LAYER, eps=1e-5, parallel=True, tied=True, pad=0, adjust=_cohere),
    "cohere2": Decoder(
        norm=LAYER,
        eps=1e-5,
        parallel=True,
        tied=True,
        pad=0,
        kinds=_pattern(4),
        rotary_kinds=(SLIDING,),
        window=4096,
        adjust=_cohere,
    ),
    "mixtral": Decoder(
        eps=1e-5,
        kv_heads=8,
        theta=1e6,
        kinds=_windowed,
        adjust=_mixture("softmax_renormalised", "", count=8, active=2),
    ),
    "olmoe": Decoder(
        eps=1e-5,
        qk_norm="all",
        pad=1,
        adjust=_mixture("softmax", "", count=64, active=8, renormalised="norm_topk_prob"),
    ),
    "qwen3_moe": Decoder(
        qk_norm="head",
        kinds=_qwen2_kinds,
        adjust=_mixture(
            "softmax",
            "moe_intermediate_size",
            count=128,
            active=8,
            renormalised="norm_topk_prob",
        ),
    ),
    "deepseek_v3": Decoder(head_dim=64, adjust=_deepseek),
    "kimi_k2": Decoder(head_dim=64, adjust=_deepseek),
    "baichuan": Decoder(pad=0, adjust=_baichuan),
    "chatglm": Decoder(eps=1e-5, rotary=0.5, pad=None, padded=False, adjust=_chatglm),
    "qwen": Decoder(depth_scaled=True, padded=False, adjust=_qwen),
    "gpt_oss": Decoder(
        eps=1e-5,
        kv_heads=8,
        head_dim=64,
        theta=150_000.0,
        kinds=lambda k: alternating(2),
        window=128,
        adjust=_gpt_oss,
    ),
}
