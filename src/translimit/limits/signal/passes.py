r"""All sub-blocks of a stack one after the other: forward, then backward.

The loops over layers and copies are Python's, over one compiled program a kind of sub-block: copies
run beside one another, and a program for one of them is small. What a sub-block was on the way
forward is kept only where gradients return. Every sub-block of every copy has a seed of its own,
hashed outside of JAX.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, UInt32

from translimit.core import Key
from translimit.describe import Stack, SubBlock
from translimit.limits.signal.chain import forward_drawn
from translimit.limits.signal.sub_blocks import GROUPS, Passed, Returned, backward, forward
from translimit.limits.signal.summaries import Summary, over_layers, summary

#: Each program runs for milliseconds: what is soonest compiled. Products are not XLA's own code.
SOON = {
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


class Step(NamedTuple):
    """A sub-block that was passed: where it is, and what is needed to return.

    Attributes:
        layer: of the sub-block, from 0.
        place: in its layer.
        block: the sub-block.
        pairs: antithetic pairs of heads.
        passed: what came of it, for every copy.
    """

    layer: int
    place: int
    block: SubBlock
    pairs: int
    passed: list[Passed]


class Forward(NamedTuple):
    """The way forward.

    Attributes:
        covs: C at the levels that were asked for [copies, levels, n, n].
        summary: what attention looks at and what branches add [copies, layers].
        steps: the sub-blocks, where they are kept.
    """

    covs: np.ndarray
    summary: Summary
    steps: list[Step]


def pass_forward(
    stack: Stack,
    covs: list[Any],
    tokens: list[Any] | None,
    key: Key,
    pairs: list[int],
    levels: np.ndarray,
    *,
    keep: bool,
    score_factor: float = 1.0,
    progress: Callable[[float], object] | None,
) -> Forward:
    """Pass all layers.

    Args:
        stack: the stack.
        covs: C that enters, of every copy [n, n].
        tokens: of drawn networks in coordinates [n, width]; None for the recursion.
        key: of heads, routers and drawn weights.
        pairs: antithetic pairs of heads of every layer.
        levels: at which C is wanted.
        keep: whether sub-blocks are kept for the way back.
        score_factor: what all scores are multiplied with.
        progress: told after every layer.
    """
    share, wanted, copies = stack.free_dim / stack.dim, set(levels.tolist()), len(covs)
    at, steps, told = {0: covs}, [], []
    for number, layer in enumerate(stack.layers):
        passed: list[list[Passed]] = []
        for place, block in enumerate(layer):
            seeds = copy_seeds(key, copies, 0, number, place)
            if tokens is None:
                given = (block, stack.dim, stack.causal, share)
                every = zip(covs, seeds, strict=True)
                ones = [_forward(*given, *one, pairs[number], score_factor) for one in every]
            else:
                given = (block, stack.free_dim, stack.dim, stack.causal)
                both = [
                    _drawn(*given, *one, score_factor) for one in zip(tokens, seeds, strict=True)
                ]
                tokens, ones = [x for x, _ in both], [one for _, one in both]
            covs = [one.after for one in ones]
            passed.append(ones)
            if keep:
                steps.append(Step(number, place, block, pairs[number], ones))
        told.append(summary(layer, passed, stack.causal))
        if number + 1 in wanted:
            at[number + 1] = covs
        if progress is not None:
            progress((number + 1) / len(stack.layers))
    return Forward(_stacked(at, levels), over_layers(told), steps)


def pass_backward(
    stack: Stack,
    steps: list[Step],
    grads: list[Any],
    key: Key,
    levels: np.ndarray,
    *,
    score_factor: float = 1.0,
    progress: Callable[[float], object] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return through all layers: B [copies, levels, n, n] and squares of weights' gradients.

    Args:
        stack: the stack.
        steps: of the way forward.
        grads: B at the top, of every copy [n, n].
        key: of heads and routers.
        levels: at which B is wanted.
        score_factor: what all scores are multiplied with.
        progress: told after every layer.
    """
    share, count, wanted = stack.free_dim / stack.dim, len(stack.layers), set(levels.tolist())
    at, copies = {count: grads}, len(grads)
    squares = np.zeros((copies, count, len(GROUPS)))
    for step in reversed(steps):
        number, given = step.layer, (step.block, stack.dim, stack.causal, share)
        seeds = copy_seeds(key, copies, 1, number, step.place)
        every = zip(step.passed, grads, seeds, strict=True)
        returned = [_backward(*given, *one, step.pairs, score_factor) for one in every]
        grads = [one.below for one in returned]
        squares[:, number] += np.stack([one.weights for one in returned])
        if step.place == 0:
            if number in wanted:
                at[number] = grads
            if progress is not None:
                progress(1.0 - number / count)
    return _stacked(at, levels), squares


def copy_seeds(key: Key, copies: int, *path: int) -> list[UInt32[np.ndarray, " 2"]]:
    """A seed for every copy of what lies at a path.

    Args:
        key: of the whole.
        copies: how many.
        path: whole numbers, at least 0.
    """
    words = np.asarray(jax.random.key_data(key)).ravel().tolist()
    sequence = np.random.SeedSequence([*words, *path])
    return list(sequence.generate_state(2 * copies).reshape(copies, 2))


def key_of(seed: UInt32[Array, " 2"]) -> Key:
    """The key of a seed.

    Args:
        seed: one of `copy_seeds`.
    """
    return jax.random.wrap_key_data(seed, impl="threefry2x32")


def _stacked(at: dict[int, list[Any]], levels: np.ndarray) -> np.ndarray:
    return np.stack([np.stack([np.asarray(c) for c in at[one]]) for one in levels.tolist()], axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), compiler_options=SOON)
def _forward(
    block: SubBlock,
    dim: int,
    causal: bool,
    share: float,
    cov: Array,
    seed: Array,
    pairs: Array,
    score_factor: Array | float,
) -> Passed:
    return forward(block, dim, causal, share, cov, key_of(seed), pairs, score_factor)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), compiler_options=SOON)
def _drawn(
    block: SubBlock,
    dim: int,
    total: int,
    causal: bool,
    x: Array,
    seed: Array,
    score_factor: Array | float,
) -> tuple[Array, Passed]:
    return forward_drawn(block, dim, total, causal, x, key_of(seed), score_factor)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), compiler_options=SOON)
def _backward(
    block: SubBlock,
    dim: int,
    causal: bool,
    share: float,
    passed: Passed,
    grad: Array,
    seed: Array,
    pairs: Array,
    score_factor: Array | float,
) -> Returned:
    return backward(block, dim, causal, share, passed, grad, key_of(seed), pairs, score_factor)
