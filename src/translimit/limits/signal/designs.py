r"""Another initialisation of a stack, in which signals and gradients keep their size.

Four factors are looked for: of the embedding, of what attention and feed-forward blocks add, and of
the scores. On the reduced stack (`reduced`) they minimise

    mean_l (log q_l / q_0)_+^2 + mean_l (log tr B_l / tr B_L)^2
        + (log 1 - R_0 over 1 - R_L, above log 3)_+^2 + (log of keys wanted over keys, above 0)_+^2
        + a small share of the factors' squared logarithms, so that what does not matter stays,

by L-BFGS in their logarithms. The full recursion then says what the new stack does.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import jax
import numpy as np
from jaxtyping import Float

from translimit.core import (
    ArgumentError,
    ArrayInput,
    Bounds,
    Key,
    as_float64,
    require_covariance,
    require_real,
    solve,
)
from translimit.describe import (
    Attention,
    Branch,
    Embedding,
    Experts,
    FeedForward,
    LatentAttention,
    PatchEmbedding,
    Stack,
    SubBlock,
)
from translimit.limits.signal.propagation import Recursion, SignalPropagation
from translimit.limits.signal.reduced import Course, Reduced, ScaleFactors
from translimit.limits.signal.solution import SignalSolution

#: 1 - R may fall to a third between the first tokens and the last.
CONTRACTION = math.log(3.0)
#: What a factor's squared logarithm costs, and factors that stay within this of 1 are left at 1.
COST, UNCHANGED = 3e-3, 0.02
#: Largest logarithm of a factor.
REACH = 12.0
NAMES = tuple(one.name for one in fields(ScaleFactors))


@dataclass(frozen=True)
class Redesign:
    """A stack with another initialisation.

    Attributes:
        stack: the new stack.
        changes: what each factor of the old one is multiplied with.
        before: the old stack by the full recursion.
        after: the new one.
    """

    stack: Stack
    changes: ScaleFactors
    before: SignalSolution
    after: SignalSolution


def redesign(
    stack: Stack,
    initial: ArrayInput,
    *,
    key: Key,
    keep: Sequence[str] = (),
    keys: float | int | None = None,
    method: Recursion | None = None,
) -> Redesign:
    """Change the scales of a stack so that tokens stay apart and gradients keep their size.

    Args:
        stack: the stack.
        initial: C of the tokens that enter its first layer [n, n].
        key: of heads and routers.
        keep: factors that are not to be changed, of those of `ScaleFactors`.
        keys: how many keys a query should look at, at least, in every layer; a third of those that
            it sees by default.
        method: the recursion by which old and new stack are told.

    Raises:
        ArgumentError: no covariance, tokens of norm zero only, an unknown factor, keys below 1.

    Examples:
        >>> import jax
        >>> import numpy as np
        >>> from translimit import describe
        >>> attention = describe.Attention(4, 16, *(0.3,) * 4)
        >>> stack = describe.pre_norm_stack(64, 8, attention)
        >>> found = redesign(stack, 0.01 * np.eye(6), key=jax.random.key(0))
        >>> squares = [one.mean_square for one in (found.before, found.after)]
        >>> before, after = (float(one[-1] / one[0]) for one in squares)
        >>> before > 1000 and after < 4
        True
    """
    from scipy.optimize import minimize  # scipy is not loaded until it is needed

    cov = np.asarray(require_covariance(as_float64(initial, "initial"), "initial"))
    squares = np.diagonal(cov)
    if not squares.max() > 0:
        raise ArgumentError("initial", "has tokens of norm zero only", "pass others")
    unknown = set(keep) - set(NAMES)
    if unknown:
        raise ArgumentError("keep", f"names {sorted(unknown)}", f"pass some of {NAMES}")
    n, square = len(cov), float(squares.mean())
    roots = np.sqrt(squares)
    both = np.outer(roots, roots)
    apart = ~np.eye(n, dtype=bool) & (both > 0)
    overlap = float((cov[apart] / both[apart]).mean()) if apart.any() else 0.0
    reduced = Reduced(stack, n, key)
    seen = reduced.course(square, overlap, ScaleFactors(scores=0.0)).keys
    wanted = seen / 3 if keys is None else require_real(keys, "keys", Bounds(1.0, math.inf, "[)"))
    free = [name for name in NAMES if name not in {*keep, *_without_effect(stack)}]

    def cost(logs: np.ndarray) -> float:
        course = reduced.course(square, overlap, _factors(free, logs))
        return objective(course, np.minimum(wanted, seen)) + COST * float(logs @ logs)

    bounds = [(-REACH, REACH)] * len(free)
    start = np.zeros(len(free))
    logs = minimize(cost, start, method="L-BFGS-B", bounds=bounds).x if free else start
    logs = np.where(np.abs(logs) < UNCHANGED, 0.0, logs)
    changes = _factors(free, logs)
    new = changed(stack, changes)
    first, second = jax.random.split(key)
    told = Recursion(pairs=8, copies=4) if method is None else method
    before = solve(SignalPropagation(stack=stack, initial=cov), told, key=first)
    entering = changes.embedding**2 * cov
    after = solve(SignalPropagation(stack=new, initial=entering), told, key=second)
    return Redesign(new, changes, before, after)


def objective(course: Course, keys: Float[np.ndarray, " mixers"]) -> float:
    """What is minimised, without the cost of changes; see the module.

    Args:
        course: the reduced stack along its layers.
        keys: that queries should look at, at least [mixers].
    """
    grown = np.log(course.mean_square[1:] / course.mean_square[0])
    gradient = np.log(course.gradient)
    contracted = math.log(max(1 - course.overlap[0], 1e-12) / max(1 - course.overlap[-1], 1e-12))
    focused = np.log(keys / course.keys)
    total = np.mean(np.maximum(grown, 0.0) ** 2) + np.mean(gradient**2)
    total += max(contracted - CONTRACTION, 0.0) ** 2
    return float(total + (np.mean(np.maximum(focused, 0.0) ** 2) if len(focused) else 0.0))


def changed(stack: Stack, changes: ScaleFactors) -> Stack:
    """The stack with its scales changed: the embedding, what branches add, and the scores.

    Behind a norm of the output the norm's gain is changed, behind one of the embedding that norm's.

    Args:
        stack: the stack.
        changes: the factors.
    """
    layers = tuple(tuple(_changed(block, changes) for block in layer) for layer in stack.layers)
    return replace(stack, layers=layers, embedding=_embedding(stack, changes.embedding))


def _embedding(stack: Stack, factor: float) -> Embedding | PatchEmbedding | None:
    of = stack.embedding
    if not isinstance(of, Embedding):
        return of
    if of.inner is not None:
        return replace(of, inner_std=factor * of.inner_std)
    if of.norm is not None:
        return replace(of, norm=replace(of.norm, gain=factor * of.norm.gain))
    stds = {name: factor * getattr(of, name) for name in ("std", "position_std", "type_std")}
    return replace(of, **stds)


def _changed(block: SubBlock, changes: ScaleFactors) -> SubBlock:
    mixers = any(isinstance(one, Attention | LatentAttention) for one in block.branches)
    if block.norm_out is not None:
        factor = changes.attention if mixers else changes.feed_forward
        norm = replace(block.norm_out, gain=factor * block.norm_out.gain)
        block = replace(block, norm_out=norm)
        changes = replace(changes, attention=1.0, feed_forward=1.0)
    return replace(block, branches=tuple(_branch(one, changes) for one in block.branches))


def _branch(one: Branch, changes: ScaleFactors) -> Branch:
    if isinstance(one, Attention | LatentAttention):
        scores = replace(one.scores, score_scale=changes.scores * one.score_scale)
        return replace(one, out_std=changes.attention * one.out_std, scores=scores)
    if isinstance(one, Experts):
        expert = replace(one.expert, out_std=changes.feed_forward * one.expert.out_std)
        shared = one.shared
        if shared is not None:
            shared = replace(shared, out_std=changes.feed_forward * shared.out_std)
        return replace(one, expert=expert, shared=shared)
    return replace(one, out_std=changes.feed_forward * one.out_std)


def _factors(free: list[str], logs: np.ndarray) -> ScaleFactors:
    return ScaleFactors(
        **{name: math.exp(one) for name, one in zip(free, logs.tolist(), strict=True)}
    )


def _without_effect(stack: Stack) -> set[str]:
    """ScaleFactors that the stack does not have."""
    branches = [one for block in stack.sub_blocks for one in block.branches]
    none = set()
    of = stack.embedding
    if of is not None and (not isinstance(of, Embedding) or of.sinusoids is not None):
        none.add("embedding")
    if not any(isinstance(one, Attention | LatentAttention) for one in branches):
        none |= {"attention", "scores"}
    if not any(isinstance(one, FeedForward | Experts) for one in branches):
        none.add("feed_forward")
    return none
