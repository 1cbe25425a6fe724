"""Reading architectures: public configurations, our own format, and everything that is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from translimit.core import ArgumentError, ArgumentTypeError, ConfigError, NoSuchLimitError
from translimit.describe import (
    Activation,
    FeedForwardBlock,
    Norm,
    PreNormArchitecture,
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
    assert any("sliding window of 4096" in one for one in mistral.assumptions)
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


def test_aliases_and_absent_fields():
    aliased = read_architecture(
        {"model_type": "gpt2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    )
    assert (aliased.dim, aliased.layers, aliased.heads) == (64, 2, 4)
    assert any("initializer_range is absent: 0.02" in one for one in aliased.assumptions)
    by_class = {k: v for k, v in LLAMA.items() if k != "model_type"}
    by_class["architectures"] = ["LlamaForCausalLM"]
    assert read_architecture(by_class).family == "llama"
    assert read_architecture(LLAMA | {"head_dim": 24}).head_dim == 24
    assert read_architecture(LLAMA | {"head_dim": None}).head_dim == 16
    newer = read_architecture(LLAMA | {"rope_parameters": {"rope_theta": 7.0, "rope_type": "yarn"}})
    assert newer.rotary == Rotary(16, 7.0)
    assert newer.ignored == ("rope_parameters of type 'yarn': frequencies are taken unscaled",)
    scaled = read_architecture(LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.0}})
    assert "rope_scaling of type 'linear'" in scaled.ignored[0]


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


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_post_norm_families_are_recognised_and_refused(name):
    with pytest.raises(NoSuchLimitError, match=r"post-LN.*understood: gpt2, llama"):
        read_architecture({"model_type": name, "hidden_size": 768})
    with pytest.raises(NoSuchLimitError, match="post-LN"):
        read_architecture({"architectures": ["BertForMaskedLM"]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "mamba"}, "unknown family 'mamba'.*known: gpt2, gpt_neox, llama"),
        ({"model_type": "lama"}, "did you mean 'llama'"),
        ({"architectures": ["OPTForCausalLM"]}, "unknown family 'OPTForCausalLM'"),
        ({"n_embd": 3}, "names no family"),
        ({"architectures": 3}, "names no family"),
        ({"architectures": [3, None]}, "names no family"),
        ({"model_type": "gpt2"}, "missing field n_layer or num_hidden_layers"),
        ({**GPT2, "n_embd": None}, "missing field n_embd or hidden_size or d_model"),
        ({k: v for k, v in LLAMA.items() if k != "intermediate_size"}, "n_inner or intermediate"),
        ({**GPT2, "n_layer": 0}, "n_layer is 0; write a positive integer"),
        ({**GPT2, "n_layer": "two"}, "n_layer is 'two'"),
        ({**GPT2, "n_head": 5}, "n_head is 5; write a divisor of the width 64"),
        ({**GPT2, "initializer_range": -1}, "initializer_range is -1"),
        ({**GPT2, "activation_function": "gelo"}, "did you mean 'gelu'"),
        ({**GPT2, "activation_function": 3}, "write a word"),
        ({**GPT2, "scale_attn_weights": False}, "write True, the only one understood"),
        ({**LLAMA, "rope_scaling": "yarn"}, "write an object of keys and values"),
        ({**LLAMA, "num_key_value_heads": 3}, "3 does not divide 4 heads"),
        ({**LLAMA, "sliding_window": 4, "use_sliding_window": "y"}, "write true or false"),
        ({**GPT2, "n_embd": 10**18}, f"n_embd is {10**18}; write a positive .* at most 2147483647"),
        ({**GPT2, "n_layer": 2**31}, "n_layer is 2147483648; write"),
        ({**GPT2, "initializer_range": 1e300}, "initializer_range is 1e.300; write a number of"),
        ({**GPT2, "layer_norm_epsilon": 10**400}, "layer_norm_epsilon is 1000"),
        ({**OWN, "layers": 2**31}, "layers: got 2147483648; pass at most"),
        ({**OWN, "token_std": 1e-200}, "token_std: got 1e-200; pass a number between 1e-100"),
        ({**OWN, "init_std": 1e200}, "got 1e.200; pass a number between"),
        ({"kind": "post-norm"}, "unknown kind 'post-norm'"),
        ({**OWN, "depth": 3}, "unknown key 'depth'"),
        ({"kind": "pre-norm", "dim": 3}, "missing key 'layers'"),
        ({**OWN, "heads": 5}, "5 heads do not divide 64"),
        ({**OWN, "rotary_dims": 3}, "got 3, which is odd"),
        ({**OWN, "rotary_dims": 32}, "turns 32 entries of heads of 16"),
        ({**OWN, "parallel": True}, "is given without a feed-forward block"),
        ({**OWN, "token_std": 0.0}, "token_std: got 0"),
        ({**OWN, "norm": "batch"}, "norm"),
    ],
)
def test_refusals(values, message):
    with pytest.raises(ArgumentError, match=message):
        read_architecture(values)


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_architecture(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="malformed"):
        read_architecture(path)
    path.write_text("[]")
    with pytest.raises(ConfigError, match="no JSON object"):
        read_architecture(path)
    with pytest.raises(ConfigError, match="suffix"):
        read_architecture(__file__)


@pytest.mark.usefixtures("as_user")
def test_descriptions_are_validated():
    read = read_architecture(OWN)
    assert isinstance(read, PreNormArchitecture)
    with pytest.raises(ArgumentError, match="layers"):
        replace(read, layers=0)
    with pytest.raises(ArgumentTypeError, match="norm"):
        replace(read, norm="layer")
    with pytest.raises(ArgumentTypeError, match="activation"):
        FeedForwardBlock(3, "gelu", 0.1, 0.1)
    with pytest.raises(ArgumentError, match="base"):
        Rotary(4, 0.5)
