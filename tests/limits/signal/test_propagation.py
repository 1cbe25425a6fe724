"""Covariances and gradients of every placement and mixer: figures, networks, wrong terms."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
import pytest
from tests.limits.signal.networks import grams, weight_squares
from tests.limits.signal.stacks import FIGURES, IDS, STACKS

from translimit.core import ArgumentError, solve
from translimit.describe import (
    Activation,
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    Normalisation,
    Scores,
    Stack,
    SubBlock,
    pre_norm_stack,
)
from translimit.limits.signal import Chain, Recursion, SignalPropagation, SignalSolution

N = len(IDS)
#: One of each placement and mixer in the quick run.
QUICK = ("gpt2", "qwen3", "gemma2", "bert", "mixtral")


def solved(stack: Stack, method: Recursion | Chain, seed: int = 0) -> SignalSolution:
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(IDS))
    return solve(problem, method, key=jax.random.key(seed))


def told(solution: SignalSolution) -> np.ndarray:
    """The six figures of every copy [copies, 6]."""
    overlap = solution.overlaps.mean(axis=(-2, -1))
    square = np.diagonal(solution.covs, axis1=-2, axis2=-1).mean(axis=-1)
    grads = solution.grad_grams
    trace = np.diagonal(grads, axis1=-2, axis2=-1).mean(axis=-1)
    columns = (overlap[:, 1], overlap[:, 4], square[:, 4], trace[:, 0], grads[:, 0], trace[:, 1])
    return np.stack([c.mean(axis=(1, 2)) if c.ndim > 1 else c for c in columns], axis=1)


def check_figures(name: str) -> None:
    """Within 4.5 standard errors, those of the figures and of the sampled heads together."""
    found = told(solved(STACKS[name], Recursion(pairs=48, copies=6)))
    expected, error = np.array(FIGURES[name]).T
    own = found.std(axis=0, ddof=1) / len(found) ** 0.5
    # Six copies: their own error estimate scatters, so at least a thousandth.
    s = np.sqrt(error**2 + np.maximum(own, 1e-3 * np.abs(expected)) ** 2)
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4.5 * s), (found.mean(axis=0), s)


@pytest.mark.parametrize("name", QUICK)
def test_the_recursion_reproduces_the_figures(name: str) -> None:
    check_figures(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(STACKS) - set(QUICK)))
def test_the_recursion_reproduces_the_other_figures(name: str) -> None:
    check_figures(name)


@functools.cache
def networks(name: str, count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """C and B of drawn networks [networks, levels, n, n]."""
    one = jax.jit(lambda key: grams(STACKS[name], IDS, key))
    found = [one(key) for key in jax.random.split(jax.random.key(7), count)]
    return np.stack([np.asarray(c) for c, _ in found]), np.stack([np.asarray(b) for _, b in found])


def of_networks(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean overlap, log mean square and log trace of B by level, with standard errors [3, 5]."""
    covs, grads = networks(name)
    return mean_and_error(summaries(covs, grads))


def summaries(covs: np.ndarray, grads: np.ndarray) -> np.ndarray:
    square = np.diagonal(covs, axis1=-2, axis2=-1)
    s = 1 / np.sqrt(square)
    overlap = (covs * s[..., :, None] * s[..., None, :]).mean(axis=(-2, -1))
    trace = np.diagonal(grads, axis1=-2, axis2=-1).mean(axis=-1)
    return np.stack([overlap, np.log(square.mean(axis=-1)), np.log(trace)], axis=1)


