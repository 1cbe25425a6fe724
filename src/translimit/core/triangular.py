r"""Lower-triangular factors of covariances that may be singular, without squaring or clipping.

A covariance V = F F^T is carried as a factor. Adding independent parts stacks factors side by
side, and the lower-triangular L with L L^T = F F^T is the transposed R of a QR decomposition of
F^T: V is never formed, so the condition number is never squared, and log det V = 2 sum log L_ii is
good to rounding however thin V has become. Directions that are zero up to rounding are set to
zero, so that equal tokens stay equal.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

#: Up to this size a factorisation is written out, which vectorises over a batch; beyond it, LAPACK.
WRITTEN_OUT = 16
#: A row or pivot below this fraction of its own size is rounding.
_ROUNDING = 64.0


def lower_factor(stack: Float[Array, "rows columns"]) -> Float[Array, "rows rows"]:
    """The lower-triangular L with L L^T = F F^T and a diagonal that is not negative.

    Rows up to `WRITTEN_OUT` by modified Gram-Schmidt, more by Householder QR.

    Args:
        stack: F, with at least as many columns as rows.
    """
    rows = stack.shape[0]
    if rows > WRITTEN_OUT:
        upper = jnp.linalg.qr(stack.T, mode="r")
        return upper.T * jnp.where(jnp.diagonal(upper) < 0, -1.0, 1.0)[None, :]
    smallest = _ROUNDING * jnp.finfo(stack.dtype).eps * jnp.sqrt(jnp.sum(stack**2, axis=1))
    columns = []
    rest = stack
    for index in range(rows):
        length = jnp.sqrt(jnp.sum(rest[index] ** 2))
        kept = length > smallest[index]
        unit = jnp.where(kept, rest[index] / jnp.where(kept, length, 1.0), 0.0)
        column = jnp.sum(rest * unit, axis=1)
        columns.append(jnp.where(jnp.arange(rows) >= index, column, 0.0))
        rest = rest - columns[-1][:, None] * unit
    return jnp.stack(columns, axis=1)


def semidefinite_cholesky(matrix: Float[Array, "rows rows"]) -> Float[Array, "rows rows"]:
    """The lower-triangular L with L L^T = matrix for a positive semi-definite matrix.

    A pivot that is zero up to rounding gives a zero column, which is exact for a positive
    semi-definite matrix: its Schur complement vanishes there.
    """
    rows = matrix.shape[0]
    smallest = _ROUNDING * jnp.finfo(matrix.dtype).eps * jnp.diagonal(matrix)
    index_of = jnp.arange(rows)

    def eliminate(index: Array | int, lower: Array) -> Array:
        column = matrix[:, index] - lower @ lower[index]
        pivot = column[index]
        kept = pivot > smallest[index]
        column = column / jnp.sqrt(jnp.where(kept, pivot, 1.0))
        return lower.at[:, index].set(jnp.where(kept & (index_of >= index), column, 0.0))

    lower = jnp.zeros_like(matrix)
    if rows > WRITTEN_OUT:
        return jax.lax.fori_loop(0, rows, eliminate, lower)
    for index in range(rows):
        lower = eliminate(index, lower)
    return lower


def wishart_factor(
    key: PRNGKeyArray, degrees: ArrayLike, size: int, dtype: Any = float
) -> Float[Array, "size size"]:
    """The lower-triangular Bartlett factor T: T T^T is a Wishart matrix with unit covariance.

    Args:
        key: randomness.
        degrees: degrees of freedom, real, above size - 1.
        size: rows and columns.
        dtype: of the result.
    """
    lower, diagonal = jax.random.split(key)
    strict = jnp.tril(jax.random.normal(lower, (size, size), dtype), -1)
    squares = jax.random.chisquare(diagonal, degrees - jnp.arange(size), dtype=dtype)
    return strict + jnp.diag(jnp.sqrt(squares))
