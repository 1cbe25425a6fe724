"""Classes without a table of names, and where each matrix of a layer lies among their parameters.

A table of names cannot say it: queries, keys and values are packed in orders that switches set,
experts share one matrix, or the class holds another half. Here every family's parameters are taken
apart as its class takes them apart, by patterns and shapes alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")

#: Makes of a parameter, [out, in] or several of them, the entries of each group.
Apart = Callable[[np.ndarray], Mapping[str, np.ndarray]]
PACKED = ("query", "key", "value")


def in_rows(*sizes: int) -> Apart:
    """Queries, keys and values one after the other."""
    return lambda value: dict(zip(PACKED, np.split(value, np.cumsum(sizes[:-1])), strict=True))


def in_blocks(count: int, order: tuple[str, ...] = PACKED) -> Apart:
    """Blocks of rows, in each of which the three follow each other."""

    def apart(value: np.ndarray) -> Mapping[str, np.ndarray]:
        dim = value.shape[-1]
        blocks = value.reshape(count, 3, -1, dim)
        return {group: blocks[:, i].reshape(-1, dim) for i, group in enumerate(order)}

    return apart


def in_groups(count: int, head_dim: int) -> Apart:
    """Groups of heads: their queries, then their one key and their one value."""

    def apart(value: np.ndarray) -> Mapping[str, np.ndarray]:
        dim = value.shape[-1]
        heads = value.reshape(count, -1, head_dim, dim)
        parts = heads[:, :-2], heads[:, -2], heads[:, -1]
        return {group: one.reshape(-1, dim) for group, one in zip(PACKED, parts, strict=True)}

    return apart


def of_experts(group: str, count: int) -> Apart:
    """One matrix of the units of all experts; that of their outputs is stored [in, out]."""

    def apart(value: np.ndarray) -> Mapping[str, np.ndarray]:
        every = value.reshape(count, -1, value.shape[-1])
        return {group: every.swapaxes(1, 2) if group == "out" else every}

    return apart


def gate_and_up(value: np.ndarray) -> Mapping[str, np.ndarray]:
    """Experts [experts, 2 width, dim]: the rows of gates, then the others."""
    gate, up = np.split(value, 2, axis=1)
    return {"in": gate, "up": up}


@dataclass(frozen=True)
class Case:
    """A class, or a switch of it.

    Attributes:
        family: its `model_type`.
        layer: pattern of what stands before a layer's number.
        names: patterns of what stands between that number and `.weight`, each with its group or
            with how it is taken apart.
        config: what its configuration says beside `sizes`.
        kind: its class.
        zeroed: pattern of parameters that are set to zero where layers are compared entry by entry.
    """

    family: str
    layer: str
    names: Mapping[str, str | Apart]
    config: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "AutoModel"
    zeroed: str = "$."


def sizes(dim: int, layers: int) -> dict[str, Any]:
    """Sizes by every key that a class may have for them.

    Args:
        dim: D.
        layers: their number.
    """
    return {
        **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size"), dim),
        **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), layers),
        **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
        **dict.fromkeys(("intermediate_size", "n_inner", "d_ff", "ffn_hidden_size"), 2 * dim),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 2 * dim),
        **dict.fromkeys(("initializer_range", "init_std"), 0.05),
        **dict.fromkeys(("max_position_embeddings", "n_positions"), 32),
        "encoder_layers": layers,
        "decoder_layers": 1,
        "vocab_size": 100,
        "d_kv": dim // 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "max_source_positions": 16,
        "num_mel_bins": 8,
        "image_size": 16,
        "patch_size": 4,
    }


def config_of(case: Case, dim: int, layers: int) -> Any:
    """The configuration of a case.

    Args:
        case: the case.
        dim: D.
        layers: their number.
    """
    kind = transformers.CONFIG_MAPPING[case.family]
    mapped = getattr(kind, "attribute_map", {})
    known = {*kind().to_dict(), *mapped.values()} - set(mapped)
    own = {key: value for key, value in sizes(dim, layers).items() if key in known}
    return kind(**{**own, **case.config})


def built(case: Case, config: Any) -> Any:
    """The class with random weights.

    Args:
        case: the case.
        config: its configuration.
    """
    kind = getattr(transformers, case.kind)
    model = kind.from_config(config) if case.kind == "AutoModel" else kind(config)
    return (model.get_encoder() if case.family == "whisper" else model).eval()


def by_group(
    case: Case, parameters: Iterable[tuple[str, np.ndarray]]
) -> dict[tuple[int, str], list[np.ndarray]]:
    """Entries by layer and group.

    Args:
        case: the case.
        parameters: of its class, or their gradients.
    """
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    for name, value in parameters:
        for pattern, to in case.names.items():
            match = re.fullmatch(rf"{case.layer}\.(\d+)\.(?:{pattern})(?:\.weight)?", name)
            if match is not None:
                parts = {to: value} if isinstance(to, str) else to(value)
                for group, part in parts.items():
                    found.setdefault((int(match[1]), group), []).append(part)
    return found


_CODEGEN = {
    "ln_1": "norm_in",
    r"attn\.qkv_proj": in_blocks(4, ("query", "value", "key")),
    r"attn\.out_proj": "attention_out",
    r"mlp\.fc_in": "in",
    r"mlp\.fc_out": "out",
}
_BIGCODE = {
    "ln_[12]": "norm_in",
    r"attn\.c_proj": "attention_out",
    r"mlp\.c_fc": "in",
    r"mlp\.c_proj": "out",
}
_BIGCODE_PACKED = r"attn\.c_attn"
_FALCON = {
    "input_layernorm|ln_attn|ln_mlp|post_attention_layernorm": "norm_in",
    r"self_attention\.dense": "attention_out",
    r"mlp\.dense_h_to_4h": "in",
    r"mlp\.dense_4h_to_h": "out",
}
_FALCON_PACKED = r"self_attention\.query_key_value"
_NORM, _EXPERT = r"norm_attn_norm\.", r"ffn\.experts\.mlp\."
_T5 = {
    r"layer\.[01]\.layer_norm": "norm_in",
    r"layer\.0\.SelfAttention\.q": "query",
    r"layer\.0\.SelfAttention\.k": "key",
    r"layer\.0\.SelfAttention\.v": "value",
    r"layer\.0\.SelfAttention\.o": "attention_out",
    r"layer\.1\.DenseReluDense\.(?:wi|wi_0)": "in",
    r"layer\.1\.DenseReluDense\.wi_1": "up",
    r"layer\.1\.DenseReluDense\.wo": "out",
}
_ENCODER = {
    "layer_norm[12]|self_attn_layer_norm|final_layer_norm": "norm_in",
    r"self_attn\.q_proj": "query",
    r"self_attn\.k_proj": "key",
    r"self_attn\.v_proj": "value",
    r"self_attn\.out_proj": "attention_out",
    r"(?:mlp\.)?fc1": "in",
    r"(?:mlp\.)?fc2": "out",
}


_MIMO = {
    "input_layernorm|post_attention_layernorm": "norm_in",
    r"self_attn\.q_proj": "query",
    r"self_attn\.k_proj": "key",
    r"self_attn\.v_proj": "value",
    r"self_attn\.o_proj": "attention_out",
    r"mlp\.gate_proj": "in",
    r"mlp\.up_proj": "up",
    r"mlp\.down_proj|mlp\.experts\.down_proj": "out",
    r"mlp\.gate": "router",
    r"mlp\.experts\.gate_up_proj": gate_and_up,
}


def cases(dim: int) -> dict[str, Case]:
    """All of them by name.

    Args:
        dim: D, of which the sizes of what is packed follow.
    """
    d = dim // 4
    dbrx = {
        rf"{_NORM}norm_[12]": "norm_in",
        rf"{_NORM}attn\.Wqkv": in_rows(dim, 2 * d, 2 * d),
        rf"{_NORM}attn\.out_proj": "attention_out",
        r"ffn\.router\.layer": "router",
        f"{_EXPERT}w1": of_experts("in", 4),
        f"{_EXPERT}v1": of_experts("up", 4),
        f"{_EXPERT}w2": of_experts("out", 4),
    }
    attends = {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 99.0}
    mixes = {"ffn_hidden_size": dim, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": dim}
    older = {"multi_query": False, "parallel_attn": False, "alibi": True}
    newer = {"new_decoder_architecture": True, "num_kv_heads": 2}
    values = {
        "head_dim": d // 2,
        "v_head_dim": 3 * d // 4,
        "num_key_value_heads": 2,
        "sliding_window": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": dim,
    }
    bias = ".*relative_attention_bias.*"
    return {
        "codegen": Case("codegen", "h", _CODEGEN, {"rotary_dim": d // 2}),
        "gpt_bigcode": Case("gpt_bigcode", "h", {**_BIGCODE, _BIGCODE_PACKED: in_rows(dim, d, d)}),
        "gpt_bigcode, all heads": Case(
            "gpt_bigcode",
            "h",
            {**_BIGCODE, _BIGCODE_PACKED: in_blocks(4)},
            {"multi_query": False},
        ),
        "falcon": Case("falcon", "h", {**_FALCON, _FALCON_PACKED: in_groups(1, d)}),
        "falcon, groups": Case("falcon", "h", {**_FALCON, _FALCON_PACKED: in_groups(2, d)}, newer),
        "falcon, biases": Case("falcon", "h", {**_FALCON, _FALCON_PACKED: in_blocks(4)}, older),
        "dbrx": Case("dbrx", "blocks", dbrx, {"attn_config": attends, "ffn_config": mixes}),
        "t5": Case("t5", r"encoder\.block", _T5, {}, "T5EncoderModel", bias),
        "t5, gates": Case(
            "t5",
            r"encoder\.block",
            _T5,
            {"feed_forward_proj": "gated-gelu"},
            "T5EncoderModel",
            bias,
        ),
        "siglip_vision_model": Case("siglip_vision_model", r"encoder\.layers", _ENCODER),
        "mimo_v2_flash": Case("mimo_v2_flash", "layers", _MIMO, values, zeroed=".*sinks"),
        "whisper": Case("whisper", "layers", _ENCODER, {}, "WhisperModel"),
    }
