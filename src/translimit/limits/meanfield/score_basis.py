r"""Attentions side by side, in the bases of their scores, and how slowly their covariances move.

M ends with the factor A = c K^T Q in every closure: in an orthogonal basis whose first vectors span
the rows of Q its other columns are zero.

Reference: documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from translimit.attention import (
    L2,
    AbstractAttention,
    FixedSinkhorn,
    Linear,
    MultiHead,
    Sinkhorn,
    Softmax,
)


def is_parameter(leaf: object) -> bool:
    """Whether a leaf of an attention is an array."""
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray | np.generic)


def stacked(attentions: Sequence[AbstractAttention]) -> tuple[AbstractAttention, AbstractAttention]:
    """The arrays of the attentions with a leading axis, and what all of them share."""
    parts = [eqx.partition(attention, is_parameter) for attention in attentions]
    arrays = jax.tree.map(lambda *leaves: np.stack(leaves).astype(float), *(a for a, _ in parts))
    return arrays, parts[0][1]


def in_score_basis(
    arrays: AbstractAttention, dim: int
) -> tuple[AbstractAttention, Float[np.ndarray, "members dim dim"], int]:
    """Attentions in orthogonal bases whose first vectors span the rows of Q.

    M ends with the factor A = c K^T Q in every closure, so that its other columns are zero here.
    And where K = -Q the covariance vanishes in these directions as t to infinity: as rows of their
    own they keep their digits, where in another basis Q Sigma is a difference that rounds away.

    Args:
        arrays: stacked attentions, their arrays with a leading axis over members.
        dim: of the tokens.

    Returns:
        The attentions, their bases [members, dim, dim] as columns, and the number of columns of M
        that may not be zero: the given basis and all columns for other kinds of attention.
    """
    one_head = isinstance(arrays, Softmax | L2 | Linear | Sinkhorn | FixedSinkhorn)
    if not one_head and not isinstance(arrays, MultiHead):
        members = len(jax.tree.leaves(arrays)[0])
        return arrays, np.broadcast_to(np.eye(dim), (members, dim, dim)), dim
    members = len(arrays.Q)
    _, sizes, rows = np.linalg.svd(arrays.Q.reshape(members, -1, dim))
    rounding = max(arrays.Q[0].size // dim, dim) * np.finfo(float).eps
    ranks = (sizes > rounding * sizes[:, :1]).sum(axis=1)
    basis = np.swapaxes(rows, 1, 2)
    heads = () if one_head else (1,)
    right, left = (x.reshape(members, *heads, dim, dim) for x in (basis, rows))
    Q, K = arrays.Q @ right, arrays.K @ right
    Q = np.where(np.arange(dim) < ranks.reshape(members, *heads, 1, 1), Q, 0.0)
    # What is rounding in K is zero, or rows of the covariance that vanish would never be rid of it.
    K = np.where(np.abs(K) > rounding * np.abs(K).max(axis=(-2, -1), keepdims=True), K, 0.0)
    changed = {"Q": Q, "K": K, "V": arrays.V @ right}
    # What maps values to tokens: V itself, or the output maps.
    changed |= {"V": left @ changed["V"]} if one_head else {"W": left @ arrays.W}
    names = tuple(changed)
    arrays = eqx.tree_at(
        lambda a: tuple(getattr(a, name) for name in names), arrays, tuple(changed.values())
    )
    return arrays, basis, max(1, int(ranks.max()))


def slowest_rate(
    arrays: AbstractAttention, cov: Float[np.ndarray, "members dim dim"]
) -> Float[np.ndarray, " members"]:
    """|A| |Sigma_0| times the smallest singular value of V that is not rounding [members].

    Heads are taken together. Infinite where nothing moves, and for other kinds of attention, of
    which nothing is known.
    """
    if not isinstance(arrays, Softmax | L2 | Linear | Sinkhorn | FixedSinkhorn | MultiHead):
        return np.full(len(cov), np.inf)
    values = arrays.W @ arrays.V if isinstance(arrays, MultiHead) else arrays.V
    sizes = np.linalg.svd(values, compute_uv=False).reshape(len(cov), -1)
    rounding = cov.shape[-1] * np.finfo(float).eps * sizes.max(axis=1, keepdims=True)
    smallest = np.where(sizes > rounding, sizes, np.inf).min(axis=1)
    Q, K = (np.linalg.norm(x.reshape(len(cov), -1), axis=1) for x in (arrays.Q, arrays.K))
    scores = arrays.score_scale * Q * K * np.linalg.norm(cov, axis=(1, 2))
    return np.where(scores > 0, smallest, np.inf) * np.where(scores > 0, scores, 1.0)
