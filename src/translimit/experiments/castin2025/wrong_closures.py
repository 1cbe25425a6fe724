r"""Gaussian closures of softmax with one term wrong: rivals of what is claimed of the right one.

The right one moves the mean by V alpha + M alpha and the covariance by M Sigma + Sigma M^T, with
M = V Sigma A. Runge-Kutta steps in NumPy, over any leading axes.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import K, Q, paired

C = TypeVar("C")
P = TypeVar("P")

Mean = Float[np.ndarray, "*batch dim"]
Cov = Float[np.ndarray, "*batch dim dim"]
#: A map, mean and covariance to the velocity of the mean and the matrix M.
Field = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

STEPS = 48


def _apply(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return (matrix @ vector[..., None])[..., 0]


def _right(A: np.ndarray, V: np.ndarray, mean: Mean, cov: Cov) -> tuple[Mean, Cov]:
    M = V @ cov @ A
    return _apply(V + M, mean), M


def _second_moments(A: np.ndarray, V: np.ndarray, mean: Mean, cov: Cov) -> tuple[Mean, Cov]:
    return _right(A, V, mean, cov + mean[..., :, None] * mean[..., None, :])


def _mean_by_values(A: np.ndarray, V: np.ndarray, mean: Mean, cov: Cov) -> tuple[Mean, Cov]:
    return _apply(V, mean), V @ cov @ A


RIGHT = "the closure"
FIELDS: dict[str, Field] = {
    RIGHT: _right,
    "queries and keys swapped": lambda A, V, mean, cov: _right(A.T, V, mean, cov),
    "scores times 1.1": lambda A, V, mean, cov: _right(1.1 * A, V, mean, cov),
    "second moments for covariances": _second_moments,
    "the mean follows V alone": _mean_by_values,
}


#: The laws that every variant's clouds are set beside; the last has a term of its own dropped.
LAWS = (RIGHT, "queries and keys swapped", "scores times 1.1", "a term dropped")
DROPPED = {
    "softmax": "second moments for covariances",
    "multi-head": "the first head alone",
    "l2": "no confinement by the keys",
    "sinkhorn": "one marginal only: softmax",
    "linear": "covariances for second moments",
}


def variant_field(variant: str, law: str) -> Field:
    """The closure of a canonical variant, or a wrong one.

    Args:
        variant: with a closure.
        law: one of `LAWS`.
    """
    query, key = (K, Q) if law == LAWS[1] else (Q, K)
    scores, confinement = key.T @ query, key.T @ key
    if law == LAWS[2]:
        scores, confinement = 1.1 * scores, 1.1 * confinement
    dropped = law == LAWS[3]

    def field(A: np.ndarray, V: np.ndarray, mean: Mean, cov: Cov) -> tuple[Mean, Cov]:
        del A
        if variant == "multi-head":
            one, M = _right(scores, V, mean, cov)
            if dropped:
                return one, M
            other, N = _right(scores.T, V.T, mean, cov)
            return (one + other) / 2, (M + N) / 2
        if variant == "l2":
            keys = np.eye(2) + (0.0 if dropped else 2.0) * cov @ confinement
            R = np.linalg.inv(keys)
            M = 2 * V @ R @ cov @ scores
            return _apply(V @ R + M, mean), M
        if variant == "linear":
            square = cov if dropped else cov + mean[..., :, None] * mean[..., None, :]
            M = V @ square @ scores
            return _apply(M, mean), M
        if variant == "sinkhorn" and not dropped:
            root = np.linalg.cholesky(cov)
            seen = np.swapaxes(root, -1, -2) @ scores @ root
            values, basis = np.linalg.eigh(seen @ np.swapaxes(seen, -1, -2))
            kept = 2 / (1 + np.sqrt(1 + 4 * np.maximum(values, 0)))
            half = root @ (basis * np.sqrt(kept)[..., None, :])
            return _apply(V, mean), V @ half @ np.swapaxes(half, -1, -2) @ scores
        chosen = _second_moments if dropped and variant == "softmax" else _right
        return chosen(scores, V, mean, cov)

    return field


def carry(
    name: str | Field, A: np.ndarray, V: np.ndarray, mean: Mean, cov: Cov, t1: float
) -> tuple[Mean, Cov]:
    """The mean at t1 and the map Phi of single tokens: x - mean at the start to x - mean at t1.

    Args:
        name: one of `FIELDS`, or a field.
        A: matrix of the scores.
        V: value map, or one for each law.
        mean: at the start.
        cov: at the start.
        t1: final depth.
    """
    field, h, start = FIELDS[name] if isinstance(name, str) else name, t1 / STEPS, cov
    shape = np.broadcast_shapes(V.shape, cov.shape)
    mean, phi = np.broadcast_to(mean, shape[:-1]), np.broadcast_to(np.eye(shape[-1]), shape)

    def slope(mean: Mean, phi: Cov) -> tuple[Mean, Cov]:
        velocity, M = field(A, V, mean, phi @ start @ np.swapaxes(phi, -1, -2))
        return velocity, M @ phi

    for _ in range(STEPS):
        a, b = slope(mean, phi)
        c, d = slope(mean + h / 2 * a, phi + h / 2 * b)
        e, f = slope(mean + h / 2 * c, phi + h / 2 * d)
        g, k = slope(mean + h * e, phi + h * f)
        mean, phi = mean + h / 6 * (a + 2 * c + 2 * e + g), phi + h / 6 * (b + 2 * d + 2 * f + k)
    return mean, phi


def carried(
    name: str | Field, A: np.ndarray, V: np.ndarray, mean: Mean, cov: Cov, t1: float
) -> tuple[Mean, Cov]:
    """Mean and covariance at t1; the arguments are those of `carry`."""
    moved, phi = carry(name, A, V, mean, cov, t1)
    return moved, phi @ cov @ np.swapaxes(phi, -1, -2)


def mixed(mean: Mean, cov: Cov) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the mixture, in equal parts, of laws along the first axis.

    Args:
        mean: of the laws.
        cov: of the laws.
    """
    apart = mean - mean.mean(axis=0)
    return mean.mean(axis=0), (cov + apart[..., :, None] * apart[..., None, :]).mean(axis=0)


def rival(
    name: str,
    both: Callable[[ex.Found[C], P, str], tuple[np.ndarray, np.ndarray]],
    when: Callable[[C, P], bool] | None = None,
) -> ex.Rival[C, P]:
    """The rival of a claim about clouds, beside which a wrong closure is set cloud by cloud.

    Args:
        name: of the wrong closure.
        both: what was measured and what it predicts, for every cloud.
        when: see `Rival`.
    """

    def estimate(found: ex.Found[C], point: P) -> Estimate:
        return paired(*both(found, point, name))

    def prediction(found: ex.Found[C], point: P) -> float:
        return float(both(found, point, name)[1].mean())

    return ex.Rival(name, prediction, estimate, when=when)
