"""What single families change of a decoder, as in the reference implementations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from translimit.describe.families.decoders import Parts
from translimit.describe.families.keys import Keys
from translimit.describe.families.positions import (
    FULL,
    SLIDING,
    alibi_slopes,
    alternating,
    frequencies,
    mpt_slopes,
)
from translimit.describe.frequencies import Frequencies
from translimit.describe.mixers import Attention, FeedForward, QueryKeyNorm
from translimit.describe.norm import Norm


def heads_of(parts: Parts) -> list[Attention]:
    """Attention of every layer, where none is of latents.

    Args:
        parts: a decoder on its way.
    """
    return cast("list[Attention]", parts.attention)


def with_head_norms(parts: Parts, norm: QueryKeyNorm) -> None:
    """Give every layer a norm of queries and keys.

    Args:
        parts: a decoder on its way, without attention of latents.
        norm: of queries and keys.
    """
    parts.attention = [replace(one, qk_norm=norm) for one in heads_of(parts)]


def units_of(parts: Parts) -> list[FeedForward]:
    """Feed-forward blocks of every layer, where none is a mixture.

    Args:
        parts: a decoder on its way.
    """
    return cast("list[FeedForward]", parts.units)


def _slopes(slopes: tuple[float, ...], parts: Parts, share: float = 1.0) -> Parts:
    """Biases of ALiBi in the place of rotary positions."""
    scaled = tuple(share * one for one in slopes)
    parts.score(lambda index, old: replace(old, slopes=scaled))
    parts.attention = [replace(one, rotary=None) for one in heads_of(parts)]
    return parts


def gpt2(k: Keys, parts: Parts) -> Parts:
    """Scales of the scores: none, or divided by the number of the layer."""
    if not k.flag("scale_attn_weights", True):
        parts.score(lambda index, old: replace(old, score_scale=1.0))
    if k.flag("scale_attn_by_inverse_layer_idx", False):
        plain = parts.attention[0].score_scale
        parts.score(lambda index, old: replace(old, score_scale=plain / (index + 1)))
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
    parts.score(
        lambda index, old: replace(old, score_scale=1.0, window=window if local[index] else None)
    )
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
            parts.score(lambda index, old: replace(old, score_scale=scale))
    k.inert("embedding_fraction", "logit_scale")
    k.inert("expansion_ratio", "learned_pos_emb", "init_config", "norm_type", "init_device")
    return _slopes(mpt_slopes(heads, most), parts)


def falcon(k: Keys, parts: Parts) -> Parts:
    """Shared keys, parallel blocks, ALiBi where it is asked for."""
    heads = parts.attention[0].heads
    multi = k.flag("multi_query", True)
    newer = k.flag("new_decoder_architecture", False)
    shared = k.count("kv_heads", heads) if newer else 1 if multi else heads
    parts.attention = [replace(one, kv_heads=shared) for one in heads_of(parts)]
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
        parts.attention = [replace(one, kv_heads=1) for one in heads_of(parts)]
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
    parts.attention = [replace(one, kv_heads=shared) for one in heads_of(parts)]
    return parts


def qwen(k: Keys, parts: Parts) -> Parts:
    """The first Qwen, whose `intermediate_size` counts both halves of the gated units."""
    k.require("activation", "swiglu")
    k.inert("scale_attn_weights", "pos_emb", "ffn_inter_padding_size", "fp32", "params_dtype")
    k.inert("tokenizer_type", "use_logn_attn", "no_bias")
    k.require("apply_residual_connection_post_layernorm", False)
    parts.units = [replace(one, width=one.width // 2) for one in units_of(parts)]
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
    if turned and len(turned) < parts.layers:
        raise k.refuse("no_rope_layers", f"write one for each of {parts.layers} layers")
    every = k.count("no_rope_layer_interval", 4)
    keep = turned or [int((index + 1) % every != 0) for index in range(parts.layers)]
    parts.attention = [
        one if keep[index] else replace(one, rotary=None)
        for index, one in enumerate(heads_of(parts))
    ]
    k.inert("use_sliding_window", "max_window_layers")
    return parts


def granite(k: Keys, parts: Parts) -> Parts:
    """Its four multipliers."""
    scale = k.number("attention_multiplier", 1.0)
    parts.score(lambda index, old: replace(old, score_scale=scale))
    multiplier = k.number("embedding_multiplier", 1.0)
    parts.embedding = replace(parts.embedding, multiplier=multiplier)
    parts.residual = k.number("residual_multiplier", 1.0)
    parts.logit_scale = 1.0 / k.positive("logits_scaling", 1.0)
    return parts


def gemma(k: Keys, parts: Parts) -> Parts:
    """Embeddings times the root of the width."""
    k.require("use_bidirectional_attention", False)
    k.inert("_sliding_window_pattern", "sliding_window_pattern")
    parts.embedding = replace(parts.embedding, multiplier=math.sqrt(parts.dim))
    return parts


def gemma2(k: Keys, parts: Parts) -> Parts:
    """Its own scale of scores, and their cap."""
    scale = k.positive("query_pre_attn_scalar", 256.0) ** -0.5
    cap = k.number("attn_logit_softcapping") if k.given("attn_logit_softcapping") else None
    if k.values.get("model_type") == "gemma2" and "attn_logit_softcapping" not in k.values:
        cap = 50.0
    parts.score(lambda index, old: replace(old, score_scale=scale, softcap=cap))
    return gemma(k, parts)


def gemma3(k: Keys, parts: Parts) -> Parts:
    """Other frequencies on layers with a window."""
    if k.table("rope_parameters") is None or not k.given("rope_parameters"):
        local = k.number("rope_local_base_freq", 10_000.0)
        own = frequencies(Keys({}, k.where), parts.attention[0].head_dim, theta=local)
        parts.attention = [
            replace(one, rotary=own) if parts.kinds[index] == SLIDING else one
            for index, one in enumerate(heads_of(parts))
        ]
    k.inert("rope_local_base_freq")
    return gemma2(k, parts)


def cohere(k: Keys, parts: Parts) -> Parts:
    """A scale of logits, and norms of queries and keys where asked for."""
    parts.logit_scale = k.number("logit_scale", 0.0625)
    if k.flag("use_qk_norm", False):
        with_head_norms(parts, QueryKeyNorm(Norm.LAYER, parts.norm.norm_eps, gains="own"))
    k.inert("sliding_window_pattern")
    return parts


def cohere_compass(k: Keys, parts: Parts) -> Parts:
    """A scale of logits, one where not told."""
    parts.logit_scale = k.number("logit_scale", 1.0)
    k.inert("use_qk_norm", "pooling", "sliding_window_pattern")
    return parts


def imagegpt(k: Keys, parts: Parts) -> Parts:
    """Of the class's own matrices only the last of a branch has the deviation that is told."""
    parts = gpt2(k, parts)
    own = 0.02
    parts.attention = [
        replace(one, query_std=own, key_std=own, value_std=own) for one in heads_of(parts)
    ]
    parts.units = [replace(one, in_std=own) for one in units_of(parts)]
    return parts


