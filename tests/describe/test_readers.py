"""Configurations as people write them: read, refused for a reason, never read wrongly.

The files in `configurations` are copies of public ones; `ORIGINS.tsv` tells from where. Families
are compared with the classes of the library transformers in `test_classes` and
`test_class_networks`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from translimit.core import ConfigError
from translimit.describe import (
    Attention,
    Experts,
    Frequencies,
    LatentAttention,
    Stack,
    read_stack,
)

FILES = sorted((Path(__file__).parent / "configurations").glob("*.json"))
#: Files that are refused, and what the message says.
REFUSED = {
    "eagle-mixtral-draft.json": "model_type says 'mixtral', architectures says 'LlamaForCausalLM'",
    "llama4-scout-4l.json": "llama4_text scales what its experts read",
    "mllama.json": "mllama has layers that attend to an image",
    "neox-1b-oldkeys.json": "missing field intermediate_size",
}
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {"model_type": "llama", "intermediate_size": 96, **SIZES}


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_public_configuration_is_read_or_refused_for_its_reason(path: Path) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    if path.name in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[path.name]):
            read_stack(values)
        return
    reading = read_stack(path)
    inner = values.get("text_config", values)
    layers = ("num_hidden_layers", "n_layer", "num_layers")
    assert len(reading.stack.layers) == next(inner[key] for key in layers if key in inner)
    dims = ("hidden_size", "n_embd", "d_model")
    assert reading.stack.dim == next(inner[key] for key in dims if key in inner)


def test_at_least_28_of_the_public_configurations_are_read() -> None:
    assert len(FILES) - len(REFUSED) >= 28


def first(stack: Stack) -> Attention:
    mixer = stack.layers[0][0].branches[0]
    assert isinstance(mixer, Attention)
    return mixer


def test_every_key_is_accounted_for() -> None:
    reading = read_stack({**LLAMA, "use_cache": True, "some_new_multiplier": 3.0})
    assert reading.ignored == ("some_new_multiplier: not known to this reader",)
    assert any(
        one.startswith("none of rms_norm_eps, layer_norm_eps,") for one in reading.assumptions
    )


def test_what_acts_is_read() -> None:
    llama3 = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    turned = first(read_stack({**LLAMA, "rope_theta": 5e5, "rope_scaling": llama3}).stack)
    assert turned.rotary == Frequencies.geometric(16, 5e5).llama3(8.0)
    windowed = {**LLAMA, "model_type": "mistral", "sliding_window": 32, "num_key_value_heads": 2}
    assert first(read_stack(windowed).stack).scores.window == 32
    assert first(read_stack(windowed).stack).kv_heads == 2
    deep = {"model_type": "gpt2", "n_embd": 64, "n_layer": 8, "n_head": 4}
    gpt2 = first(read_stack(deep).stack)
    assert gpt2.out_std == pytest.approx(0.02 / 4)
    assert read_stack({**LLAMA, "pad_token_id": 3}).stack.embedding.padding == 3  # pyright: ignore[reportOptionalMemberAccess]
    gemma = read_stack({**LLAMA, "model_type": "gemma2", "head_dim": 16}).stack
    assert gemma.layers[0][0].norm_out is not None
    assert gemma.embedding is not None
    assert gemma.embedding.multiplier == 8.0
    kinds = ["sliding_attention", "full_attention"]
    mixed = read_stack({**LLAMA, "model_type": "qwen3", "sliding_window": 8, "layer_types": kinds})
    windows = [block[0].branches[0].scores.window for block in mixed.stack.layers]  # pyright: ignore[reportAttributeAccessIssue]
    assert windows == [8, None]


@pytest.mark.parametrize(
    ("family", "told", "cap"),
    [
        ("gemma2", {}, 30.0),
        ("gemma2", {"final_logit_softcapping": 2.5}, 2.5),
        ("gemma2", {"final_logit_softcapping": None}, None),
        ("vaultgemma", {}, 30.0),
        ("nanochat", {}, 15.0),
        ("gemma3_text", {}, None),
        ("gemma3_text", {"final_logit_softcapping": 20}, 20.0),
        ("llama", {}, None),
        ("llama", {"final_logit_softcapping": 20}, None),
    ],
)
def test_a_cap_of_the_logits_is_read_where_the_class_has_one(
    family: str, told: dict[str, Any], cap: float | None
) -> None:
    more = {"head_dim": 16, "num_key_value_heads": 4}
    reading = read_stack({**LLAMA, "model_type": family, **more, **told})
    assert reading.logit_softcap == cap
    ignored = any("final_logit_softcapping" in one for one in reading.ignored)
    assert ignored == (family == "llama" and bool(told))


def test_experts_and_latents_are_read() -> None:
    sizes = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4}
    values = {
        "model_type": "deepseek_v3",
        "intermediate_size": 96,
        "moe_intermediate_size": 32,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        **sizes,
    }
    layers = read_stack(values).stack.layers
    assert isinstance(layers[0][0].branches[0], LatentAttention)
    experts = [isinstance(layer[1].branches[0], Experts) for layer in layers]
    assert experts == [False, True, True]
    with pytest.raises(ConfigError, match="topk_group"):
        read_stack({**values, "topk_group": 3})
    with pytest.raises(ConfigError, match="num_experts_per_tok"):
        read_stack({**values, "num_experts_per_tok": 9})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_type": "Qwen-3"}, "did you mean 'qwen3'"),
        ({}, "names no family"),
        ({"model_type": "llama", "hidden_size": 64}, "missing field num_hidden_layers"),
        ({**LLAMA, "hidden_size": -1}, "hidden_size is -1"),
        ({**LLAMA, "hidden_act": "gelou"}, "hidden_act is 'gelou'"),
        ({**LLAMA, "num_attention_heads": 5}, "write a divisor of the width 64"),
        ({**LLAMA, "rope_scaling": {"rope_type": "odd"}}, "rope_type is 'odd'"),
        ({**LLAMA, "layer_types": ["linear_attention"] * 2}, "'linear_attention' is no softmax"),
        ({**LLAMA, "architectures": ["MixtralForCausalLM"]}, "architectures says"),
        ({"model_type": "opt", "do_layer_norm_before": False, **SIZES}, "do_layer_norm_before"),
        (
            {**LLAMA, "model_type": "gemma2", "head_dim": 16, "query_pre_attn_scalar": 0},
            "query_pre_attn_scalar is 0; write a number above 0",
        ),
        ({**LLAMA, "model_type": "granite", "logits_scaling": 0}, "logits_scaling is 0"),
    ],
)
def test_a_configuration_that_cannot_be_read_names_its_key(values: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_stack({"ffn_dim": 96, **values} if values.get("model_type") == "opt" else values)


def test_the_class_names_the_family_where_nothing_else_does() -> None:
    values = {k: v for k, v in LLAMA.items() if k != "model_type"}
    assert read_stack({**values, "architectures": ["Qwen2ForCausalLM"]}).family == "qwen2"


def test_a_stack_is_made_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA), encoding="utf-8")
    assert read_stack(path).stack == read_stack(LLAMA).stack


_BLOCK = {**SIZES, "intermediate_size": 96}
_CHATGLM = {
    "model_type": "chatglm",
    "hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 4,
    "ffn_hidden_size": 96,
    "kv_channels": 16,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "layernorm_epsilon": 1.5625e-07,
}
_GLM = {"model_type": "glm", "head_dim": 16, "num_key_value_heads": 2, "pad_token_id": None}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (
            {"model_type": "baichuan", "max_position_embeddings": 32, **_BLOCK},
            {"model_type": "llama", "pad_token_id": 0, **_BLOCK},
        ),
        (_CHATGLM, {**_GLM, **_BLOCK}),
        (
            {"model_type": "qwen", **_BLOCK, "intermediate_size": 192, "kv_channels": 16},
            {"model_type": "qwen2", "num_key_value_heads": 4, "pad_token_id": None, **_BLOCK},
        ),
    ],
    ids=["baichuan", "chatglm", "qwen"],
)
def test_a_family_whose_code_lies_beside_its_weights_is_that_of_its_successor(
    older: Any, newer: Any
) -> None:
    """The library has the successor's class, with which that one is compared."""
    made, known = read_stack(older), read_stack(newer)
    assert not made.ignored
    if older["model_type"] == "qwen":  # whose ends of branches start smaller by (2 L)^(-1/2)

        def as_drawn(branch: Any) -> Any:
            return dataclasses.replace(branch, out_std=2 * branch.out_std)

        assert made.stack != known.stack
        assert made.stack.with_branches(as_drawn).layers == known.stack.layers
    else:
        assert made.stack.layers == known.stack.layers
    assert made.stack.norm_final == known.stack.norm_final
    assert made.stack.embedding == known.stack.embedding
