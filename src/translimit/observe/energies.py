r"""Energies that attention with A = A^T lets rise or fall, and their exact rates.

| setting | energy | rate along a velocity xi of the tokens |
|---|---|---|
| softmax | E = 1/2 int int e^{<Ax, y>} dmu dmu | int Z <A m, xi> dmu |
| Sinkhorn | OT = min_pi int -<Ax, y> dpi + KL(pi, mu x mu) | -2 int <A m, xi> dmu |
| Sinkhorn, any A | the same | -int <A^T E[y given x] + A E[x' given y = x], xi> dmu |
| Gaussian, Sinkhorn | OT in closed form | -tr((A^T L A + A L' A^T) cov M^T), xi = M (x - mean) |
| Gaussian, softmax | E = det(I - cov A cov A)^(-1/2) / 2 | `gaussian_softmax_energy_rate` |

Z(x) = int e^{<Ax, y>} dmu(y); m(x) is the velocity for V = I, the mean of y given x. With V = A the
softmax energy rises (xi = grad log Z) and OT falls (plain W_2 descent of OT / 2); with V = -A both
turn round; for V = P A with P >= 0 the signs persist. There is no energy for general Q, K and V,
for L2 or for causal attention.

Everything here is NumPy in float64 and dense: O(tokens^2) memory.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; Sander, Ablin, Blondel and Peyré,
arXiv 2110.11773; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import (
    AnyArray,
    ArgumentError,
    as_numpy,
    canonical_correlations,
    conditional_covariance,
    fractions_of,
)

Tokens = Float[AnyArray, "tokens dim"]
Weights = Float[AnyArray, " tokens"]
Matrix = Float[AnyArray, "dim dim"]


def softmax_energy(tokens: Tokens, A: Matrix, *, weights: Weights | None = None) -> float:
    """The interaction energy E = 1/2 sum_ij w_i w_j e^{<A x_i, x_j>}.

    Args:
        tokens: tokens [tokens, dim].
        A: score matrix, s(x, y) = <Ax, y> [dim, dim].
        weights: non-negative, summing to one [tokens]; equal weights by default.

    Raises:
        ArgumentError: shapes that do not match, weights that are negative or do not sum to one.
    """
    scores, w = _scores(tokens, A, weights)
    return float(w @ np.exp(scores) @ w) / 2


def softmax_energy_rate(
    tokens: Tokens, A: Matrix, velocity: Tokens, *, weights: Weights | None = None
) -> float:
    """dE/dt = sum_i w_i Z_i <A m_i, xi_i> for A = A^T, m the softmax mean of the tokens.

    Args:
        tokens: tokens [tokens, dim].
        A: symmetric score matrix [dim, dim].
        velocity: xi, the velocities of the tokens [tokens, dim].
        weights: non-negative, summing to one [tokens]; equal weights by default.

    Raises:
        ArgumentError: shapes that do not match, or an A that is not symmetric: then there is no
            such identity.
    """
    scores, w = _scores(tokens, A, weights)
    _require_like(velocity, tokens, "velocity")
    if np.abs(A - A.T).max() > 1e-8 * np.abs(A).max():
        raise ArgumentError("A", "is not symmetric", "pass A = A^T, which the softmax energy needs")
    unnormalised = np.exp(scores) @ (w[:, None] * tokens)  # Z m
    return float(np.sum(w[:, None] * (unnormalised @ A.T) * velocity))


def gaussian_softmax_energy(A: Matrix, cov: Matrix) -> float:
    """E of a centred Gaussian, A = A^T: det(I - cov A cov A)^(-1/2) / 2, infinite beyond its range.

    Args:
        A: symmetric score matrix [dim, dim].
        cov: covariance [dim, dim].
    """
    both = as_numpy(cov, "cov") @ as_numpy(A, "A")
    if np.abs(np.linalg.eigvals(both)).max() >= 1.0:
        return float("inf")
    return 0.5 / float(np.sqrt(np.linalg.det(np.eye(len(both)) - both @ both)))


def gaussian_softmax_energy_rate(A: Matrix, cov: Matrix, M: Matrix) -> float:
    """dE/dt of a centred Gaussian along xi = M x: E tr((I - cov A cov A)^(-1) cov' A cov A).

    Args:
        A: symmetric score matrix [dim, dim].
        cov: covariance [dim, dim], with a spectral radius of cov A below one.
        M: matrix of the velocity [dim, dim]; cov' = M cov + cov M^T.
    """
    A, cov, half = as_numpy(A, "A"), as_numpy(cov, "cov"), np.asarray(M) @ np.asarray(cov)
    both = cov @ A
    inner = np.linalg.solve(np.eye(len(both)) - both @ both, (half + half.T) @ A @ both)
    return gaussian_softmax_energy(A, cov) * float(np.trace(inner))


def self_transport(f: Weights, g: Weights, *, weights: Weights | None = None) -> float:
    """The entropic self-transport OT = -sum_i w_i (f_i + g_i), from converged potentials.

    Args:
        f: potential of the rows [tokens] (`attention.Sinkhorn(...).potentials(cloud)`).
        g: potential of the columns [tokens].
        weights: non-negative, summing to one [tokens]; equal weights by default.

    Raises:
        ArgumentError: shapes that do not match, weights that are negative or do not sum to one.
    """
    f, g = as_numpy(f, "f"), as_numpy(g, "g")
    _require_like(g, f, "g")
    return -float(fractions_of(weights, f.shape[0]) @ (f + g))


def self_transport_rate(
    tokens: Tokens,
    A: Matrix,
    f: Weights,
    g: Weights,
    velocity: Tokens,
    *,
    weights: Weights | None = None,
) -> float:
    """dOT/dt = -sum_i w_i <A^T E[y given x_i] + A E[x' given y = x_i], xi_i>, for any A.

    Args:
        tokens: tokens [tokens, dim].
        A: score matrix [dim, dim].
        f: potential of the rows [tokens].
        g: potential of the columns [tokens].
        velocity: xi, the velocities of the tokens [tokens, dim].
        weights: non-negative, summing to one [tokens]; equal weights by default.

    Raises:
        ArgumentError: shapes that do not match, weights that are negative or do not sum to one.
    """
    scores, w = _scores(tokens, A, weights)
    _require_like(velocity, tokens, "velocity")
    kappa = np.exp(scores - np.asarray(f)[:, None] - np.asarray(g)[None, :])
    weighted = w[:, None] * tokens
    force = (kappa @ weighted) @ A + (kappa.T @ weighted) @ A.T
    return -float(np.sum(w[:, None] * force * velocity))


def gaussian_self_transport(A: Matrix, cov: Matrix, *, mean: np.ndarray | None = None) -> float:
    """OT of a Gaussian: -sum_i b_i d_i - 1/2 sum_i log(1 - d_i^2), minus <A mean, mean>.

    d are the canonical correlations of the coupling, and b = d / (1 - d^2).

    Args:
        A: score matrix [dim, dim].
        cov: covariance [dim, dim].
        mean: mean [dim]; zero by default.

    Raises:
        ArgumentError: shapes that do not match, a covariance that is not positive semi-definite.
    """
    A, cov = as_numpy(A, "A"), as_numpy(cov, "cov")
    d = canonical_correlations(A, cov)
    centred = -float(np.sum(d**2 / (1 - d**2) + np.log1p(-(d**2)) / 2))
    return centred if mean is None else centred - float(mean @ A @ mean)


def gaussian_self_transport_rate(A: Matrix, cov: Matrix, M: Matrix) -> float:
    """dOT/dt of a centred Gaussian along xi = M x: -tr((A^T L A + A L' A^T) cov M^T).

    L is the covariance of y given x in the coupling, L' that of x given y.

    Args:
        A: score matrix [dim, dim].
        cov: covariance [dim, dim].
        M: matrix of the velocity [dim, dim].

    Raises:
        ArgumentError: shapes that do not match, a covariance that is not positive semi-definite.
    """
    A, cov = as_numpy(A, "A"), as_numpy(cov, "cov")
    forward, backward = conditional_covariance(A, cov), conditional_covariance(A.T, cov)
    force = A.T @ forward @ A + A @ backward @ A.T
    return -float(np.trace(force @ cov @ np.asarray(M).T))


def _scores(
    tokens: Tokens, A: Matrix, weights: Weights | None
) -> tuple[Float[np.ndarray, "tokens tokens"], Weights]:
    """S_ij = <A x_i, x_j> and the weights."""
    tokens = as_numpy(tokens, "tokens")
    if tokens.ndim != 2 or np.shape(A) != (tokens.shape[1],) * 2:
        raise ArgumentError(
            "A",
            f"has shape {np.shape(A)} for tokens {tokens.shape}",
            "pass tokens [tokens, dim] and A [dim, dim]",
        )
    return (tokens @ np.asarray(A).T) @ tokens.T, fractions_of(weights, tokens.shape[0])


def _require_like(value: AnyArray, model: AnyArray, name: str) -> None:
    if np.shape(value) != np.shape(model):
        raise ArgumentError(name, f"has shape {np.shape(value)}", f"pass shape {np.shape(model)}")
