"""Random stacks against classes of transformers that are given the same weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from translimit.describe import Embedding, read_stack
from translimit.models import LanguageReadout, RandomStack

torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: nothing to compare with"
)
KEY = jax.random.key(3)
N, WORDS = 9, 31
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": WORDS,
    "initializer_range": 0.3,
}


def copied(into: Any, matrix: Any) -> None:
    """A matrix that tokens are multiplied with from the left, into a linear layer."""
    with torch.no_grad():
        into.weight.copy_(torch.tensor(np.array(matrix, float)).T)
        if into.bias is not None:
            into.bias.zero_()


def grams(levels: list[Any], centred: bool) -> np.ndarray:
    rows = np.stack([one.detach().numpy() for one in levels])
    rows = rows - rows.mean(axis=-1, keepdims=True) if centred else rows
    return rows @ np.swapaxes(rows, 1, 2) / rows.shape[2]


def test_llama_has_the_same_tokens_loss_and_gradient() -> None:
    """Grouped keys, rotary positions, a gate, RMS norms; the loss of a tied readout by autograd."""
    config = transformers.LlamaConfig(
        **SIZES, num_key_value_heads=2, tie_word_embeddings=True, attn_implementation="eager"
    )
    network = RandomStack(read_stack(config.to_dict()).stack)
    model = transformers.LlamaForCausalLM(config).double().eval()
    for layer, of in enumerate(model.model.layers):
        mixer, units = (one[0] for one in network.draw_weights(layer, key=KEY))
        for name, into in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
            copied(getattr(of.self_attn, f"{into}_proj"), mixer[name])
        for name, into in (("in", "gate"), ("up", "up"), ("out", "down")):
            copied(getattr(of.mlp, f"{into}_proj"), units[name])
    table = network.draw_tokens(np.arange(WORDS), key=KEY, dtype=np.float64)
    ids, targets = np.arange(N) ** 2 % WORDS, np.arange(1, N + 1) ** 2 % WORDS
    with torch.no_grad():
        model.lm_head.weight.copy_(torch.tensor(table))
    x = torch.tensor(table[ids])[None].requires_grad_()
    levels: list[Any] = [x[0]]
    hooks = [
        layer.register_forward_hook(
            lambda _m, _i, out: levels.append((out[0] if isinstance(out, tuple) else out)[0])
        )
        for layer in model.model.layers
    ]
    logits = model(inputs_embeds=x).logits[0]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(targets))
    (gradient,) = torch.autograd.grad(loss, x)
    for hook in hooks:
        hook.remove()
    tokens = network.draw_tokens(ids, key=KEY, dtype=np.float64)
    readout = LanguageReadout(targets, WORDS, tied=KEY)
    told = network.simulate(tokens, key=KEY, readout=readout)
    assert told.losses is not None
    assert np.allclose(told.covs[0], grams([one.reshape(N, -1) for one in levels], False), 1e-4)
    assert told.losses[0] == pytest.approx(loss.item(), rel=1e-5)
    g = gradient[0].numpy()
    assert np.allclose(told.grad_gram[0], g @ g.T, rtol=1e-3, atol=1e-6 * (g**2).sum())


def test_bert_has_the_same_tokens() -> None:
    """Post-LN, no mask, GELU; tokens leave the norm of the embedding."""
    config = transformers.BertConfig(**SIZES, attn_implementation="eager")
    network = RandomStack(read_stack(config.to_dict()).stack)
    model = transformers.BertModel(config, add_pooling_layer=False).double().eval()
    ids = np.arange(N) ** 2 % WORDS + 1
    x = torch.tensor(network.draw_tokens(ids, key=KEY, dtype=np.float64))[None]
    levels = [x[0]]
    for layer, of in enumerate(model.encoder.layer):
        mixer, units = (one[0] for one in network.draw_weights(layer, key=KEY))
        for name in ("query", "key", "value"):
            copied(getattr(of.attention.self, name), mixer[name])
        copied(of.attention.output.dense, mixer["out"])
        copied(of.intermediate.dense, units["in"])
        copied(of.output.dense, units["out"])
        x = of(x)
        x = x[0] if isinstance(x, tuple) else x
        levels.append(x[0])
    tokens = network.draw_tokens(ids, key=KEY, dtype=np.float64)
    told = network.simulate(tokens, key=KEY)
    assert np.allclose(told.covs[0], grams(levels, True), rtol=1e-4, atol=1e-5)


def test_t5_has_the_same_tokens() -> None:
    """One table of relative positions for all layers, no scale of scores."""
    config = transformers.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=WORDS
    )
    network = RandomStack(read_stack(config.to_dict()).stack)
    model = transformers.T5EncoderModel(config).double().eval()
    blocks = model.encoder.block
    for layer, of in enumerate(blocks):
        mixer, units = (one[0] for one in network.draw_weights(layer, key=KEY))
        attention = of.layer[0].SelfAttention
        for name, into in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
            copied(getattr(attention, into), mixer[name])
        if layer == 0:
            with torch.no_grad():
                table = torch.tensor(np.array(mixer["table"], float))
                attention.relative_attention_bias.weight.copy_(table)
        copied(of.layer[1].DenseReluDense.wi, units["in"])
        copied(of.layer[1].DenseReluDense.wo, units["out"])
    assert isinstance(network.stack.embedding, Embedding)
    tokens = network.draw_tokens(np.arange(N) % WORDS, key=KEY, dtype=np.float64)
    with torch.no_grad():
        found = model(inputs_embeds=torch.tensor(tokens)[None]).last_hidden_state[0]
    told = network.simulate(tokens, key=KEY)
    # The class ends in its final norm: it has overlaps.
    norm = grams([found], False)[0]
    s = 1 / np.sqrt(np.diagonal(norm))
    expected = s[:, None] * s * norm
    assert np.allclose(told.overlaps[0, -1], expected, atol=1e-5)
    other = dataclasses.replace(network.stack, causal=True)
    assert not np.allclose(RandomStack(other).simulate(tokens, key=KEY).overlaps[0, -1], expected)
