"""What is computed for new directions alone, of which there are often few or none.

A field of `fields` rows can bring as many new directions as it has rows, and mostly brings fewer.
Work on them is compiled for a few numbers of rows, and the smallest that holds them all is done.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

#: The smallest number of rows that work is compiled for, and from each to the next.
_LEAST, _TIMES = 8, 8


def sizes(fields: int) -> tuple[int, ...]:
    """Numbers of rows that work on new directions is compiled for."""
    found, size = [], _LEAST
    while size < fields:
        found.append(size)
        size *= _TIMES
    return (*found, fields)


def for_first(
    count: Int[Array, ""], fields: int, work: Callable[[int], PyTree[Array]]
) -> PyTree[Array]:
    """`work(rows)` for the fewest rows that hold `count` directions; zeros where there are none.

    Args:
        count: of new directions.
        fields: the most that there can be.
        work: from a number of rows to arrays whose shapes do not depend on it.
    """
    steps = sizes(fields)
    shapes = jax.eval_shape(lambda: work(steps[0]))

    def nothing() -> PyTree[Array]:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    place = sum((count > size).astype(jnp.int32) for size in (0, *steps[:-1]))
    branches = [nothing, *[lambda size=size: work(size) for size in steps]]
    return jax.lax.switch(place, branches)


def with_zeros(rows: Float[Array, "some width"], count: int) -> Float[Array, "rows width"]:
    """The rows with zeros below, `count` in all."""
    return jnp.pad(rows, ((0, count - len(rows)), (0, 0)))
