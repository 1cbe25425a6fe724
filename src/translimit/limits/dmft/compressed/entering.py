"""What is computed for new directions alone, of which there are often few or none.

A field of `fields` rows can bring as many new directions as it has rows, and mostly brings fewer.
Work on them is compiled for a few numbers of rows, and the smallest that holds them all is done. In
a short pass compiling takes longer than all that it computes: there it is compiled once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

Given = TypeVar("Given")
There = TypeVar("There")

#: From each number of rows that work is compiled for to the next, and the smallest of many.
_TIMES, _LEAST = 4, 2
#: Fields times evaluations up to which a pass is short.
_SHORT = 256
#: Fields of which a pass brings so few new directions that one number of rows is enough.
_FEW = 8


def is_short(fields: int, steps: int) -> bool:
    """Whether compiling a pass takes longer than all that it computes."""
    return fields * steps <= _SHORT


def numbers_of_rows(fields: int, steps: int) -> tuple[int, ...]:
    """Numbers of rows that work on new directions is compiled for.

    Args:
        fields: inputs times tokens.
        steps: evaluations.
    """
    if is_short(fields, steps) or fields <= _FEW:
        return (fields,)
    found, size = [], _LEAST if fields > 2 * _LEAST else 1
    while 2 * size <= fields:
        found.append(size)
        size *= _TIMES
    return (*found, fields)


def for_first(
    count: Int[Array, ""],
    sizes: tuple[int, ...],
    work: Callable[[int, Given, There], There],
    given: Given,
    otherwise: There,
) -> There:
    """`work(rows, given, otherwise)` for the fewest rows that hold `count` directions.

    Loops that run once or never, since these, unlike branches, leave in place what they change:
    `work` has to read that from its last argument, and all else that it needs from `given`, so
    that nothing of it is done before the loop.

    Args:
        count: of new directions.
        sizes: numbers of rows that the work is compiled for, increasing; the last holds all.
        work: from a number of rows, what is given, and what there is, to what there is then.
        given: to the work.
        otherwise: what there is where no direction enters.
    """
    less, there = 0, otherwise
    for rows in sizes:
        needed = ((count > less) & (count <= rows)).astype(jnp.int32)

        def body(i: Int[Array, ""], there: There, rows: int = rows) -> There:
            here, _ = jax.lax.optimization_barrier((given, i))
            return work(rows, here, there)

        there, less = jax.lax.fori_loop(0, needed, body, there), rows
    return there
