"""Reading architectures: public configurations, our own format, and everything that is refused."""

import json
from pathlib import Path

import pytest

from translimit.core import ConfigError
from translimit.describe import (
    Activation,
    FeedForwardBlock,
    Norm,
    Rotary,
    read_architecture,
)

CONFIGS = Path(__file__).parents[1] / "predict" / "configs"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4}
OWN = {"kind": "pre-norm", "layers": 2, "dim": 64, "heads": 4}


def config(name):
    return read_architecture(CONFIGS / f"{name}.json")


@pytest.mark.parametrize(
    ("name", "layers", "dim", "heads"),
    [
        ("gpt2", 12, 768, 12),
        ("gpt2-medium", 24, 1024, 16),
        ("gpt2-large", 36, 1280, 20),
        ("gpt2-xl", 48, 1600, 25),
    ],
)
def test_gpt2(name, layers, dim, heads):
    read = config(name)
    assert (read.layers, read.dim, read.heads, read.head_dim) == (layers, dim, heads, 64)
    assert (read.family, read.causal, read.norm, read.norm_eps) == (
        "gpt2",
        True,
        Norm.LAYER,
        1e-5,
    )
    last = 0.02 / (2 * layers) ** 0.5
    assert read.feed_forward == FeedForwardBlock(4 * dim, Activation.GELU_TANH, 0.02, last)
    assert (read.out_std, read.token_std) == (last, pytest.approx(0.02 * 2**0.5))
    assert (read.rotary, read.parallel, read.context) == (None, False, 1024)


def test_what_gpt2_maps_to():
    # beta_s = D sigma_0^2 and Gamma = D^3 sigma_0^2 sigma_O^2, as docs/predict.md has them;
    # a layer norm leaves D - 1 of D dimensions.
    small = config("gpt2")
    assert small.score_std == pytest.approx(0.3072)
    assert small.branch_square * 768 / 767 == pytest.approx(3.02, abs=0.005)
    assert small.initial_squares[1] * 768 / 767 == pytest.approx(0.614, abs=0.0005)
    large = config("gpt2-xl")
    assert large.score_std == pytest.approx(0.64)
    assert large.branch_square * 1600 / 1599 == pytest.approx(6.83, abs=0.005)
    assert large.branch_square / large.initial_squares[1] == pytest.approx(5.3, abs=0.05)


def test_llama_style():
    read = config("tinyllama-1.1b")
    assert (read.heads, read.kv_heads, read.head_dim) == (32, 4, 64)
    assert (read.norm, read.causal, read.parallel) == (Norm.RMS, True, False)
    assert read.feed_forward == FeedForwardBlock(5632, Activation.SILU, 0.02, 0.02, gated=True)
    assert read.rotary == Rotary(64, 10_000.0)
    assert config("llama-7b").kv_heads == 32
    mistral = config("mistral-7b")
    assert (mistral.kv_heads, mistral.context) == (8, 4096)  # the window bounds the tokens
    qwen = config("qwen2-0.5b")
    assert (qwen.kv_heads, qwen.rotary, qwen.context) == (2, Rotary(64, 1e6), 131072)


def test_neox_has_its_parallel_block_and_partial_rotary_positions():
    read = config("pythia-160m")
    assert (read.parallel, read.norm, read.rotary) == (True, Norm.LAYER, Rotary(16, 10_000.0))
    values = json.loads((CONFIGS / "pythia-160m.json").read_text())
    assert not read_architecture(values | {"use_parallel_residual": False}).parallel
    newer = {k: v for k, v in values.items() if not k.startswith("rotary")}
    newer["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 5000.0,
        "partial_rotary_factor": 0.5,
    }
    assert read_architecture(newer).rotary == Rotary(32, 5000.0)


def test_vit():
    read = config("vit-base")
    assert (read.causal, read.image_tokens, read.context) == (False, 197, 197)
    assert read.token_std == pytest.approx(0.02 * (3 * 16**2 + 1) ** 0.5)
    assert read.first_token_std == pytest.approx(0.02 * 2**0.5)


def test_our_own_format(tmp_path):
    path = tmp_path / "stack.toml"
    path.write_text(
        'kind = "pre-norm"\nlayers = 3\ndim = 48\nheads = 4\nkv_heads = 2\ninit_std = 0.1\n'
        'out_std = 0.2\nnorm = "rms"\nmlp_dim = 96\nactivation = "silu"\ngated = true\n'
        "rotary_dims = 8\nparallel = true\ncausal = false\n"
    )
    read = read_architecture(path)
    assert (read.qk_std, read.v_std, read.out_std, read.token_std) == (0.1, 0.1, 0.2, 0.1)
    assert (read.head_dim, read.kv_heads, read.norm) == (12, 2, Norm.RMS)
    assert read.rotary == Rotary(8, 10_000.0)
    assert read.feed_forward == FeedForwardBlock(96, Activation.SILU, 0.1, 0.1, gated=True)
    image = read_architecture(OWN | {"first_token_std": 0.3, "image_tokens": 5, "context": 5})
    assert (image.first_token_std, image.image_tokens, image.context) == (0.3, 5, 5)
    assert json.loads(json.dumps(read.to_json()))["rotary"] == {"dims": 8, "base": 10_000.0}


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "gemma2", "head_dim": 16},
        {"model_type": "qwen3", "head_dim": 16},
        {"model_type": "mixtral", "num_key_value_heads": 2},
        {"model_type": "bert"},
    ],
)
def test_blocks_that_a_flat_record_does_not_hold_are_refused(values):
    with pytest.raises(ConfigError, match="is no plain pre-LN stack"):
        read_architecture({**LLAMA, **values})
