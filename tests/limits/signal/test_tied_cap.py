"""Capped logits of a table that is embedding and readout: Gemma 2 with drawn weights, by autograd.

The two parts of the table's gradient are pulled back to two copies of it. No line of this project
is passed.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from translimit.core import solve
from translimit.describe import Embedding, read_stack
from translimit.limits.signal import (
    Readout,
    Recursion,
    SignalPropagation,
    embedding_squares,
    initial_loss,
    own_token_logit,
    readout_square,
    tied_cross,
    top_gradient,
)

NETWORKS, DIM, WORDS = 16, 256, 1000
#: Words of a text, a few of which come often and some of which follow themselves.
TEXT = 10 + np.minimum(np.random.default_rng(5).zipf(1.3, 33), 500)
#: Two words that predict one another.
LOOP = np.array([13, 17] * 16 + [13])
CAP = 3.0
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
    "final_logit_softcapping": CAP,
}


def measured(text: np.ndarray) -> np.ndarray:
    """Loss, squares of both parts and twice their product, of every network [networks, 4]."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    inputs, targets = (torch.tensor(row) for row in (text[:-1], text[1:]))
    found = []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(transformers.Gemma2Config(**SIZES))
        copy = model.eval().get_input_embeddings().weight.detach().clone().requires_grad_()
        entering = DIM**0.5 * copy[inputs][None]  # the class scales what ids look up, alone
        loss = torch.nn.functional.cross_entropy(model(inputs_embeds=entering).logits[0], targets)
        parts = torch.autograd.grad(loss, (copy, model.get_output_embeddings().weight))
        one, two = (of.double().numpy() for of in parts)
        found.append([float(loss.detach()), (one**2).sum(), (two**2).sum(), 2 * (one * two).sum()])
    return np.array(found)


class Theory(NamedTuple):
    """What the limit tells: means of the four figures, and the deviation of the loss."""

    means: np.ndarray
    deviation: float


def theories(text: np.ndarray) -> tuple[Theory, Theory]:
    """With the cap and without."""
    transformers = pytest.importorskip("transformers")
    reading = read_stack(transformers.Gemma2Config(**SIZES).to_dict())
    stack, ids, targets = reading.stack, text[:-1], text[1:]
    norm, embedding, std = stack.norm_final, stack.embedding, reading.readout_std
    assert norm is not None
    assert isinstance(embedding, Embedding)
    assert std is not None
    assert reading.logit_softcap == CAP

    def solved(top: np.ndarray | None) -> Any:
        problem = SignalPropagation(stack=stack, initial=stack.initial_cov(ids), top_gradient=top)
        return solve(problem, Recursion(24, 4), key=jax.random.key(0))

    cov = solved(None).cov[-1]
    squares = np.diagonal(cov)
    s = 1 / np.sqrt(squares + norm.norm_eps)
    read = cov * np.outer(s, s)
    capped = Readout(WORDS, DIM, std * DIM**0.5, own_token_logit(stack, squares), CAP)

    def told(readout: Readout) -> Theory:
        back = solved(top_gradient(cov, norm, targets, readout, ids)).grad_gram[0]
        loss = initial_loss(read, targets, readout, ids)
        made = [float(embedding_squares(stack, ids, back)["embedding"])]
        made.append(readout_square(read, targets, readout, ids) / std**2)
        made.append(tied_cross(read, targets, readout, ids, embedding.std))
        return Theory(np.array([loss.value, *made]), loss.stderr)

    return told(capped), told(dataclasses.replace(capped, softcap=None))


@pytest.mark.slow
@pytest.mark.parametrize("text", [TEXT, LOOP], ids=["text", "loop"])
def test_loss_and_gradients_of_a_capped_tied_table(text: np.ndarray) -> None:
    found, (capped, bare) = measured(text), theories(text)
    mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / NETWORKS**0.5
    share = np.array([0.012, 0.05, 0.05, 0.05])  # of order 1 / D
    allowed = 4 * error + share * np.abs(capped.means)
    assert np.all(np.abs(mean - capped.means) < allowed), (mean, capped, error)
    wide = 4.5 / (2 * NETWORKS) ** 0.5
    assert abs(found[:, 0].std(ddof=1) / capped.deviation - 1) < wide
    gap = np.abs(mean - bare.means) / allowed
    assert gap[0] > 1, gap  # wrong: no cap
    assert gap[2] > 1, gap
    if text is LOOP:  # wrong: nothing in common
        assert mean[3] > allowed[3]


def test_a_token_that_is_its_own_target_sends_the_slope_of_its_own_logit() -> None:
    """Far above the cap that slope is none, so that the parts have nothing in common."""
    wide = Readout(32_000, 64, 0.8, 9.0)
    ids = [4, 4]
    bare = tied_cross(np.eye(2), ids, wide, ids, 0.1, normed=False)
    capped = dataclasses.replace(wide, softcap=2.0)
    assert 0 <= tied_cross(np.eye(2), ids, capped, ids, 0.1, normed=False) < 1e-3 * bare


def test_what_a_capped_readout_sends_down_is_a_covariance() -> None:
    readout = Readout(WORDS, DIM, 1.28, 11.0, CAP)
    ids, targets = LOOP[:-1], LOOP[1:]
    stream = 0.2 + 0.8 * (ids[:, None] == ids[None, :]) + 1e-4 * np.eye(len(ids))
    sent = top_gradient(stream, None, targets, readout, ids)
    values = np.linalg.eigvalsh(sent)
    assert values[0] > -1e-12 * values[-1]
