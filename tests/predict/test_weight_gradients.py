"""What `predict` tells of the gradients of weights: groups, entries, tables, the readout."""

from __future__ import annotations

import numpy as np
import pytest

from translimit.core import named_key, solve
from translimit.limits.signal import Recursion, SignalPropagation, embedding_squares
from translimit.predict import predict

GPT2 = {
    "model_type": "gpt2",
    "n_layer": 2,
    "n_embd": 64,
    "n_head": 4,
    "vocab_size": 100,
    "initializer_range": 0.1,
}
SPARSE = {
    "model_type": "qwen2_moe",
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 100,
    "tie_word_embeddings": False,
}
IDS = [3, 1, 7, 3, 4]


def test_gradients_of_tables_and_of_the_readout() -> None:
    told = predict(GPT2, ids=IDS, others=False)
    stack = told.reading.stack
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(np.array(IDS)))
    limit = solve(problem, Recursion(16, 4), key=named_key(5))
    squares = embedding_squares(stack, IDS, limit.grad_gram[0])
    for name in ("embedding", "positions"):
        curve = told.curves[f"gradient_{name}"]
        assert curve.by == "stack"
        assert curve.value[0] == pytest.approx(float(squares[name]) ** 0.5, rel=0.05)
    # Equal tokens share a row of the table, and have positions of their own.
    embedding, positions = squares["embedding"], squares["positions"]
    assert abs(embedding / positions - 1) > 0.02
    assert told.loss is not None
    curves = told.loss.curves
    assert {one for one in curves if curves[one].by == "stack"} == {
        f"gradient_{name}" for name in ("embedding", "positions", "readout", "tied_table")
    }
    # Its own word is harmless here: the squares of the two parts add.
    parts = [curves[f"gradient_{name}"].value[0] ** 2 for name in ("embedding", "readout")]
    assert curves["gradient_tied_table"].value[0] ** 2 == pytest.approx(sum(parts), rel=0.02)
    # Tokens of unit square, four words to come of different ids: sigma^2 |dW|^2 is about w / 4.
    variance = 64 * 0.1**2
    expected = (variance / 4) ** 0.5 / 0.1
    assert curves["gradient_readout"].value[0] == pytest.approx(expected, rel=0.05)
    layers = [one for name, one in curves.items() if one.by == "layer" and name[0] == "g"]
    norm = sum(float(np.sum(np.square(one.value))) for one in layers) ** 0.5
    assert told.loss.gradient_norm == pytest.approx(norm)
    page = str(told)
    assert "under the loss: embedding" in page
    assert "over the deviation of the weights" in page


def test_every_group_is_told_as_a_norm_and_per_entry() -> None:
    told = predict(SPARSE, ids=IDS, others=False)
    groups = {
        *("query", "key", "value", "attention_out", "in", "up", "out"),
        *("shared_in", "shared_up", "shared_out", "router", "shared_gate", "norm_in"),
    }
    curves = told.curves
    names = {name.removeprefix("gradient_") for name in curves if name.startswith("gradient_")}
    assert names == groups | {"embedding"}
    sizes = {
        **dict.fromkeys(("query", "attention_out"), 64 * 64),
        **dict.fromkeys(("in", "up", "out"), 4 * 64 * 32),
        **dict.fromkeys(("shared_in", "shared_up", "shared_out"), 64 * 48),
        "router": 64 * 4,
        "shared_gate": 64,
        "norm_in": 2 * 64,
    }
    for name, size in sizes.items():
        std = 1.0 if name == "norm_in" else 0.02
        whole, entry = curves[f"gradient_{name}"], curves[f"normalised_gradient_{name}"]
        assert whole.value[0] > 0
        assert entry.value[0] == pytest.approx(whole.value[0] / std / size**0.5)
    assert "normalised_gradient_embedding" not in curves


def test_without_ids_there_is_no_table() -> None:
    told = predict(GPT2, gram=np.eye(4), others=False)
    assert "gradient_query" in told.curves
    assert "gradient_embedding" not in told.curves


LATENT = {
    "model_type": "deepseek_v3",
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 96,
    "first_k_dense_replace": 1,
    "q_lora_rank": 32,
    "kv_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "vocab_size": 100,
    "pad_token_id": 0,
}
IMAGE = {
    "model_type": "vit",
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "image_size": 8,
    "patch_size": 4,
}


def test_latents_are_told_matrix_by_matrix() -> None:
    told = predict(LATENT, ids=IDS, others=False)
    curves = told.curves
    sizes = {
        "query_down": 64 * 32,
        "query_up": 32 * 4 * 24,
        "key_value_down": 64 * (24 + 8),
        "key_value_up": 24 * 4 * (16 + 12),
        "norm_query_latent": 32,
        "norm_key_value_latent": 24,
    }
    for name, size in sizes.items():
        std = 1.0 if name.startswith("norm") else 0.02
        whole, entry = curves[f"gradient_{name}"], curves[f"normalised_gradient_{name}"]
        assert entry.value[0] == pytest.approx(whole.value[0] / std / size**0.5)
    assert not {"gradient_query", "gradient_key", "gradient_value"} & set(curves)
    assert curves["gradient_query_down"].value == curves["gradient_query_up"].value
    assert curves["gradient_key_value_down"].value > curves["gradient_key_value_up"].value
    page = str(told)
    assert "norm_key_value_latent" in page
    lines = page.splitlines()
    heads = next(index for index, line in enumerate(lines) if "key_value_down" in line)
    assert len(lines[heads]) == len(lines[heads + 1])


def test_gains_of_queries_and_keys_and_what_makes_tokens_of_an_image() -> None:
    small = {**SPARSE, "model_type": "qwen3", "head_dim": 16, "num_key_value_heads": 2}
    small = {key: one for key, one in small.items() if "expert" not in key and "moe" not in key}
    curves = predict(small, ids=IDS, others=False).curves
    for name in ("norm_query", "norm_key"):
        whole, entry = curves[f"gradient_{name}"], curves[f"normalised_gradient_{name}"]
        assert entry.value[0] == pytest.approx(whole.value[0] / 16**0.5)
    told = predict(IMAGE, others=False)
    names = {name for name, one in told.curves.items() if one.by == "stack"}
    assert names == {f"gradient_{name}" for name in ("patches", "positions", "class_tokens")}
    # Independent pixels: each of the four patches has 48 entries of variance one.
    patches, positions, one = (
        told.curves[f"gradient_{name}"].value[0] ** 2
        for name in ("patches", "positions", "class_tokens")
    )
    assert patches == pytest.approx(48 * (positions - one), rel=0.05)
    given = told.to_json()["curves"]
    assert isinstance(given, dict)
    assert "gradient_patches" in given
    # Of a covariance alone it is not known what its tokens were made of.
    assert "gradient_patches" not in predict(IMAGE, gram=np.eye(5), others=False).curves
