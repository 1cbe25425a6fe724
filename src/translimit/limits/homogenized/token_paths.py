"""Ensembles of paths of tokens on the sphere: what the stochastic limits share."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    SPHERE,
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    Estimate,
    Number,
    Outcome,
    StepError,
    hidden_step,
    is_traced,
    named_key,
    separate_step_error,
)
from translimit.limits.homogenized.schedule import (
    FIRST_STEP,
    Schedule,
    SphereEuler,
    outcome_of,
    run_paths,
    schedule,
)
from translimit.limits.homogenized.step_error import Comparison, refined

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

REFERENCE = "Koubbi et al., arXiv 2604.01978"
#: Steps that a step of the paths beside those of the solve takes together, and the largest step up
#: to which there are more than two: beyond it the error is no multiple of the step.
MERGED, LARGEST_MERGED = 8, 0.25


class AbstractTokenPaths(AbstractSolution):
    """Paths of tokens under common noise.

    Attributes:
        ts: the times kept, on the problem's clock [times].
        tokens: unit tokens [paths, times, tokens, width].
        dim: dimension of the tokens.
        step: the largest step taken.
        discretisation: size of the error of the steps in the mean and the mean square of the mean
            overlap of a path, the larger, with the standard error of its estimate added.
        outcome: how the solve ended.
    """

    ts: eqx.AbstractVar[Any]
    tokens: eqx.AbstractVar[Any]
    dim: eqx.AbstractVar[int]
    step: eqx.AbstractVar[float]
    discretisation: eqx.AbstractVar[Number]
    outcome: eqx.AbstractVar[Outcome]

    @property
    def overlaps(self) -> Any:
        """R_ij = <x_i, x_j> [paths, times, tokens, tokens]."""
        return self.tokens @ self.tokens.swapaxes(-1, -2)

    @property
    def separations(self) -> Any:
        """1 - R_ij [paths, times, tokens, tokens], exact where tokens collapse."""
        return SPHERE.separations(self.tokens)

    @property
    def mean_overlaps(self) -> Any:
        """Mean of the off-diagonal overlaps of every path [paths, times]; NaN for one token."""
        return mean_overlaps(self.tokens)

    def mean_overlap(self, time: int = -1) -> Estimate:
        """The mean off-diagonal overlap at one of the times, over paths, with its errors.

        Errors come from paths: averages over tokens do not concentrate under common noise.
        """
        values = np.asarray(self.mean_overlaps)[:, time]
        return Estimate.from_samples(values, discretisation=float(self.discretisation))

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
        """256 paths, one head a step, the step from their sampling error."""
        return SphereEuler()


def mean_overlaps(
    tokens: Float[Array | np.ndarray, "*batch tokens width"],
) -> Float[Array | np.ndarray, "*batch"]:
    """Mean of the off-diagonal overlaps [...] of unit tokens [..., tokens, width]; NaN for one."""
    n = tokens.shape[-2]
    total = ((tokens.sum(axis=-2)) ** 2).sum(axis=-1)
    return (total - n) / (n * (n - 1)) if n > 1 else total * np.nan


class Followed(eqx.Module):
    """What `follow` returns.

    Attributes:
        tokens: of all paths [paths, times, tokens, width].
        step: the largest step.
        discretisation: size of the error of the steps.
        outcome: how the solve ended.
    """

    tokens: Float[Array | np.ndarray, "paths times tokens width"]
    step: float = eqx.field(static=True)
    discretisation: Number
    outcome: Outcome


def kept_bytes(method: SphereEuler, times: int, numbers: int, dtype: Any) -> float:
    """Bytes of the states of all paths, group by group and joined.

    Args:
        method: with the number of paths.
        times: how many are kept.
        numbers: of one state.
        dtype: of them.
    """
    return 3.2 * method.paths * times * numbers * np.dtype(dtype).itemsize


def follow(
    advance: Callable[..., Any],
    start: Any,
    parameters: Any,
    method: SphereEuler,
    ts: Any,
    key: Any,
    progress: Any,
) -> Followed:
    """Tokens of all paths, with the error of their steps.

    Beside the paths run as many with steps eight times as large, at an eighth of their cost, or
    twice as large where steps are not small; a single step is compared with eight. Where no step is
    given, the paths are those of the first of 0.02, 0.01, ... whose error is hidden by their
    sampling error.

    Args:
        advance: `advance((parameters, method), state, step, key)`.
        start: the state at time 0, the same for all paths.
        parameters: what a step needs besides the method.
        method: steps, samples and paths.
        ts: the times to keep.
        key: of the noise.
        progress: told the share of the work that is done.
    """
    found: list[tuple[Schedule, Any, StepError]] = []

    def tokens_of(plan: Schedule, key: Any, progress: Any) -> Any:
        return run_paths(advance, start, (parameters, method), plan, method, key, progress)

    def is_hidden(step: float) -> bool:
        plan = schedule(ts, step)
        tokens = tokens_of(plan, key, progress)
        other_key = named_key(key, "other steps")
        if len(plan.sizes) != 1:
            factor = np.clip(
                LARGEST_MERGED // max(plan.largest, LARGEST_MERGED / MERGED), 2, MERGED
            )
            both = Comparison(plan, int(factor))
            coarse, fine = tokens_of(both.coarse, other_key, None), tokens
        else:
            both = Comparison(refined(plan, MERGED), MERGED, of=plan)
            coarse, fine = tokens, tokens_of(both.fine, other_key, None)
        coarse, fine = (_moments(each[:, both.saves]) for each in (coarse, fine))
        error = separate_step_error(coarse, fine, both.ratio[:, None])
        found[:] = [(plan, tokens, error)]
        return method.step is not None or is_traced(error) or error.hidden

    hidden_step(method.step or FIRST_STEP, is_hidden)
    plan, tokens, error = found[0]
    return Followed(tokens, plan.largest, error.largest, outcome_of(tokens))


def _moments(tokens: Any) -> Any:
    """The mean overlap of every path and its square [paths, times, 2]."""
    mean = mean_overlaps(tokens)
    return (jnp if is_traced(mean) else np).stack([mean, mean**2], axis=-1)
