r"""All overlaps equal: drift and variation of the common overlap, with and without 1/d.

With all off-diagonal overlaps gamma, s_ii = gamma + (1 - gamma) f and s_ij = gamma + (1 - gamma) g:

    gamma' = (d - 2 + gamma^2) s_ij / d - (d - 1) gamma s_ii / d       per unit diffusive time,

the exact drift of R_ij at the simplex; for the mean of the overlaps see `SimplexClosure`. f and g
average softmax weights: given a = W'^T x of the queries, the logits of query i are independent over
keys with standard deviation score_std (1 - gamma)^{1/2} |a_i| / (sigma_a d_k^{1/2}), those of two
queries correlated by cos(a_i, a_j); (a_i, a_j) is Wishart with d_k degrees of freedom and
correlation gamma.

!!! warning "Erratum"
    The paper states the drift s_ij - gamma s_ii as exact; that is the form for d to infinity.
    d times the difference is of order one: at d = 4 the printed drift is too fast by a factor
    between 2 and 4.

Noise does not preserve the simplex; overlaps concentrate about it for large dimension.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import jax.numpy as jnp

from translimit.attention import require_isotropic
from translimit.core import (
    ArgumentError,
    ArrayInput,
    NoSuchLimitError,
    Number,
    Numbers,
    in_float64,
    is_traced,
    require_count,
    require_flag,
)
from translimit.describe import AbstractIsotropicHeads, require_cosine
from translimit.limits.homogenized.averages import (
    LARGEST_ERROR,
    averages,
    quadrature_error,
    require_resolved,
    sizes_of,
)
from translimit.limits.homogenized.dimension import Dimension, dimension_of
from translimit.limits.homogenized.one_key import require_score_std


def simplex_overlaps(overlap: Numbers, f: Numbers, g: Numbers) -> tuple[Numbers, Numbers]:
    """s_ii and s_ij of the simplex."""
    return overlap + (1.0 - overlap) * f, overlap + (1.0 - overlap) * g


def simplex_velocity(overlap: Numbers, f: Numbers, g: Numbers, dim: Number) -> Numbers:
    """Gamma' per unit diffusive time; dim may be infinite."""
    return simplex_drift_of(overlap, *simplex_overlaps(overlap, f, g), dim)


def simplex_drift_of(overlap: Numbers, s: Numbers, p: Numbers, dim: Number) -> Numbers:
    """The drift from s = s_ii and p = s_ij; dim may be infinite."""
    inverse = 1.0 / dim
    return (1.0 - inverse * (2.0 - overlap**2)) * p - (1.0 - inverse) * overlap * s


def simplex_drift(
    law: AbstractIsotropicHeads,
    overlap: ArrayInput,
    tokens: int,
    *,
    dimension: Dimension = Dimension.EXACT,
    causal: bool = False,
) -> Numbers:
    """The drift of a common overlap per unit diffusive time.

    Args:
        law: of the heads; differentiable in its score_std.
        overlap: gamma, in (-1 / (tokens - 1), 1).
        tokens: number of tokens, at least 2 and at most dim.
        dimension: EXACT by default; LARGE for the printed form.
        causal: refused: under a mask the overlaps of a simplex do not stay equal.

    Raises:
        ArgumentError: an overlap outside its interval, more tokens than dimensions, finite scores
            beyond the quadrature: above 16, or so strong for so few columns that f and g may be off
            by more than 5 % (there the drift is NaN where it is traced).
        ArgumentTypeError: a law that is not invariant under rotations.
        NoSuchLimitError: causal.

    Examples:
        Without scores, from orthogonal tokens, the drift is (d - 2) / (d n):

        >>> from translimit.describe import WideHeads
        >>> law = WideHeads(dim=10, score_std=0.0)
        >>> round(float(simplex_drift(law, 0.0, 4)), 6)
        0.2
    """
    tokens = require_simplex(law, tokens, causal)
    low = -1.0 / (tokens - 1)
    gamma = require_cosine(overlap, "overlap", low, ends=False)
    sizes = sizes_of(law, tokens)
    error = quadrature_error(gamma, law.score_std, sizes)
    require_resolved(error)
    f, g = in_float64(averages, gamma, law.score_std, sizes)
    drift = simplex_velocity(gamma, f, g, dimension_of(law, dimension))
    return jnp.where(error <= LARGEST_ERROR, drift, jnp.nan) if is_traced(error) else drift


def simplex_variation(law: AbstractIsotropicHeads, overlap: ArrayInput, tokens: int) -> Numbers:
    """Quadratic variation per unit diffusive time of the mean overlap, where all are equal.

    Args:
        law: of the heads.
        overlap: gamma, in (-1 / (tokens - 1), 1).
        tokens: number of tokens, at least 2 and at most dim.

    Raises:
        ArgumentError, ArgumentTypeError: as `simplex_drift`.
    """
    tokens = require_simplex(law, tokens, causal=False)
    gamma = require_cosine(overlap, "overlap", -1.0 / (tokens - 1), ends=False)
    sizes = sizes_of(law, tokens)
    require_resolved(quadrature_error(gamma, law.score_std, sizes))
    f, g = in_float64(averages, gamma, law.score_std, sizes)
    return mean_overlap_variation(gamma, f, g, tokens, law.dim)


def require_simplex(law: AbstractIsotropicHeads, tokens: int, causal: bool) -> int:
    """The number of tokens of a simplex that exists and has a closure.

    Raises:
        ArgumentError: more tokens than dimensions, fewer than 2, scores beyond the quadrature.
        ArgumentTypeError: a law that is not invariant under rotations, or a causal that is no bool.
        NoSuchLimitError: causal.
    """
    require_isotropic(law)
    tokens = require_count(tokens, "tokens", 2)
    if tokens > law.dim:
        raise ArgumentError(
            "tokens",
            f"got {tokens} in dimension {law.dim}: so many tokens with equal overlaps do not exist",
            f"pass at most {law.dim}; for more, translimit.predict.predict('heads=...,head_dim=..."
            f",layers=...', tokens={tokens}).collapse answers by the recursion, OverlapSDE by path",
        )
    if require_flag(causal, "causal"):
        raise NoSuchLimitError(
            "causal",
            "under a mask overlaps do not stay equal, and the simplex is no closure",
            "solve OverlapSDE with causal=True",
        )
    require_score_std(law.score_std)
    return tokens


def mean_overlap_variation(
    overlap: Numbers, f: Numbers, g: Numbers, tokens: int, dim: Number
) -> Numbers:
    """Quadratic variation per unit diffusive time of the mean overlap, at the simplex.

    4 / (n^2 (n-1)^2 d) sum_ij s_ij <P_i y_i, P_j y_j> with y_i the sum of the other tokens.
    """
    n, others = tokens, tokens - 1
    same, other = simplex_overlaps(overlap, f, g)
    norm = others + others * (n - 2) * overlap - (others * overlap) ** 2
    cross = 1.0 + (n - 2) * overlap
    pair = (n - 2) + (others**2 - n + 2) * overlap
    pair = pair - 2 * others * overlap * cross + others**2 * overlap**3
    return 4.0 * (same * norm + others * other * pair) / (n * others**2 * dim)
