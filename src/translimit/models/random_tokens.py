r"""Tokens as they enter a random stack: of an embedding, or Gaussian with a covariance.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from translimit.core import Key, named_key
from translimit.describe import Embedding, Normalisation
from translimit.models.token_norms import normalise


def table_rows(embedding: Embedding, dim: int, ids: Array, key: Key) -> Float[Array, "n width"]:
    """Rows of the table of embeddings before their multiplier, drawn one by one.

    They have the stream's entries, or those that a matrix of the embedding reads.

    Args:
        embedding: standard deviation and padding row.
        dim: D.
        ids: which rows [n].
        key: of the table.
    """
    table = named_key(key, "table")
    shape = (embedding.width(dim),)
    row = jax.vmap(lambda t: jax.random.normal(jax.random.fold_in(table, t), shape, jnp.float32))
    rows = embedding.std * row(ids)
    return rows if embedding.padding is None else rows * (ids != embedding.padding)[:, None]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def embedded(
    of: Embedding, dim: int, dtype: np.dtype, ids: Int[Array, " n"], keys: Array
) -> Float[Array, "replicas n dim"]:
    """Tokens of an embedding: rows of the table, positions, the shared row, their norm and matrix.

    Args:
        of: the embedding.
        dim: D.
        dtype: of the result.
        ids: of the tokens.
        keys: of table, positions and the shared row, one a replica.
    """
    places = np.arange(len(ids))[:, None]
    fixed = None if of.sinusoids is None else of.sinusoids.rows(places)

    def one(key: Key) -> Array:
        rows = of.multiplier * table_rows(of, dim, ids, key).astype(dtype)
        positions = jax.random.normal(named_key(key, "positions"), rows.shape, jnp.float32)
        shared = jax.random.normal(named_key(key, "type"), rows.shape[1:], jnp.float32)
        x = rows + of.position_std * positions.astype(dtype) + of.type_std * shared.astype(dtype)
        if fixed is not None:
            x = x + fixed.astype(dtype)
        x = normalise(of.norm, x)
        if of.inner is None:
            return x
        matrix = jax.random.normal(named_key(key, "inner"), (of.inner, dim), jnp.float32)
        return of.inner_std * x @ matrix.astype(dtype)

    return jax.vmap(one)(keys)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def gaussian(
    norm: Normalisation | None,
    dim: int,
    dtype: np.dtype,
    factor: Float[Array, "n n"],
    keys: Array,
) -> Float[Array, "replicas n dim"]:
    """Gaussian tokens with the mean <x_i, x_j> / D = F F^T.

    Tokens that leave a norm have the mean squares of F F^T exactly.

    Args:
        norm: of the embedding, or None.
        dim: D.
        dtype: of the result.
        factor: F.
        keys: of the draw, one a replica.
    """

    def one(key: Key) -> Array:
        drawn = jax.random.normal(named_key(key, "tokens"), (len(factor), dim), jnp.float32)
        x = factor.astype(dtype) @ drawn.astype(dtype)
        if norm is None:
            return x
        wanted = jnp.sqrt(jnp.sum(factor**2, axis=1, keepdims=True)).astype(dtype)
        return wanted * normalise(Normalisation(norm.kind), x)

    return jax.vmap(one)(keys)


def root(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """F with F F^T the matrix, which may be singular.

    Args:
        matrix: without negative eigenvalues beyond rounding.
    """
    values, basis = np.linalg.eigh(matrix)
    return basis * np.sqrt(np.maximum(values, 0.0))
