r"""Innovations on a population: white fields that know nothing of what was drawn or seen before.

On a sampled population they are normal numbers, projected away from one orthonormal basis of all
earlier innovations and of the directions of its own fields, and then made orthonormal: second
moments are exact, and so are the identities <g W x> = <W^T g x>. Plain normal numbers (no moment
matching) are projected away from the directions of the matrix alone: that is a finite network in
law.

Where a population is linear in its sources its fields are coefficient rows, an innovation is a
fresh unit column, and inner products are sums over columns.

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jaxtyping import Array, Bool, Float, Int

from translimit.core import Key
from translimit.limits.dmft.compressed.directions import (
    Stack,
    chunks_of,
    combine,
    norms,
    overlaps,
    put,
)
from translimit.limits.dmft.compressed.matrix import Side
from translimit.limits.dmft.histories import Index, matmul, put_columns

#: Relative variance below which a vector adds nothing to a basis.
NOTHING = 1e-9


def matched(
    key: Key,
    rows: int,
    families: int,
    basis: Stack,
    rank: Int[Array, ""],
    layer: Index,
) -> Float[Array, "rows stacked"]:
    """Orthonormal normal fields away from the basis; families of a field side by side."""
    width = basis.shape[2]
    chunks = chunks_of(rank)
    white = jax.random.normal(key, (families * rows, width), jnp.float32).astype(basis.dtype)
    white = _away(white, basis, layer, chunks)
    root = jnp.linalg.cholesky(norms(white, 1 / width))
    white = jax.scipy.linalg.solve_triangular(root.astype(white.dtype), white, lower=True)
    stacked = white.reshape(families, rows, width).swapaxes(0, 1)
    return stacked.reshape(rows, families * width)


def plain(key: Key, rows: int, known: Side, layer: Index) -> Float[Array, "rows stacked"]:
    """Normal fields away from the directions of the matrix on their side."""
    shape, dtype = (rows, known.directions.shape[2]), known.directions.dtype
    white = jax.random.normal(key, shape, jnp.float32).astype(dtype)
    chunks = chunks_of(known.rank)
    met = known.scale * overlaps(white, known.directions, layer, chunks)
    return white - combine(met, known.directions, layer, chunks)


def unit_columns(
    rows: int,
    families: int,
    width: int,
    kept: Bool[Array, " rows"],
    count: Int[Array, ""],
    column: Int[Array, ""],
) -> Float[Array, "rows stacked"]:
    """Fresh columns for new directions, of every family its own."""
    ones = jnp.diag(kept.astype(jnp.float64))
    parts = [
        put_columns(jnp.zeros((rows, width)), ones, column + family * count)
        for family in range(families)
    ]
    return jnp.concatenate(parts, axis=1)


def with_innovations(
    basis: Stack,
    rank: Int[Array, ""],
    images: Float[Array, "rows stacked"],
    count: Int[Array, ""],
    layer: Index,
) -> tuple[Stack, Int[Array, ""]]:
    """The basis with innovations, which are orthonormal to it already."""
    width = basis.shape[2]
    for family in range(images.shape[1] // width):
        rows = images[:, family * width : (family + 1) * width]
        basis = put(basis, rows, layer, rank)
        rank = rank + count
    return basis, rank


def with_fields(
    basis: Stack,
    rank: Int[Array, ""],
    new: Float[Array, "rows stacked"],
    count: Int[Array, ""],
    layer: Index,
) -> tuple[Stack, Int[Array, ""]]:
    """The basis with what new directions of the population's fields have beside it."""
    width = basis.shape[2]
    rows = jnp.concatenate(jnp.split(new, new.shape[1] // width, axis=1))
    chunks = chunks_of(rank)

    def beside() -> tuple[Array, Array]:
        sizes = jnp.trace(norms(rows, 1 / width)) / jnp.maximum(count, 1)
        rest = _away(rows, basis, layer, chunks)
        values, turn = jnp.linalg.eigh(norms(rest, 1 / width))
        values, turn = values[::-1], turn[:, ::-1]
        kept = values > NOTHING * sizes
        lift = turn * jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)
        found = _away(matmul(lift.T.astype(rest.dtype), rest), basis, layer, chunks)
        gram = norms(found, 1 / width).astype(found.dtype)
        return 1.5 * found - 0.5 * matmul(gram, found), jnp.sum(kept)

    found, more = jax.lax.cond(
        count > 0, beside, lambda: (jnp.zeros_like(rows), jnp.zeros((), count.dtype))
    )
    return put(basis, found, layer, rank), rank + more


def _away(
    rows: Float[Array, "rows width"], basis: Stack, layer: Index, chunks: Index
) -> Float[Array, "rows width"]:
    """Rows less what the basis spans of them."""
    met = overlaps(rows, basis, layer, chunks) / basis.shape[2]
    return rows - combine(met, basis, layer, chunks)
