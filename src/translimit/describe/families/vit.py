"""ViT: layer norm, GELU, a class token, learned positions, no mask."""

from __future__ import annotations

import math
from dataclasses import replace

from translimit.describe.families.family import Family, activation
from translimit.describe.fields import Fields
from translimit.describe.parameter_names import READOUT_NAMES, NameTable, linear_names, norm_names
from translimit.describe.pre_norm_config import PreNormConfig
from translimit.describe.roles import Role

_NAMES = NameTable(
    family="vit",
    roles={
        "embeddings.{cls_token,mask_token,position_embeddings}": Role.POSITION_EMBEDDING,
        "patch_embeddings.projection.weight": Role.PATCH_EMBEDDING,
        "patch_embeddings.projection.bias": Role.PATCH_BIAS,
        **norm_names("layers.*.{layernorm_before,layernorm_after}", "block"),
        **linear_names("layers.*.attention.q_proj", Role.QUERY),
        **linear_names("layers.*.attention.k_proj", Role.KEY),
        **linear_names("layers.*.attention.v_proj", Role.VALUE),
        **linear_names("layers.*.attention.o_proj", Role.ATTENTION_OUT),
        **linear_names("layers.*.mlp.fc1", Role.MLP_IN),
        **linear_names("layers.*.mlp.fc2", Role.MLP_OUT),
        **norm_names("layernorm", "final"),
        **READOUT_NAMES,
    },
    attention=("layers.*.attention",),
    scale=("scaling",),
)


def _block(fields: Fields, stack: PreNormConfig) -> PreNormConfig:
    image, patch = fields.count("image_size", 224), fields.count("patch_size", 16)
    if image % patch:
        raise fields.refuse("patch_size", patch, f"write a divisor of image_size, {image}")
    pixels = fields.count("num_channels", 3) * patch**2
    fields.assumptions.append(
        "patches of an image are independent, with pixels of mean zero and variance one (natural "
        "images are smoother: their patches overlap before the first block)"
    )
    std = stack.init_std
    tokens = (image // patch) ** 2 + 1
    return replace(
        stack,
        token_std=std * math.sqrt(pixels + 1.0),
        first_token_std=std * math.sqrt(2.0),
        norm_eps=fields.number("norm_eps", 1e-12),
        causal=False,
        mlp_dim=fields.count("mlp_dim"),
        activation=activation(fields, "gelu"),
        context=tokens,
        image_tokens=tokens,
    )


VIT = Family(names=_NAMES, class_prefix="ViT", block=_block)
