"""GPT-2: layer norm, tanh GELU, learned positions; the ends of branches drawn smaller."""

from __future__ import annotations

import math
from dataclasses import replace

from translimit.describe.families.family import Family, activation
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
    family="gpt2",
    roles={
        "wte.weight": Role.TOKEN_EMBEDDING,
        "wpe.weight": Role.POSITION_EMBEDDING,
        **norm_names("h.*.{ln_1,ln_2}", "block"),
        "h.*.attn.c_attn.weight": QKV,
        "h.*.attn.c_attn.bias": QKV_BIAS,
        **linear_names("h.*.attn.c_proj", Role.ATTENTION_OUT),
        **linear_names("h.*.mlp.c_fc", Role.MLP_IN),
        **linear_names("h.*.mlp.c_proj", Role.MLP_OUT),
        **norm_names("ln_f", "final"),
        **READOUT_NAMES,
    },
    transposed=("h.*.attn.{c_attn,c_proj}.weight", "h.*.mlp.{c_fc,c_proj}.weight"),
    attention=("h.*.attn",),
    scale=("scaling",),
    depth_scaled=True,
)


def _block(fields: Fields, stack: PreNormConfig) -> PreNormConfig:
    if fields.flag("scale_attn_by_inverse_layer_idx", False):
        fields.ignored.append("scale_attn_by_inverse_layer_idx: scores divided by the layer")
    std = stack.init_std
    last = std / math.sqrt(2 * stack.layers)
    width = 4 * stack.dim if not fields.has("mlp_dim") else fields.count("mlp_dim")
    fields.assumptions.append(
        "W_O and W_2 are drawn with initializer_range / (2 layers)^{1/2}, as GPT-2's reference "
        "implementation draws them"
    )
    fields.assumptions.append(
        "all tokens differ and stand at different positions: embeddings and positions are "
        "independent, of standard deviation initializer_range each"
    )
    return replace(
        stack,
        out_std=last,
        token_std=std * math.sqrt(2.0),
        norm_eps=fields.number("norm_eps", 1e-5),
        mlp_dim=width,
        mlp_out_std=last,
        activation=activation(fields, "gelu_new"),
        context=fields.optional_count("context"),
    )


GPT2 = Family(
    names=_NAMES,
    class_prefix="GPT2",
    block=_block,
    mlp_ratio=4,
    tied=True,
    requires={"scale_attn_weights": True, "add_cross_attention": False},
)
