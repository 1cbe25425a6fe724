"""Capped logits of a table that is embedding and readout, against drawn networks of Gemma 2."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from tests.limits.signal.tied_gemma import DIM, NETWORKS, TEXT, WORDS, config_of, measured

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

#: Two words that predict one another.
LOOP = np.array([13, 17] * 16 + [13])
CAP = 3.0


class Theory(NamedTuple):
    """What the limit tells: means of the four figures, and the deviation of the loss."""

    means: np.ndarray
    deviation: float


def theories(text: np.ndarray) -> tuple[Theory, Theory]:
    """With the cap and without."""
    reading = read_stack(config_of(CAP).to_dict())
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
    found = np.stack(measured(config_of(CAP), text)[:4], axis=1)
    capped, bare = theories(text)
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
