r"""Random attention seen from the Gram matrix of the tokens only, weights integrated out.

For heads whose law does not change under rotations (`AbstractIsotropicHeads`) the overlaps
R = X X^T of unit tokens decide the law of the scores and of the update. They are carried as a
factor F with R = F F^T, which stays exact to rounding where tokens collapse (1 - R_ij is half the
squared distance of two rows), and positive semi-definite by construction:

- scores of a head = (score_std / d_k^{1/2}) F Z_1 Z_2^T F^T with Z_1, Z_2 standard normal; where
  d_k exceeds the width of F, Z_1 Z_2^T has the law of Z_3 B^T with Bartlett's triangular factor B
  (chi with d_k - i degrees of freedom on the diagonal, standard normals below), whatever d_k;
- given the attention matrices P_h, the update of all tokens is Q Z, Z [width, dim] standard
  normal, with Q Q^T = c S and S = mean_h P_h R P_h^T. In dimensions of at least twice the tokens
  the part outside the span of the tokens is Q B, with dim - tokens degrees of freedom.

Attention matrices have one row per query and one column per key. Scores carry beta; where it is
infinite the best key takes all, and scores carry their sign and order only.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from translimit.core import (
    SPHERE,
    AnyArray,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Number,
    as_float,
    is_traced,
    named_key,
)
from translimit.describe import AbstractIsotropicHeads

#: Most negative eigenvalue of overlaps that counts as rounding.
EIGENVALUE_TOLERANCE = 1e-8
#: Largest deviation of the diagonal from one that counts as rounding.
DIAGONAL_TOLERANCE = 1e-6


def require_gram(
    overlaps: ArrayInput, name: str, dim: int | None = None
) -> Float[AnyArray, "tokens tokens"]:
    """Overlaps of unit tokens [tokens, tokens], or an error; singular ones are welcome.

    Args:
        overlaps: symmetric, positive semi-definite, ones on the diagonal.
        name: how errors call them.
        dim: the dimension in which such tokens must exist (the rank is at most dim).

    Raises:
        ArgumentError: not square, not finite, not symmetric, a diagonal that is not one, a
            negative eigenvalue, or a rank beyond the dimension.
    """
    overlaps = as_float(overlaps, name)
    if overlaps.ndim != 2 or overlaps.shape[0] != overlaps.shape[1] or overlaps.shape[0] == 0:
        raise ArgumentError(name, f"has shape {overlaps.shape}", "pass [tokens, tokens]")
    if is_traced(overlaps):
        eigenvalues = jnp.linalg.eigvalsh(overlaps)
        wrong = jnp.max(jnp.abs(jnp.diagonal(overlaps) - 1.0)) > DIAGONAL_TOLERANCE
        wrong = wrong | (jnp.max(jnp.abs(overlaps - overlaps.T)) > DIAGONAL_TOLERANCE)
        wrong = wrong | (eigenvalues[0] < -EIGENVALUE_TOLERANCE)
        return eqx.error_if(overlaps, wrong, f"{name}: no correlation matrix")
    host = np.asarray(overlaps, dtype=np.float64)
    asymmetry = float(np.abs(host - host.T).max())
    if asymmetry > DIAGONAL_TOLERANCE:
        raise ArgumentError(
            name, f"is not symmetric (by {asymmetry:.2g})", "pass overlaps <x_i, x_j>"
        )
    off = float(np.abs(np.diagonal(host) - 1.0).max())
    if off > DIAGONAL_TOLERANCE:
        raise ArgumentError(
            name, f"has a diagonal off one by {off:.2g}", "pass overlaps of tokens of norm one"
        )
    eigenvalues = np.linalg.eigvalsh(host)
    # Float32 overlaps carry rounding of their own size.
    rounding = max(EIGENVALUE_TOLERANCE, 10 * len(host) * float(np.finfo(overlaps.dtype).eps))
    if eigenvalues[0] < -rounding:
        raise ArgumentError(
            name,
            f"has the negative eigenvalue {eigenvalues[0]:.2g}",
            "pass a correlation matrix: overlaps of tokens that exist",
        )
    if dim is not None and len(host) > dim and eigenvalues[-dim - 1] > rounding:
        raise ArgumentError(
            name,
            f"has rank beyond {dim}, the dimension of the tokens",
            "pass overlaps of tokens of that dimension, or a law of a larger one",
        )
    return overlaps


def gram_factor(overlaps: Float[Array, "tokens tokens"], dim: int) -> Float[Array, "tokens width"]:
    """F with F F^T = overlaps; its width is `tokens` where dim >= 2 tokens, and dim otherwise."""
    tokens = overlaps.shape[0]
    eigenvalues, basis = jnp.linalg.eigh(overlaps)
    root = (basis * jnp.sqrt(jnp.maximum(eigenvalues, 0.0)))[:, ::-1]
    width = tokens if dim >= 2 * tokens else dim
    root = root[:, :width] if width <= tokens else jnp.pad(root, ((0, 0), (0, width - tokens)))
    return SPHERE.project(root)


def sample_scores(
    law: AbstractIsotropicHeads, factor: Float[Array, "tokens width"], key: PRNGKeyArray
) -> Float[Array, "tokens tokens"]:
    """The scores of one head, beta included; cost independent of dim, and of head_dim beyond it.

    Of a law with infinite beta: their order, as scores of variance one.

    Args:
        law: of the heads.
        factor: F with R = F F^T.
        key: of the head.
    """
    width, columns = factor.shape[1], law.key_dim
    normal = _normals(key, factor.dtype)
    std = jnp.asarray(1.0 if law.hard else law.score_std, factor.dtype)
    if math.isinf(columns):
        return std * factor @ normal("scores", (width, width)) @ factor.T
    scale = std / math.sqrt(columns)
    if columns <= width:
        left, right = (normal(name, (width, int(columns))) for name in ("keys", "queries"))
        return scale * (factor @ left) @ (factor @ right).T
    bartlett = _bartlett(named_key(key, "queries"), width, int(columns), factor.dtype)
    return scale * (factor @ normal("keys", (width, width))) @ (factor @ bartlett).T


def softmax_rows(
    scores: Float[Array, "tokens tokens"], causal: bool | Bool[Array, ""], hard: bool = False
) -> Float[Array, "tokens tokens"]:
    """Attention of every query (row) over the keys, or over those at or before it.

    Args:
        scores: of queries (rows) and keys.
        causal: whether keys after the query are masked; as an array it is data, so that one
            compiled program serves both.
        hard: whether the best key takes all (the first of equal ones).
    """
    if causal is not False:
        seen = jnp.tril(jnp.ones(scores.shape, bool)) | ~jnp.asarray(causal)
        scores = jnp.where(seen, scores, -jnp.inf)
    if hard:
        best = jnp.argmax(scores, axis=-1)
        return jax.nn.one_hot(best, scores.shape[-1], dtype=scores.dtype)
    return jax.nn.softmax(scores, axis=-1)


def head_weights(
    law: AbstractIsotropicHeads,
    factor: Float[Array, "tokens width"],
    heads: int,
    key: PRNGKeyArray,
    *,
    causal: bool,
    antithetic: bool = False,
) -> Float[Array, "heads tokens tokens"]:
    """Attention matrices of independent heads, head h from `fold_in(key, h)`.

    Args:
        law: of the heads.
        factor: F with R = F F^T.
        heads: how many (twice as many come back if antithetic).
        key: of the layer.
        causal: whether keys after the query are masked.
        antithetic: add to every head the one with the opposite scores.
    """

    def head(index: Array) -> Array:
        return sample_scores(law, factor, jax.random.fold_in(key, index))

    scores = jax.vmap(head)(jnp.arange(heads))
    if antithetic:
        scores = jnp.concatenate([scores, -scores])
    return jax.vmap(lambda one: softmax_rows(one, causal, law.hard))(scores)


def mean_root(
    weights: Float[Array, "heads tokens tokens"], factor: Float[Array, "tokens width"]
) -> Float[Array, "tokens rank"]:
    """Q with Q Q^T = S = mean_h P_h R P_h^T, by orthogonal reduction: S may have rank one."""
    heads, tokens, _ = weights.shape
    averages = weights @ factor
    if heads == 1:
        return averages[0]
    stacked = jnp.moveaxis(averages, 0, 1).reshape(tokens, -1) / math.sqrt(heads)
    return narrow(stacked, min(tokens, stacked.shape[1]))


def noise_update(
    factor: Float[Array, "tokens width"],
    root: Float[Array, "tokens rank"],
    dim: int,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "tokens wide"], Float[Array, "tokens wide"]]:
    """Tokens and their update Q Z, Z [rank, dim] standard normal, in common coordinates.

    Args:
        factor: the tokens, up to rotation; its width is dim, or smaller where dim >= 2 tokens.
        root: Q.
        dim: dimension of the tokens.
        key: of the layer.

    Returns:
        The factor, padded with zeros, and the update; the Gram matrix of any combination of the
        two has the law that it has in `dim` dimensions.
    """
    width, rank = factor.shape[1], root.shape[1]
    inside = root @ _normals(key, factor.dtype)("update", (rank, width))
    if width == dim:
        return factor, inside
    outside = root @ _bartlett(named_key(key, "outside"), rank, dim - width, factor.dtype)
    return (
        jnp.pad(factor, ((0, 0), (0, rank))),
        jnp.concatenate([inside, outside], axis=1),
    )


def narrow(wide: Float[Array, "tokens wide"], width: int) -> Float[Array, "tokens width"]:
    """The same Gram matrix with fewer columns, at least as many as tokens (or all of them)."""
    if wide.shape[1] == width:
        return wide
    return jnp.linalg.qr(wide.T, mode="r").T


def require_isotropic(law: object) -> AbstractIsotropicHeads:
    """A law under which overlaps alone are Markov.

    Raises:
        ArgumentTypeError: another law.
    """
    if not isinstance(law, AbstractIsotropicHeads):
        raise ArgumentTypeError(
            "law",
            f"is {type(law).__name__}, whose overlaps alone are not Markov",
            "pass GaussianHeads or WideHeads, or work with the tokens",
        )
    return law


def _normals(key: PRNGKeyArray, dtype: DTypeLike) -> Callable[[str, tuple[int, int]], Array]:
    def normal(name: str, shape: tuple[int, int]) -> Array:
        return jax.random.normal(named_key(key, name), shape, dtype)

    return normal


def _bartlett(key: PRNGKeyArray, size: int, degrees: int, dtype: DTypeLike) -> Array:
    """Lower triangular B with B B^T distributed as the Gram of `size` normals in R^degrees."""
    below = jnp.tril(_normals(key, dtype)("below", (size, size)), -1)
    freedom = jnp.asarray(degrees - np.arange(size), dtype)
    diagonal = jnp.sqrt(jax.random.chisquare(named_key(key, "diagonal"), freedom, dtype=dtype))
    return below + jnp.diag(diagonal)


def head_output(
    V: Float[AnyArray, "dim dim"],
    A: Float[AnyArray, "dim dim"],
    beta: Number,
    tokens: Float[Array, "tokens dim"],
    *,
    causal: bool,
    hard: bool = False,
) -> Float[Array, "tokens dim"]:
    """V m(x_i) of one head given by its weights, with the scores beta <A x_i, x_k>.

    Args:
        V: value map [dim, dim].
        A: score map [dim, dim].
        beta: multiplies the scores; not read where `hard`.
        tokens: of norm one.
        causal: whether keys after the query are masked.
        hard: whether beta is infinite.
    """
    V, A, beta = (jnp.asarray(value, tokens.dtype) for value in (V, A, beta))
    scores = (1.0 if hard else beta) * (tokens @ A.T) @ tokens.T
    return softmax_rows(scores, causal, hard) @ tokens @ V.T
