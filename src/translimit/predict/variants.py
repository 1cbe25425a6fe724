r"""Other choices for the same stack, and what each would give.

Each variant changes one thing: the weights' size, the depth scale, where norms stand, a norm of
queries and keys, or the size of the tokens. It is solved by the same recursion, with fewer samples
and without width and spread.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Int

from translimit.core import Json, Key, Progress, named_key, part_of
from translimit.describe import Attention, Stack, attentions
from translimit.predict.changes import (
    PLACEMENTS,
    bare,
    depth_scaled,
    normed,
    placed,
    placement,
    scaled,
)
from translimit.predict.course import Course, course_of
from translimit.predict.signals import Effort, signals


@dataclass(frozen=True)
class Variant:
    """What another choice for the same stack gives in infinite width.

    Attributes:
        name: what is changed.
        course: what it does.
    """

    name: str
    course: Course

    def to_json(self) -> dict[str, Json]:
        """The name and the numbers, side by side."""
        return {"name": self.name, **asdict(self.course)}


def variants(
    stack: Stack,
    cov: Float[np.ndarray, "n n"],
    kinds: Int[np.ndarray, " n"],
    effort: Effort,
    key: Key,
    progress: Progress | None = None,
) -> tuple[Variant, ...]:
    """The stack itself, then every other choice that it allows.

    Args:
        stack: the stack.
        cov: C of its tokens [n, n].
        kinds: which of them are equal [n].
        effort: of its own curves.
        key: of the sampling.
        progress: called with the share that is done.
    """
    few = Effort(max(1, effort.pairs // 2), 4)
    changes = list(choices(stack, cov))
    found = []
    for number, (name, changed, entering) in enumerate(changes):
        told = part_of(progress, number / len(changes), (number + 1) / len(changes))
        # One key for all: their differences do not come from the samples.
        own = signals(
            changed, entering, kinds, few, named_key(key, "one"), errors=False, progress=told
        )
        values = {name: curve.value for name, curve in own.curves.items()}
        found.append(Variant(name, course_of(values)))
    return tuple(found)


def choices(
    stack: Stack, cov: Float[np.ndarray, "n n"]
) -> Iterator[tuple[str, Stack, Float[np.ndarray, "n n"]]]:
    """Names, stacks and covariances of the tokens that enter.

    Args:
        stack: the stack.
        cov: C of its tokens [n, n].
    """
    yield "as it is", stack, cov
    yield "weights half as large", scaled(stack, 0.5, 0.5), cov
    yield "weights twice as large", scaled(stack, 2.0, 2.0), cov
    deep = math.sqrt(2 * len(stack.layers))
    if depth_scaled(stack):
        yield "without the depth scale (2 L)^-1/2", scaled(stack, 1.0, deep), cov
    else:
        yield "with a depth scale (2 L)^-1/2", scaled(stack, 1.0, 1 / deep), cov
    size = float(np.diagonal(cov).mean())
    if stack.embedding is None or stack.embedding.norm is None:
        yield "tokens of mean square one", stack, cov / size
    now = placement(stack)
    for name in PLACEMENTS:
        if now is not None and name != now:
            # Behind a norm of every sum the first sum has one as well.
            normal = name == "post-LN"
            yield name, placed(stack, name), unit_squares(cov) if normal else cov
    plain = [one for one in attentions(stack) if isinstance(one, Attention)]
    if plain and all(one.qk_norm is None for one in plain):
        yield "with a norm of queries and keys", normed(stack), cov
    elif any(one.qk_norm is not None for one in plain):
        yield "without a norm of queries and keys", bare(stack), cov


def unit_squares(cov: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """C of the tokens behind a norm of unit gain; tokens of norm zero stay zero.

    Args:
        cov: C before it [n, n].
    """
    squares = np.diagonal(cov)
    s = np.where(squares > 0, 1 / np.sqrt(np.where(squares > 0, squares, 1.0)), 0.0)
    return s[:, None] * s[None, :] * cov
