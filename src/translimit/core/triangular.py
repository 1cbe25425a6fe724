r"""Lower-triangular factors of covariances that may be singular, without squaring or clipping.

A covariance V = F F^T is carried as a factor. Adding independent parts stacks factors side by
side, and the lower-triangular L with L L^T = F F^T is the transposed R of a QR decomposition of
F^T: V is never formed, so the condition number is never squared, and log det V = 2 sum log L_ii is
good to rounding however thin V has become. Directions that are zero up to rounding are set to
zero, so that equal tokens stay equal.

A Cholesky decomposition costs a fraction of that and squares the condition number. It is taken
where its own pivots show that nothing was lost, and the QR decomposition elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from translimit.core.draws import chi_square_of_seed, normals_of_seed, seeds

#: Up to this size a factorisation is written out, which vectorises over a batch; beyond it, LAPACK.
WRITTEN_OUT = 16
#: Up to this size that is cheaper than a Cholesky decomposition, and as exact as any.
FEW_ROWS = 4
#: A row or pivot below this fraction of its own size is rounding.
_ROUNDING = 64.0
#: A Cholesky decomposition is kept if no pivot is below this fraction of its diagonal entry: what
#: its rounding adds to a pivot is then below a relative 1e-12 a row.
_LEAST_PIVOT = 1e-4
#: Triangular blocks up to this size are multiplied and factored as they are.
_BLOCK = 64


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


def quick_lower_factor(stack: Float[Array, "rows columns"]) -> Float[Array, "rows rows"]:
    """`lower_factor`, by a Cholesky decomposition of F F^T where its pivots allow that.

    Args:
        stack: F, with at least as many columns as rows.
    """
    if stack.shape[0] <= FEW_ROWS:
        return lower_factor(stack)
    return where_allowed(*try_cholesky(_lower_gram(stack)), lower_factor, stack)


def try_cholesky(
    matrix: Float[Array, "rows rows"],
) -> tuple[Bool[Array, ""], Float[Array, "rows rows"]]:
    """Whether a Cholesky decomposition is good to rounding, and its lower-triangular factor.

    Args:
        matrix: symmetric; only its lower half is read.
    """
    lower = _cholesky(matrix)
    pivots = jnp.diagonal(lower) ** 2
    # NaN, which is what a matrix that is not positive definite gives, compares as false.
    return jnp.all(pivots >= _LEAST_PIVOT * jnp.diagonal(matrix)), lower


def where_allowed(
    allowed: Bool[Array, ""], quick: Array, careful: Callable[..., Array], *arguments: Array
) -> Array:
    """`quick` where it is allowed, else `careful(*arguments)`, computed only where it is needed.

    Under `jax.vmap` the careful result is computed for the whole batch as soon as one of it needs
    it; every element still takes the one that its own `allowed` asks for.

    Args:
        allowed: whether the quick result is right.
        quick: the quick result.
        careful: a function of the arguments, without closed-over traced values.
        arguments: arrays.
    """

    @jax.custom_batching.custom_vmap
    def choose(allowed: Array, quick: Array, *arguments: Array) -> Array:
        return jax.lax.cond(allowed, lambda: quick, lambda: careful(*arguments))

    @choose.def_vmap
    def _(size: int, batched: Any, allowed: Array, quick: Array, *arguments: Array) -> Any:
        def whole(value: Array, has_axis: bool) -> Array:
            return value if has_axis else jnp.broadcast_to(value, (size, *value.shape))

        flags, quicks, *others = (
            whole(value, has_axis)
            for value, has_axis in zip((allowed, quick, *arguments), batched, strict=True)
        )

        def selected() -> Array:
            return jnp.where(flags[:, None, None], quicks, jax.vmap(careful)(*others))

        return jax.lax.cond(jnp.all(flags), lambda: quicks, selected), True

    return choose(allowed, quick, *arguments)


def lower_product(
    left: Float[Array, "rows rows"], right: Float[Array, "rows rows"]
) -> Float[Array, "rows rows"]:
    """The product of two lower-triangular matrices, without most of what is zero.

    Args:
        left: lower-triangular.
        right: lower-triangular.
    """
    rows = left.shape[0]
    if rows <= _BLOCK:
        return left @ right
    half = rows // 2
    return _lower_blocks(
        lower_product(left[:half, :half], right[:half, :half]),
        left[half:] @ right[:, :half],
        lower_product(left[half:, half:], right[half:, half:]),
    )


def lower_square(lower: Float[Array, "rows rows"]) -> Float[Array, "rows rows"]:
    """L L^T of a lower-triangular matrix, with zeros or what belongs there above the diagonal.

    Args:
        lower: L.
    """
    rows = lower.shape[0]
    if rows <= _BLOCK:
        return lower @ lower.T
    half = rows // 2
    top, across = lower[:half, :half], lower[half:, :half]
    bottom = _lower_gram(across) + lower_square(lower[half:, half:])
    return _lower_blocks(lower_square(top), across @ top.T, bottom)


@jax.custom_vjp
def quick_cholesky(matrix: Float[Array, "rows rows"]) -> Float[Array, "rows rows"]:
    """The Cholesky factor of a positive definite matrix, by halves where it has many rows.

    Two to five times as fast as LAPACK's own from some hundred rows on, and as exact. NaN where the
    matrix is not positive definite.

    Args:
        matrix: symmetric; only its lower half is read.
    """
    return jnp.tril(_cholesky(matrix))


def _cholesky_forward(matrix: Array) -> tuple[Array, Array]:
    lower = quick_cholesky(matrix)
    return lower, lower


def _cholesky_backward(lower: Array, slope: Array) -> tuple[Array]:
    """L^-T Phi(L^T S) L^-1, symmetric, with Phi the lower half and half of the diagonal."""
    inner = jnp.tril(lower.T @ slope)
    inner = inner - jnp.diag(jnp.diagonal(inner)) / 2
    solve = jax.lax.linalg.triangular_solve
    left = solve(lower, inner, left_side=True, lower=True, transpose_a=True)
    whole = solve(lower, left, left_side=False, lower=True)
    return ((whole + whole.T) / 2,)


quick_cholesky.defvjp(_cholesky_forward, _cholesky_backward)


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
    lower, diagonal = seeds(key, 2)
    strict = jnp.tril(normals_of_seed(lower, (size, size)).astype(dtype), -1)
    squares = chi_square_of_seed(diagonal, degrees - jnp.arange(size), dtype)
    return strict + jnp.diag(jnp.sqrt(squares))


def _cholesky(matrix: Float[Array, "rows rows"]) -> Float[Array, "rows rows"]:
    """The Cholesky factor by halves: LAPACK's own is slow at a few hundred rows."""
    rows = matrix.shape[0]
    if rows <= _BLOCK:
        return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    half = rows // 2
    top = _cholesky(matrix[:half, :half])
    across = jax.lax.linalg.triangular_solve(
        top, matrix[half:, :half], left_side=False, lower=True, transpose_a=True
    )
    return _lower_blocks(top, across, _cholesky(matrix[half:, half:] - _lower_gram(across)))


def _lower_gram(stack: Float[Array, "rows columns"]) -> Float[Array, "rows rows"]:
    """F F^T, with zeros or what belongs there above the diagonal."""
    rows = stack.shape[0]
    if rows <= _BLOCK:
        return stack @ stack.T
    half = rows // 2
    top, bottom = stack[:half], stack[half:]
    return _lower_blocks(_lower_gram(top), bottom @ top.T, _lower_gram(bottom))


def _lower_blocks(top: Array, across: Array, bottom: Array) -> Array:
    """[[top, 0], [across, bottom]]."""
    zero = jnp.zeros((top.shape[0], bottom.shape[0]), top.dtype)
    return jnp.block([[top, zero], [across, bottom]])
