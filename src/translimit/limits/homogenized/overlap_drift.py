r"""Overlaps of tokens under common noise: drift, covariations, and the small-score expansion.

With R_ij = <x_i, x_j> and the kernel s_ij I / dim of the noise per unit diffusive time, R is a
closed diffusion on the correlation matrices. Plain functions of arrays: nothing is checked.

Reference: arXiv 2604.01978 (drift); the covariations and the expansion are derived in the
documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float


def overlap_drift(
    overlaps: Float[Any, "*batch tokens tokens"], s: Float[Any, "*batch tokens tokens"], dim: int
) -> Float[Any, "*batch tokens tokens"]:
    """D_ij = (d - 2 + R_ij^2) s_ij / d - (d - 1) R_ij (s_ii + s_jj) / (2 d), d = dim.

    Args:
        overlaps: R.
        s: overlaps of the attention outputs, E <m_i, m_j>.
        dim: dimension of the tokens.
    """
    xp = _module(overlaps, s)
    variance = xp.diagonal(s, axis1=-2, axis2=-1)
    sums = variance[..., :, None] + variance[..., None, :]
    return ((dim - 2 + overlaps**2) * s - 0.5 * (dim - 1) * overlaps * sums) / dim


def overlap_covariation(
    overlaps: Float[Any, "tokens tokens"],
    s: Float[Any, "tokens tokens"],
    dim: int,
    first: tuple[int, int],
    second: tuple[int, int],
) -> Float[Any, ""]:
    """D <R_ij, R_kl> / d tau of the pairs (i, j) = first and (k, l) = second.

    The sum over p in {i, j} and q in {k, l} of s_pq <P_p x_p', P_q x_q'>, divided by dim, where
    p' and q' are the other members of the pairs and P_p projects on the tangent space at x_p.
    """

    def projected(p: int, p_other: int, q: int, q_other: int) -> Any:
        return (
            overlaps[p_other, q_other]
            - overlaps[q, q_other] * overlaps[q, p_other]
            - overlaps[p, p_other] * overlaps[p, q_other]
            + overlaps[p, p_other] * overlaps[q, q_other] * overlaps[p, q]
        )

    pairs = [(p, o) for p, o in (first, first[::-1])], [(q, o) for q, o in (second, second[::-1])]
    terms = [s[p, q] * projected(p, po, q, qo) for p, po in pairs[0] for q, qo in pairs[1]]
    return sum(terms) / dim


def small_score_overlap(
    overlaps: Float[Any, "tokens tokens"], score_std: Any
) -> Float[Any, "tokens tokens"]:
    """S to the second order in score_std, with an error of the fourth.

    s_ij = m + score_std^2 (R_ij |C|^2 / n^2 + (1 / n) sum_k C_kk (r_k - m)), where r_k is the mean
    of row k of R, m the mean of all of R, and C = J R J with J = I - 1 1^T / n.
    """
    xp = _module(overlaps)
    n = overlaps.shape[-1]
    centring = xp.eye(n) - 1.0 / n
    C = centring @ overlaps @ centring
    r = xp.mean(overlaps, axis=-1)
    m = xp.mean(r)
    second = overlaps * xp.sum(C**2) / n**2 + xp.mean(xp.diagonal(C) * (r - m))
    return m + score_std**2 * second


def one_hot_overlap(overlap: Any) -> Any:
    """s_12 of two tokens for infinite scores, where every query attends to one key.

    1/2 + asin(R) / pi + R (1/2 - asin(R) / pi); s_11 = s_22 = 1, in any dimension.
    """
    agree = 0.5 + _module(overlap).arcsin(overlap) / np.pi
    return agree + overlap * (1.0 - agree)


def _module(*arrays: Any) -> Any:
    return np if all(isinstance(a, np.ndarray | np.generic | float) for a in arrays) else jnp
