"""Names of parameters in Megatron-LM, torchtitan and nanoGPT-like code, with their roles.

Megatron's are shell patterns of which every pair is disjoint, for it refuses a parameter that two
keys give different values; the others are regular expressions, of which the first counts.
`overrides(..., parameters=names)` names what a table leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from translimit.describe import QKV, QKV_BIAS, Role, Size
from translimit.scaling.errors import UnsupportedModuleError

Framework = Literal["megatron", "torchtitan", "pytorch"]
#: Patterns with the roles of what they match, first the one whose rule is told.
Patterns: TypeAlias = Mapping[tuple[str, ...], tuple[Role, ...]]

#: A layer of the decoder, and one of a head for several tokens.
_LAYERS = ("*decoder.layers.*.", "*mtp.layers.*.transformer_layer.")


def _in_block(*ends: str) -> tuple[str, ...]:
    return tuple(f"{layers}{end}" for layers in _LAYERS for end in ends)


#: Megatron core's GPTModel, with and without Transformer Engine.
_MEGATRON: Patterns = {
    ("*embedding.word_embeddings.weight",): (Role.TOKEN_EMBEDDING,),
    ("*embedding.position_embeddings.weight",): (Role.POSITION_EMBEDDING,),
    _in_block(
        "input_layernorm.weight",
        "pre_mlp_layernorm.weight",
        "self_attention.linear_qkv.layer_norm_weight",
        "mlp.linear_fc1.layer_norm_weight",
    ): (Role.BLOCK_NORM_GAIN,),
    _in_block(
        "input_layernorm.bias",
        "pre_mlp_layernorm.bias",
        "self_attention.linear_qkv.layer_norm_bias",
        "mlp.linear_fc1.layer_norm_bias",
    ): (Role.BLOCK_NORM_BIAS,),
    _in_block("self_attention.q_layernorm.weight", "self_attention.k_layernorm.weight"): (
        Role.QK_GAIN_SHARED,
    ),
    _in_block("self_attention.linear_qkv.weight"): QKV,
    _in_block("self_attention.linear_qkv.bias"): QKV_BIAS,
    _in_block("self_attention.linear_proj.weight"): (Role.ATTENTION_OUT,),
    _in_block("self_attention.linear_proj.bias"): (Role.ATTENTION_OUT_BIAS,),
    _in_block("mlp.linear_fc1.weight", "mlp.shared_experts.linear_fc1.weight"): (
        Role.MLP_IN,
        Role.MLP_GATE,
    ),
    _in_block("mlp.linear_fc1.bias", "mlp.shared_experts.linear_fc1.bias"): (
        Role.MLP_IN_BIAS,
        Role.MLP_GATE_BIAS,
    ),
    _in_block("mlp.linear_fc2.weight", "mlp.shared_experts.linear_fc2.weight"): (Role.MLP_OUT,),
    _in_block("mlp.linear_fc2.bias", "mlp.shared_experts.linear_fc2.bias"): (Role.MLP_OUT_BIAS,),
    ("*decoder.final_layernorm.weight",): (Role.FINAL_NORM_GAIN,),
    ("*decoder.final_layernorm.bias",): (Role.FINAL_NORM_BIAS,),
    ("*output_layer.weight",): (Role.READOUT,),
}
#: What a mixture of experts has besides: one tensor an expert, or one of all.
_MEGATRON_EXPERTS: Patterns = {
    _in_block("mlp.router.weight", "mlp.shared_experts.gate_weight"): (Role.ROUTER,),
    _in_block("mlp.experts.*linear_fc1.weight*", "mlp.experts.weight1"): (Role.EXPERT_IN,),
    _in_block("mlp.experts.*linear_fc2.weight*", "mlp.experts.weight2"): (Role.EXPERT_OUT,),
    _in_block("mlp.experts.*linear_fc1.bias*"): (Role.EXPERT_IN_BIAS,),
    _in_block("mlp.experts.*linear_fc2.bias*"): (Role.EXPERT_OUT_BIAS,),
}

#: What attention of latents has instead of queries, keys and values in one tensor; the norms of the
#: latents are called as those of queries and keys are elsewhere.
_MEGATRON_LATENTS: Patterns = {
    _in_block("self_attention.linear_kv_down_proj.weight"): (Role.KEY_VALUE_DOWN,),
    _in_block(
        "self_attention.linear_kv_up_proj.layer_norm_weight", "self_attention.kv_layernorm.weight"
    ): (Role.KEY_VALUE_LATENT_GAIN,),
    _in_block("self_attention.linear_kv_up_proj.weight"): (Role.KEY_VALUE_UP,),
}
_MEGATRON_QUERY: Patterns = {_in_block("self_attention.linear_q_proj.weight"): (Role.QUERY,)}
_MEGATRON_QUERY_LATENTS: Patterns = {
    _in_block("self_attention.linear_q_down_proj.weight"): (Role.QUERY_DOWN,),
    _in_block(
        "self_attention.linear_q_up_proj.layer_norm_weight", "self_attention.q_layernorm.weight"
    ): (Role.QUERY_LATENT_GAIN,),
    _in_block("self_attention.linear_q_up_proj.weight"): (Role.QUERY_UP,),
}

#: torchtitan's Llama 3, which has no biases; queries, keys and values apart, or in one tensor.
_TITAN_QKV: Patterns = {
    (r"\.attention\.(.*\.)?w(q|k|v|qkv)\.weight$",): QKV,
}
_TITAN_APART: Patterns = {
    (r"\.attention\.(.*\.)?wq\.weight$",): (Role.QUERY,),
    (r"\.attention\.(.*\.)?wk\.weight$",): (Role.KEY,),
    (r"\.attention\.(.*\.)?wv\.weight$",): (Role.VALUE,),
}
_TITAN: Patterns = {
    (r"(^|\.)tok_embeddings\.weight$",): (Role.TOKEN_EMBEDDING,),
    (r"(^|\.)(attention_norm|ffn_norm)\.weight$",): (Role.BLOCK_NORM_GAIN,),
    (r"\.attention\.(.*\.)?wo\.weight$",): (Role.ATTENTION_OUT,),
    (r"\.feed_forward\.w1\.weight$",): (Role.MLP_GATE,),
    (r"\.feed_forward\.w3\.weight$",): (Role.MLP_IN,),
    (r"\.feed_forward\.w2\.weight$",): (Role.MLP_OUT,),
    (r"(^|\.)norm\.weight$",): (Role.FINAL_NORM_GAIN,),
    (r"(^|\.)(output|lm_head)\.weight$",): (Role.READOUT,),
}

#: nanoGPT and what is called like it.
_NANOGPT: Patterns = {
    (r"(^|\.)wte\.weight$",): (Role.TOKEN_EMBEDDING,),
    (r"(^|\.)wpe\.weight$",): (Role.POSITION_EMBEDDING,),
    (r"\.h\.\d+\.ln_[12]\.weight$",): (Role.BLOCK_NORM_GAIN,),
    (r"\.h\.\d+\.ln_[12]\.bias$",): (Role.BLOCK_NORM_BIAS,),
    (r"\.h\.\d+\.attn\.c_attn\.weight$",): QKV,
    (r"\.h\.\d+\.attn\.c_attn\.bias$",): QKV_BIAS,
    (r"\.h\.\d+\.attn\.c_proj\.weight$",): (Role.ATTENTION_OUT,),
    (r"\.h\.\d+\.attn\.c_proj\.bias$",): (Role.ATTENTION_OUT_BIAS,),
    (r"\.h\.\d+\.mlp\.c_fc\.weight$",): (Role.MLP_IN,),
    (r"\.h\.\d+\.mlp\.c_fc\.bias$",): (Role.MLP_IN_BIAS,),
    (r"\.h\.\d+\.mlp\.c_proj\.weight$",): (Role.MLP_OUT,),
    (r"\.h\.\d+\.mlp\.c_proj\.bias$",): (Role.MLP_OUT_BIAS,),
    (r"(^|\.)ln_f\.weight$",): (Role.FINAL_NORM_GAIN,),
    (r"(^|\.)ln_f\.bias$",): (Role.FINAL_NORM_BIAS,),
    (r"(^|\.)lm_head\.weight$",): (Role.READOUT,),
}

FRAMEWORKS: tuple[Framework, ...] = ("megatron", "torchtitan", "pytorch")


def patterns_of(framework: Framework, size: Size, *, one_rule: bool) -> Patterns:
    """The patterns of a framework.

    Args:
        framework: one of `FRAMEWORKS`.
        size: of the model, which tells whether it has experts and latents.
        one_rule: whether queries, keys and values take the same, so that one tensor may hold them.

    Raises:
        UnsupportedModuleError: latents in a framework whose model has none.
    """
    if framework == "megatron":
        table = {**_MEGATRON, **(_MEGATRON_EXPERTS if size.experts is not None else {})}
        if size.kv_rank is None:
            return table
        packed = (QKV, QKV_BIAS, (Role.QK_GAIN_SHARED,))
        table = {globs: roles for globs, roles in table.items() if roles not in packed}
        queries = _MEGATRON_QUERY if size.query_rank is None else _MEGATRON_QUERY_LATENTS
        return {**table, **_MEGATRON_LATENTS, **queries}
    if size.kv_rank is not None:
        raise UnsupportedModuleError(
            "framework",
            f"the model of {framework!r} has no attention of latents",
            "pass names={pattern: role} of yours",
        )
    if framework == "torchtitan":
        return {**_TITAN, **(_TITAN_QKV if one_rule else _TITAN_APART)}
    return _NANOGPT
