"""Networks of a described stack against networks that were written apart from them."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from tests.limits.signal.networks import grams
from tests.limits.signal.stacks import IDS, STACKS

from translimit.core import ArgumentError
from translimit.models import DrawnStack


def told(covs: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Log mean square at the top and log trace of B at the bottom, and overlap at the top."""
    covs, gram = np.asarray(covs, float), np.asarray(gram, float)
    square, trace = (np.diagonal(one, axis1=-2, axis2=-1).mean(-1) for one in (covs, gram))
    s = 1 / np.sqrt(np.diagonal(covs, axis1=-2, axis2=-1))
    overlap = (covs * s[..., :, None] * s[..., None, :]).mean(axis=(-2, -1))
    return np.stack([np.log(square[:, -1]), np.log(trace[:, 0]), overlap[:, -1]], axis=1)


@pytest.mark.parametrize("name", ["qwen3", pytest.param("bert", marks=pytest.mark.slow)])
def test_networks_agree_with_others(name: str) -> None:
    """From the same initial covariance, means within 4.5 standard errors."""
    stack = STACKS[name]
    found = DrawnStack(stack).simulate(stack.initial_cov(IDS), networks=16, key=jax.random.key(0))
    ours = told(found.covs, found.grad_grams)
    pairs = [grams(stack, IDS, key) for key in jax.random.split(jax.random.key(1), 8)]
    theirs = told(*(np.stack([np.asarray(one[i]) for one in pairs]) for i in range(2)))
    error = np.sqrt(ours.var(axis=0, ddof=1) / len(ours) + theirs.var(axis=0, ddof=1) / len(theirs))
    assert np.all(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 4.5 * error + 1e-6)


def test_the_gradient_of_squares_is_the_tokens() -> None:
    stack = STACKS["qwen3"]
    found = DrawnStack(stack).simulate(np.eye(3), networks=2, key=jax.random.key(0), top="squares")
    assert np.allclose(found.grad_grams[:, -1], stack.dim * found.covs[:, -1], rtol=1e-4)


def test_what_is_not_drawn_is_refused() -> None:
    with pytest.raises(ArgumentError, match="attention and feed-forward"):
        DrawnStack(STACKS["mixtral"])
    with pytest.raises(ArgumentError, match="scores"):
        DrawnStack(STACKS["bloom"])