def mean_and_error(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return found.mean(axis=0), found.std(axis=0, ddof=1) / len(found) ** 0.5


def check_networks(name: str) -> None:
    """The chain within 4 standard errors forward; backward, and the recursion, plus n / D."""
    measured, error = of_networks(name)
    chain = solved(STACKS[name], Chain(networks=48, pairs=6), seed=1)
    drawn, own = mean_and_error(summaries(chain.covs, chain.grad_grams))
    both = np.hypot(error, own) + 1e-12
    z = (drawn - measured) / both
    assert np.all(np.abs(z[:2]) < 4.0), z
    share = N / STACKS[name].dim
    assert np.all(np.abs(drawn - measured)[2] < 4 * both[2] + share), z
    limit = solved(STACKS[name], Recursion(pairs=32, copies=4), seed=2)
    predicted = summaries(limit.covs, limit.grad_grams).mean(axis=0)
    assert np.all(np.abs(predicted - measured) < 4 * error + share), predicted - measured


@pytest.mark.parametrize("name", ["qwen3", "bert"])
def test_networks_agree_with_chain_and_recursion(name: str) -> None:
    check_networks(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(STACKS) - {"qwen3", "bert"}))
def test_networks_of_every_kind_agree_with_chain_and_recursion(name: str) -> None:
    check_networks(name)


def altered(stack: Stack, **changed: object) -> Stack:
    """A stack with fields of all branches and sub-blocks replaced, where they have them."""

    def branch(one: Attention | LatentAttention | FeedForward | Experts) -> object:
        own = {k: v for k, v in changed.items() if hasattr(one, k) and k != "expert_only"}
        return dataclasses.replace(one, **own) if own else one

    def block(one: SubBlock) -> SubBlock:
        own = {k: v for k, v in changed.items() if k.startswith("norm_") and getattr(one, k)}
        kept = {k: (None if v == "none" else v) for k, v in own.items()}
        return dataclasses.replace(one, branches=tuple(map(branch, one.branches)), **kept)  # pyright: ignore[reportArgumentType]

    layers = tuple(tuple(map(block, layer)) for layer in stack.layers)
    return dataclasses.replace(stack, layers=layers)


WRONG = {
    "no norm of queries and keys": ("qwen3", {"qk_norm": None}),
    "no norm of the output": ("gemma2", {"norm_out": "none"}),
    "pre-LN for post-LN": ("bert", {"norm_post": "none"}),
    "every expert alike": ("mixtral", {"active": 4}),
    "another score scale": ("granite", {"scores": Scores()}),
    "a gain of 2": ("gpt2", {"norm_in": Normalisation(gain=2.0, norm_eps=1e-5)}),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_term_is_told_apart(what: str) -> None:
    name, changed = WRONG[what]
    found = told(solved(altered(STACKS[name], **changed), Recursion(pairs=24, copies=4)))
    expected, error = np.array(FIGURES[name]).T
    own = found.std(axis=0, ddof=1) / len(found) ** 0.5
    s = np.sqrt(error**2 + np.maximum(own, 1e-3 * np.abs(expected)) ** 2)
    assert np.any(np.abs(found.mean(axis=0) - expected) > 4.5 * s)


def test_equal_tokens_are_one_and_their_gradient_is_kept() -> None:
    solution = solve(
        SignalPropagation(
            stack=STACKS["llama"], initial=np.ones((4, 4)), top_gradient=np.ones((4, 4))
        ),
        Recursion(pairs=2, copies=2),
        key=jax.random.key(0),
    )
    assert np.allclose(solution.overlap, 1.0, atol=1e-5)
    assert solution.grad_gram.shape == (5, 4, 4)


def test_queries_and_values_share_the_gradient_of_their_matrices() -> None:
    """sigma_q^2 |dW_q|^2 = sigma_k^2 |dW_k|^2, and likewise for values and the output."""
    found = solved(STACKS["llama"], Recursion(pairs=64, copies=4))
    by_group = dict(zip(found.groups, found.weight_squares.mean(axis=0).T, strict=True))
    assert np.allclose(by_group["query"], by_group["key"], rtol=0.05)
    assert np.allclose(by_group["value"], by_group["attention_out"], rtol=0.02)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("llama", ("query", "key", "value", "attention_out", "in", "up", "out")),
        ("bert", ("query", "key", "value", "attention_out", "in", "out")),
    ],
)
def test_gradients_of_the_matrices_are_those_of_drawn_networks(
    name: str, groups: tuple[str, ...]
) -> None:
    """The last layer, below an isotropic gradient: tokens of a Gaussian cloud, 32 networks."""
    stack = dataclasses.replace(STACKS[name], layers=STACKS[name].layers[:1])
    cov = stack.initial_cov(IDS) + 0.3 * np.eye(N)
    if name == "bert":  # its tokens leave a norm
        s = 1 / np.sqrt(np.diagonal(cov))
        cov = s[:, None] * s[None, :] * cov
    problem = SignalPropagation(stack=stack, initial=cov)
    limit = solve(problem, Recursion(pairs=64, copies=4), key=jax.random.key(0))
    root = np.linalg.cholesky(cov + 1e-12 * np.eye(N))

    @jax.jit
    def one(key: jax.Array) -> jax.Array:
        tokens, weights, top = jax.random.split(key, 3)
        x = root @ jax.random.normal(tokens, (N, stack.dim))
        g = jax.random.normal(top, x.shape) / stack.dim**0.5
        return weight_squares(stack, x, 0, weights, g)

    found = np.stack([np.asarray(one(key)) for key in jax.random.split(jax.random.key(3), 32)])
    mean, error = mean_and_error(found)
    by_group = dict(zip(limit.groups, limit.weight_squares[:, 0].mean(axis=0), strict=True))
    predicted = np.array([by_group[group] for group in groups])
    # The bias of infinite width is of order n / D in what is quadratic in K.
    assert np.all(np.abs(mean - predicted) < 4 * error + N / stack.dim * predicted), (
        mean / predicted
    )
    assert np.all(4 * error < 0.5 * predicted)


