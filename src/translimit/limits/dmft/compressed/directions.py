r"""Stacks of directions that grow along training, and are read chunk by chunk.

A stack holds vectors of a population, or coefficient rows of the stream, as rows: [layers, places,
width]. Places from its rank on are zero. Loops run over the chunks that are filled, so that one
compiled program serves until a stack is full; small stacks are taken whole.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.limits.dmft.histories import Index, matmul

#: Rows of a chunk; places of a stack are a multiple of it.
CHUNK = 32
#: Places, and numbers of a layer, up to which a stack is taken whole.
WHOLE, WHOLE_SIZE = 64, 1 << 20
#: Directions, or their images, of all layers.
Stack = Float[Array, "layers places width"]


def chunks_of(rank: Int[Array, ""]) -> Int[Array, ""]:
    """Chunks that hold `rank` rows."""
    return (rank + CHUNK - 1) // CHUNK


def combine(
    coefficients: Float[Array, "rows places"], stack: Stack, layer: Index, chunks: Index
) -> Float[Array, "rows width"]:
    """Sum over directions of coefficient times direction."""
    coefficients = coefficients.astype(stack.dtype)
    if _small(stack):
        return matmul(coefficients, stack[layer])

    def body(c: Index, total: Array) -> Array:
        here = jax.lax.dynamic_slice_in_dim(coefficients, c * CHUNK, CHUNK, axis=1)
        return total + matmul(here, _chunk(stack, layer, c))

    start = jnp.zeros((coefficients.shape[0], stack.shape[2]), stack.dtype)
    return jax.lax.fori_loop(0, chunks, body, start)


def overlaps(
    fields: Float[Array, "rows width"], stack: Stack, layer: Index, chunks: Index
) -> Float[Array, "rows places"]:
    """Sums over the width of field times direction, in 64 bits."""
    fields = fields.astype(stack.dtype)
    if _small(stack):
        return matmul(fields, stack[layer].T).astype(jnp.float64)

    def body(c: Index, found: Array) -> Array:
        here = matmul(fields, _chunk(stack, layer, c).T).astype(jnp.float64)
        return jax.lax.dynamic_update_slice_in_dim(found, here, c * CHUNK, axis=1)

    start = jnp.zeros((fields.shape[0], stack.shape[1]), jnp.float64)
    return jax.lax.fori_loop(0, chunks, body, start)


def add_products(
    stack: Stack,
    coefficients: Float[Array, "rows places"],
    fields: Float[Array, "rows width"],
    layer: Index,
    chunks: Index,
) -> Stack:
    """The stack with coefficients^T fields added to the directions of a layer."""
    coefficients, fields = coefficients.astype(stack.dtype), fields.astype(stack.dtype)
    if _small(stack):
        return stack.at[layer].add(matmul(coefficients.T, fields))

    def body(c: Index, stack: Array) -> Array:
        here = jax.lax.dynamic_slice_in_dim(coefficients, c * CHUNK, CHUNK, axis=1)
        moved = _chunk(stack, layer, c) + matmul(here.T, fields)
        return jax.lax.dynamic_update_slice(stack, moved[None], (layer, c * CHUNK, 0))

    return jax.lax.fori_loop(0, chunks, body, stack)


def scaled(stack: Stack, factor: Float[Array, ""], layer: Index, chunks: Index) -> Stack:
    """The stack with the directions of a layer multiplied by a factor."""
    if _small(stack):
        return stack.at[layer].multiply(factor.astype(stack.dtype))

    def body(c: Index, stack: Array) -> Array:
        moved = factor.astype(stack.dtype) * _chunk(stack, layer, c)
        return jax.lax.dynamic_update_slice(stack, moved[None], (layer, c * CHUNK, 0))

    return jax.lax.fori_loop(0, chunks, body, stack)


def added(stack: Stack, other: Stack, layer: Index, chunks: Index) -> Stack:
    """The stack with the directions of another added in a layer."""
    if _small(stack):
        return stack.at[layer].add(other[layer])

    def body(c: Index, stack: Array) -> Array:
        moved = _chunk(stack, layer, c) + _chunk(other, layer, c)
        return jax.lax.dynamic_update_slice(stack, moved[None], (layer, c * CHUNK, 0))

    return jax.lax.fori_loop(0, chunks, body, stack)


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


def _chunk(stack: Stack, layer: Index, c: Index) -> Float[Array, "rows width"]:
    size = (1, CHUNK, stack.shape[2])
    return jax.lax.dynamic_slice(stack, (layer, c * CHUNK, 0), size)[0]
