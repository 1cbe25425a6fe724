"""Where the tensors of a checkpoint stand: names of every part, in the files of all families.

The record of a family (`describe`) says which parts a layer has and where its norms stand; with
that, every part has a few possible names that do not collide. The record says `diagnosed` once the
reader was compared with the model class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What files put in front of the names of all tensors.
_PREFIXES = re.compile(
    r"^(?:_orig_mod\.|module\.|model\.|transformer\.(?=(?:h|wte|wpe|ln_f)\.)|bert\.|roberta\."
    r"|electra\.|distilbert\.|albert\.|vit\.|deit\.|dinov2\.|gpt_neox\.|vision_model\.|visual\.)"
)

#: A layer, by its number.
BLOCKS = (
    *("h.{}", "layers.{}", "decoder.layers.{}", "encoder.layer.{}", "encoder.layers.{}"),
    *("transformer.layer.{}", "layer.{}", "blocks.{}", "transformer.resblocks.{}"),
    "encoder.albert_layer_groups.0.albert_layers.0",
)

#: Query, key and value as one tensor: q, k, v one after the other.
PACKED = ("attn.c_attn", "self_attn.qkv_proj", "attn.qkv", "attn.in_proj")
#: The same, head by head.
PACKED_BY_HEAD = ("attention.query_key_value",)
#: Gate and up of a gated MLP as one tensor.
PACKED_GATE = ("mlp.gate_up_proj",)
#: Matrices of a layer: each name takes `.weight` and `.bias`.
MATRIX_NAMES: dict[str, tuple[str, ...]] = {
    **{
        slot: tuple(
            name.format(q=word[0], query=word, Q=word[0])
            for name in (
                "attention.self.{query}",
                "attention.attention.{query}",
                "attention.{query}",
                "self_attn.{q}_proj",
                "attention.{q}_proj",
                "attention.{q}_lin",
            )
        )
        for slot, word in {"W_Q": "query", "W_K": "key", "W_V": "value"}.items()
    },
    "W_O": (
        *("attn.c_proj", "self_attn.o_proj", "self_attn.out_proj", "self_attn.dense"),
        *("attention.output.dense", "attention.dense", "attention.o_proj", "attention.out_lin"),
        *("attn.proj", "attn.out_proj"),
    ),
    "W_1": (
        *("mlp.c_fc", "mlp.gate_proj", "mlp.fc1", "fc1", "mlp.up_proj", "intermediate.dense"),
        *("ffn.lin1", "ffn", "mlp.dense_h_to_4h"),
    ),
    "W_up": ("mlp.up_proj",),
    "W_2": (
        *("mlp.c_proj", "mlp.down_proj", "mlp.fc2", "fc2", "output.dense", "ffn.lin2"),
        *("ffn_output", "mlp.dense_4h_to_h"),
    ),
}
#: Norms of a layer by their place; `mlp_in` of a layer with a norm after attention's branch apart.
NORM_NAMES: dict[str, tuple[str, ...]] = {
    "attention_in": (
        *("ln_1", "input_layernorm", "self_attn_layer_norm", "layernorm_before", "norm1"),
        "layer_norm1",
    ),
    "attention_out": ("post_attention_layernorm",),
    "attention_post": ("attention.output.LayerNorm", "sa_layer_norm", "attention.LayerNorm"),
    "mlp_in": (
        *("ln_2", "post_attention_layernorm", "final_layer_norm", "layernorm_after", "norm2"),
        "layer_norm2",
    ),
    "mlp_in beside out": ("pre_feedforward_layernorm",),
    "mlp_out": ("post_feedforward_layernorm",),
    "mlp_post": ("output.LayerNorm", "output_layer_norm", "full_layer_layer_norm"),
}
#: Factors of a branch, entry by entry.
BRANCH_GAINS = {
    "W_O": ("layer_scale1.lambda1", "ls1.gamma"),
    "W_2": ("layer_scale2.lambda1", "ls2.gamma"),
}
#: Outside the layers, whole names.
OUTSIDE: dict[str, tuple[str, ...]] = {
    "token": (
        *("wte.weight", "embed_tokens.weight", "decoder.embed_tokens.weight", "embed_in.weight"),
        *("embeddings.word_embeddings.weight", "token_embedding.weight"),
    ),
    "position": (
        *("wpe.weight", "decoder.embed_positions.weight", "embeddings.position_embeddings.weight"),
        *("embeddings.position_embeddings", "embeddings.position_embedding.weight"),
        *("pos_embed", "positional_embedding"),
    ),
    "type": ("embeddings.token_type_embeddings.weight",),
    "embedding": ("embeddings.LayerNorm", "pre_layrnorm", "ln_pre"),
    "project": ("encoder.embedding_hidden_mapping_in", "embeddings_project"),
    "patch": (
        *("embeddings.patch_embeddings.projection", "embeddings.patch_embedding"),
        *("patch_embed.proj", "conv1"),
    ),
    "final": (
        *("ln_f", "norm", "final_layer_norm", "final_layernorm", "decoder.final_layer_norm"),
        *("layernorm", "post_layernorm", "ln_post"),
    ),
    "readout": ("lm_head", "embed_out"),
}
#: Tokens in front of the patches, in their order.
CLASSES = (
    ("embeddings.cls_token", "embeddings.class_embedding", "cls_token", "class_embedding"),
    ("embeddings.distillation_token", "dist_token"),
    ("embeddings.register_tokens", "reg_token"),
)


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Names without what files put in front of all of them, to the names in the file.

    Args:
        names: of the tensors in the file.
    """
    found: dict[str, str] = {}
    for name in names:
        plain = name
        while (shorter := _PREFIXES.sub("", plain, count=1)) != plain:
            plain = shorter
        found.setdefault(plain, name)
    return found