def stablelm(k: Keys, parts: Parts) -> Parts:
    """Parallel blocks and norms of queries and keys where asked for."""
    parts.parallel = k.flag("use_parallel_residual", False)
    if k.flag("qk_layernorm", False):
        with_head_norms(parts, QueryKeyNorm(Norm.LAYER, parts.norm.norm_eps, gains="own"))
    return parts


def phi(k: Keys, parts: Parts) -> Parts:
    """Parallel blocks, and norms of queries and keys that heads share where asked for."""
    parts.parallel = True
    if k.flag("qk_layernorm", False):
        with_head_norms(parts, QueryKeyNorm(Norm.LAYER, parts.norm.norm_eps))
    return parts


def clipped(k: Keys, parts: Parts) -> Parts:
    """Clipping of queries, keys and values is told and left out."""
    k.pass_over("clip_qkv", "queries, keys and values are taken unclipped")
    return parts


def hyperclovax(k: Keys, parts: Parts) -> Parts:
    """Granite's multipliers, but logits are multiplied; norms after branches where asked for."""
    if not k.flag("use_post_norm", True):
        parts.placement = "pre"
    if not k.given("attention_multiplier"):
        k.values = {**k.values, "attention_multiplier": parts.attention[0].score_scale}
    scaling = k.number("logits_scaling", 1.0)
    parts = granite(k, parts)
    parts.logit_scale = scaling
    return parts


def hunyuan(k: Keys, parts: Parts) -> Parts:
    """Norms of queries and keys that come after rotary positions."""
    with_head_norms(parts, QueryKeyNorm(Norm.RMS, parts.norm.norm_eps, turned=True))
    k.inert("eod_token_id", "pad_id", "add_classification_head", "class_num", "pool_type")
    return parts


def nanochat(k: Keys, parts: Parts) -> Parts:
    """A norm of the embedding, norms of turned queries and keys, and W_O drawn smaller."""
    last = parts.std / math.sqrt(2 * parts.layers)
    parts.embedding = replace(parts.embedding, norm=parts.norm)
    with_head_norms(parts, QueryKeyNorm(Norm.RMS, parts.norm.norm_eps, turned=True, gains="none"))
    parts.attention = [replace(one, out_std=last) for one in heads_of(parts)]
    return parts


def persimmon(k: Keys, parts: Parts) -> Parts:
    """Norms of queries and keys, unless they are switched off."""
    if k.flag("qk_layernorm", True):
        with_head_norms(parts, QueryKeyNorm(Norm.LAYER, parts.norm.norm_eps))
    return parts


def apertus(k: Keys, parts: Parts) -> Parts:
    """Frequencies of a longer context where the configuration does not tell them."""
    if not k.given("rope_parameters") and not k.given("rope_scaling") and not k.given("theta"):
        own = Frequencies.geometric(parts.attention[0].head_dim, 12e6).llama3(8.0)
        parts.attention = [replace(one, rotary=own) for one in heads_of(parts)]
    return parts


def every_fourth_full(k: Keys) -> Callable[[int], str]:
    """The first layer of every four sees all."""
    del k
    return lambda index: SLIDING if index % 4 else FULL


def neox_japanese(k: Keys, parts: Parts) -> Parts:
    """Hidden units told as a multiple of the width."""
    width = k.count("intermediate_multiple_size", 4) * parts.dim
    parts.units = [replace(one, width=width) for one in units_of(parts)]
    return parts


def ministral3(k: Keys, parts: Parts) -> Parts:
    """Queries that grow with the position, beyond the old context only."""
    table = k.table("rope_parameters")
    if table is not None and table.given("llama_4_scaling_beta"):
        k.ignored.append(
            "llama_4_scaling_beta: queries are taken as they are within the old length"
        )
    return parts


def openai(k: Keys, parts: Parts) -> Parts:
    """The first GPT: gelu means the tanh one, and weights are 0.02 whatever is told."""
    k.require("afn", "gelu")
    fixed = 0.02  # the class that holds its matrices draws them so
    parts.attention = [
        replace(one, query_std=fixed, key_std=fixed, value_std=fixed, out_std=fixed)
        for one in heads_of(parts)
    ]
    parts.units = [replace(one, in_std=fixed, out_std=fixed) for one in units_of(parts)]
    k.inert("vocab_size_or_config_json_file")
    return parts
