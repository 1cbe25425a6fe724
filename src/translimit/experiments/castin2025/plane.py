r"""Attention and starts of the covariances of the plane, as in the authors' scripts.

Covariances of trace one are ((1 + u) / 2, w / 2; w / 2, (1 - u) / 2) with (u, w) on a grid inside
the unit disc. Matrices are those of the scripts (NumPy's legacy seeds), with their scales:
1 / sqrt(d), 1 / sqrt(k) for a head, 1 for Sinkhorn, unscaled keys for L2.

Reference: Castin et al., arXiv 2501.18322, and the authors' scripts; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit import attention
from translimit.core import ArgumentError

if TYPE_CHECKING:
    from translimit.attention import AbstractAttention

#: Growth of the trace at which SciPy stops, and t is taken for t*: 1e-10 early, relative to t*.
CHECK_GROWTH = 1e10

Matrix = Float[np.ndarray, "rows 2"]


@dataclass(frozen=True)
class Setting:
    """Where covariances go in one way.

    Attributes:
        variants: of attention.
        half: half-width of the published grid.
        side: its points a side.
        t1: depth to which it is followed. Where the approach is algebraic it is large; where it is
            exponential (a plane, two lines) an explicit step can not grow beyond it, and little is
            left to see.
    """

    variants: tuple[str, ...]
    half: float
    side: int
    t1: float

    def starts(self, side: int) -> Float[np.ndarray, "starts 2 2"]:
        """Covariances of trace one on the grid, as many as lie in the cone."""
        return covariances_of_trace_one(np.linspace(-self.half, self.half, min(side, self.side)))


SETTINGS = {
    "zero": Setting(("softmax", "l2", "multi-head", "sinkhorn"), 0.5, 10, 1e6),
    "line": Setting(("softmax", "l2"), 0.5, 10, 1e6),
    "plane": Setting(("one-of-two-heads",), 0.5, 10, 1e4),
    "two-lines": Setting(("softmax", "l2"), 1.0, 20, 1e4),
    "divergence": Setting(("softmax", "l2", "multi-head", "sinkhorn"), 1.0, 40, 1e3),
    "depends": Setting(("softmax", "l2"), 1.0, 30, 1e4),
}


def matrices(setting: str) -> tuple[Matrix, Matrix, Float[np.ndarray, "2 2"]]:
    """Q, K and V of a setting."""
    legacy = np.random.RandomState
    if setting == "zero":
        generator = legacy(35)
        Q, V = generator.rand(2, 2), generator.randn(2, 2)
        return Q, -Q, V @ V.T
    if setting in ("line", "plane"):
        q = legacy(36).randn(1, 2)
        q /= np.linalg.norm(q)
        return q, -q, np.eye(2)
    if setting == "divergence":
        return *_definite_until(legacy(33), lambda e: bool(e[0] > 0)), np.eye(2)
    Q, K = _definite_until(legacy(36), lambda e: bool(e[0] * e[1] < 0))
    generator = legacy(32 if setting == "two-lines" else 35)
    if setting == "depends":
        generator.randn(8, 7)
    return Q, K, generator.randn(2, 2)


def _definite_until(
    generator: np.random.RandomState, accept: Callable[[Float[np.ndarray, " 2"]], bool]
) -> tuple[Matrix, Matrix]:
    """Q and K, redrawn until the eigenvalues of K^T Q + Q^T K please."""
    while True:
        Q, K = generator.randn(2, 2), generator.randn(2, 2)
        if accept(np.linalg.eigvalsh(K.T @ Q + Q.T @ K)):
            return Q, K


def make_attention(setting: str, variant: str) -> AbstractAttention:
    """The attention of a setting, at the scale of the scripts."""
    Q, K, V = matrices(setting)
    if variant == "softmax":
        return attention.Softmax(Q=Q, K=K, V=V, score_scale=2**-0.5)
    if variant == "l2":
        return attention.L2(Q=Q, K=K, V=V, score_scale=2**-0.5, key_scale=1.0)
    if variant == "sinkhorn":
        return attention.Sinkhorn(Q=Q, K=K, V=V, score_scale=1.0)
    # One row of Q, K and V a head (k = 1, so c = 1); W puts the head's number into its row.
    heads = len(Q)
    return attention.MultiHead(
        Q=Q[:, None], K=K[:, None], V=V[:heads, None], W=np.eye(2)[:heads, :, None], score_scale=1.0
    )


def covariances_of_trace_one(points: Float[np.ndarray, " side"]) -> Float[np.ndarray, "starts 2 2"]:
    """Those inside the disc, for u and w among the points, u slowest."""
    u, w = (part.ravel() for part in np.meshgrid(points, points, indexing="ij"))
    inside = 1.0 - u**2 > w**2
    u, w = u[inside], w[inside]
    return np.stack([np.stack([1 + u, w], -1), np.stack([w, 1 - u], -1)], -2) / 2


def exact_blow_up_times(
    field: AbstractAttention, cov: Float[np.ndarray, "starts 2 2"]
) -> Float[np.ndarray, " starts"]:
    """t* = 1 / lambda_max(Sigma_0^(1/2) (A + A^T) Sigma_0^(1/2)) of softmax with V = I.

    These eigenvalues are those of Sigma_0 (A + A^T).

    Raises:
        ArgumentError: another variant than softmax.
    """
    if not isinstance(field, attention.Softmax):
        raise ArgumentError("field", f"got {type(field).__name__}", "pass softmax")
    A = np.asarray(field.A)
    return 1.0 / np.linalg.eigvals(cov @ (A + A.T)).real.max(axis=1)


def far_out_turn(
    A: Float[np.ndarray, "2 2"], cov: Float[np.ndarray, "starts 2 2"]
) -> Float[np.ndarray, " starts"]:
    """The angle by which Sinkhorn attention turns tokens far out, where Sigma is the identity.

    For large Sigma the closure's L A is the transport of N(0, Sigma) onto itself, y = L A x with L
    symmetric and positive, that is best for y^T A x. In the coordinates Sigma^(-1/2) x it is the
    orthogonal polar factor of B = Sigma^(1/2) A Sigma^(1/2): for det A > 0 a rotation, by the
    antisymmetric part of B, which is that of A times sqrt(det Sigma), over its trace.

    Args:
        A: matrix of the scores y^T A x, at any scale, of positive determinant.
        cov: Sigma.
    """
    antisymmetric = (A[1, 0] - A[0, 1]) * np.sqrt(np.linalg.det(cov))
    return np.arctan2(antisymmetric, np.trace(A @ cov, axis1=-2, axis2=-1))


def closure_matrices(setting: str, variant: str) -> list[tuple[Matrix, Matrix]]:
    """V and A of every head of a setting with softmax, or cut into two heads; plain NumPy."""
    Q, K, V = matrices(setting)
    if variant == "softmax":
        return [(V, K.T @ Q / np.sqrt(2.0))]
    return [(np.outer(np.eye(2)[h], V[h]), np.outer(K[h], Q[h])) for h in range(2)]


def scipy_blow_up_time(
    heads: list[tuple[Matrix, Matrix]], cov: Float[np.ndarray, "2 2"], t1: float
) -> float:
    """t* by SciPy, from Sigma' = M Sigma + Sigma M^T in the time (1 + |M|) dt; plain NumPy.

    Args:
        heads: V and A of every head.
        cov: covariance at the start.
        t1: depth beyond which there is no blow-up.
    """
    from scipy.integrate import solve_ivp

    def rate(_: float, state: np.ndarray) -> np.ndarray:
        Sigma = state[1:].reshape(2, 2)
        M = sum((value @ Sigma @ A for value, A in heads), np.zeros((2, 2)))
        slow = 1.0 / (1.0 + np.linalg.norm(M))
        return np.concatenate([[slow], slow * (M @ Sigma + Sigma @ M.T).ravel()])

    def grown(_: float, state: np.ndarray) -> float:
        return (state[1] + state[4]) - CHECK_GROWTH * np.trace(cov)

    def late(_: float, state: np.ndarray) -> float:
        return state[0] - t1

    grown.terminal = late.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    start, span = np.concatenate([[0.0], cov.ravel()]), (0.0, 1e4)
    events = (grown, late)
    found = solve_ivp(rate, span, start, "DOP853", events=events, rtol=1e-11, atol=1e-13)
    return float(found.y[0, -1]) if found.t_events[0].size else float("inf")


@functools.cache
def decay_to_zero(variant: str) -> tuple[float, float]:
    """Of the setting `zero`: the limit of t tr Sigma, and the late slope of log det Sigma.

    For small covariances M is V Sigma A (twice that for L2, the sum over heads), so that t Sigma
    goes to the stable rest point S of S' = S + M(S) S + S M(S)^T in the time log t; with tr S, and
    2 tr M(S). SciPy, for a factor of S, from the identity.

    Args:
        variant: of attention, one of the setting's.
    """
    from scipy.integrate import solve_ivp

    heads = closure_matrices("zero", "multi-head" if variant == "multi-head" else "softmax")
    scale = {"l2": 2.0, "sinkhorn": np.sqrt(2.0)}.get(variant, 1.0)

    def linear(S: np.ndarray) -> np.ndarray:
        return sum((scale * value @ S @ A for value, A in heads), np.zeros((2, 2)))

    def rate(_: float, entries: np.ndarray) -> np.ndarray:
        F = entries.reshape(2, 2)
        return (F / 2 + linear(F @ F.T) @ F).ravel()

    start = np.eye(2).ravel()
    found = solve_ivp(rate, (0.0, 40.0), start, "LSODA", rtol=1e-10, atol=1e-13)
    F = found.y[:, -1].reshape(2, 2)
    return float(np.sum(F**2)), 2.0 * float(np.trace(linear(F @ F.T)))


def isotropic_directions() -> Float[np.ndarray, " 2"]:
    """The angles of the two lines with <A x, x> = 0 in the setting `two-lines`, in degrees."""
    (_, A), *_ = closure_matrices("two-lines", "softmax")
    values, axes = np.linalg.eigh(A + A.T)
    # In the basis of the axes tan^2 of the angle is minus the ratio of the eigenvalues.
    along = np.array([np.sqrt(values[1]), np.sqrt(-values[0])])
    lines = np.stack([axes @ along, axes @ (along * [1.0, -1.0])])
    return np.sort(np.degrees(np.arctan2(lines[:, 1], lines[:, 0])) % 180.0)
