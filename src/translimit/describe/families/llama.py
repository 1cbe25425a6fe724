"""Llama and those who share its block: RMS norm, gated SiLU, rotary positions, grouped queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from translimit.describe.families.family import (
    Family,
    activation,
    assume_distinct_tokens,
    rotary_base,
)
from translimit.describe.fields import Fields
from translimit.describe.parameter_names import READOUT_NAMES, NameTable, linear_names, norm_names
from translimit.describe.pre_norm_config import PreNormConfig
from translimit.describe.roles import Role

_NAMES = NameTable(
    family="llama",
    roles={
        "embed_tokens.weight": Role.TOKEN_EMBEDDING,
        **norm_names("layers.*.{input_layernorm,post_attention_layernorm}", "block"),
        **linear_names("layers.*.self_attn.q_proj", Role.QUERY),
        **linear_names("layers.*.self_attn.k_proj", Role.KEY),
        **linear_names("layers.*.self_attn.v_proj", Role.VALUE),
        **linear_names("layers.*.self_attn.o_proj", Role.ATTENTION_OUT),
        **linear_names("layers.*.mlp.gate_proj", Role.MLP_GATE),
        **linear_names("layers.*.mlp.up_proj", Role.MLP_IN),
        **linear_names("layers.*.mlp.down_proj", Role.MLP_OUT),
        "model.norm.weight": Role.FINAL_NORM_GAIN,
        **READOUT_NAMES,
    },
    attention=("layers.*.self_attn",),
    scale=("scaling",),
)


def _block(*, windowed: bool) -> Callable[[Fields, PreNormConfig], PreNormConfig]:
    """The block; `windowed`, whether a sliding window acts where no switch tells."""

    def read(fields: Fields, stack: PreNormConfig) -> PreNormConfig:
        context = fields.optional_count("context")
        if fields.has("window") and fields.flag("use_sliding_window", windowed):
            window = fields.count("window")
            context = window if context is None else min(context, window)
            fields.assumptions.append(
                f"no more tokens than the sliding window of {window}, which then masks nothing"
            )
        assume_distinct_tokens(fields)
        return replace(
            stack,
            norm="rms",
            norm_eps=fields.number("norm_eps", 1e-6),
            mlp_dim=fields.count("mlp_dim"),
            activation=activation(fields, "silu"),
            gated=True,
            rotary_dims=stack.head_dim,
            rotary_base=rotary_base(fields),
            context=context,
        )

    return read


LLAMA = Family(names=_NAMES, class_prefix="Llama", block=_block(windowed=False), grouped=True)
MISTRAL = replace(
    LLAMA,
    names=replace(_NAMES, family="mistral"),
    class_prefix="Mistral",
    block=_block(windowed=True),
    kv_heads=8,
)
QWEN2 = replace(LLAMA, names=replace(_NAMES, family="qwen2"), class_prefix="Qwen2", kv_heads=32)
