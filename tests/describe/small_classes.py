"""Small configurations of the classes that the library transformers has."""

from __future__ import annotations

from typing import Any

import pytest

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "emb_dim"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
    "attention_heads": 4,
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "hidden_dim"), 96),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 32),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "intermediate_multiple_size"), 2),
    **dict.fromkeys(("initializer_range", "init_std"), 0.05),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 96),
    "num_key_value_heads": 2,
    "vocab_size": 500,
    "moe_intermediate_size": 16,
    "head_dim": 16,
    "embedding_size": 48,
    "input_embedding_size": 40,
    "output_embedding_size": 40,
    "dff": 96,
    "shared_expert_intermediate_size": 24,
    "shared_intermediate_size": 24,
    "num_shared_experts": 1,
    **dict.fromkeys(("moe_topk", "moe_num_shared_experts"), 2),
    "mask_ratio": 0.0,
    "word_embed_proj_dim": 64,
    "attention_types": [[["global", "local"], 1]],
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "rotary_dim": 8,
    "image_size": 32,
    "patch_size": 16,
    "pad_token_id": 0,
    "sliding_window": 6,
    "window_size": 6,
}
_MULTIPLIERS = {
    "embedding_multiplier": 6.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.25,
}
_LATENTS = {
    "q_lora_rank": 24,
    "kv_lora_rank": 20,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 10,
    "num_key_value_heads": 4,
}
_MIXED = ["sliding_attention", "full_attention"]
#: What makes more of a family act: switches, multipliers, windows.
MORE: dict[str, dict[str, Any]] = {
    "cohere": {"use_qk_norm": True},
    "smollm3": {"no_rope_layers": [1, 0]},
    "exaone4": {"layer_types": _MIXED},
    "cohere2": {"layer_types": _MIXED},
    "glm4_moe": {"use_qk_norm": True},
    "dots1": {"norm_topk_prob": True},
    "granite": _MULTIPLIERS,
    "granitemoe": _MULTIPLIERS,
    "hyperclovax": _MULTIPLIERS,
    "deepseek_v2": {**_LATENTS, "norm_topk_prob": False},
    "deepseek_v3": {**_LATENTS, "head_dim": 8, "n_group": 2, "topk_group": 1},
    "glm4_moe_lite": {**_LATENTS, "mlp_layer_types": ["dense", "sparse"]},
    "sarvam_mla": {**_LATENTS, "initializer_range": 0.05, "num_shared_experts": 1},
    "axk1": {
        **_LATENTS,
        "head_dim": 8,
        "mlp_layer_types": ["dense", "sparse"],
        "n_group": 2,
        "topk_group": 1,
    },
    "youtu": {**_LATENTS, "head_dim": 8},
    "granite_swa": {**_MULTIPLIERS, "layer_rope_theta": [1000.0, 0]},
    "granitemoe_swa": _MULTIPLIERS,
    "granitemoeshared": _MULTIPLIERS,
    "cohere2_moe": {"shared_expert_combination_strategy": "sum"},
    "kolibri1": {"norm_topk_prob": False},
    "minicpm3": {**_LATENTS, "scale_emb": 3.0, "dim_model_base": 32},
    "esm": {
        "token_dropout": True,
        "position_embedding_type": "rotary",
        "mask_token_id": 499,
    },
    "ernie4_5_moe": {"moe_num_shared_experts": 1},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": None,
        },
    },
    "ultrabert": {"layer_types": ["sliding_attention", "full_attention"]},
    "esmc": {"num_key_value_heads": 4},
    "dinov2": {"use_swiglu_ffn": True, "layerscale_value": 0.5},
    "dinov2_with_registers": {"layerscale_value": 0.5},
    "beit": {"use_relative_position_bias": True},
}


def small_config(name: str) -> Any:
    """A small configuration of a family.

    Args:
        name: its `model_type`.
    """
    kind = transformers.CONFIG_MAPPING[name]
    mapped = getattr(kind, "attribute_map", {})
    # The class of ministral has no defaults for its sizes.
    like = transformers.MistralConfig if name == "ministral" else kind
    known = {*like().to_dict(), *mapped.values()}
    told = {key: value for key, value in SIZES.items() if key in known and key not in mapped}
    return kind(**{**told, **MORE.get(name, {})})
