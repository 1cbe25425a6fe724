"""The gradient of a table that is embedding and readout: Gemma 2 with drawn weights, by autograd.

The two parts are pulled back to two copies of the table. No line of this project is passed.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from translimit.core import ArgumentError, solve
from translimit.describe import Embedding, read_stack
from translimit.limits.signal import (
    Readout,
    Recursion,
    SignalPropagation,
    embedding_squares,
    own_token_logit,
    readout_square,
    tied_cross,
    top_gradient,
)

NETWORKS, DIM, WORDS = 16, 256, 1000
#: Words of a text, a few of which come often.
TEXT = 10 + np.minimum(np.random.default_rng(5).zipf(1.3, 33), 500)
SIZES: dict[str, Any] = {
    "hidden_size": DIM,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
    "intermediate_size": 512,
    "vocab_size": WORDS,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
    "initializer_range": 0.08,
    "final_logit_softcapping": None,
}


def measured(config: Any) -> np.ndarray:
    """Squares of both parts, twice their product, and the square of the whole table."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    inputs, targets = (torch.tensor(row) for row in (TEXT[:-1], TEXT[1:]))
    found = []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        table = model.get_input_embeddings().weight
        copy = table.detach().clone().requires_grad_()
        entering = DIM**0.5 * copy[inputs][None]  # the class scales what ids look up, alone
        logits = model(inputs_embeds=entering).logits[0]
        loss = torch.nn.functional.cross_entropy(logits, targets)
        parts = torch.autograd.grad(loss, (copy, model.get_output_embeddings().weight))
        loss = torch.nn.functional.cross_entropy(model(input_ids=inputs[None]).logits[0], targets)
        (whole,) = torch.autograd.grad(loss, (table,))
        one, two, whole = (of.double().numpy() for of in (*parts, whole))
        found.append([(one**2).sum(), (two**2).sum(), 2 * (one * two).sum(), (whole**2).sum()])
    return np.array(found)


@pytest.mark.slow
def test_both_parts_and_what_they_have_in_common() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Gemma2Config(**SIZES)
    reading = read_stack(config.to_dict())
    stack, ids, targets = reading.stack, TEXT[:-1], TEXT[1:]
    norm = stack.norm_final
    assert isinstance(stack.embedding, Embedding)
    assert norm is not None
    assert reading.readout_std is not None

    def solved(top: np.ndarray | None) -> Any:
        cov = stack.initial_cov(ids)
        problem = SignalPropagation(stack=stack, initial=cov, top_gradient=top)
        return solve(problem, Recursion(24, 4), key=jax.random.key(0))

    cov = solved(None).cov[-1]
    squares = np.diagonal(cov)
    own = own_token_logit(stack, squares)
    readout = Readout(WORDS, DIM, reading.readout_std * DIM**0.5, own)
    s = 1 / np.sqrt(squares + norm.norm_eps)
    read = cov * np.outer(s, s)
    back = solved(top_gradient(cov, norm, targets, readout, ids)).grad_gram[0]
    table = stack.embedding.std
    told = [
        float(embedding_squares(stack, ids, back)["embedding"]),
        readout_square(read, targets, readout, ids) / reading.readout_std**2,
        tied_cross(read, targets, readout, ids, table),
    ]
    told.append(sum(told))
    found = measured(config)
    error = found.std(axis=0, ddof=1) / NETWORKS**0.5
    gap = np.abs(found.mean(axis=0) - told)
    assert np.all(gap < 4 * error + 0.05 * np.abs(told)), (found.mean(axis=0), told, error)
    # There is something in common, and less of it than without the norm.
    assert found[:, 2].mean() > 4 * error[2]
    bare = tied_cross(read, targets, readout, ids, table, normed=False)
    assert abs(found[:, 2].mean() - bare) > 4 * error[2] + 0.05 * bare


def test_words_that_predict_one_another_have_more_in_common() -> None:
    readout = Readout(32_000, 64, 0.8, 3.0)
    apart = tied_cross(np.eye(4), [4, 5, 6, 7], readout, [0, 1, 2, 3], 0.1)
    loop = tied_cross(np.eye(4), [1, 0, 3, 2], readout, [0, 1, 2, 3], 0.1)
    assert abs(apart) < 1e-4
    assert loop == pytest.approx(2 * 9.0 * 4 / (16 * 64 * 0.1**2), rel=1e-3)
    with pytest.raises(ArgumentError, match="table_std"):
        tied_cross(np.eye(2), [1, 0], readout, [0, 1], 0.0)
