r"""Numbers of a solved stack without its matrices: several gradients at the top on one way.

`SignalPropagation` keeps C and B of every level, which of many tokens fill a memory. Here C is
looked at level by level and forgotten, of B there is tr B / n alone, and all gradients at the top
share the way forward, the heads of the way back and what is computed of these. Of many tokens two
copies are passed at a time: what a copy needs for its way back is forgotten before the next.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from translimit.core import AnyArray, Key, Progress, in_float64, one_blas_thread, part_of
from translimit.limits.signal.passes import compile_programs, pass_backward, pass_forward
from translimit.limits.signal.propagation import (
    Chain,
    Recursion,
    SignalPropagation,
    entering,
    pairs_by_layer,
)
from translimit.limits.signal.sub_blocks import GROUPS
from translimit.limits.signal.summaries import Summary

#: Above so many tokens two copies are passed at a time.
AT_ONCE = 256
TOGETHER = 2

#: Numbers of C of some copies and all levels: [copies, levels, n, n] to [copies, levels] by name.
Look: TypeAlias = Callable[[np.ndarray], Mapping[str, np.ndarray]]
#: Gradients at the top by name, each from C of the last level, mean over copies.
Tops: TypeAlias = Mapping[str, Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Gradients:
    """Gradients that returned from one at the top.

    Attributes:
        squares: tr B / n at every level [copies, levels].
        weights: sigma_W^2 E |dW|^2 by layer and group [copies, layers, groups].
        below: B of what enters the first layer [copies, n, n].
    """

    squares: Float[np.ndarray, "copies levels"]
    weights: Float[np.ndarray, "copies layers groups"]
    below: Float[np.ndarray, "copies n n"]


@dataclass(frozen=True)
class Watched:
    """Numbers of every copy.

    Attributes:
        told: what was looked at, by name [copies, levels].
        mean_squares: of an entry of a token [copies, levels].
        summary: what attention looks at and what branches add [copies, layers].
        cov: C after the last layer, mean over the copies that were passed first [n, n].
        gradients: by the name of what was at the top.
        groups: names of the groups of weights.
    """

    told: Mapping[str, Float[np.ndarray, "copies levels"]]
    mean_squares: Float[np.ndarray, "copies levels"]
    summary: Summary
    cov: Float[np.ndarray, "n n"]
    gradients: Mapping[str, Gradients]
    groups: tuple[str, ...] = GROUPS


def watch(
    problem: SignalPropagation,
    method: Recursion | Chain,
    *,
    key: Key,
    look: Look,
    tops: Tops = MappingProxyType({}),
    copies: int | range | None = None,
    progress: Progress | None = None,
) -> Watched:
    """Solve a stack and keep numbers.

    The numbers of a copy are those of `solve` for the same key.

    Args:
        problem: the stack and its tokens; its own gradient at the top is not sent back.
        method: how it is solved.
        key: of all that is drawn.
        look: what is told of C, of several levels at a time.
        tops: gradients at the top; none for the way forward alone.
        copies: which of the method's copies, or how many, the first ones; all by default.
        progress: called with the share that is done.
    """
    every = range(method.copies)
    which = every if copies is None else every[:copies] if isinstance(copies, int) else copies
    told = functools.partial(
        _watched, method=method, look=look, tops=tops, copies=which, progress=progress
    )
    # Copies run beside one another: more threads for a factorisation only wait for each other.
    with one_blas_thread():
        return in_float64(told, problem, key)


def join_copies(first: Watched, rest: Watched) -> Watched:
    """The numbers of all copies, of two parts of them.

    Args:
        first: those that were passed first.
        rest: the others, with the same gradients at the top.
    """

    def both(*arrays: np.ndarray) -> np.ndarray:
        return np.concatenate(arrays)

    several = zip(first.gradients.items(), rest.gradients.values(), strict=True)
    return replace(
        first,
        told={name: both(one, rest.told[name]) for name, one in first.told.items()},
        mean_squares=both(first.mean_squares, rest.mean_squares),
        summary=Summary(*map(both, first.summary, rest.summary)),
        gradients={
            name: Gradients(
                both(one.squares, other.squares),
                both(one.weights, other.weights),
                both(one.below, other.below),
            )
            for (name, one), other in several
        },
    )


def copies_at_once(copies: int, tokens: int) -> int:
    """How many copies are passed at the same time.

    Args:
        copies: in all.
        tokens: how many enter.
    """
    return copies if tokens <= AT_ONCE else min(copies, TOGETHER)


def _watched(
    problem: SignalPropagation,
    key: Key,
    *,
    method: Recursion | Chain,
    look: Look,
    tops: Tops,
    copies: range,
    progress: Progress | None,
) -> Watched:
    count = len(copies)
    at_once = copies_at_once(count, len(problem.initial))
    if isinstance(method, Recursion):
        compile_programs(problem.stack, len(problem.initial), method.float32, back=len(tops))
    parts = list[_Part]()
    above: np.ndarray | None = None
    for first in range(0, count, at_once):
        some = copies[first : first + at_once]
        told = part_of(progress, first / count, (first + len(some)) / count)
        # What these copies need for their way back is forgotten with the call.
        part, above = _passed(problem, key, method, look, tops, some, above, told)
        parts.append(part)
    gradients = {
        name: Gradients(
            np.concatenate([part.squares[:, :, place] for part in parts]),
            np.concatenate([part.weights[:, :, place] for part in parts]),
            np.concatenate([part.grams[:, 0, place] for part in parts]),
        )
        for place, name in enumerate(tops)
    }
    return Watched(
        {name: np.concatenate([part.told[name] for part in parts]) for name in parts[0].told},
        np.concatenate([part.mean_squares for part in parts]),
        Summary(*map(np.concatenate, zip(*(part.summary for part in parts), strict=True))),
        parts[0].cov,
        gradients,
    )


class _Part(NamedTuple):
    """Numbers of the copies that were passed together, of `Watched` and of `Back`."""

    told: Mapping[str, np.ndarray]
    mean_squares: np.ndarray
    summary: Summary
    cov: np.ndarray
    squares: np.ndarray
    weights: np.ndarray
    grams: np.ndarray


class _Seen:
    """Numbers of C by level, looked at a few levels at a time: no stack of all of them."""

    def __init__(self, look: Look):
        self._look = look
        self._waiting: list[Sequence[AnyArray]] = []
        self._found: list[dict[str, np.ndarray]] = []

    def visit(self, covs: Sequence[AnyArray]) -> None:
        """Take C of every copy at the next level."""
        self._waiting.append(covs)
        if sum(map(len, self._waiting)) * np.size(covs[0]) > AT_ONCE**2:
            self._flush()

    def told(self) -> dict[str, np.ndarray]:
        """The numbers of all levels [copies, levels]; mean squares under the empty name."""
        if self._waiting:
            self._flush()
        names = self._found[0]
        return {name: np.concatenate([one[name] for one in self._found], axis=1) for name in names}

    def _flush(self) -> None:
        covs = np.stack([np.stack(list(map(np.asarray, one))) for one in self._waiting], axis=1)
        squares = np.diagonal(covs, axis1=-2, axis2=-1).mean(axis=-1)
        self._found.append({**self._look(covs), "": squares})
        self._waiting = []


def _passed(
    problem: SignalPropagation,
    key: Key,
    method: Recursion | Chain,
    look: Look,
    tops: Tops,
    copies: range,
    above: np.ndarray | None,
    progress: Progress | None,
) -> tuple[_Part, np.ndarray | None]:
    """Pass some copies there and back; their numbers, and the gradients at the top."""
    stack, single = problem.stack, isinstance(method, Recursion) and method.float32
    factor, half = problem.score_factor, 0.5 if tops else 1.0
    covs, x = entering(problem, method, key, copies)
    seen = _Seen(look)
    forward = pass_forward(
        stack,
        covs,
        x,
        key,
        pairs_by_layer(stack, method),
        np.array([len(stack.layers)]),
        keep=bool(tops),
        score_factor=factor,
        single=single,
        first=copies.start,
        visit=seen.visit,
        progress=part_of(progress, 0.0, half),
    )
    last = forward.covs[:, -1].mean(axis=0)
    told = seen.told()
    squares = told.pop("")
    part = _Part(told, squares, forward.summary, last, *([np.zeros(0)] * 3))
    if not tops:
        return part, None
    if above is None:
        above = np.stack([top(last) for top in tops.values()])
    back = pass_backward(
        stack,
        forward.steps,
        [above] * len(copies),
        key,
        np.zeros(1, int),
        score_factor=factor,
        single=single,
        first=copies.start,
        progress=part_of(progress, half, 1.0),
    )
    return part._replace(squares=back.squares, weights=back.weights, grams=back.grams), above
