r"""The random matrices of the rank histograms, and the scheme that drew the published ones.

Draws are those of NumPy's legacy generator, in the order of the authors' scripts: seed 40, for each
d the queries Q [floor(d/2), d] with K = -Q; seed 41 again for each d, G [d, d] with
Sigma_0 = G G^T; V = I, or V = B^T B with B [d, d] of seed 26 (softmax) or 27 (L2).

Reference: Castin et al., arXiv 2501.18322, and the authors' scripts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from translimit.core import Estimate

#: Draws of the published histograms, for each dimension.
DRAWS = 100
DIMS = (3, 4, 5)
#: Euler steps for d = 3, 4, 5 by (variant, values), and when the scheme stops.
EULER_STEPS = {
    ("softmax", "identity"): (0.09, 0.05, 0.02),
    ("l2", "identity"): (0.09, 0.06, 0.02),
    ("softmax", "random"): (0.09, 0.06, 0.02),
    ("l2", "random"): (0.15, 0.15, 0.15),
}
EULER_STOP = {"identity": 1e-4, "random": 5e-5}
#: What the projection sets a negative eigenvalue to, and what the published count calls positive.
FLOOR, THRESHOLD = 1e-14, 0.1


class Draw(NamedTuple):
    """Matrices of one trajectory."""

    Q: np.ndarray
    V: np.ndarray
    cov: np.ndarray


def draws(variant: str, values: str, dim: int, count: int) -> list[Draw]:
    """The first `count` (at most `DRAWS`) draws in dimension `dim` (3, 4 or 5)."""
    queries, bases = np.random.RandomState(40), np.random.RandomState(26 + (variant == "l2"))
    covariances = np.random.RandomState(41)
    found: list[Draw] = []
    for d in DIMS:
        Q = [queries.randn(d // 2, d) for _ in range(DRAWS)]
        B = [bases.randn(d, d) for _ in range(DRAWS)]
        if d == dim:
            G = [covariances.randn(d, d) for _ in range(count)]
            V = [np.eye(d) if values == "identity" else b.T @ b for b in B]
            found = [Draw(Q[i], V[i], G[i] @ G[i].T) for i in range(count)]
    return found


def padded(matrix: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The matrix with zeros below and to the right: one shape for all dimensions."""
    result = np.zeros((rows, columns))
    result[: matrix.shape[0], : matrix.shape[1]] = matrix
    return result


def share(hits: np.ndarray) -> Estimate:
    """A share of random draws, with the error of a count that may be none or all of them."""
    count, total = int(hits.sum()), int(hits.size)
    error = np.sqrt((count + 1) * (total - count + 1) / (total + 2) ** 2 / (total + 3))
    return Estimate(count / total if total else float("nan"), float(error), total)


def rivals(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """What else might be the limit for V = I: the start projected off the rows of Q; F (I - P) F
    with P the projector on these rows, not on those of Q F.
    """
    values, basis = np.linalg.eigh(draw.cov)
    root = (basis * np.sqrt(values)) @ basis.T
    rows = np.linalg.qr(draw.Q.T)[0]
    keep = np.eye(len(root)) - rows @ rows.T
    return keep @ draw.cov @ keep, root @ keep @ root


class Projected(NamedTuple):
    """What projected Euler makes of the draws [draws]."""

    rank: np.ndarray
    left_cone: np.ndarray
    settled: np.ndarray


def projected_euler(
    variant: str, values: str, cases: list[Draw], *, step: float, max_steps: int
) -> Projected:
    """Explicit Euler for Sigma' = M Sigma + Sigma M^T, negative eigenvalues set to `FLOOR`.

    Args:
        variant: softmax or l2 (with its keys not scaled, as in the scripts).
        values: identity or random; the scheme stops at |Sigma'| < `EULER_STOP`.
        cases: draws of one dimension, stepped side by side.
        step: of the scheme.
        max_steps: where it is given up.

    Returns:
        The number of eigenvalues above `THRESHOLD` at the end; whether the first step left the
        cone of positive semi-definite matrices; whether the scheme stopped by itself, finite.
    """
    Q, V, cov = (np.stack(part) for part in zip(*cases, strict=True))
    dim = cov.shape[-1]
    A, B = -np.swapaxes(Q, 1, 2) @ Q / np.sqrt(dim), np.swapaxes(Q, 1, 2) @ Q
    active = np.arange(len(cases))
    settled, left_cone = np.zeros(len(cases), bool), np.zeros(len(cases), bool)
    for iteration in range(max_steps):
        now = cov[active]
        if variant == "softmax":
            matrix = V[active] @ now @ A[active]
        else:
            tilt = np.linalg.inv(np.eye(dim) + 2.0 * now @ B[active])
            matrix = 2.0 * V[active] @ tilt @ now @ A[active]
        rate = matrix @ now
        rate = rate + np.swapaxes(rate, 1, 2)
        speed = np.linalg.norm(rate, axis=(1, 2))
        now = now + step * rate
        size = np.abs(now).max(axis=(1, 2))
        done, lost = speed < EULER_STOP[values], ~(size < 1e30)
        settled[active[done]] = True
        keep = ~done & ~lost
        active, now = active[keep], now[keep]
        if active.size == 0:
            break
        eigenvalues, basis = np.linalg.eigh(now)
        if iteration == 0:
            left_cone[active] = eigenvalues[:, 0] < 0
        outside = eigenvalues[:, 0] < 0
        lifted = basis * np.where(eigenvalues < 0, FLOOR, eigenvalues)[:, None, :]
        projected = lifted @ np.swapaxes(basis, 1, 2)
        cov[active] = np.where(outside[:, None, None], projected, now)
    rank = (np.linalg.eigvalsh(cov) > THRESHOLD).sum(axis=1)
    return Projected(rank, left_cone, settled)
