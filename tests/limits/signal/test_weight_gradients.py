"""Gradients of tables, gains, experts and the readout: by autodiff in networks with drawn weights.

The networks are written in `tests.limits.signal.networks`, which calls nothing of the limit. The
bias of infinite width is of order n / D.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.signal import networks
from tests.limits.signal.networks import Weights
from tests.limits.signal.stacks import IDS, STACKS

from translimit.core import ArgumentError, solve
from translimit.describe import Embedding, Normalisation, PatchEmbedding, Stack
from translimit.limits.signal import (
    Readout,
    Recursion,
    SignalPropagation,
    embedding_squares,
    readout_square,
)

N = len(IDS)
PLACES = ("norm_in", "norm_out", "norm_post")
NETWORKS = 32


def stack_of(name: str, first: int = 0, layers: int = 1) -> Stack:
    stack = STACKS[name]
    return dataclasses.replace(stack, layers=stack.layers[first : first + layers])


def norms(stack: Stack, index: int) -> list[tuple[str, Normalisation]]:
    """The norms of a layer in the order in which tokens pass them."""
    every = [(place, getattr(block, place)) for block in stack.layers[index] for place in PLACES]
    return [(place, one) for place, one in every if one is not None]


def squares(stack: Stack, key: jax.Array) -> dict[str, jax.Array]:
    """|dW|^2 of one network: of its tables, and of the gains of every layer by place."""
    of = stack.embedding
    assert isinstance(of, Embedding)
    keys = jax.random.split(key, len(stack.layers) + 2)
    w = Weights(keys[0])
    dim = stack.dim if of.inner is None else of.inner
    tables = {"embedding": w(of.std, int(IDS.max()) + 1, dim)}
    tables["positions"], tables["types"] = w(of.position_std, N, dim), w(of.type_std, dim)
    inner = None if of.inner is None else w(of.inner_std, dim, stack.dim)
    gains = [
        [one.gain * jnp.ones(stack.dim) for _, one in norms(stack, index)]
        for index in range(len(stack.layers))
    ]
    top = jax.random.normal(keys[-1], (N, stack.dim)) / stack.dim**0.5

    def passed(tables: dict[str, jax.Array], gains: list[list[jax.Array]]) -> jax.Array:
        x = of.multiplier * tables["embedding"][IDS] + tables["positions"] + tables["types"]
        x = networks.norm(x, of.norm)
        x = x if inner is None else x @ inner
        for index in range(len(stack.layers)):
            own = Weights(keys[index + 1], gains=gains[index])
            x = networks.layer(stack, index, x, keys[index + 1], own)
        return jnp.sum(top * x)

    of_tables, of_gains = jax.grad(passed, argnums=(0, 1))(tables, gains)
    told = {name: jnp.sum(one**2) for name, one in of_tables.items()}
    for index, every in enumerate(of_gains):
        for (place, _), one in zip(norms(stack, index), every, strict=True):
            name = f"{place} {index}"
            told[name] = told.get(name, jnp.zeros(())) + jnp.sum(one**2)
    return told


def predicted(stack: Stack) -> dict[str, float]:
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(IDS))
    limit = solve(problem, Recursion(pairs=48, copies=4), key=jax.random.key(0))
    told = {k: float(v) for k, v in embedding_squares(stack, IDS, limit.grad_gram[0]).items()}
    weights = limit.weight_squares.mean(axis=0)
    for index in range(len(stack.layers)):
        for place in {place for place, _ in norms(stack, index)}:
            told[f"{place} {index}"] = float(weights[index, limit.groups.index(place)])
    return told


SMALL = dataclasses.replace(
    stack_of("llama"),
    embedding=Embedding(
        0.3,
        position_std=0.2,
        inner=96,
        inner_std=0.1,
        norm=Normalisation(STACKS["bert"].embedding.norm.kind, 1e-5),  # pyright: ignore
    ),
)
CASES = {
    "gpt2": (stack_of("gpt2", layers=2), ("embedding", "positions"), ("norm_in",)),
    "gemma2": (stack_of("gemma2"), ("embedding",), ("norm_in", "norm_out")),
    "bert": (stack_of("bert"), ("embedding", "positions", "types"), ("norm_post",)),
    "inner": (SMALL, ("embedding", "positions"), ("norm_in",)),
    "gain of 2": (stack_of("nemotron"), ("embedding",), ("norm_in",)),
}
QUICK = ("gpt2", "bert")


@pytest.mark.parametrize(
    "name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in CASES]
)
def test_tables_and_gains_are_those_of_drawn_networks(name: str) -> None:
    stack, tables, places = CASES[name]
    one = jax.jit(lambda key: squares(stack, key))
    keys = jax.random.split(jax.random.key(5), NETWORKS)
    found = [{name: float(value) for name, value in one(key).items()} for key in keys]
    told = predicted(stack)
    names = [*tables, *(f"{p} {index}" for index in range(len(stack.layers)) for p in places)]
    assert set(told) == set(names)
    for name in names:
        row = np.array([network[name] for network in found])
        error = row.std(ddof=1) / NETWORKS**0.5
        assert 4 * error < 0.6 * told[name], name
        assert abs(row.mean() - told[name]) < 4 * error + N / stack.dim * told[name], (
            name,
            row.mean() / told[name],
            error / told[name],
        )


@pytest.mark.slow
def test_routed_and_shared_experts_are_told_apart() -> None:
    stack = stack_of("deepseek_v3", first=1, layers=1)
    cov = stack.initial_cov(IDS) + 0.3 * np.eye(N)
    problem = SignalPropagation(stack=stack, initial=cov)
    limit = solve(problem, Recursion(pairs=64, copies=4), key=jax.random.key(0))
    root = np.linalg.cholesky(cov + 1e-12 * np.eye(N))

    @jax.jit
    def one(key: jax.Array) -> jax.Array:
        tokens, weights, top = jax.random.split(key, 3)
        x = root @ jax.random.normal(tokens, (N, stack.dim))
        g = jax.random.normal(top, x.shape) / stack.dim**0.5
        return networks.weight_squares(stack, x, 0, weights, g)

    keys = jax.random.split(jax.random.key(3), 64)
    found = np.stack([np.asarray(one(key)) for key in keys])
    # Seven matrices of attention, the router and its bias; eight experts of three, the shared one.
    experts, shared = found[:, 9:-3].reshape(len(keys), 8, 3).sum(axis=1), found[:, -3:]
    rows = np.concatenate([experts, shared], axis=1)
    names = ("in", "up", "out", "shared_in", "shared_up", "shared_out")
    weights = limit.weight_squares.mean(axis=0)[0]
    told = np.array([weights[limit.groups.index(name)] for name in names])
    error = rows.std(axis=0, ddof=1) / len(keys) ** 0.5
    allowed = 4 * error + N / stack.dim * told
    assert np.all(np.abs(rows.mean(axis=0) - told) < allowed), (rows.mean(axis=0) / told, error)
    # All experts together, which one number told, are another thing.
    together = told[:3] + told[3:]
    assert np.all(np.abs(rows.mean(axis=0)[:3] - together) > 2 * allowed[:3])


WORDS, DIM = 800, 192


@pytest.mark.parametrize("share", [0.0, 0.45])
def test_the_readout_s_gradient_is_that_of_drawn_ones(share: float) -> None:
    """Tokens that hold the row of their own word with weight share^(1/2), or no row."""
    ids = np.arange(24) % 17
    targets = np.roll(ids, -1)
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((24, 24)) + 2 * np.eye(24)
    rest = mixing @ mixing.T
    rest = rest / np.sqrt(np.outer(rest.diagonal(), rest.diagonal()))
    cov = share * (ids[:, None] == ids[None, :]) + (1 - share) * rest
    variance = 1.3
    own = DIM**0.5 * (share * variance) ** 0.5
    readout = Readout(WORDS, DIM, variance**0.5, own)
    told = readout_square(cov, targets, readout, ids if share else None)
    root = np.linalg.cholesky(rest)

    @jax.jit
    def one(key: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        unit = jax.random.normal(first, (WORDS, DIM))
        y = share**0.5 * unit[ids] + (1 - share) ** 0.5 * root @ jax.random.normal(
            second, (24, DIM)
        )

        def loss(unit: jax.Array) -> jax.Array:
            logits = (variance / DIM) ** 0.5 * y @ unit.T
            return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(24), targets])

        return jnp.sum(jax.grad(loss)(unit) ** 2)

    found = np.array([float(one(key)) for key in jax.random.split(jax.random.key(1), 200)])
    error = found.std(ddof=1) / len(found) ** 0.5
    assert 4 * error < 0.08 * told
    # The moments of softmax are known to 1 / D and to a few percent between p = 0 and 1.
    assert abs(found.mean() - told) < 4 * error + (0.03 if share else 1 / DIM) * told
    if share:  # without the own word it is another number
        plain = readout_square(cov, targets, dataclasses.replace(readout, own_token_logit=0.0))
        assert abs(found.mean() - plain) > 0.2 * plain


def test_a_padding_row_has_no_gradient_and_bad_input_is_named() -> None:
    stack = dataclasses.replace(STACKS["llama"], embedding=Embedding(0.1, padding=3))
    row = np.array([3, 1, 3])
    assert float(embedding_squares(stack, row, np.ones((3, 3)))["embedding"]) == 1.0
    several = embedding_squares(stack, row, np.ones((5, 3, 3)))["embedding"]
    np.testing.assert_array_equal(several, np.ones(5))
    with pytest.raises(ArgumentError, match="ids"):
        embedding_squares(stack, row, np.ones((2, 2)))
    with pytest.raises(ArgumentError, match="ids"):
        embedding_squares(stack, row.astype(float), np.ones((3, 3)))
    image = dataclasses.replace(stack, embedding=PatchEmbedding(0.1, 1, 3, 2))
    with pytest.raises(ArgumentError, match="no table of embeddings"):
        embedding_squares(image, row, np.ones((3, 3)))
