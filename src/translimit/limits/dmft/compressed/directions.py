r"""Stacks of directions that grow along training, in parts that are read where they are filled.

A stack holds vectors of a population, or coefficient rows of the stream, as rows [places, width].
Places from its rank on are zero. It is stored in parts, arrays of their own: products skip those
that nothing has reached, so that one compiled program serves until a stack is full, more room is
one more part, and nothing is copied to be read. Parts grow with what is before them, up to some
size, so that they are few and little of the last one is empty.

Products have the stack on their left and fields on their right, turned: that is the order in which
compilers for CPUs read it from memory once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.limits.dmft.histories import Index, matmul

T = TypeVar("T")

#: Columns of coefficient rows come in whole multiples of this.
COLUMNS = 32
#: Rows of the first part of a stack, at least. Every part is one more branch of every product, and
#: what a step compiles grows with them; the larger they are, the more of the last one is empty.
LEAST = 32
#: Rows of a further part, at most: all that is before it, or this, or two first parts.
_LARGEST = 1024
#: Fields that are few: their products are written out, and read and write a stack once.
FEW = 4
#: Columns that are updated together, where fields are more.
TOGETHER = 2048


class Stack(eqx.Module):
    """Directions of a kind, or their images.

    Attributes:
        parts: rows, one part after another.
    """

    parts: tuple[Float[Array, "_ width"], ...]

    @property
    def places(self) -> int:
        """Rows that there is room for."""
        return sum(map(len, self.parts))

    @property
    def dtype(self) -> np.dtype:
        """Of the rows."""
        return self.parts[0].dtype if self.parts else np.dtype(np.float64)

    @property
    def width(self) -> int:
        """Length of a row."""
        return self.parts[0].shape[1] if self.parts else 0

    def placed(self) -> Iterator[tuple[int, Float[Array, "_ width"]]]:
        """Every part with the place of its first row."""
        first = 0
        for part in self.parts:
            yield first, part
            first += len(part)


def columns_for(count: int) -> int:
    """Room for so many columns."""
    return COLUMNS * max(1, -(-count // COLUMNS))


def least_part(fields: int) -> int:
    """Rows of the first part of a stack of directions of so many fields."""
    return max(LEAST, 1 << (fields - 1).bit_length())


def parts_for(rows: int, least: int) -> tuple[int, ...]:
    """Sizes of the parts that hold so many rows; none where there are none."""
    sizes: list[int] = []
    while sum(sizes) < rows:
        sizes.append(max(least, min(sum(sizes), max(_LARGEST, 2 * least))))
    return tuple(sizes)


def places_for(rows: int, least: int) -> int:
    """Places in whole parts that hold so many rows, one part at least."""
    return sum(parts_for(max(rows, 1), least))


def empty_stack(places: int, width: int, least: int, dtype: str = "float64") -> Stack:
    """No directions yet, with room for some."""
    return Stack(tuple(jnp.zeros((rows, width), dtype) for rows in parts_for(places, least)))


def combine(
    coefficients: Float[Array, "rows places"],
    stack: Stack,
    rank: Index,
    onto: Float[Array, "rows width"] | None = None,
) -> Float[Array, "rows width"]:
    """Sum over directions of coefficient times direction, added to `onto`."""
    total = onto
    for first, part in stack.placed():
        here = coefficients[:, first : first + len(part)].astype(part.dtype)

        def more(total: Array, here: Array = here, part: Array = part) -> Array:
            return total + matmul(here, part)

        if total is None:
            total = matmul(here, part)
        else:
            total = more(total) if first == 0 else where_filled(rank > first, more, total)
    if total is None:
        return jnp.zeros((len(coefficients), stack.width))
    return total


def overlaps(
    fields: Float[Array, "rows width"], stack: Stack, rank: Index
) -> Float[Array, "rows places"]:
    """Sums over the width of field times direction, in 64 bits."""
    found = [jnp.zeros((0, len(fields)))]
    for first, part in stack.placed():
        turned = fields.astype(part.dtype).T

        def met(none: Array, part: Array = part, turned: Array = turned) -> Array:
            return matmul(part, turned)

        none = jnp.zeros((len(part), len(fields)), part.dtype)
        here = met(none) if first == 0 else where_filled(rank > first, met, none)
        found.append(here.astype(jnp.float64))
    return jnp.concatenate(found).T


def apart(
    fields: Float[Array, "rows width"], stack: Stack, rank: Index, scale: float
) -> tuple[Float[Array, "rows width"], Float[Array, "rows places"]]:
    """Fields less what orthonormal directions span of them; and their coefficients on these.

    Args:
        fields: of one side.
        stack: directions there.
        rank: how many of them there are.
        scale: of the metric of the side.
    """
    own = fields.astype(stack.dtype)
    rest, found = own, [jnp.zeros((0, len(fields)))]
    for first, part in stack.placed():

        def less(there: tuple[Array, Array], part: Array = part) -> tuple[Array, Array]:
            met = scale * matmul(part, own.T)
            turned = jax.lax.optimization_barrier(met.T)  # small, and its product reads it often
            return there[0] - matmul(turned, part), met

        there = (rest, jnp.zeros((len(part), len(fields)), part.dtype))
        rest, met = less(there) if first == 0 else where_filled(rank > first, less, there)
        found.append(met.astype(jnp.float64))
    return rest, jnp.concatenate(found).T


def add_products(
    stack: Stack,
    coefficients: Float[Array, "rows places"],
    fields: Float[Array, "rows width"],
    rank: Index,
) -> Stack:
    """The stack with coefficients^T fields added to its directions."""
    parts = []
    for first, part in stack.placed():
        here = coefficients[:, first : first + len(part)].astype(part.dtype).T
        own = fields.astype(part.dtype)

        def moved(part: Array, here: Array = here, own: Array = own) -> Array:
            return _with_products(part, here, own)

        parts.append(where_filled(rank > first, moved, part))
    return Stack(tuple(parts))


def scaled(stack: Stack, factor: Float[Array, ""], rank: Index) -> Stack:
    """The stack with its directions multiplied by a factor."""
    return Stack(
        tuple(
            where_filled(rank > first, lambda part: factor.astype(part.dtype) * part, part)
            for first, part in stack.placed()
        )
    )


def added(stack: Stack, other: Stack, rank: Index) -> Stack:
    """The stack with the directions of another added."""
    parts = []
    for (first, part), more in zip(stack.placed(), other.parts, strict=True):
        parts.append(where_filled(rank > first, lambda part, more=more: part + more, part))
    return Stack(tuple(parts))


def put(stack: Stack, rows: Float[Array, "rows width"], place: Index, count: Index) -> Stack:
    """The stack with the first rows, as many as are counted, from a place on."""
    parts = []
    for first, part in stack.placed():
        new = rows.astype(part.dtype)
        start = jnp.clip(first - place, 0, count)
        end = jnp.clip(first + len(part) - place, 0, count)

        def one(i: Index, part: Array, new: Array = new, first: int = first) -> Array:
            row = jax.lax.dynamic_slice_in_dim(new, i, 1)
            return jax.lax.dynamic_update_slice_in_dim(part, row, place + i - first, axis=0)

        parts.append(jax.lax.fori_loop(start, end, one, part))
    return Stack(tuple(parts))


def norms(
    fields: Float[Array, "rows width"], scale: float | Float[Array, ""]
) -> Float[Array, "rows rows"]:
    """The Gram matrix of fields in the metric of their side, in 64 bits."""
    gram = matmul(fields, fields.T).astype(jnp.float64) * scale
    return (gram + gram.T) / 2


def where_filled(filled: Array | bool, work: Callable[[T], T], otherwise: T) -> T:
    """`work(otherwise)` where it is needed, and else `otherwise` itself."""
    return jax.lax.cond(filled, work, lambda same: same, otherwise)


def _with_products(
    part: Float[Array, "places width"],
    coefficients: Float[Array, "places rows"],
    fields: Float[Array, "rows width"],
) -> Float[Array, "places width"]:
    """A part with coefficients fields added, in place."""
    if len(fields) <= FEW:
        for own, field in zip(coefficients.T, fields, strict=True):
            part = part + own[:, None] * field
        return part
    width = part.shape[1]
    whole = width // TOGETHER

    def some(c: Index, part: Array) -> Array:
        start = c * TOGETHER
        here = jax.lax.dynamic_slice_in_dim(fields, start, TOGETHER, axis=1)
        there = jax.lax.dynamic_slice_in_dim(part, start, TOGETHER, axis=1)
        there = there + matmul(coefficients, here)
        return jax.lax.dynamic_update_slice_in_dim(part, there, start, axis=1)

    if whole > 1:
        part = jax.lax.fori_loop(0, whole, some, part)
    else:
        whole = 0
    rest = whole * TOGETHER
    if rest < width:
        last = part[:, rest:] + matmul(coefficients, fields[:, rest:])
        part = jax.lax.dynamic_update_slice_in_dim(part, last, rest, axis=1)
    return part
