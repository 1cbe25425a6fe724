"""Ensembles of paths of tokens on the sphere: what the stochastic limits share."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np

from translimit.attention import separations
from translimit.core import AbstractMethod, AbstractProblem, AbstractSolution, Estimate, Outcome
from translimit.limits.homogenized.schedule import SphereEuler, outcome_of, run_paths, schedule

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

REFERENCE = "Koubbi et al., arXiv 2604.01978"


class AbstractTokenPaths(AbstractSolution):
    """Paths of tokens under common noise.

    Attributes:
        ts: the times kept, on the problem's clock [times].
        tokens: unit tokens [paths, times, tokens, width].
        dim: dimension of the tokens.
        step: the largest step taken.
        discretisation: size of the error of the steps in means of overlaps.
        outcome: how the solve ended.
    """

    ts: eqx.AbstractVar[Any]
    tokens: eqx.AbstractVar[Any]
    dim: eqx.AbstractVar[int]
    step: eqx.AbstractVar[float]
    discretisation: eqx.AbstractVar[float]
    outcome: eqx.AbstractVar[Outcome]

    @property
    def overlaps(self) -> Any:
        """R_ij = <x_i, x_j> [paths, times, tokens, tokens]."""
        return self.tokens @ self.tokens.swapaxes(-1, -2)

    @property
    def separations(self) -> Any:
        """1 - R_ij [paths, times, tokens, tokens], exact where tokens collapse."""
        return separations(self.tokens)

    @property
    def mean_overlaps(self) -> Any:
        """Mean of the off-diagonal overlaps of every path [paths, times]; NaN for one token."""
        n = self.tokens.shape[-2]
        total = ((self.tokens.sum(axis=-2)) ** 2).sum(axis=-1)
        return (total - n) / (n * (n - 1)) if n > 1 else total * np.nan

    def mean_overlap(self, time: int = -1) -> Estimate:
        """The mean off-diagonal overlap at one of the times, over paths, with its errors.

        Errors come from paths: averages over tokens do not concentrate under common noise.
        """
        values = np.asarray(self.mean_overlaps)[:, time]
        return Estimate.from_samples(values, discretisation=self.discretisation)

    @abc.abstractmethod
    def clocks(self) -> dict[str, Any]:
        """Coordinates along time for `to_xarray`, the problem's own clock under "time"."""

    def to_xarray(self) -> xarray.Dataset:
        """Overlaps by path and time, with the clocks."""
        import xarray

        about = {"units": "1", "reference": REFERENCE}
        axes = ("path", "time", "token", "token2")
        return xarray.Dataset(
            {
                "overlaps": (axes, np.asarray(self.overlaps), about | {"long_name": "overlap"}),
                "mean_overlap": (
                    ("path", "time"),
                    np.asarray(self.mean_overlaps),
                    about | {"long_name": "mean overlap of two tokens"},
                ),
            },
            coords=self.clocks(),
            attrs={
                "outcome": Outcome[self.outcome] or "successful",
                "step": self.step,
                "discretisation": self.discretisation,
                "dim": self.dim,
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mean overlap of every path, and the mean over paths with its standard error."""
        from translimit.figures import plot_fan

        return plot_fan(self.to_xarray()["mean_overlap"], ax)


def clock(values: Any, long_name: str, units: str) -> tuple[str, np.ndarray, dict[str, str]]:
    """A coordinate along time."""
    return "time", np.asarray(values), {"long_name": long_name, "units": units}


class AbstractTokenSDE(AbstractProblem):
    """A stochastic equation on the sphere with noise common to all tokens."""

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Euler steps on the sphere."""
        return (SphereEuler,)

    def default_method(self) -> SphereEuler:
        """Steps of 0.02, one head a step, 256 paths."""
        return SphereEuler()


def follow(
    advance: Callable[..., Any],
    start: Any,
    parameters: Any,
    method: SphereEuler,
    ts: Any,
    key: Any,
    progress: Any,
) -> tuple[Any, float, Outcome]:
    """Tokens of all paths, the largest step, and the outcome.

    Args:
        advance: `advance((parameters, method), state, step, key)`.
        start: the state at time 0, the same for all paths.
        parameters: what a step needs besides the method.
        method: steps, samples and paths.
        ts: the times to keep.
        key: of the noise.
        progress: told the share of the work that is done.
    """
    plan = schedule(ts, method.step)
    tokens = run_paths(advance, start, (parameters, method), plan, method, key, progress)
    return tokens, plan.largest, outcome_of(tokens)
