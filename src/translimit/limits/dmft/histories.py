r"""Histories of sampled units: buffers that grow along training and are read chunk by chunk.

A buffer holds the past fields of every coordinate of a population, [layers, history, rows]: the
history (evaluation and field, K of them) varies slowly and the sampled coordinates (rows) lie side
by side. Rows of the future are zero. Loops run over the chunks that are filled, so that one
compiled program serves every time step and the future costs nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

#: History rows that one chunk aims at.
CHUNK_ROWS = 64
#: A place, or a count of chunks, that compiled programs may be given as data.
Index = Int[Array, ""] | int
#: What a population stores of one family of fields, across layers.
Buffer = Float[Array, "layers history columns"]


def slots_in_chunk(fields: int, steps: int) -> int:
    """Time steps that share a chunk."""
    return min(steps, max(1, CHUNK_ROWS // fields))


def matmul(
    a: Float[Array, "rows inner"], b: Float[Array, "inner columns"]
) -> Float[Array, "rows columns"]:
    """A product in the full precision of its arguments on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def put_rows(
    buffer: Float[Array, "*head history columns"],
    new: Float[Array, "*head rows columns"],
    start: Index,
) -> Float[Array, "*head history columns"]:
    """The buffer [..., history, x] with the rows from `start` on replaced by `new`."""
    new = new.astype(buffer.dtype)
    return jax.lax.dynamic_update_slice_in_dim(buffer, new, start, axis=buffer.ndim - 2)


def put_columns(
    buffer: Float[Array, "*head history"], new: Float[Array, "*head columns"], start: Index
) -> Float[Array, "*head history"]:
    """The buffer [..., history] with the columns from `start` on replaced by `new`."""
    new = new.astype(buffer.dtype)
    return jax.lax.dynamic_update_slice_in_dim(buffer, new, start, axis=buffer.ndim - 1)
