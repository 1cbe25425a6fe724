r"""GGUF files of llama.cpp: Llama models, plain or quantised, read without running anything.

The file holds its configuration, its tensors by llama.cpp's names, and its tokenizer. Tensors of
quantised types become float32 when they are asked for; what is measured is then the quantised
network. Queries and keys are stored with their rotary pairs as neighbours (2 p, 2 p + 1); here they
are put back to (p, p + d / 2), as Hugging Face's files have them:

    row (h, p, s) of the file, p < d / 2, s = 0, 1,  is row (h, s, p) here.

A wrong order of the pairs shows in the loss alone, so it is checked on a written file and on text.

Reference: llama.cpp, convert_hf_to_gguf.py (`permute`); documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from translimit.core import ConfigError, cause_of, require_package

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

#: Keys of the configuration, by what `config.json` calls them; without the architecture.
KEYS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "vocab_size": "vocab_size",
}
#: Names of tensors in the files of Hugging Face, by llama.cpp's; layers are `blk.N`.
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
INSIDE = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
#: What a tokenizer of byte pairs is split at before, by llama.cpp's name.
SPLITS = {"smollm": "digits", "gpt-2": "", "gpt2": "", "default": ""}

Getter = Callable[[], np.ndarray]


def read_gguf(path: Path) -> tuple[dict[str, Getter], dict[str, object]]:
    """Tensors by the names of Hugging Face's Llama, and a configuration in its keys.

    Args:
        path: the file.

    Raises:
        ConfigError: the package gguf is not installed; no GGUF file, another architecture, scaled
            rotary frequencies, experts, a tensor that no Llama has.
    """
    reader, told = _open(path), {}
    kind = _value(reader, "general.architecture")
    if kind != "llama":
        raise ConfigError(str(path), f"is of architecture {kind}", "of GGUF files llama is read")
    for name, key in KEYS.items():
        value = _value(reader, f"llama.{key}")
        told |= {} if value is None else {name: value}
    missing = [KEYS[name] for name in list(KEYS)[:4] if name not in told]
    if missing:
        raise ConfigError(str(path), f"has no llama.{missing[0]}", "convert the model again")
    scaling = _value(reader, "llama.rope.scaling.type")
    if scaling not in (None, "none") or _value(reader, "llama.expert_count"):
        what = "experts" if _value(reader, "llama.expert_count") else f"rotary scaling {scaling}"
        raise ConfigError(str(path), f"has {what}", "give the model's safetensors")
    heads = int(told["num_attention_heads"])
    counts = {"attn_q": heads, "attn_k": int(told.get("num_key_value_heads", heads))}
    found: dict[str, Getter] = {}
    for tensor in reader.tensors:
        plain, part = _plain(tensor.name, path)
        found[plain] = partial(_numbers, tensor, counts.get(part, 0), path)
    table = next((one for one in reader.tensors if one.name == "token_embd.weight"), None)
    told.setdefault("vocab_size", 0 if table is None else int(table.shape[1]))
    tied = "lm_head.weight" not in found
    biased = "model.layers.0.self_attn.q_proj.bias" in found
    more = {"tie_word_embeddings": tied, "attention_bias": biased, "hidden_act": "silu"}
    return found, {"model_type": "llama", **told, **more}


def gguf_encoder(path: Path) -> Callable[[str], Shaped[np.ndarray, " n"]]:
    """From a text to ids, by the byte pairs in the file; no special tokens are added.

    Args:
        path: the file.

    Raises:
        ConfigError: the tokenizer is of another kind.
    """
    reader = _open(path)
    kind, split = (_value(reader, f"tokenizer.ggml.{one}") for one in ("model", "pre"))
    if kind != "gpt2" or str(split or "default") not in SPLITS:
        problem = f"has a tokenizer {kind} ({split}), which is not read"
        raise ConfigError(str(path), problem, "pass --ids with one sequence a line")
    require_package("tokenizers", "diagnose")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words, merges = (_value(reader, f"tokenizer.ggml.{one}") for one in ("tokens", "merges"))
    assert isinstance(words, list)
    assert isinstance(merges, list)
    pairs = [tuple(one.split(" ", 1)) for one in merges]
    places = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocab=places, merges=pairs))
    parts = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if SPLITS[str(split or "default")] == "digits":
        parts = [pre_tokenizers.Digits(individual_digits=True), *parts]
    made.pre_tokenizer = pre_tokenizers.Sequence(parts)
    return lambda text: np.array(made.encode(text).ids, np.int64)


def unpermuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys with rotary pairs (p, p + d / 2), from neighbours.

    Args:
        rows: a matrix or a bias, head by head along its first axis.
        heads: how many.
    """
    shape = rows.shape
    pairs = rows.reshape(heads, shape[0] // heads // 2, 2, *shape[1:])
    return pairs.swapaxes(1, 2).reshape(shape)


def _open(path: Path) -> GGUFReader:
    try:
        require_package("gguf", "diagnose")
    except ImportError as error:
        problem = "is a GGUF file, and the package gguf is not installed"
        raise ConfigError(
            str(path), problem, "pip install 'translimit[diagnose]', or give safetensors"
        ) from error
    from gguf import GGUFReader

    try:
        return GGUFReader(str(path))
    except Exception as error:
        problem = f"is no GGUF file that can be read ({cause_of(error)[:120]})"
        raise ConfigError(str(path), problem, "download it again") from error


def _value(reader: GGUFReader, key: str) -> object:
    held = reader.get_field(key)
    return None if held is None else held.contents()


def _plain(name: str, path: Path) -> tuple[str, str]:
    """The name of Hugging Face, and what stands in a layer."""
    if name in OUTSIDE:
        return OUTSIDE[name], ""
    words = name.split(".")
    if len(words) == 4 and words[0] == "blk" and words[2] in INSIDE:
        return f"model.layers.{words[1]}.{INSIDE[words[2]]}.{words[3]}", words[2]
    raise ConfigError(str(path), f"has a tensor {name}", "only plain Llama models are read")


def _numbers(tensor: ReaderTensor, heads: int, path: Path) -> np.ndarray:
    """A tensor in float32, rows as Hugging Face has them."""
    from gguf.quants import dequantize

    try:
        value = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
    except Exception as error:
        problem = f"{tensor.name} is of type {tensor.tensor_type.name}, which is not read"
        raise ConfigError(
            str(path), problem, "give another quantisation, or safetensors"
        ) from error
    value = value.reshape(tuple(int(one) for one in tensor.shape)[::-1])
    return unpermuted(value, heads) if heads else value
