r"""All sub-blocks of a stack one after the other: forward, then backward.

The loops are Python's, over one compiled program a kind of sub-block. What a sub-block was on the
way forward is kept only where gradients return.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from translimit.core import Key
from translimit.describe import Attention, LatentAttention, Stack, SubBlock
from translimit.limits.signal.chain import forward_drawn
from translimit.limits.signal.heads import visible
from translimit.limits.signal.sub_blocks import GROUPS, Passed, Returned, backward, forward


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
    pairs: Array
    passed: Passed


class Forward(NamedTuple):
    """The way forward.

    Attributes:
        covs: C at the levels that were asked for [copies, levels, n, n].
        entropies: of attention weights, mean over queries that see two keys or more
            [copies, layers].
        entropy_shares: over the logarithm of the keys that a query sees, in the same mean; 1 where
            none sees two [copies, layers].
        entropy_stds: over heads [copies, layers].
        participations: mean sum of squared attention weights of the last query [copies, layers].
        added: mean squares that attention and that hidden units add to an entry of the stream
            [copies, layers, 2].
        steps: the sub-blocks, where they are kept.
    """

    covs: np.ndarray
    entropies: np.ndarray
    entropy_shares: np.ndarray
    entropy_stds: np.ndarray
    participations: np.ndarray
    added: np.ndarray
    steps: list[Step]


def pass_forward(
    stack: Stack,
    cov: Array,
    tokens: Array | None,
    key: Key,
    pairs: list[int],
    levels: np.ndarray,
    *,
    keep: bool,
    progress: Callable[[float], object] | None,
) -> Forward:
    """Pass all layers.

    Args:
        stack: the stack.
        cov: C that enters, for every copy [copies, n, n].
        tokens: of drawn networks in coordinates [copies, n, width]; None for the recursion.
        key: of heads, routers and drawn weights.
        pairs: antithetic pairs of heads of every layer.
        levels: at which C is wanted.
        keep: whether sub-blocks are kept for the way back.
        progress: told after every layer.
    """
    share, x, wanted = stack.free_dim / stack.dim, tokens, set(levels.tolist())
    covs, steps = {0: np.asarray(cov)}, []
    names = ("entropy", "entropy_share", "entropy_std", "squares", "added")
    told: dict[str, list[Any]] = {name: [] for name in names}
    for number, layer in enumerate(stack.layers):
        count = jnp.asarray(pairs[number])
        summed = {name: np.zeros((len(cov), 2) if name == "added" else len(cov)) for name in names}
        for place, block in enumerate(layer):
            keys = copy_keys(key, len(cov), 0, number, place)
            if x is None:
                one = _forward(block, stack.dim, stack.causal, share, cov, keys, count)
            else:
                x, one = _drawn(block, stack.free_dim, stack.dim, stack.causal, x, keys)
            cov = one.after
            summed["entropy"] += _entropy(np.asarray(one.entropy), stack.causal)
            summed["entropy_share"] += _entropy_share(block, stack.causal, one)
            summed["added"] += _added(block, one)
            summed["entropy_std"] += np.asarray(one.entropy_std)
            summed["squares"] += np.asarray(one.squares)[:, -1]
            if keep:
                steps.append(Step(number, place, block, count, one))
        for name, value in summed.items():
            told[name].append(value)
        if number + 1 in wanted:
            covs[number + 1] = np.asarray(cov)
        if progress is not None:
            progress((number + 1) / len(stack.layers))
    chosen = np.stack([covs[level] for level in levels.tolist()], axis=1)
    entropies, shares, stds, squares, added = (np.stack(told[name], axis=1) for name in names)
    return Forward(chosen, entropies, shares, stds, squares, added, steps)


def pass_backward(
    stack: Stack,
    steps: list[Step],
    grad: Array,
    key: Key,
    levels: np.ndarray,
    *,
    progress: Callable[[float], object] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return through all layers: B [copies, levels, n, n] and squares of weights' gradients.

    Args:
        stack: the stack.
        steps: of the way forward.
        grad: B at the top, for every copy [copies, n, n].
        key: of heads and routers.
        levels: at which B is wanted.
        progress: told after every layer.
    """
    share, count, wanted = stack.free_dim / stack.dim, len(stack.layers), set(levels.tolist())
    grads = {count: np.asarray(grad)}
    squares = np.zeros((len(grad), count, len(GROUPS)))
    for step in reversed(steps):
        number = step.layer
        keys = copy_keys(key, len(grad), 1, number, step.place)
        returned = _backward(
            step.block, stack.dim, stack.causal, share, step.passed, grad, keys, step.pairs
        )
        grad = returned.below
        squares[:, number] += np.asarray(returned.weights)
        if step.place == 0:
            if number in wanted:
                grads[number] = np.asarray(grad)
            if progress is not None:
                progress(1.0 - number / count)
    return np.stack([grads[level] for level in levels.tolist()], axis=1), squares


def _entropy(entropy: np.ndarray, causal: bool) -> np.ndarray:
    """Mean over the queries that see two keys or more."""
    return entropy[:, min(int(causal), entropy.shape[1] - 1) :].mean(axis=1)


def _entropy_share(block: SubBlock, causal: bool, one: Passed) -> np.ndarray:
    """Entropy over its largest, mean over the queries that see two keys or more; 1 without any."""
    entropy = np.asarray(one.entropy)
    for branch in block.branches:
        if isinstance(branch, (Attention, LatentAttention)):
            counts = visible(branch.scores, causal, entropy.shape[1]).sum(axis=1)
            seen = counts > 1
            if seen.any():
                return np.mean(entropy[:, seen] / np.log(counts[seen]), axis=1)
            return np.ones(len(entropy))
    return np.zeros(len(entropy))


def _added(block: SubBlock, one: Passed) -> np.ndarray:
    """Mean squares that attention and that hidden units add [copies, 2]."""
    added = np.zeros((len(one.before), 2))
    s = np.ones(one.out.shape[:2])
    if block.norm_out is not None:
        squares = np.diagonal(np.asarray(one.out), axis1=1, axis2=2) + block.norm_out.eps
        s = block.norm_out.gain / np.sqrt(np.where(squares > 0, squares, np.inf))
    for branch, part in zip(block.branches, one.parts, strict=True):
        own = np.diagonal(np.asarray(part), axis1=1, axis2=2) * s**2
        place = 0 if isinstance(branch, (Attention, LatentAttention)) else 1
        added[:, place] += block.branch**2 * own.mean(axis=1)
    return added


def copy_keys(key: Key, copies: int, *path: int) -> Array:
    for number in path:
        key = jax.random.fold_in(key, number)
    return jax.random.split(key, copies)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _forward(
    block: SubBlock, dim: int, causal: bool, share: float, cov: Array, keys: Array, pairs: Array
) -> Passed:
    one = functools.partial(forward, block, dim, causal, share)
    return jax.vmap(one, in_axes=(0, 0, None))(cov, keys, pairs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _drawn(
    block: SubBlock, dim: int, total: int, causal: bool, x: Array, keys: Array
) -> tuple[Array, Passed]:
    one = functools.partial(forward_drawn, block, dim, total, causal)
    return jax.vmap(one)(x, keys)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _backward(
    block: SubBlock,
    dim: int,
    causal: bool,
    share: float,
    passed: Passed,
    grad: Array,
    keys: Array,
    pairs: Array,
) -> Returned:
    one = functools.partial(backward, block, dim, causal, share)
    return jax.vmap(one, in_axes=(0, 0, 0, None))(passed, grad, keys, pairs)
