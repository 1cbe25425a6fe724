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

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from translimit.limits.dmft.compressed.directions import (
    Stack,
    apart,
    norms,
    put,
)
from translimit.limits.dmft.compressed.matrix import Side
from translimit.limits.dmft.histories import matmul, put_columns

#: Relative variance below which a vector adds nothing to a basis.
NOTHING = 1e-9


def matched(
    drawn: Float[Array, "families fields width"],
    turn: Float[Array, "fields rows"],
    basis: Stack,
    rank: Int[Array, ""],
) -> Float[Array, "rows stacked"]:
    """Orthonormal normal fields away from the basis; families of a field side by side.

    Args:
        drawn: white fields, of every family.
        turn: which combinations of them are wanted, orthonormal or zero.
        basis: of all that was drawn or seen before.
        rank: of the basis.
    """
    families, _, width = drawn.shape
    wanted = jnp.any(turn != 0, axis=0)
    white = jnp.concatenate([matmul(turn.T.astype(drawn.dtype), own) for own in drawn])
    white, _ = apart(white, basis, rank, 1 / width)
    # The symmetric root does not know in which order, or turned by how much, fields come.
    gram = norms(white, 1 / width) + jnp.diag(jnp.where(jnp.tile(wanted, families), 0.0, 1.0))
    values, vectors = jnp.linalg.eigh(gram)
    root = (vectors / jnp.sqrt(values)) @ vectors.T
    return side_by_side(matmul(root.astype(white.dtype), white), families)


def plain(
    drawn: Float[Array, "families fields width"],
    turn: Float[Array, "fields rows"],
    known: Side,
) -> Float[Array, "rows stacked"]:
    """Normal fields away from the directions of the matrix on their side."""
    white = jnp.concatenate(list(drawn), axis=1)
    white = matmul(turn.T.astype(white.dtype), white)
    return apart(white, known.directions, known.rank, known.scale)[0]


def side_by_side(stacked: Float[Array, "all width"], families: int) -> Float[Array, "rows stacked"]:
    """Families of a field beside each other, from below each other."""
    rows, width = stacked.shape[0] // families, stacked.shape[1]
    parts = stacked.reshape(families, rows, width).swapaxes(0, 1)
    return parts.reshape(rows, families * width)


def unit_columns(
    families: int,
    width: int,
    kept: Bool[Array, " rows"],
    count: Int[Array, ""],
    column: Int[Array, ""],
) -> Float[Array, "rows stacked"]:
    """Fresh columns for new directions, of every family its own."""
    ones = jnp.diag(kept.astype(jnp.float64))
    parts = [
        put_columns(jnp.zeros((len(kept), width)), ones, column + family * count)
        for family in range(families)
    ]
    return jnp.concatenate(parts, axis=1)


def with_innovations(
    basis: Stack,
    rank: Int[Array, ""],
    images: Float[Array, "rows stacked"],
    count: Int[Array, ""],
) -> tuple[Stack, Int[Array, ""]]:
    """The basis with innovations, which are orthonormal to it already."""
    for rows in jnp.split(images, images.shape[1] // basis.width, axis=1):
        basis = put(basis, rows, rank, count)
        rank = rank + count
    return basis, rank


def with_fields(
    basis: Stack,
    rank: Int[Array, ""],
    new: Float[Array, "rows stacked"],
    count: Int[Array, ""],
) -> tuple[Stack, Int[Array, ""]]:
    """The basis with what new directions of the population's fields have beside it."""
    width = basis.width
    rows = jnp.concatenate(jnp.split(new, new.shape[1] // width, axis=1))
    sizes = jnp.trace(norms(rows, 1 / width)) / jnp.maximum(count, 1)
    rest, _ = apart(rows, basis, rank, 1 / width)
    values, turn = jnp.linalg.eigh(norms(rest, 1 / width))
    values, turn = values[::-1], turn[:, ::-1]
    kept = values > NOTHING * sizes
    lift = turn * jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)
    found, _ = apart(matmul(lift.T.astype(rest.dtype), rest), basis, rank, 1 / width)
    gram = norms(found, 1 / width).astype(found.dtype)
    found = 1.5 * found - 0.5 * matmul(gram, found)
    more = jnp.sum(kept)
    return put(basis, found, rank, more), rank + more.astype(rank.dtype)
