r"""Norms acting on covariances, and on the Gram matrices of gradients that pass them backward.

A norm with gain g maps C to C_ij s_i s_j with s_i = g / (C_ii + norm_eps)^{1/2}. Backward the
same s multiplies the gradient; the rank-one part of its derivative is of relative order 1 / D and
dropped.
A token of norm zero stays zero where norm_eps > 0; its overlaps are zero.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import AnyArray, quick_cholesky
from translimit.describe import Normalisation

#: Up to so many tokens a whole matrix is quicker than its triangles and blocks of rows.
FEW_TOKENS = 128
#: Blocks of rows of many tokens.
BLOCKS = 4
#: Relative jitter of Cholesky factors.
JITTER = 1e-7


def scales(norm: Normalisation | None, cov: Float[Array, "n n"]) -> Float[Array, " n"]:
    """S of a norm; ones where there is none.

    Args:
        norm: the norm.
        cov: of the tokens that it reads.
    """
    squares = jnp.diagonal(cov)
    if norm is None:
        return jnp.ones_like(squares)
    total = squares + norm.norm_eps
    return norm.gain * jnp.where(total > 0, 1.0 / jnp.sqrt(jnp.where(total > 0, total, 1.0)), 0.0)


def square_scale(norm: Normalisation | None, mean_square: float) -> float:
    """s^2 of a norm for tokens of one mean square; 1 where there is none.

    Args:
        norm: the norm.
        mean_square: mean square of the entries that it reads.
    """
    if norm is None:
        return 1.0
    total = mean_square + norm.norm_eps
    return norm.gain**2 / total if total > 0 else 0.0


def scaled(matrix: Float[Array, "*m n n"], s: Float[Array, " n"]) -> Float[Array, "*m n n"]:
    """S_i s_j times a matrix.

    Args:
        matrix: of pairs of tokens, or several.
        s: of the tokens.
    """
    return matrix * (s[:, None] * s[None, :])


def pull_norm(
    norm: Normalisation | None, cov: Float[AnyArray, "n n"], slopes: Float[AnyArray, "m n n"]
) -> Float[AnyArray, "m n n"]:
    """Derivatives of tr(S N(C)) with respect to C for matrices S.

    Args:
        norm: the norm.
        cov: C, of the tokens that it reads.
        slopes: the matrices S, symmetric.
    """
    if norm is None:
        return slopes
    total = cov.diagonal() + norm.norm_eps
    square = norm.gain**2 * (total > 0) / (total + (total == 0))
    s = square**0.5
    whole = slopes * (s[:, None] * s[None, :])
    by_token = (whole * cov).sum(axis=2) * square / norm.gain**2
    return whole - by_token[:, :, None] * np.eye(len(cov))


def lengths(cov: Float[Array, "n n"]) -> Float[Array, " n"]:
    """C_ii^{1/2}, with derivative zero for a token of norm zero.

    Args:
        cov: of the tokens.
    """
    squares = jnp.diagonal(cov)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)


def inverse_norms(cov: Float[Array, "n n"]) -> Float[Array, " n"]:
    """1 / C_ii^{1/2}, and 0 for a token of norm zero.

    Args:
        cov: of the tokens.
    """
    squares = jnp.diagonal(cov)
    return jnp.where(squares > 0, 1.0 / jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)


def overlaps(cov: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """R_ij = C_ij / (C_ii C_jj)^{1/2}; 0 for a token of norm zero.

    Args:
        cov: of the tokens.
    """
    return scaled(cov, inverse_norms(cov))


def mirrored(lower: Float[Array, "*m n n"], some: Array) -> Float[Array, "*m n n"]:
    """Symmetric matrices from their lower halves, written to memory once.

    XLA would mirror anew for everyone who reads them, but for what stands in a branch.

    Args:
        lower: the lower halves, with anything above.
        some: true, and traced.
    """

    def both(lower: Array) -> Array:
        return jnp.tril(lower) + jnp.swapaxes(jnp.tril(lower, -1), -1, -2)

    return jax.lax.cond(some, both, jnp.zeros_like, lower)


def pair_sums(grams: Float[Array, "m n n"], cov: Float[Array, "n n"]) -> Float[Array, " m"]:
    """sum_ij B_ij C_ij of every matrix B.

    Over rows first, which is entry by entry: a sum over both indices would add one number after
    the other.

    Args:
        grams: the matrices B.
        cov: C.
    """
    by_column = jnp.sum(grams * cov.astype(grams.dtype), axis=1)
    return by_column.astype(cov.dtype) @ jnp.ones(len(cov), cov.dtype)


def factor(cov: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """F with F F^T = cov up to a relative jitter; rows of tokens of norm zero are zero.

    Args:
        cov: of the tokens.
    """
    n = cov.shape[0]
    r = overlaps(cov)
    r = r.at[jnp.arange(n), jnp.arange(n)].set(1.0)
    cholesky = jnp.linalg.cholesky if n <= FEW_TOKENS else quick_cholesky
    return lengths(cov)[:, None] * cholesky(r + JITTER * jnp.eye(n))


def row_blocks(causal: bool, n: int) -> list[tuple[int, int]]:
    """First and last row, exclusive, of blocks of rows whose columns end with them.

    Of many tokens under a mask what lies beyond the last column of a block is nearly all zero.

    Args:
        causal: whether columns beyond the diagonal are zero, or known by symmetry.
        n: rows.
    """
    if not causal or n <= FEW_TOKENS:
        return [(0, n)]
    edges = [n * place // BLOCKS for place in range(BLOCKS + 1)]
    return list(itertools.pairwise(edges))


def root(cov: Float[Array, "n n"], width: int) -> Float[Array, "n width"]:
    """F with F F^T = cov, of so many columns: the largest directions, or zeros to fill up.

    Args:
        cov: of the tokens.
        width: columns.
    """
    values, basis = jnp.linalg.eigh(cov)
    whole = (basis * jnp.sqrt(jnp.maximum(values, 0.0)))[:, ::-1]
    return jnp.pad(whole, ((0, 0), (0, max(width - len(cov), 0))))[:, :width]
