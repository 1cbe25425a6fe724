"""GGUF files of Llama: written by llama.cpp's own writer, against the module they were made of."""

from types import SimpleNamespace

import numpy as np
import pytest
from tests.diagnose.small_models import SIZES, WORDS

from translimit.core import ConfigError
from translimit.diagnose import read_checkpoint, stream_of
from translimit.diagnose.gguf_files import INSIDE, _numbers, gguf_encoder, unpermuted

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

NAMES = {value: key for key, value in INSIDE.items()}
IDS = np.array([3, 7, 1, 29, 4, 4, 12])


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    sizes = {**SIZES, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
    config = transformers.LlamaConfig(
        **sizes, **WORDS, num_key_value_heads=2, rope_theta=500.0, rms_norm_eps=1e-5
    )
    module = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.3 * torch.randn_like(value))
    return module.eval()


def permuted(weights, heads):
    """As convert_hf_to_gguf.py writes queries and keys."""
    shape = weights.shape
    return (
        weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
    )


def written(path, module, *, quantised=None, more=None, architecture="llama"):
    config, kind = module.config, gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(500.0)
    for key, value in (more or {}).items():
        writer.add_string(key, value)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in module.state_dict().items():
        value, words = tensor.float().numpy(), name.split(".")
        if name == "model.embed_tokens.weight":
            told = "token_embd.weight"
        elif name == "model.norm.weight":
            told = "output_norm.weight"
        elif name == "lm_head.weight":
            told = "output.weight"
        else:
            part = NAMES[".".join(words[3:-1])]
            told = f"blk.{words[2]}.{part}.weight"
            value = permuted(value, heads[part]) if part in heads else value
        if quantised is not None and value.ndim == 2:
            raw = gguf.quants.quantize(value, kind[quantised])
            writer.add_tensor(told, raw, raw_dtype=kind[quantised])
        else:
            writer.add_tensor(told, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_written_llama_is_the_module_it_was_made_of(llama, tmp_path):
    ours = read_checkpoint(written(tmp_path / "a.gguf", llama))
    theirs = read_checkpoint(llama)
    for layer, other in zip(ours.layers, theirs.layers, strict=True):
        for name, value in other.parameters.items():
            np.testing.assert_array_equal(layer.parameters[name], value, err_msg=name)
    with torch.no_grad():
        told = llama.double()(torch.tensor(IDS)[None], output_hidden_states=True)
        llama.float()
    stream = stream_of(ours, IDS)
    for place, state in enumerate(told.hidden_states[:-1]):
        state = state[0].numpy()  # its norm and softmax are in float32 whatever the type
        np.testing.assert_allclose(stream[place], state, atol=1e-6 * np.abs(state).max())
    np.testing.assert_allclose(ours.logits(stream[-1]), told.logits[0].numpy(), rtol=1e-4)


def test_the_pairs_left_as_they_are_give_another_network(llama, tmp_path, monkeypatch):
    right = stream_of(read_checkpoint(llama), IDS)[-1]
    path = written(tmp_path / "a.gguf", llama)
    monkeypatch.setattr("translimit.diagnose.gguf_files.unpermuted", lambda rows, heads: rows)
    assert np.abs(stream_of(read_checkpoint(path), IDS)[-1] - right).max() > 0.1
    rows = np.arange(24.0).reshape(8, 3)
    np.testing.assert_array_equal(unpermuted(permuted(rows, 2), 2), rows)


@pytest.mark.parametrize(("kind", "error"), [("Q8_0", 0.01), ("Q4_1", 0.1), ("F16", 1e-3)])
def test_quantised_types_are_the_numbers_that_they_stand_for(llama, tmp_path, kind, error):
    ours = read_checkpoint(written(tmp_path / "a.gguf", llama, quantised=kind))
    for layer, other in zip(ours.layers, read_checkpoint(llama).layers, strict=True):
        for name in ("W_Q", "W_K", "W_O", "W_1", "W_up", "W_2"):
            found, told = layer.parameters[name], other.parameters[name]
            assert np.linalg.norm(found - told) < error * np.linalg.norm(told), name


def test_what_is_refused_by_name(llama, tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match="no GGUF file that can be read"):
        read_checkpoint(tmp_path / "x.gguf")
    with pytest.raises(ConfigError, match="architecture qwen2"):
        read_checkpoint(written(tmp_path / "b.gguf", llama, architecture="qwen2"))
    scaled = written(tmp_path / "c.gguf", llama, more={"llama.rope.scaling.type": "yarn"})
    with pytest.raises(ConfigError, match="rotary scaling yarn"):
        read_checkpoint(scaled)
    told = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default"}
    with pytest.raises(ConfigError, match="pass --ids"):
        gguf_encoder(written(tmp_path / "d.gguf", llama, more=told))


def test_a_type_that_is_not_read_is_named(tmp_path):
    kind = gguf.GGMLQuantizationType.Q8_1  # of llama.cpp's own products, never of a file
    tensor = SimpleNamespace(
        name="blk.0.attn_q.weight",
        tensor_type=kind,
        shape=np.array([32, 1]),
        data=np.zeros((1, 36), np.uint8),
    )
    with pytest.raises(ConfigError, match=r"attn_q.weight is of type Q8_1, which is not read"):
        _numbers(tensor, 1, tmp_path)
