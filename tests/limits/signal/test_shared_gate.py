"""A block that every token is sent to, behind a gate of its own: against drawn networks."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from tests.limits.signal import networks

from translimit.core import ArgumentError, solve
from translimit.describe import (
    Activation,
    Embedding,
    Experts,
    FeedForward,
    Normalisation,
    Stack,
    SubBlock,
    matrices,
)
from translimit.limits.signal import Chain, Recursion, SignalPropagation
from translimit.limits.signal.sub_blocks import GROUPS

DIM, COUNT = 256, 96
IDS = np.array([1, 2, 1, 3, 4, 5])
#: Logits of the gate have deviation 3.2; the experts are small beside the block.
BLOCK = Experts(
    4,
    2,
    FeedForward(320, Activation.SILU, 0.06, 0.02, gated=True),
    0.06,
    shared=FeedForward(320, Activation.SILU, 0.06, 0.06, gated=True),
    shared_gate_std=0.2,
)


def stack_of(block: Experts) -> Stack:
    layer = (SubBlock((block,), norm_in=Normalisation(norm_eps=1e-6)),)
    return Stack(DIM, (layer, layer), Embedding(0.3))


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    stack = stack_of(BLOCK)
    keys = jax.random.split(jax.random.key(5), COUNT)
    run = jax.jit(lambda keys: jax.lax.map(lambda key: networks.grams(stack, IDS, key), keys))
    covs, grads = run(keys)
    return np.asarray(covs, float), np.asarray(grads, float)


def excess(measured: np.ndarray, predicted: np.ndarray) -> float:
    """The largest difference over four and a half standard errors and n / D."""
    error = measured.std(axis=0, ddof=1) / COUNT**0.5
    size = np.abs(predicted).max(axis=(1, 2), keepdims=True)
    allowed = 4.5 * error + len(IDS) / DIM * size
    return float((np.abs(measured.mean(axis=0) - predicted) / allowed).max())


def test_networks_have_what_the_recursion_and_the_chain_say(
    drawn: tuple[np.ndarray, np.ndarray],
) -> None:
    def problem(block: Experts) -> SignalPropagation:
        stack = stack_of(block)
        return SignalPropagation(stack=stack, initial=stack.initial_cov(IDS))

    limit = solve(problem(BLOCK), Recursion(pairs=24, copies=3), key=jax.random.key(0))
    assert excess(drawn[0], limit.cov) < 1
    assert excess(drawn[1], limit.grad_gram) < 1
    chain = solve(problem(BLOCK), Chain(networks=32), key=jax.random.key(0))
    assert excess(drawn[0], chain.cov) < 1
    # The block without its gate, and a gate that gives a half to every token.
    for other in (None, 0.0):
        wrong = problem(dataclasses.replace(BLOCK, shared_gate_std=other))
        wrong = solve(wrong, Recursion(pairs=24, copies=3), key=jax.random.key(0))
        assert excess(drawn[0], wrong.cov) > 1.3, other


def test_the_gate_s_gradient_is_that_of_drawn_networks() -> None:
    stack = stack_of(BLOCK)
    layer, places = stack.layers[0], [GROUPS.index(one) for one in ("router", "shared_gate")]

    def one(key: jax.Array) -> jax.Array:
        first, second, third = jax.random.split(key, 3)
        table = 0.3 * jax.random.normal(first, (6, DIM))
        grad = jax.random.normal(second, (len(IDS), DIM)) / DIM**0.5
        return networks.weight_squares(stack, table[IDS], 0, third, grad)

    squares = np.asarray(
        jax.jit(lambda k: jax.lax.map(one, k))(jax.random.split(jax.random.key(1), COUNT))
    )
    found = squares[:, [0, -1]]
    problem = SignalPropagation(
        stack=dataclasses.replace(stack, layers=(layer,)), initial=stack.initial_cov(IDS)
    )
    limit = solve(problem, Recursion(pairs=64, copies=4), key=jax.random.key(0))
    error = found.std(axis=0, ddof=1) / COUNT**0.5
    told = np.asarray(limit.weight_squares).mean(axis=0)[0, places]
    assert np.all(np.abs(found.mean(axis=0) - told) < 4.5 * error + 0.03 * told)
    assert matrices(layer, DIM)["router"].entries == DIM * BLOCK.count
    assert matrices(layer, DIM)["shared_gate"].entries == DIM


def test_a_gate_without_its_block_is_refused() -> None:
    with pytest.raises(ArgumentError, match="shared_gate_std"):
        dataclasses.replace(BLOCK, shared=None)
