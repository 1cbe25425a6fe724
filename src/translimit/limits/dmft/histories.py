r"""Histories of sampled units: buffers that grow along training and are read chunk by chunk.

A buffer holds the past fields of every coordinate of a population, [layers, history, rows]: the
history (evaluation and field, K of them) varies slowly and the sampled coordinates (rows) lie side
by side. Rows of the future are zero. Loops run over the chunks that are filled, so that one
compiled program serves every time step and the future costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.core import Key

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


def past_sums(
    coefficients: Sequence[Float[Array, "_ history"]],
    buffers: Sequence[Buffer],
    layer: Index,
    rows: int,
    chunks: Index,
) -> tuple[Float[Array, "_ _"], ...]:
    """For each pair, sum over the history of coefficient times field: [fields, sampled rows]."""

    def body(c: Index, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        added = []
        for total, row, buffer in zip(sums, coefficients, buffers, strict=True):
            here = jax.lax.dynamic_slice_in_dim(row, c * rows, rows, axis=1)
            added.append(total + matmul(here.astype(buffer.dtype), _chunk(buffer, layer, c, rows)))
        return tuple(added)

    start = tuple(
        jnp.zeros((row.shape[0], buffer.shape[2]), buffer.dtype)
        for row, buffer in zip(coefficients, buffers, strict=True)
    )
    return jax.lax.fori_loop(0, chunks, body, start)


def past_moments(
    fields: Sequence[Float[Array, "_ _"]],
    buffers: Sequence[Buffer],
    layer: Index,
    rows: int,
    chunks: Index,
) -> tuple[Float[Array, "_ history"], ...]:
    """For each pair, the mean over rows of field times past field: [fields, history], float64."""

    def body(c: Index, moments: tuple[Array, ...]) -> tuple[Array, ...]:
        filled = []
        for moment, field, buffer in zip(moments, fields, buffers, strict=True):
            here = matmul(field, _chunk(buffer, layer, c, rows).T) / buffer.shape[2]
            here = here.astype(moment.dtype)
            filled.append(jax.lax.dynamic_update_slice_in_dim(moment, here, c * rows, axis=1))
        return tuple(filled)

    start = tuple(
        jnp.zeros((field.shape[0], buffer.shape[1]), jnp.float64)
        for field, buffer in zip(fields, buffers, strict=True)
    )
    return jax.lax.fori_loop(0, chunks, body, start)


def innovations(
    key: Key,
    count: int,
    past: Sequence[Buffer],
    layer: Index,
    rows: int,
    chunks: Index,
    matched: bool,
) -> Float[Array, "count columns"]:
    """New white fields [count, sampled rows].

    Matched ones are projected orthogonally to all innovations so far, of all families, and
    orthonormalised among themselves symmetrically: empirical second moments are then exact.
    Standard normal numbers are drawn in 32 bits, which moves no moment by more than rounding.
    """
    dtype, samples = past[0].dtype, past[0].shape[2]
    new = jax.random.normal(key, (count, samples), jnp.float32).astype(dtype)
    if not matched:
        return new

    def project(c: Index, rest: Array) -> Array:
        for buffer in past:
            chunk = _chunk(buffer, layer, c, rows)
            rest = rest - matmul(matmul(rest, chunk.T) / samples, chunk)
        return rest

    new = jax.lax.fori_loop(0, chunks, project, new)
    gram = matmul(new, new.T).astype(jnp.float64) / samples
    values, basis = jnp.linalg.eigh(gram)
    return matmul(((basis / jnp.sqrt(values)) @ basis.T).astype(dtype), new)


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


def _chunk(buffer: Buffer, layer: Index, c: Index, rows: int) -> Float[Array, "rows columns"]:
    size = (1, rows, buffer.shape[2])
    return jax.lax.dynamic_slice(buffer, (layer, c * rows, 0), size)[0]
