"""Public models by name: what of their configurations an architecture at initialisation is made of.

The values are those of the `config.json` that each was published with, as `transformers` writes it.
"""

from __future__ import annotations

from pathlib import Path

from translimit.core import JsonObject


def _gpt2(layers: int, dim: int, heads: int) -> JsonObject:
    return {
        "model_type": "gpt2",
        "n_layer": layers,
        "n_embd": dim,
        "n_head": heads,
        "n_positions": 1024,
        "vocab_size": 50257,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
    }


def _llama(layers: int, dim: int, heads: int, groups: int, units: int) -> JsonObject:
    return {
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": dim,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": units,
        "vocab_size": 32000,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
    }


#: Configurations by the name under which the model is known.
PUBLIC_MODELS: dict[str, JsonObject] = {
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    "pythia-160m": {
        "model_type": "gpt_neox",
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 2048,
        "vocab_size": 50304,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "initializer_range": 0.02,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "tie_word_embeddings": False,
        "use_parallel_residual": True,
    },
    "llama-2-7b": {**_llama(32, 4096, 32, 32, 11008), "max_position_embeddings": 4096},
    "tinyllama-1.1b": {
        **_llama(22, 2048, 32, 4, 5632),
        "max_position_embeddings": 2048,
        "attention_bias": False,
        "rope_theta": 10000.0,
    },
    "mistral-7b": {
        **_llama(32, 4096, 32, 8, 14336),
        "model_type": "mistral",
        "max_position_embeddings": 32768,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
    },
    "qwen2-0.5b": {
        **_llama(24, 896, 14, 2, 4864),
        "model_type": "qwen2",
        "max_position_embeddings": 131072,
        "vocab_size": 151936,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "use_sliding_window": False,
        "max_window_layers": 24,
        "tie_word_embeddings": True,
    },
    "bert-base": {
        "model_type": "bert",
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "vocab_size": 30522,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
    },
    "vit-base": {
        "model_type": "vit",
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "qkv_bias": True,
    },
}


def public_model(source: str | Path) -> JsonObject | None:
    """The configuration of a public model, if that is what a name means; a file is never hidden.

    Args:
        source: a name of `PUBLIC_MODELS`, or anything else.
    """
    path = Path(source)
    return None if path.exists() else PUBLIC_MODELS.get(str(source).lower())
