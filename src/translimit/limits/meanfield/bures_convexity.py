r"""Energies of Gaussian closures along Bures geodesics: where they are convex.

The law is centred and A = A^T. Between covariances the W_2 geodesic is

    Sigma_t = B Sigma_0 B,   B = (1 - t) I + t T,   T the optimal map (T Sigma_0 T = Sigma_1).

- Softmax. With V = -A (A) the flow is the Bures descent (ascent) of G = tr(A Sigma A Sigma) / 4,
  because M = -A Sigma A = -2 grad G. With C = T - I and N = C A B + B A C

      G'' = tr(N Sigma_0 N Sigma_0) / 2 + tr(B A B Sigma_0 C A C Sigma_0),

  both not negative where A is semidefinite: there G is convex. For an indefinite A neither sign is.
- Sinkhorn. V = A descends OT / 2 (`observe.gaussian_self_transport`), and OT is *concave* along the
  geodesic where A >= 0: carried along by B_t a self-coupling pi keeps its entropy, and its cost has
  the second derivative -2 E_pi <C x, A C y>, not positive for the optimal pi, whose density is a
  positive definite kernel; OT is the minimum of such functions.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import AnyArray, ArgumentError, as_numpy, require_covariance

Matrix = Float[AnyArray, "dim dim"]
Square = Float[np.ndarray, "dim dim"]


def optimal_map(cov0: Matrix, cov1: Matrix) -> Square:
    """The symmetric T with T cov0 T = cov1: the optimal map of centred Gaussians.

    Args:
        cov0: covariance at the start [dim, dim], not singular.
        cov1: covariance at the end [dim, dim].

    Raises:
        ArgumentError: shapes that differ, not covariances, or a singular cov0.
    """
    cov0, cov1 = (
        as_numpy(require_covariance(as_numpy(cov, name)), name)
        for cov, name in ((cov0, "cov0"), (cov1, "cov1"))
    )
    if cov0.shape != cov1.shape:
        raise ArgumentError("cov1", f"has shape {cov1.shape}", f"pass shape {cov0.shape}")
    values, basis = np.linalg.eigh(cov0)
    if values[0] <= len(values) * np.finfo(float).eps * values[-1]:
        raise ArgumentError("cov0", "is singular", "pass a positive definite covariance")
    root, inverse = ((basis * values**power) @ basis.T for power in (0.5, -0.5))
    values, basis = np.linalg.eigh(root @ cov1 @ root)
    middle = (basis * np.sqrt(np.maximum(values, 0.0))) @ basis.T
    return inverse @ middle @ inverse


def bures_geodesic(cov0: Matrix, cov1: Matrix, t: float) -> Square:
    """The covariance at t of the geodesic from cov0 (t = 0) to cov1 (t = 1).

    Args:
        cov0: covariance at the start [dim, dim], not singular.
        cov1: covariance at the end [dim, dim].
        t: place on the geodesic.
    """
    B = _map_at(cov0, cov1, t)[0]
    return B @ np.asarray(cov0) @ B


def score_energy(A: Matrix, cov: Matrix) -> float:
    """G = tr(A Sigma A Sigma) / 4, which softmax with V = -A descends and with V = A ascends.

    Args:
        A: symmetric score matrix [dim, dim].
        cov: covariance [dim, dim].
    """
    both = as_numpy(A, "A") @ as_numpy(cov, "cov")
    return float(np.trace(both @ both)) / 4


def score_energy_curvature(A: Matrix, cov0: Matrix, cov1: Matrix, t: float) -> float:
    """G'' at t along the geodesic from cov0 to cov1.

    Args:
        A: symmetric score matrix [dim, dim].
        cov0: covariance at the start [dim, dim], not singular.
        cov1: covariance at the end [dim, dim].
        t: place on the geodesic.

    Raises:
        ArgumentError: as `optimal_map`, or an A that is not symmetric.
    """
    A = as_numpy(A, "A")
    if np.abs(A - A.T).max() > 1e-8 * np.abs(A).max():
        raise ArgumentError("A", "is not symmetric", "pass A = A^T")
    B, C = _map_at(cov0, cov1, t)
    N = C @ A @ B
    first = (N + N.T) @ np.asarray(cov0)
    second = B @ A @ B @ np.asarray(cov0) @ C @ A @ C @ np.asarray(cov0)
    return float(np.trace(first @ first) / 2 + np.trace(second))


def _map_at(cov0: Matrix, cov1: Matrix, t: float) -> tuple[Square, Square]:
    """B at t, and C."""
    C = optimal_map(cov0, cov1) - np.eye(len(cov0))
    return np.eye(len(C)) + t * C, C
