"""Other standard deviations under which tokens stay apart and gradients keep their size.

The design is found on the stack with two numbers a level and verified by the full recursion.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Int

from translimit.core import Json, Key
from translimit.describe import Attention, Embedding, LatentAttention, Stack, matrices
from translimit.limits.signal import Recursion, SignalSolution, redesign
from translimit.predict.course import Course, course_of
from translimit.predict.measures import measure, watched_of
from translimit.predict.signals import Effort


@dataclass(frozen=True)
class Fix:
    """A design, with what it changes and what it does.

    Attributes:
        factors: of what enters, of what attention and hidden units add, and of scores.
        changes: standard deviations and multipliers, before and after, in words.
        before: the stack as it is.
        after: the new one, by the full recursion.
        stack: the new stack.
    """

    factors: dict[str, float]
    changes: tuple[str, ...]
    before: Course
    after: Course
    stack: Stack

    @property
    def says(self) -> tuple[str, ...]:
        """The design in sentences."""
        told = self.changes or ("nothing: no change of scales makes it better",)
        return (f"before: {self.before}", *told, f"after: {self.after}")

    def to_json(self) -> dict[str, Json]:
        """Plain data, with the new stack in our own format."""
        return {
            "factors": dict(self.factors),
            "changes": list(self.changes),
            "before": asdict(self.before),
            "after": asdict(self.after),
            "stack": self.stack.to_json(),
        }


def fix(
    stack: Stack,
    cov: Float[np.ndarray, "n n"],
    kinds: Int[np.ndarray, " n"],
    effort: Effort,
    key: Key,
) -> Fix:
    """Look for a design and verify it.

    Args:
        stack: the stack.
        cov: C of the tokens that enter [n, n].
        kinds: which of them are equal [n].
        effort: how much is sampled.
        key: of the sampling.
    """
    found = redesign(stack, cov, key=key, method=Recursion(effort.pairs, effort.copies))
    return Fix(
        factors=asdict(found.changes),
        changes=tuple(changes_of(stack, found.stack)),
        before=_course(found.before, stack, kinds),
        after=_course(found.after, found.stack, kinds),
        stack=found.stack,
    )


def changes_of(old: Stack, new: Stack) -> list[str]:
    """What differs between two stacks of the same blocks, in words.

    Args:
        old: the stack.
        new: its design.
    """
    told = []
    if isinstance(old.embedding, Embedding) and isinstance(new.embedding, Embedding):
        rows = ("std", "position_std", "type_std", "multiplier", "inner_std")
        names = (
            *("token embedding", "positions", "token types", "multiplier of the embedding"),
            "matrix of the embedding",
        )
        for row, name in zip(rows, names, strict=True):
            told += _pair(
                f"{name}: {row}", getattr(old.embedding, row), getattr(new.embedding, row)
            )
    layers = list(zip(old.layers, new.layers, strict=True))
    for group, first in matrices(old.layers[0], old.dim).items():
        other = matrices(new.layers[0], new.dim)[group]
        told += _pair(f"{group.replace('_', ' ')}: std in layer 1", first.std, other.std)
    for place, (block, changed) in enumerate(zip(*layers[0], strict=True)):
        told += _pair(f"sub-block {place + 1}: branch multiplier", block.branch, changed.branch)
        for one, two in zip(block.norms, changed.norms, strict=True):
            told += _pair(f"sub-block {place + 1}: gain of a norm", one.gain, two.gain)
        for one, two in zip(block.branches, changed.branches, strict=True):
            mixers = (Attention, LatentAttention)
            if isinstance(one, mixers) and isinstance(two, mixers):
                name = f"sub-block {place + 1}: score scale"
                told += _pair(name, one.score_scale, two.score_scale)
    return told


def _pair(name: str, old: float, new: float) -> list[str]:
    return [] if np.isclose(old, new, rtol=1e-3) else [f"{name} from {old:.4g} to {new:.4g}"]


def _course(solution: SignalSolution, stack: Stack, kinds: Int[np.ndarray, " n"]) -> Course:
    found = measure(watched_of(solution, kinds, "own"), stack, "own")
    return course_of({name: one.values.mean(axis=0) for name, one in found.items()})
