"""GPT-NeoX (Pythia): layer norm, GELU, partial rotary positions, parallel blocks."""

from __future__ import annotations

from dataclasses import replace

from translimit.describe.families.family import (
    Family,
    activation,
    assume_distinct_tokens,
    rotary_base,
)
from translimit.describe.fields import Fields
from translimit.describe.parameter_names import (
    QKV,
    QKV_BIAS,
    READOUT_NAMES,
    NameTable,
    linear_names,
    norm_names,
)
from translimit.describe.pre_norm_config import PreNormConfig
from translimit.describe.roles import Role

_NAMES = NameTable(
    family="gpt_neox",
    roles={
        "embed_in.weight": Role.TOKEN_EMBEDDING,
        **norm_names("layers.*.{input_layernorm,post_attention_layernorm}", "block"),
        "layers.*.attention.query_key_value.weight": QKV,
        "layers.*.attention.query_key_value.bias": QKV_BIAS,
        **linear_names("layers.*.attention.dense", Role.ATTENTION_OUT),
        **linear_names("layers.*.mlp.dense_h_to_4h", Role.MLP_IN),
        **linear_names("layers.*.mlp.dense_4h_to_h", Role.MLP_OUT),
        **norm_names("final_layer_norm", "final"),
        "embed_out.weight": Role.READOUT,
        **READOUT_NAMES,
    },
    attention=("layers.*.attention",),
    scale=("scaling",),
)


def _block(fields: Fields, stack: PreNormConfig) -> PreNormConfig:
    inner = fields.nested("rope_parameters")
    newer = inner.has("partial_rotary_factor")
    share = inner.number("partial_rotary_factor") if newer else fields.number("rotary_pct", 0.25)
    turning = int(stack.dim_of_head * share)
    assume_distinct_tokens(fields)
    stack = replace(
        stack,
        norm_eps=fields.number("norm_eps", 1e-5),
        mlp_dim=fields.count("mlp_dim"),
        activation=activation(fields, "gelu"),
        parallel=fields.flag("use_parallel_residual", True),
    )
    if turning > 1:
        stack = replace(stack, rotary_dims=turning - turning % 2, rotary_base=rotary_base(fields))
    return replace(stack, context=fields.optional_count("context"))


GPT_NEOX = Family(names=_NAMES, class_prefix="GPTNeoX", block=_block, interleaved=True)
