r"""The overlaps' fluctuations about a simplex: what moves their mean and their covariance.

From a simplex the law of the overlaps stays exchangeable, and their covariance has three
eigenvalues C_0, C_1, C_2 of multiplicities mu = (1, n - 1, n (n - 3) / 2). With v, c_1 and c_2 the
variance of an overlap and the covariances of two that share a token, or none,

    C_0 = v + 2 (n - 2) c_1 + (n - 2) (n - 3) c_2 / 2,
    C_1 = v + (n - 4) c_1 - (n - 3) c_2,          C_2 = v - 2 c_1 + c_2.

Where the overlaps leave the common one by fluctuations of order d^{-1/2}, the drift of their mean
is D + sum_k h_k C_k, and C_k' = 2 a_k C_k + B_k: the derivative of the drift and the noise on every
part. Of a pair of tokens only C_0 exists, of three C_0 and C_1.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from translimit.core import Number, Numbers
from translimit.limits.homogenized.simplex import simplex_drift_of
from translimit.limits.homogenized.simplex_kernel import Kernel

Three = tuple[Numbers, Numbers, Numbers]


class MomentTerms(NamedTuple):
    """Coefficients of the moments at overlaps, per unit diffusive time.

    Attributes:
        drift: D.
        rates: a_k.
        curvatures: h_k.
        noises: B_k.
        p_curvatures: what C_k adds to p is eta_k C_k.
        s_curvatures: what C_k adds to s is zeta_k C_k.
    """

    drift: Numbers
    rates: Three
    curvatures: Three
    noises: Three
    p_curvatures: Three
    s_curvatures: Three


def multiplicities(tokens: int) -> tuple[int, int, int]:
    """mu_k: 1, n - 1, n (n - 3) / 2, and 0 of the parts that do not exist."""
    return 1, tokens - 1 if tokens > 2 else 0, tokens * (tokens - 3) // 2 if tokens > 3 else 0


def pairs(tokens: int) -> int:
    """Overlaps R_ij with i < j."""
    return tokens * (tokens - 1) // 2


def eigenvalues(v: Numbers, c1: Numbers, c2: Numbers, tokens: int) -> Three:
    """C_k of a variance and two covariances; 0 of the parts that do not exist."""
    n = tokens
    return (
        v + (2 * (n - 2) * c1 + (n - 2) * (n - 3) / 2 * c2 if n > 2 else 0.0 * v),
        v + (n - 4) * c1 - (n - 3) * c2 if n > 2 else 0.0 * v,
        v - 2 * c1 + c2 if n > 3 else 0.0 * v,
    )


def covariances(C: Three, tokens: int) -> Three:
    """v, c_1 and c_2 of the eigenvalues; 0 of what does not exist."""
    n = tokens
    if n == 2:
        return C[0], 0.0 * C[0], 0.0 * C[0]
    if n == 3:
        return (C[0] + 2 * C[1]) / 3, (C[0] - C[1]) / 3, 0.0 * C[0]
    rows = np.array(
        [[1, 2 * (n - 2), (n - 2) * (n - 3) / 2], [1, n - 4, 3 - n], [1, -2, 1]], dtype=np.float64
    )
    back = np.linalg.inv(rows).tolist()
    v, c1, c2 = (one * C[0] + two * C[1] + three * C[2] for one, two, three in back)
    return v, c1, c2


def noise_eigenvalues(
    overlap: Numbers, s: Numbers, p: Numbers, tokens: int, inverse: Number
) -> Three:
    """B_k of the covariations of the overlaps at a simplex.

    Args:
        overlap: gamma.
        s: s_ii.
        p: s_ij.
        tokens: n.
        inverse: 1 / d.
    """
    g = overlap
    v = 2 * inverse * (1 - g**2) * (s - g * p)
    c1 = inverse * (1 - g) * (s * g + p * (1 + g - 3 * g**2))
    c2 = 4 * inverse * p * g * (1 - g) ** 2
    return eigenvalues(v, c1, c2, tokens)


def moment_terms(kernel: Kernel, overlap: Numbers, tokens: int, dim: Number) -> MomentTerms:
    """The coefficients at overlaps.

    Args:
        kernel: at these overlaps, from `kernel_table`.
        overlap: gamma, in (-1 / (tokens - 1), 1).
        tokens: n, at least 2.
        dim: d, or infinity.
    """
    g, k, inverse = overlap, kernel, 1.0 / dim
    mu, N = multiplicities(tokens), pairs(tokens)
    slopes_p, slopes_s = (k.slope_p, k.p_rho, k.p_rho), (k.slope_s, 0.0, 0.0)
    kappa_p = k.p_gamma_gamma / N, k.p_kappa_1, k.p_kappa_2
    kappa_s = k.s_gamma_gamma / N, k.s_kappa_1, k.s_kappa_2
    eta = [mu[i] * (k.p_rho_rho / (2 * N) + kappa_p[i] / 2) for i in range(3)]
    eta[0] = eta[0] + k.p_gamma_rho / N
    zeta = [mu[i] * kappa_s[i] / 2 for i in range(3)]
    most, less = 1 - inverse * (2 - g**2), 1 - inverse
    rates, curvatures = [], []
    for i in range(3):
        dp, ds, share = slopes_p[i], slopes_s[i], mu[i] / N
        rates.append(most * dp + 2 * inverse * g * k.p - less * (k.s + g * ds))
        of_p = most * eta[i] + share * inverse * (2 * g * dp + k.p)
        curvatures.append(of_p - less * (g * zeta[i] + share * ds))
    return MomentTerms(
        simplex_drift_of(g, k.s, k.p, dim),
        (rates[0], rates[1], rates[2]),
        (curvatures[0], curvatures[1], curvatures[2]),
        noise_eigenvalues(g, k.s, k.p, tokens, inverse),
        (eta[0], eta[1], eta[2]),
        (zeta[0], zeta[1], zeta[2]),
    )
