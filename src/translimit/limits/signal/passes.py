r"""All sub-blocks of a stack one after the other: forward, then backward.

The loops over layers and copies are Python's, over one compiled program a kind of sub-block: copies
run beside one another, and a program for one of them is small. What a sub-block was on the way
forward is kept only where gradients return. Every sub-block of every copy has a seed of its own,
hashed outside of JAX.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from translimit.core import AnyArray, Key, allowed_threads, kept_jit
from translimit.describe import FeedForward, Layer, Stack, SubBlock
from translimit.limits.signal.chain import forward_drawn
from translimit.limits.signal.seeds import copy_seeds, key_of, words_of
from translimit.limits.signal.sub_blocks import GROUPS, Passed, Returned, backward, forward
from translimit.limits.signal.summaries import Summary, over_layers, summary

#: Each program runs for milliseconds: what is soonest compiled. Products are not XLA's own code.
SOON = {
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
#: Hidden units of many tokens are entry by entry: half the time for what compiles longer.
FUSED = {"xla_backend_optimization_level": 1}

#: Tokens up to which programs are compiled at the same time.
LARGEST_RUN = 256


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


class Back(NamedTuple):
    """The way back, of one or several gradients at the top.

    Attributes:
        grams: B at the levels that were asked for [copies, levels, m, n, n].
        squares: tr B / n at all levels [copies, levels, m].
        weights: squares of weights' gradients [copies, layers, m, groups].
    """

    grams: np.ndarray
    squares: np.ndarray
    weights: np.ndarray


def pass_forward(
    stack: Stack,
    covs: Sequence[AnyArray],
    tokens: Sequence[AnyArray] | None,
    key: Key,
    pairs: list[int],
    levels: np.ndarray,
    *,
    keep: bool,
    score_factor: float = 1.0,
    single: bool = False,
    first: int = 0,
    visit: Callable[[Sequence[AnyArray]], object] | None = None,
    progress: Callable[[float], object] | None,
) -> Forward:
    """Pass all layers; what is read of a layer is read while the next one runs.

    Args:
        stack: the stack.
        covs: C that enters, of every copy [n, n].
        tokens: of drawn networks in coordinates [n, width]; None for the recursion.
        key: of heads, routers and drawn weights.
        pairs: antithetic pairs of heads of every layer.
        levels: at which C is wanted.
        keep: whether sub-blocks are kept for the way back.
        score_factor: what all scores are multiplied with.
        single: whether heads are computed in float32.
        first: number of the first copy, where others are passed apart.
        visit: called with C of every copy at each level in turn.
        progress: told after every layer.
    """
    share, wanted, copies = stack.free_dim / stack.dim, set(levels.tolist()), first + len(covs)
    at, steps, told, words = {0: covs}, [], list[Summary](), words_of(key)

    def read(
        number: int, layer: Layer, passed: list[list[Passed]], covs: Sequence[AnyArray]
    ) -> None:
        told.append(summary(layer, passed, stack.causal))
        if visit is not None:
            visit(covs)
        if progress is not None:
            progress((number + 1) / len(stack.layers))

    waiting = functools.partial(visit, covs) if visit is not None else None
    for number, layer in enumerate(stack.layers):
        passed: list[list[Passed]] = []
        for place, block in enumerate(layer):
            seeds = copy_seeds(words, copies, 0, number, place)[first:]
            if tokens is None:
                given = (block, stack.dim, stack.causal, share, single)
                every = zip(covs, seeds, strict=True)
                run = _fused_forward if _by_entry(block, len(covs[0])) else _forward
                ones = [
                    _sharing(block, cov, run(*given, cov, seed, pairs[number], score_factor))
                    for cov, seed in every
                ]
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
        if number + 1 in wanted:
            at[number + 1] = covs
        if waiting is not None:
            waiting()
        waiting = functools.partial(read, number, layer, passed, covs)
    if waiting is not None:
        waiting()
    return Forward(_stacked(at, levels), over_layers(told), steps)


def pass_backward(
    stack: Stack,
    steps: list[Step],
    grads: Sequence[AnyArray],
    key: Key,
    levels: np.ndarray,
    *,
    score_factor: float = 1.0,
    single: bool = False,
    first: int = 0,
    progress: Callable[[float], object] | None,
) -> Back:
    """Return through all layers.

    Args:
        stack: the stack.
        steps: of the way forward.
        grads: B at the top, of every copy [m, n, n].
        key: of heads and routers.
        levels: at which B is wanted.
        score_factor: what all scores are multiplied with.
        single: whether heads are computed in float32.
        first: number of the first copy, where others are passed apart.
        progress: told after every layer.
    """
    share, count, wanted = stack.free_dim / stack.dim, len(stack.layers), set(levels.tolist())
    at, words = {count: grads}, words_of(key)
    many = len(grads[0])
    weights = np.zeros((len(grads), count, many, len(GROUPS)))
    squares = np.zeros((len(grads), count + 1, many))
    squares[:, count] = [np.trace(np.asarray(b), axis1=1, axis2=2) / b.shape[-1] for b in grads]
    told: list[tuple[int, int, list[Returned]]] = []
    waiting = grads
    for step in reversed(steps):
        number, given = step.layer, (step.block, stack.dim, stack.causal, share, single)
        seeds = copy_seeds(words, first + len(grads), 1, number, step.place)[first:]
        every = zip(step.passed, grads, seeds, strict=True)
        run = _fused_backward if _by_entry(step.block, grads[0].shape[-1]) else _backward
        returned = [run(*given, *one, step.pairs, score_factor) for one in every]
        grads = [one.below for one in returned]
        told.append((number, step.place, [one._replace(below=None) for one in returned]))
        if step.place == 0:
            if number in wanted:
                at[number] = grads
            if progress is not None:
                jax.block_until_ready(waiting)  # of the layer before: this one runs meanwhile
                progress(1.0 - number / count)
            waiting = grads
    for number, place, ones in told:
        weights[:, number] += np.stack([one.weights for one in ones])
        if place == 0:
            squares[:, number] = np.stack([one.square for one in ones])
    return Back(_stacked(at, levels), squares, weights)


def together(calls: Iterable[Callable[[], object]]) -> None:
    """Make calls beside one another, in float64: what they compile is compiled at the same time.

    Args:
        calls: of compiled functions, with inputs that cost little.
    """
    count = allowed_threads()
    if count < 2:
        return

    def one(call: Callable[[], object]) -> None:
        with jax.enable_x64(True):
            call()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, calls))


def compile_programs(stack: Stack, n: int, single: bool, *, back: int) -> None:
    """Compile the programs of a recursion at the same time, by small runs of them.

    Args:
        stack: the stack.
        n: tokens; above 256 a run costs more than is won.
        single: whether heads are computed in float32.
        back: how many gradients return together.
    """
    if n > LARGEST_RUN:
        return
    cov, row, seed = np.eye(n), np.zeros(n), np.zeros(2, np.uint32)

    def forth(block: SubBlock) -> Callable[[], object]:
        given = (block, stack.dim, stack.causal, stack.free_dim / stack.dim, single)
        return lambda: _forward(*given, cov, seed, 1, 1.0)

    def return_(block: SubBlock) -> Callable[[], object]:
        given = (block, stack.dim, stack.causal, stack.free_dim / stack.dim, single)
        parts = (cov,) * len(block.branches)
        passed = Passed(cov, cov, cov, cov, row, np.zeros(()), row, parts)  # pyright: ignore[reportArgumentType]
        return lambda: _backward(*given, passed, np.stack([cov] * back), seed, 1, 1.0)

    kinds = list(dict.fromkeys(stack.sub_blocks))
    together([*map(forth, kinds), *(map(return_, kinds) if back else ())])


def _sharing(block: SubBlock, cov: AnyArray, passed: Passed) -> Passed:
    """A sub-block that was passed, without second copies of what is equal."""
    out = passed.parts[0] if len(passed.parts) == 1 else passed.out
    total = passed.sum if block.norm_post is not None else passed.after
    return passed._replace(before=cov, out=out, sum=total)


def _by_entry(block: SubBlock, n: int) -> bool:
    """Whether a sub-block of many tokens is computed entry by entry, pair by pair of tokens."""
    return n > LARGEST_RUN and all(isinstance(branch, FeedForward) for branch in block.branches)


def _stacked(at: dict[int, Sequence[AnyArray]], levels: np.ndarray) -> np.ndarray:
    if len(levels) == 0:
        return np.zeros((len(next(iter(at.values()))), 0))
    return np.stack([np.stack([np.asarray(c) for c in at[one]]) for one in levels.tolist()], axis=1)


def _forward_of(
    block: SubBlock,
    dim: int,
    causal: bool,
    share: float,
    single: bool,
    cov: Array,
    seed: Array,
    pairs: Array,
    score_factor: Array | float,
) -> Passed:
    return forward(block, dim, causal, share, cov, key_of(seed), pairs, score_factor, single)


@kept_jit(static=4, compiler_options=SOON, tuples=(Passed,))
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


def _backward_of(
    block: SubBlock,
    dim: int,
    causal: bool,
    share: float,
    single: bool,
    passed: Passed,
    grads: Array,
    seed: Array,
    pairs: Array,
    score_factor: Array | float,
) -> Returned:
    key = key_of(seed)
    return backward(block, dim, causal, share, passed, grads, key, pairs, score_factor, single)


_forward = kept_jit(static=5, compiler_options=SOON, tuples=(Passed, Returned))(_forward_of)
_fused_forward = kept_jit(static=5, compiler_options=FUSED, tuples=(Passed, Returned))(_forward_of)
_backward = kept_jit(static=5, compiler_options=SOON, tuples=(Passed, Returned))(_backward_of)
_fused_backward = kept_jit(static=5, compiler_options=FUSED, tuples=(Passed, Returned))(
    _backward_of
)
