r"""What stays of a covariance for t to infinity, read off the last two decades: the rank.

An eigenvalue lambda counts by its slope d log lambda / d log t in *each* of the last two decades:

    persistent  |slope| < 0.05, and not growing from the first to the second,
    decaying    slope < -0.5,
    undecided   anything else.

A slope that is small and grows tells of a decay that is still to come. A limit with an undecided
eigenvalue has no rank here: transients exist, too, in which an eigenvalue falls by nine orders of
magnitude and grows again. Nothing is compared with an absolute threshold.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from translimit.core import Outcome, Times, reference
from translimit.integrate import AbstractFlowSolution

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

PERSISTENT_SLOPE = 0.05
#: Slopes below this are those of rounding and of the error of the steps: they may grow.
STEADY_SLOPE = 1e-6
DECAYING_SLOPE = -0.5
#: What `rank` says when it is not settled.
UNDECIDED = -1


def classify_slopes(
    eigenvalues: Float[np.ndarray, "*members decades dim"],
    decades: Float[np.ndarray, " decades"],
    rank: Int[np.ndarray, "*members"] | Sequence[int],
) -> tuple[
    Float[np.ndarray, "*members intervals dim"],
    Bool[np.ndarray, "*members dim"],
    Bool[np.ndarray, "*members dim"],
]:
    """Slopes, and which eigenvalues persist and which decay, by the rule of the module docstring.

    Args:
        eigenvalues: descending, at the times `decades` [..., times, dim].
        decades: increasing times [times].
        rank: rank at the start [...]: the eigenvalues beyond it are zero for all times.

    Returns:
        Slopes [..., times - 1, dim], `persistent` and `decaying` [..., dim]. An eigenvalue below
        the rounding of the factor, (dim eps)^2 of the largest, has decayed; its slope is -inf.
    """
    dim = eigenvalues.shape[-1]
    floor = (dim * np.finfo(float).eps) ** 2 * eigenvalues[..., :1]
    resolved = eigenvalues > floor
    logs = np.log(np.where(resolved, eigenvalues, 1.0))
    slopes = np.diff(logs, axis=-2) / np.diff(np.log(decades))[:, None]
    slopes = np.where(resolved[..., 1:, :] & resolved[..., :-1, :], slopes, -np.inf)
    # NaN (a member that ended early) is neither.
    slopes = np.where(np.isfinite(eigenvalues).all(axis=-2, keepdims=True), slopes, np.nan)
    present = np.arange(dim) < np.asarray(rank)[..., None]
    size = np.abs(slopes)
    growing = size[..., 1:, :] > np.maximum(size[..., :-1, :], STEADY_SLOPE)
    persistent = (size < PERSISTENT_SLOPE).all(axis=-2) & ~growing.any(axis=-2) & present
    decaying = (slopes < DECAYING_SLOPE).all(axis=-2) & present
    return slopes, persistent, decaying


class GaussianLimitSolution(AbstractFlowSolution):
    """The end of a closure, or of an ensemble of them (leading axis `members`).

    Attributes:
        ts: the times kept [times].
        factor: F with cov = F F^T [..., times, dim, dim]; NaN after the end of a solution.
        eigenvalues: of the covariance at t1, descending [..., dim]; NaN if t1 was not reached.
        slopes: d log eigenvalue / d log t in each of the last two decades [..., 2, dim].
        initial_rank: rank of the initial covariance [...].
        persistent: eigenvalues that have settled at a positive number [..., dim]; none where t1 is
            too short for V.
        decaying: eigenvalues that go to zero [..., dim].
        last_cov: the last covariance, at t1 or where the solution ended [..., dim, dim].
        blow_up_time: when the law ceases to exist, infinity if it does not before t1 [...].
        steps_taken: attempted steps [...].
        outcome: how each solve ended.
    """

    ts: Times
    factor: Float[np.ndarray, "*members times dim dim"]
    eigenvalues: Float[np.ndarray, "*members dim"]
    slopes: Float[np.ndarray, "*members decades dim"]
    initial_rank: Int[np.ndarray, "*members"]
    persistent: Bool[np.ndarray, "*members dim"]
    decaying: Bool[np.ndarray, "*members dim"]
    last_cov: Float[np.ndarray, "*members dim dim"]
    blow_up_time: Float[np.ndarray, "*members"]
    steps_taken: Int[np.ndarray, "*members"]
    outcome: Outcome
    reference: ClassVar[str] = reference("castin2025")

    @property
    def cov(self) -> Float[np.ndarray, "*members times dim dim"]:
        """Covariances at the times kept [..., times, dim, dim]."""
        return np.einsum("...ij,...kj->...ik", self.factor, self.factor)

    @property
    def undecided(self) -> Bool[np.ndarray, "*members"]:
        """Whether an eigenvalue neither persists nor decays, or t1 was not reached [...]."""
        counted = self.persistent.sum(axis=-1) + self.decaying.sum(axis=-1)
        return np.asarray(counted < self.initial_rank)

    @property
    def rank(self) -> Int[np.ndarray, "*members"]:
        """The settled rank of the limit [...], `UNDECIDED` (-1) where it is not settled."""
        return np.where(self.undecided, UNDECIDED, self.persistent.sum(axis=-1))

    @property
    def eigenvalue_paths(self) -> Float[np.ndarray, "*members times dim"]:
        """Eigenvalues at all times kept, descending [..., times, dim]."""
        missing = ~np.isfinite(self.factor).all(axis=(-2, -1))
        values = np.linalg.svd(np.nan_to_num(self.factor), compute_uv=False) ** 2
        values[missing] = np.nan
        return values

    def _dataset(self) -> xarray.Dataset:
        """Covariances, eigenvalues and slopes."""
        import xarray

        lead = ("member",) if np.ndim(self.blow_up_time) else ()

        def labelled(dims: tuple[str, ...], values: np.ndarray, name: str) -> xarray.Variable:
            about = {"long_name": name, "units": "1"}
            return xarray.Variable((*lead, *dims), np.asarray(values), about)

        return xarray.Dataset(
            {
                "cov": labelled(("time", "component", "component2"), self.cov, "covariance"),
                "eigenvalue_paths": labelled(
                    ("time", "eigenvalue"), self.eigenvalue_paths, "eigenvalue of the cov."
                ),
                "eigenvalues": labelled(("eigenvalue",), self.eigenvalues, "eigenvalue at t1"),
                "slopes": labelled(("decade", "eigenvalue"), self.slopes, "logarithmic slope"),
                "rank": labelled((), self.rank, "settled rank, -1 undecided"),
                "undecided": labelled((), self.undecided, "whether the rank is undecided"),
                "last_cov": labelled(("component", "component2"), self.last_cov, "last covariance"),
                "blow_up_time": labelled((), self.blow_up_time, "blow-up time"),
                "steps_taken": labelled((), self.steps_taken, "attempted steps"),
            },
            coords={
                "time": ("time", np.asarray(self.ts), {"long_name": "depth", "units": "depth"})
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Eigenvalues against depth, both logarithmic."""
        from translimit.figures import plot_eigenvalue_paths

        return plot_eigenvalue_paths(self.to_xarray()["eigenvalue_paths"], ax)
