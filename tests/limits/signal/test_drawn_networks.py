"""The drawn networks of the benchmark: their hand-written way back, and the recursion they test."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks.support import network_numpy
from jax import Array

from translimit import solve
from translimit.describe import (
    Activation,
    Attention,
    Embedding,
    FeedForward,
    Norm,
    Normalisation,
    pre_norm_stack,
)
from translimit.limits.signal import Recursion, SignalPropagation

HEADS = 2


def layer(x: Array, weights: tuple[np.ndarray, ...]) -> Array:
    """One layer in JAX."""
    w_qkv, w_out, w_in, w_back = weights
    n, dim = x.shape

    def normalised(x: Array) -> Array:
        x = x - x.mean(axis=1, keepdims=True)
        return x / jnp.sqrt((x**2).mean(axis=1, keepdims=True) + network_numpy.EPS)

    q, k, v = (normalised(x) @ w_qkv).reshape(n, 3, HEADS, dim // HEADS).transpose(1, 2, 0, 3)
    scores = q @ k.transpose(0, 2, 1) / (dim // HEADS) ** 0.5
    p = jax.nn.softmax(jnp.where(np.tril(np.ones((n, n), bool)), scores, -jnp.inf), axis=2)
    x = x + (p @ v).transpose(1, 0, 2).reshape(n, dim) @ w_out
    return x + jax.nn.gelu(normalised(x) @ w_in, approximate=True) @ w_back


def test_the_way_back_written_by_hand_is_that_of_autodiff() -> None:
    rng, dim = np.random.default_rng(0), 32
    shapes = ((dim, 3 * dim), (dim, dim), (dim, 4 * dim), (4 * dim, dim))
    weights = tuple(0.3 * rng.standard_normal(shape, np.float32) for shape in shapes)
    x, grad = (rng.standard_normal((7, dim), np.float32) for _ in range(2))
    after, kept = network_numpy._forward(x, weights, HEADS)
    expected, back = jax.vjp(lambda x: layer(x, weights), jnp.asarray(x))
    np.testing.assert_allclose(after, expected, atol=1e-4)
    passed = network_numpy._backward(grad, weights, kept, HEADS)
    np.testing.assert_allclose(passed, back(jnp.asarray(grad))[0], atol=1e-4)


def test_drawn_networks_have_what_the_recursion_says() -> None:
    layers, dim, heads, std, count = 3, 256, 4, 0.05, 16
    ids = np.arange(12) ** 2 % 11
    runs = [
        network_numpy.simulate(rng, ids, layers=layers, dim=dim, heads=heads, std=std)
        for rng in np.random.default_rng(1).spawn(count)
    ]
    out = std / (2 * layers) ** 0.5
    stack = pre_norm_stack(
        dim,
        layers,
        Attention(heads, dim // heads, std, std, std, out),
        FeedForward(4 * dim, Activation.GELU_TANH, std, out),
        norm=Normalisation(Norm.LAYER, network_numpy.EPS),
        embedding=Embedding(std, position_std=std),
    )
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(ids))
    limit = solve(problem, Recursion(pairs=16, copies=3), key=jax.random.key(0))
    # Four standard errors, and n / D of the finite width; the whole mean square has the token's
    # mean in it, which the share (D - 1) / D leaves out.
    told = (limit.overlap, limit.mean_square * dim / (dim - 1), limit.grad_square)

    def excess(place: int, predicted: np.ndarray) -> np.ndarray:
        """By level, in units of what is allowed."""
        measured = np.array([run[place] for run in runs])
        error = measured.std(axis=0, ddof=1) / count**0.5
        allowed = 4 * error + len(ids) / dim * np.abs(predicted)
        return np.abs(measured.mean(axis=0) - predicted) / allowed

    for place, predicted in enumerate(told):
        assert excess(place, predicted).max() < 1, place
    # Without the repeats of the ids it is refuted.
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(np.arange(len(ids))))
    different = solve(problem, Recursion(pairs=16, copies=3), key=jax.random.key(0))
    assert excess(0, different.overlap)[0] > 2