def test_heads_in_float32_are_those_of_float64() -> None:
    stack = STACKS["qwen3"]
    double, single = (solved(stack, Recursion(8, 2, float32=one)) for one in (False, True))
    assert np.allclose(single.covs, double.covs, rtol=1e-4, atol=1e-5)
    assert np.allclose(single.grad_square, double.grad_square, rtol=1e-3)
    assert single.covs.dtype == np.float64
    assert single.covs.tobytes() != double.covs.tobytes()


def test_gradients_of_many_tokens_are_those_of_few() -> None:
    """Above two tokens a value entry drawn gradients stand for their Gram matrix."""
    small = Attention(4, 4, 0.05, 0.05, 0.2, 0.2)
    wide = dataclasses.replace(small, heads=1, value_dim=16)  # the same gain and heads
    stacks = [
        Stack(64, ((SubBlock((one,), norm_in=Normalisation()),),), None) for one in (small, wide)
    ]
    cov = 0.7 * np.eye(24) + 0.3
    found = [
        solve(
            SignalPropagation(stack=stack, initial=cov),
            Recursion(pairs=128, copies=8),
            key=jax.random.key(2),
        )
        for stack in stacks
    ]
    traces = [np.trace(one.grad_grams[:, 0], axis1=1, axis2=2) for one in found]
    sums = [one.grad_grams[:, 0].sum(axis=(1, 2)) for one in found]
    for few, many in (traces, sums):
        (first, second), errors = (few.mean(), many.mean()), (few.std(), many.std())
        assert abs(first - second) < 4 * float(np.hypot(*errors)) / 7**0.5
        assert float(np.hypot(*errors)) / 7**0.5 < 0.02 * first


def test_same_key_same_bits_and_bad_input_is_named() -> None:
    stack = STACKS["gpt2"]
    first, second = (solved(stack, Recursion(pairs=1, copies=2)) for _ in range(2))
    assert first.covs.tobytes() == second.covs.tobytes()
    with pytest.raises(ArgumentError, match="top_gradient"):
        SignalPropagation(stack=stack, initial=np.eye(2), top_gradient=np.eye(3))
    bare = altered(stack, norm_in=Normalisation())
    with pytest.raises(ArgumentError, match="token of norm zero"):
        SignalPropagation(stack=bare, initial=np.diag([1.0, 0.0]))
    problem = SignalPropagation(stack=stack, initial=np.eye(2))
    with pytest.raises(ArgumentError, match="save"):
        solve(problem, Recursion(1, 2), key=jax.random.key(0), save=[0.5])


