r"""How far a cloud can be compared with its Gaussian closure.

The softmax average at a query x weighs keys by e^{<Ax, y>}; for Gaussian keys its effective sample
size is n e^{-|Sigma^(1/2) A x|^2}. It is unreliable once |Sigma^(1/2) A x|^2 exceeds log n and
dominated by the largest key beyond 2 log n. For queries of the same law the exponent is measured
by the largest eigenvalue of Sigma A^T Sigma A; 0.3 and below is the suggested range.

Reference: documentation, "The Transformer PDE".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import ArrayLike, Float

from translimit.core import as_float64, require_covariance

#: Suggested (not calibrated) largest score variance at which particles and closure are compared.
COMFORTABLE_VARIANCE = 0.3


def largest_score_variance(
    A: Float[ArrayLike, "dim dim"], cov: Float[ArrayLike, "dim dim"]
) -> float:
    """Largest eigenvalue of Sigma A^T Sigma A: the variance of the scores in the worst direction.

    Args:
        A: score matrix, score_scale K^T Q [dim, dim].
        cov: covariance of the tokens [dim, dim].

    Raises:
        ArgumentError: a covariance that is not symmetric positive semi-definite.
    """
    cov = np.asarray(require_covariance(as_float64(cov, "cov")))
    eigenvalues, basis = np.linalg.eigh(cov)
    root = basis * np.sqrt(np.maximum(eigenvalues, 0.0))
    # Sigma A^T Sigma A has the eigenvalues of B^T B with B = root^T A root.
    return float(np.linalg.norm(root.T @ as_float64(A, "A") @ root, ord=2) ** 2)
