"""Configurations as people write them: read, refused for a reason, never read wrongly.

The files in `configurations` are copies of public ones; `ORIGINS.tsv` tells from where. Families
are compared with the classes of the library transformers, built small with random weights: eight
networks on a text with repeats, against the recursion of infinite width.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from translimit.core import ConfigError, solve
from translimit.describe import (
    FAMILIES,
    Attention,
    Experts,
    Frequencies,
    LatentAttention,
    Stack,
    read_stack,
)
from translimit.limits.signal import Recursion, SignalPropagation

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
        ("gemma2", {}, "30"),
        ("gemma2", {"final_logit_softcapping": 2.5}, "2.5"),
        ("gemma2", {"final_logit_softcapping": None}, None),
        ("vaultgemma", {}, "30"),
        ("nanochat", {}, "15"),
        ("gemma3_text", {}, None),
        ("llama", {}, None),
        ("llama", {"final_logit_softcapping": 20}, "20"),
    ],
)
def test_a_cap_of_the_logits_is_told_as_left_out(
    family: str, told: dict[str, Any], cap: str | None
) -> None:
    more = {"head_dim": 16, "num_key_value_heads": 4}
    values = {**LLAMA, "model_type": family, **more, **told}
    caps = [one for one in read_stack(values).ignored if "final_logit_softcapping" in one]
    assert len(caps) == (cap is not None)
    assert all(f"their cap of {cap}," in one for one in caps)


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


SMALL = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "emb_dim"), 256),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_ff", "hidden_dim"), 640),
    "ffn_hidden_size": 640,
    "vocab_size": 500,
    "num_key_value_heads": 2,
    "initializer_range": 0.05,
    "init_std": 0.05,
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
}
WINDOW = {"sliding_window": 8}
NO_PAD = {"pad_token_id": 0}
SPARSE = {"num_experts": 8, "num_experts_per_tok": 2}
MORE: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 64},
    "gemma2": {
        "head_dim": 32,
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": 2.0,
        **WINDOW,
    },
    "gemma3_text": {"head_dim": 32, "query_pre_attn_scalar": 32, **WINDOW},
    "qwen3": {"head_dim": 32},
    "seed_oss": {"head_dim": 64},
    "qwen3_moe": {"head_dim": 32, "moe_intermediate_size": 320, **SPARSE},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {**SPARSE, "num_key_value_heads": 4},
    "deepseek_v3": {
        "q_lora_rank": 192,
        "kv_lora_rank": 128,
        "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 32,
        "v_head_dim": 48,
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 320,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "num_experts_per_tok": 2,
        "num_key_value_heads": 4,
    },
    "gpt_oss": {"head_dim": 32, "num_local_experts": 8, "num_experts_per_tok": 2},
    "gptj": {"rotary_dim": 16},
    "codegen": {"rotary_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 8},
    "granite": {
        "embedding_multiplier": 6.0,
        "residual_multiplier": 0.22,
        "attention_multiplier": 0.25,
    },
    "glm4_moe": {
        "head_dim": 64,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 320,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    },
    "glm": {"head_dim": 64, **NO_PAD},
    "glm4": {"head_dim": 64, **NO_PAD},
    "opt": {"word_embed_proj_dim": 256},
    "t5": {"d_kv": 64},
    "electra": {"embedding_size": 128},
    "flint": {"head_dim": 32, "moe_intermediate_size": 320, **SPARSE, **WINDOW},
    "mimo_v2_flash": {
        "head_dim": 32,
        "v_head_dim": 48,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 320,
        **WINDOW,
    },
    "aria_text": {"head_dim": 64, "moe_num_experts": 4, "moe_topk": 2, "pad_token_id": 2},
    "apertus": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "modernbert": {"local_attention": 8, **NO_PAD},
    "modernbert-decoder": {"local_attention": 8, **NO_PAD},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 99.0},
        "ffn_config": {"ffn_hidden_size": 320, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "xlm": {"embed_init_std": 0.05},
    "flaubert": {"embed_init_std": 0.05},
    "phi3": {**WINDOW, **NO_PAD},
    "smollm3": NO_PAD,
    "helium": {"head_dim": 64},
    "ernie4_5": {"head_dim": 64},
    **dict.fromkeys(("exaone4", "olmo3", "cohere2", "mistral", "starcoder2"), WINDOW),
}
MORE |= dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), MORE["deepseek_v3"])
#: One of each placement and mixer.
QUICK = ("opt", "qwen3", "gemma2", "olmo2", "mixtral", "t5")
#: Images, whose tokens are no ids, and families that the library does not have.
APART = {
    *("vit", "vit_mae", "deit", "vit_msn", "ijepa", "dinov2", "dinov2_with_registers", "beit"),
    *("data2vec-vision", "clip_vision_model", "siglip_vision_model", "siglip_text_model"),
    *("whisper", "baichuan", "chatglm", "qwen"),
}
#: Families that are compared entry by entry only, in `test_classes`.
ENTRIES = {
    *(
        "ministral",
        "exaone",
        "internlm3",
        "ministral3",
        "hyperclovax",
        "jais2",
        "cwm",
        "vaultgemma",
    ),
    *("hunyuan_v1_dense", "nanochat", "persimmon", "biogpt", "gpt_neox_japanese", "openai-gpt"),
    *("eurobert", "esm", "granitemoe", "flex_olmo", "dots1", "mellum", "ernie4_5_moe"),
    *("deepseek_v2", "minicpm3", "ernie", "roberta-prelayernorm", "megatron-bert"),
    *("xlm-roberta-xl", "clip_text_model", "xglm", "ctrl", "qwen2_moe", "bert-generation"),
    *("exaone_moe", "hunyuan_v1_moe", "hy_v3", "kolibri1", "minimax_m2", "sarvam_moe"),
    *("solar_open", "granitemoeshared", "granite_swa", "granitemoe_swa", "cohere2_moe"),
    *("glm4_moe_lite", "sarvam_mla", "axk1", "youtu", "iquestcoder", "roformer"),
    *("imagegpt", "esmc", "ultrabert", "cohere_compass_text", "emu3_text_model"),
    *("metaclip_2_vision_model", "metaclip_2_text_model", "siglip2_text_model"),
    *("nomic_bert", "gte", "jina_embeddings_v3", "rembert", "vit_mae"),
}
IDS = 10 + np.arange(16) ** 2 % 7


def check_family(name: str, networks: int = 8) -> None:
    """Overlap and log mean square of every layer but the last, which the class normalises."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    kind = transformers.CONFIG_MAPPING[name]
    mapped = getattr(kind, "attribute_map", {})
    known = {*kind().to_dict(), *mapped.values()}
    told = {key: value for key, value in SMALL.items() if key in known and key not in mapped}
    config = kind(**{**told, **MORE.get(name, {})})
    reading = read_stack(config.to_dict())
    assert not [one for one in reading.ignored if "not known" in one]
    made = transformers.T5EncoderModel if name == "t5" else transformers.AutoModel.from_config
    summaries = []
    for seed in range(networks):
        torch.manual_seed(seed)
        model = made(config).eval()
        with torch.no_grad():
            states = model(input_ids=torch.tensor(IDS)[None], output_hidden_states=True)
        levels = np.stack([x[0].double().numpy() for x in states.hidden_states[:4]])
        if reading.stack.centred:
            levels -= levels.mean(axis=2, keepdims=True)
        summaries.append(summary(levels @ levels.transpose(0, 2, 1) / levels.shape[2]))
    measured, error = np.mean(summaries, axis=0), np.std(summaries, axis=0, ddof=1)
    problem = SignalPropagation(stack=reading.stack, initial=reading.stack.initial_cov(IDS))
    limit = solve(problem, Recursion(pairs=24, copies=3), key=jax.random.key(0))
    predicted = summary(limit.cov[:4])
    # n / D at D = 256, and four standard errors.
    allowed = 4 * error / networks**0.5 + len(IDS) / 256
    assert np.all(np.abs(measured - predicted) < allowed), (measured, predicted)


def summary(covs: np.ndarray) -> np.ndarray:
    """Mean overlap of all pairs and log mean square by level."""
    squares = np.diagonal(covs, axis1=-2, axis2=-1)
    s = 1 / np.sqrt(squares)
    overlaps = (covs * s[..., :, None] * s[..., None, :]).mean(axis=(-2, -1))
    return np.stack([overlaps, np.log(squares.mean(axis=-1))])


@pytest.mark.parametrize("name", QUICK)
def test_a_family_is_that_of_its_class(name: str) -> None:
    check_family(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - APART - ENTRIES - set(QUICK)))
def test_every_family_is_that_of_its_class(name: str) -> None:
    check_family(name)
