"""The gradient of a table that is embedding and readout, against drawn networks of Gemma 2."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.signal.tied_gemma import DIM, NETWORKS, TEXT, WORDS, config_of, measured

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


@pytest.mark.slow
def test_both_parts_and_what_they_have_in_common() -> None:
    config = config_of(softcap=None)
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
    found = np.stack(measured(config, TEXT)[1:], axis=1)
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
