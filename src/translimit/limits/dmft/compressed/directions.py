r"""Stacks of directions that grow along training, and are read chunk by chunk.

A stack holds vectors of a population, or coefficient rows of the stream, as rows: [layers, places,
width]. Places from its rank on are zero. Loops run over the chunks that are filled, so that one
compiled program serves until a stack is full; small stacks are taken whole. Chunks of large stacks
are larger: what a loop writes over and over again is then little beside its products.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.limits.dmft.histories import Index, matmul

#: Rows of a chunk, by the places of a stack up to which they are used.
CHUNKS: tuple[tuple[int, float], ...] = ((32, 512), (128, 2048), (256, math.inf))
#: Places, and numbers of a layer, up to which a stack is taken whole.
WHOLE, WHOLE_SIZE = 64, 1 << 20
#: Fields that are few: their products take few numbers again and again, and read no more places
#: than are filled, so many at once, where a layer of the stack has more numbers than this.
FEW, FEW_PLACES, FEW_SIZE = 16, 8, 1 << 16
#: Directions, or their images, of all layers.
Stack = Float[Array, "layers places width"]


def chunk_of(places: int) -> int:
    """Rows of a chunk of a stack."""
    return next(rows for rows, most in CHUNKS if places <= most)


def whole_chunks(rows: int) -> int:
    """Places in whole chunks that hold so many rows, one chunk at least."""
    sizes = (chunk * max(1, -(-rows // chunk)) for chunk, _ in CHUNKS)
    return next(places for places, (_, most) in zip(sizes, CHUNKS, strict=True) if places <= most)


def combine(
    coefficients: Float[Array, "rows places"], stack: Stack, layer: Index, rank: Index
) -> Float[Array, "rows width"]:
    """Sum over directions of coefficient times direction."""
    coefficients = coefficients.astype(stack.dtype)
    if _small(stack):
        return matmul(coefficients, stack[layer])

    size = _chunk_for(stack, len(coefficients))

    def body(c: Index, total: Array) -> Array:
        here = jax.lax.dynamic_slice_in_dim(coefficients, c * size, size, axis=1)
        return total + matmul(here, _chunk(stack, layer, c, size))

    start = jnp.zeros((coefficients.shape[0], stack.shape[2]), stack.dtype)
    return jax.lax.fori_loop(0, _filled(size, rank), body, start)


def overlaps(
    fields: Float[Array, "rows width"], stack: Stack, layer: Index, rank: Index
) -> Float[Array, "rows places"]:
    """Sums over the width of field times direction, in 64 bits."""
    fields = fields.astype(stack.dtype)
    size = _together(stack, len(fields))
    if size == stack.shape[1]:
        return matmul(fields, stack[layer].T).astype(jnp.float64)

    def body(c: Index, found: Array) -> Array:
        here = matmul(fields, _chunk(stack, layer, c, size).T).astype(jnp.float64)
        return jax.lax.dynamic_update_slice_in_dim(found, here, c * size, axis=1)

    start = jnp.zeros((fields.shape[0], stack.shape[1]), jnp.float64)
    return jax.lax.fori_loop(0, _filled(size, rank), body, start)


def add_products(
    stack: Stack,
    coefficients: Float[Array, "rows places"],
    fields: Float[Array, "rows width"],
    layer: Index,
    rank: Index,
) -> Stack:
    """The stack with coefficients^T fields added to the directions of a layer."""
    coefficients, fields = coefficients.astype(stack.dtype), fields.astype(stack.dtype)
    size = _together(stack, len(fields))
    if size == stack.shape[1]:
        return stack.at[layer].add(matmul(coefficients.T, fields))

    def body(c: Index, stack: Array) -> Array:
        here = jax.lax.dynamic_slice_in_dim(coefficients, c * size, size, axis=1)
        moved = _chunk(stack, layer, c, size)
        if len(fields) > FEW:
            moved = moved + matmul(here.T, fields)
        else:  # written out, it is done in place
            for own, field in zip(here, fields, strict=True):
                moved = moved + own[:, None] * field
        return jax.lax.dynamic_update_slice(stack, moved[None], (layer, c * size, 0))

    return jax.lax.fori_loop(0, _filled(size, rank), body, stack)


def scaled(stack: Stack, factor: Float[Array, ""], layer: Index, rank: Index) -> Stack:
    """The stack with the directions of a layer multiplied by a factor."""
    if _small(stack):
        return stack.at[layer].multiply(factor.astype(stack.dtype))

    size = chunk_of(stack.shape[1])

    def body(c: Index, stack: Array) -> Array:
        moved = factor.astype(stack.dtype) * _chunk(stack, layer, c, size)
        return jax.lax.dynamic_update_slice(stack, moved[None], (layer, c * size, 0))

    return jax.lax.fori_loop(0, _filled(size, rank), body, stack)


def added(stack: Stack, other: Stack, layer: Index, rank: Index) -> Stack:
    """The stack with the directions of another added in a layer."""
    if _small(stack):
        return stack.at[layer].add(other[layer])

    size = chunk_of(stack.shape[1])

    def body(c: Index, stack: Array) -> Array:
        moved = _chunk(stack, layer, c, size) + _chunk(other, layer, c, size)
        return jax.lax.dynamic_update_slice(stack, moved[None], (layer, c * size, 0))

    return jax.lax.fori_loop(0, _filled(size, rank), body, stack)


def put(stack: Stack, rows: Float[Array, "rows width"], layer: Index, place: Index) -> Stack:
    """The stack with the rows of a layer from a place on replaced."""
    rows = rows.astype(stack.dtype)[None]
    return jax.lax.dynamic_update_slice(stack, rows, (layer, place, jnp.zeros_like(place)))


def norms(
    fields: Float[Array, "rows width"], scale: float | Float[Array, ""]
) -> Float[Array, "rows rows"]:
    """The Gram matrix of fields in the metric of their side, in 64 bits."""
    gram = matmul(fields, fields.T).astype(jnp.float64) * scale
    return (gram + gram.T) / 2


def _small(stack: Stack) -> bool:
    """Whether a loop would cost more than it saves."""
    return stack.shape[1] <= WHOLE or stack.shape[1] * stack.shape[2] <= WHOLE_SIZE


def _together(stack: Stack, fields: int) -> int:
    """Places that are taken at once in products with so many fields."""
    places, width = stack.shape[1:]
    if fields <= FEW and places * width > FEW_SIZE:
        return FEW_PLACES
    return places if _small(stack) else _chunk_for(stack, fields)


def _chunk_for(stack: Stack, fields: int) -> int:
    """Rows of a chunk: about twice the fields that meet it, and what fills whole chunks."""
    largest = chunk_of(stack.shape[1])
    return min(largest, max(CHUNKS[0][0], 1 << (2 * fields - 1).bit_length()))


def _chunk(stack: Stack, layer: Index, c: Index, size: int) -> Float[Array, "rows width"]:
    return jax.lax.dynamic_slice(stack, (layer, c * size, 0), (1, size, stack.shape[2]))[0]


def _filled(size: int, rank: Index) -> Index:
    """Chunks of a size that hold `rank` rows."""
    return (rank + size - 1) // size
