"""Drawn networks of Gemma 2 whose table is embedding and readout, by autograd.

The two parts of the table's gradient are pulled back to two copies of it. No line of this project
is passed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

NETWORKS, DIM, WORDS = 16, 256, 1000
#: Words of a text, a few of which come often and some of which follow themselves.
TEXT = 10 + np.minimum(np.random.default_rng(5).zipf(1.3, 33), 500)


class Measured(NamedTuple):
    """Of every network: the loss, and squares of gradients [networks]."""

    loss: np.ndarray
    embedding: np.ndarray
    readout: np.ndarray
    cross: np.ndarray
    whole: np.ndarray


def config_of(softcap: float | None) -> Any:
    """Two layers with a cap of the logits, or none."""
    return pytest.importorskip("transformers").Gemma2Config(
        hidden_size=DIM,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        query_pre_attn_scalar=64,
        intermediate_size=512,
        vocab_size=WORDS,
        pad_token_id=0,
        tie_word_embeddings=True,
        initializer_range=0.08,
        final_logit_softcapping=softcap,
    )


def measured(config: Any, text: np.ndarray) -> Measured:
    """Both parts, twice their product, and the gradient of the table as it is."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    inputs, targets = (torch.tensor(row) for row in (text[:-1], text[1:]))
    found = []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        table = model.get_input_embeddings().weight
        copy = table.detach().clone().requires_grad_()
        entering = DIM**0.5 * copy[inputs][None]  # the class scales what ids look up, alone
        loss = torch.nn.functional.cross_entropy(model(inputs_embeds=entering).logits[0], targets)
        parts = torch.autograd.grad(loss, (copy, model.get_output_embeddings().weight))
        loss = torch.nn.functional.cross_entropy(model(input_ids=inputs[None]).logits[0], targets)
        (gradient,) = torch.autograd.grad(loss, (table,))
        one, two, all_of_it = (of.double().numpy() for of in (*parts, gradient))
        squares = ((one**2).sum(), (two**2).sum(), 2 * (one * two).sum(), (all_of_it**2).sum())
        found.append((float(loss.detach()), *squares))
    return Measured(*np.array(found).T)