def test_without_a_gradient_the_way_forward_is_the_same_and_nothing_returns() -> None:
    stack = STACKS["gpt2"]
    initial, method = stack.initial_cov(IDS), Recursion(pairs=1, copies=2)
    both = solve(
        SignalPropagation(stack=stack, initial=initial), method, key=jax.random.key(0), save=[0, 3]
    )
    problem = SignalPropagation(stack=stack, initial=initial, top_gradient=None)
    forward = solve(problem, method, key=jax.random.key(0), save=[0, 3])
    assert forward.covs.tobytes() == both.covs.tobytes()
    assert forward.attention_entropies.tobytes() == both.attention_entropies.tobytes()
    assert both.grad_gram.shape == (2, N, N)
    assert forward.grad_grams.shape == (2, 0, N, N)
    assert forward.weight_squares.shape == (2, 0, len(forward.groups))
    assert forward.grad_square.size == 0
    assert "grad_square" not in forward.to_xarray()
    whole = SignalPropagation(stack=stack, initial=initial)
    assert problem.memory(method) < whole.memory(method)


def test_what_is_added_makes_the_stream_and_entropy_is_a_share() -> None:
    # In a pre-LN stack squares add up; without scores weights are uniform over what is seen.
    stack = pre_norm_stack(
        64, 3, Attention(4, 16, 0.0, 0.1, 0.1, 0.1), FeedForward(96, Activation.GELU, 0.2, 0.1)
    )
    problem = SignalPropagation(stack=stack, initial=np.eye(6))
    solution = solve(problem, Recursion(1, 2), key=jax.random.key(0))
    squares = np.diagonal(solution.covs, axis1=-2, axis2=-1).mean(axis=-1)
    np.testing.assert_allclose(np.diff(squares, axis=1), solution.added.sum(axis=-1), rtol=1e-9)
    assert (solution.added > 0).all()
    np.testing.assert_allclose(solution.entropies, 1.0, rtol=1e-6)
    counts = np.arange(2, 7)
    np.testing.assert_allclose(solution.attention_entropies, np.log(counts).mean(), rtol=1e-6)
    found = solution.to_xarray()
    np.testing.assert_allclose(solution.entropy, found["entropy"].mean("sample"))
    nats = found["attention_entropy"].mean("sample")
    np.testing.assert_allclose(solution.attention_entropy, nats)


def test_what_an_out_norm_leaves_is_what_is_added() -> None:
    norm = Normalisation()
    layer = (SubBlock((Attention(4, 16, 0.1, 0.1, 0.1, 0.1),), norm, norm, branch=0.5),)
    problem = SignalPropagation(stack=Stack(64, (layer,)), initial=np.eye(6))
    solution = solve(problem, Recursion(1, 2), key=jax.random.key(0))
    np.testing.assert_allclose(solution.added, np.array([[[0.25, 0.0]]] * 2), rtol=1e-9)


def test_a_factor_of_scores_is_a_scale_of_them() -> None:
    stack = STACKS["qwen3"]
    other = stack.with_branches(
        lambda one: (
            dataclasses.replace(one, scores=Scores(score_scale=0.5 * one.score_scale))
            if isinstance(one, Attention)
            else one
        )
    )
    initial, told = stack.initial_cov(IDS), []
    for of, factor in ((stack, 0.5), (other, 1.0)):
        for method in (Recursion(2, 2), Chain(2)):
            problem = SignalPropagation(stack=of, initial=initial, score_factor=factor)
            found = solve(problem, method, key=jax.random.key(3))
            told.append((found.covs, found.grad_grams))
    for one, two in zip(told[:2], told[2:], strict=True):
        np.testing.assert_allclose(one[0], two[0], rtol=1e-6)
        np.testing.assert_allclose(one[1], two[1], rtol=1e-5)
    with pytest.raises(ArgumentError, match="score_factor"):
        SignalPropagation(stack=stack, initial=initial, score_factor=-1.0)
