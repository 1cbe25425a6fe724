"""Scalars of the tokens' covariance C whose spread is told, with their derivatives by C.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from translimit.describe import Normalisation
from translimit.limits.signal.norms import pull_norm

#: A scalar of the tokens' covariance that spreads.
Observable = Literal["overlap", "overlap_all", "mean_square", "effective_rank"]
#: Eigenvalues of R / n below this one count as it in logarithms.
LEAST_EIGENVALUE = 1e-12


def _mean_of_overlaps(cov: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """sum_ij w_ij R_ij and its derivative."""
    norm = Normalisation()
    slopes = np.asarray(pull_norm(norm, cov, weights[None]))[0]
    return float(np.sum(weights * _overlaps(cov))), slopes


def _overlaps(cov: np.ndarray) -> np.ndarray:
    """R, and 0 for a token of norm zero; without JAX, which would compile each operation."""
    squares = np.diagonal(cov)
    s = (squares > 0) / np.sqrt(squares + (squares == 0))
    return cov * s[:, None] * s[None, :]


def _overlap(cov: np.ndarray) -> tuple[float, np.ndarray]:
    n = len(cov)
    return _mean_of_overlaps(cov, (1.0 - np.eye(n)) / max(n * (n - 1), 1))


def _overlap_all(cov: np.ndarray) -> tuple[float, np.ndarray]:
    return _mean_of_overlaps(cov, np.full(cov.shape, 1 / cov.size))


def _log_mean_square(cov: np.ndarray) -> tuple[float, np.ndarray]:
    return float(np.log(np.trace(cov) / len(cov))), np.eye(len(cov)) / np.trace(cov)


def _effective_rank(cov: np.ndarray) -> tuple[float, np.ndarray]:
    """e^H of the entropy H of the eigenvalues of R / n, and its derivative."""
    values, basis = np.linalg.eigh(_overlaps(cov) / len(cov))
    logs = np.log(np.maximum(values, LEAST_EIGENVALUE))
    rank = float(np.exp(-np.sum(values * logs)))
    slopes = -rank / len(cov) * (basis * logs) @ basis.T
    return rank, np.asarray(pull_norm(Normalisation(), cov, slopes[None]))[0]


#: Scalars with their derivatives with respect to C.
SCALARS: dict[str, Callable[[np.ndarray], tuple[float, np.ndarray]]] = {
    "overlap": _overlap,
    "overlap_all": _overlap_all,
    "mean_square": _log_mean_square,
    "effective_rank": _effective_rank,
}
