r"""What is known of the limits of Gaussian closures without solving them.

Let K = -Q, so that A = -c Q^T Q, and let V have no two eigenvalues with l_i + l_j = 0. With the
symmetric W of W V + V^T W = I every solution has M Sigma = V S with a symmetric S, so

    d tr(W Sigma) / dt = tr(S) = -c |Q Sigma|_F^2                                        (softmax)
                               = -2 c tr(Sigma Q^T (I + 2 c_K Q Sigma Q^T)^(-1) Q Sigma) (L2)
                               = tr(L A Sigma)                                           (Sinkhorn)

which is never positive, and zero only where Q Sigma = 0. On a bounded path tr(W Sigma) is monotone
and bounded, hence Q Sigma -> 0: no limit has a rank above d - rank Q. If all eigenvalues of V have
positive real parts, W is positive definite and lambda_min(W) tr Sigma(t) <= tr(W Sigma_0): every
path is bounded.

For V = I, softmax and L2, the limit itself is F (I - P) F, F = Sigma_0^(1/2), with P the projector
on the rows of Q F. At finite depth no rank is lost: det Sigma(t) = det Sigma_0 e^(2 int tr M dt).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.attention import L2, AbstractAttention, Sinkhorn, Softmax
from translimit.core import AnyArray, ArgumentError, as_numpy, conditional_covariance

Matrix = Float[AnyArray, "dim dim"]


def monotone_weight(V: Matrix) -> Float[np.ndarray, "dim dim"]:
    """The symmetric W with W V + V^T W = I; V^(-1) / 2 for a symmetric V.

    Args:
        V: value map [dim, dim].

    Raises:
        ArgumentError: two eigenvalues of V sum to zero: there is no such W.
    """
    from scipy.linalg import solve_continuous_lyapunov

    V = as_numpy(V, "V")
    eigenvalues = np.linalg.eigvals(V)
    closest = np.abs(eigenvalues[:, None] + eigenvalues).min()
    if closest <= len(V) * np.finfo(float).eps * np.abs(eigenvalues).max():
        raise ArgumentError(
            "V",
            "has two eigenvalues that sum to zero",
            "pass one whose eigenvalues have positive real parts",
        )
    W = np.asarray(solve_continuous_lyapunov(V.T, np.eye(len(V))))
    return (W + W.T) / 2


def monotone_rate(attention: AbstractAttention, cov: Matrix) -> float:
    """Rate of tr(W Sigma) of a centred law along depth, from the scores alone; K = -Q.

    Args:
        attention: softmax, L2 or Sinkhorn.
        cov: covariance [dim, dim].

    Raises:
        ArgumentError: another variant, or keys that are not minus the queries.
    """
    if not isinstance(attention, (Softmax, L2, Sinkhorn)):
        raise ArgumentError(
            "attention", f"got {type(attention).__name__}", "pass Softmax, L2 or Sinkhorn"
        )
    Q, c = np.asarray(attention.Q), float(attention.score_scale)
    if not np.array_equal(np.asarray(attention.K), -Q):
        raise ArgumentError("attention", "has keys that are not minus its queries", "pass K = -Q")
    cov = as_numpy(cov, "cov")
    if isinstance(attention, Sinkhorn):
        A = np.asarray(attention.A)
        return float(np.trace(conditional_covariance(A, cov) @ A @ cov))
    seen = Q @ cov
    if isinstance(attention, Softmax):
        return -c * float(np.sum(seen**2))
    tilt = np.eye(len(Q)) + 2.0 * float(attention.key_scale) * seen @ Q.T
    return -2.0 * c * float(np.sum(seen * np.linalg.solve(tilt, seen)))


def rank_bound(Q: Float[AnyArray, "head_dim dim"]) -> int:
    """The largest rank of a limit, d - rank Q, for K = -Q and V as above.

    Args:
        Q: query map [head_dim, dim].
    """
    Q = as_numpy(Q, "Q")
    return Q.shape[1] - int(np.linalg.matrix_rank(Q))


def identity_limit(Q: Float[AnyArray, "head_dim dim"], cov: Matrix) -> Float[np.ndarray, "dim dim"]:
    """The limit F (I - P) F of softmax and L2 for V = I and K = -Q.

    Args:
        Q: query map [head_dim, dim].
        cov: covariance at the start [dim, dim].
    """
    values, basis = np.linalg.eigh(as_numpy(cov, "cov"))
    root = (basis * np.sqrt(np.maximum(values, 0.0))) @ basis.T
    _, size, rows = np.linalg.svd(as_numpy(Q, "Q") @ root)
    kept = rows[np.sum(size > len(root) * np.finfo(float).eps * size[0]) :]
    half = kept @ root
    return half.T @ half
