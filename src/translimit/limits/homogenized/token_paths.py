"""Ensembles of paths of tokens on the sphere: what the stochastic limits share."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from translimit.core import (
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    AnyArray,
    Estimate,
    Floats,
    Keep,
    Key,
    Number,
    Observable,
    Outcome,
    Progress,
    StepError,
    Times,
    hidden_step,
    is_traced,
    named_key,
    reference,
    separate_step_error,
)
from translimit.limits.homogenized.schedule import (
    FIRST_STEP,
    Advance,
    Kept,
    Schedule,
    SphereEuler,
    outcome_of,
    run_paths,
    schedule,
)
from translimit.limits.homogenized.step_error import Comparison, refined
from translimit.observe import AbstractSpherePaths, mean_overlap

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

REFERENCE = reference("koubbi2026")
#: Steps that a step of the paths beside those of the solve takes together, and the largest step up
#: to which there are more than two: beyond it the error is no multiple of the step.
MERGED, LARGEST_MERGED = 8, 0.25


#: Coordinates along time: values, long name and units of every clock.
Clock = Mapping[str, tuple[str, np.ndarray, dict[str, str]]]


class AbstractTokenPaths(AbstractSpherePaths, AbstractSolution):
    """Paths of tokens under common noise.

    Attributes:
        ts: the times kept, on the problem's clock [times].
        tokens: unit tokens [paths, times, tokens, width].
        dim: dimension of the tokens.
        max_step: the largest step taken.
        discretisation: size of the error of the steps in the mean and the mean square of the mean
            overlap of a path, the larger, with the standard error of its estimate added.
        outcome: how the solve ended.
        samples: paths.
    """

    tokens: eqx.AbstractVar[Float[AnyArray, "paths kept tokens width"]]
    dim: eqx.AbstractVar[int]
    max_step: eqx.AbstractVar[float]
    discretisation: eqx.AbstractVar[Number]

    reference: ClassVar[str] = REFERENCE

    def mean_overlap(self, time: int = -1) -> Estimate:
        """The mean off-diagonal overlap at one of the times, over paths, with its errors.

        Errors come from paths: averages over tokens do not concentrate under common noise.
        """
        values = np.asarray(self.mean_overlaps)[:, time]
        return Estimate.from_samples(values, discretisation=float(self.discretisation))

    @abc.abstractmethod
    def clocks(self) -> Clock:
        """Coordinates along time for `to_xarray`, the problem's own clock under "time"."""

    def _dataset(self) -> xarray.Dataset:
        """Overlaps by path and time, with the clocks."""
        import xarray

        about = {"units": "1"}
        axes = ("sample", "time", "token", "token2")
        return xarray.Dataset(
            {
                "overlaps": (axes, np.asarray(self.overlaps), about | {"long_name": "overlap"}),
                "mean_overlap": (
                    ("sample", "time"),
                    np.asarray(self.mean_overlaps),
                    about | {"long_name": "mean overlap of two tokens"},
                ),
            },
            coords=self.clocks(),
            attrs={"max_step": self.max_step, "dim": self.dim},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mean overlap of every path, and the mean over paths with its standard error."""
        from translimit.figures import plot_fan

        return plot_fan(self.to_xarray()["mean_overlap"], ax)


def clock(values: Floats, long_name: str, units: str) -> tuple[str, np.ndarray, dict[str, str]]:
    """A coordinate along time."""
    return "time", np.asarray(values), {"long_name": long_name, "units": units}


#: The type of the solution.
P = TypeVar("P", bound=AbstractTokenPaths, covariant=True)


class AbstractTokenSDE(AbstractProblem[P], Generic[P]):
    """A stochastic equation on the sphere with noise common to all tokens."""

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Euler steps on the sphere."""
        return (SphereEuler,)

    def default_method(self) -> SphereEuler:
        """256 paths, one head a step, the step from their sampling error."""
        return SphereEuler()


class Followed(eqx.Module):
    """What `follow` returns.

    Attributes:
        tokens: of all paths [paths, times, tokens, width], or [paths, 0, tokens, width].
        observed: by name [paths, times, ...].
        max_step: the largest step.
        discretisation: size of the error of the steps.
        outcome: how the solve ended.
    """

    tokens: Float[AnyArray, "paths kept tokens width"]
    observed: dict[str, Shaped[AnyArray, "paths times ..."]]
    max_step: float = eqx.field(static=True)
    discretisation: Number
    outcome: Outcome


def kept_bytes(method: SphereEuler, times: int, numbers: int, dtype: np.dtype) -> float:
    """Bytes of the states of all paths, group by group and joined.

    Args:
        method: with the number of paths.
        times: how many are kept.
        numbers: of one state.
        dtype: of them.
    """
    return 3.2 * method.paths * times * numbers * np.dtype(dtype).itemsize


def follow(
    advance: Advance,
    start: Float[AnyArray, "tokens width"],
    parameters: PyTree,
    method: SphereEuler,
    ts: Times,
    key: Key,
    keep: Keep,
    progress: Progress | None,
) -> Followed:
    """Tokens of all paths, and what is observed of them, with the error of their steps.

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
        keep: whether states are kept, and what is observed of them.
        progress: told the share of the work that is done.
    """
    found: list[tuple[Schedule, Kept, StepError]] = []
    # The error of the steps needs the overlaps: of the states, or observed where none are kept.
    own = () if keep.states else (_overlap_and_finite,)

    def kept_of(
        plan: Schedule, key: Key, observe: tuple[Observable, ...], progress: Progress | None
    ) -> Kept:
        return run_paths(
            advance,
            start,
            (parameters, method),
            plan,
            method,
            key,
            progress,
            ts=ts,
            observe=(*own, *observe),
            states=keep.states,
        )

    def is_hidden(step: float) -> bool:
        plan = schedule(ts, step)
        kept = kept_of(plan, key, tuple(keep.observe.values()), progress)
        other_key = named_key(key, "other steps")
        if len(plan.sizes) != 1:
            factor = np.clip(
                LARGEST_MERGED // max(plan.largest, LARGEST_MERGED / MERGED), 2, MERGED
            )
            both = Comparison(plan, int(factor))
            coarse, fine = kept_of(both.coarse, other_key, (), None), kept
        else:
            both = Comparison(refined(plan, MERGED), MERGED, of=plan)
            coarse, fine = kept, kept_of(both.fine, other_key, (), None)
        coarse, fine = (_moments(each, keep.states, both.saves) for each in (coarse, fine))
        error = separate_step_error(coarse, fine, both.ratio[:, None])
        found[:] = [(plan, kept, error)]
        return method.max_step is not None or is_traced(error) or error.hidden

    hidden_step(method.max_step or FIRST_STEP, is_hidden)
    plan, kept, error = found[0]
    if keep.states:
        xp = jnp if is_traced(kept.states) else np
        finite = xp.isfinite(kept.states)
    else:
        finite = kept.observed[0][..., 1] > 0
    observed = dict(zip(keep.observe, kept.observed[len(own) :], strict=True))
    return Followed(kept.states, observed, plan.largest, error.largest, outcome_of(finite))


def _overlap_and_finite(
    t: Float[Array, ""], tokens: Float[Array, "tokens width"]
) -> Float[Array, 2]:
    """The mean overlap, and 1 where all tokens are finite, else 0."""
    finite = jnp.isfinite(tokens).all()
    return jnp.stack([mean_overlap(tokens), finite.astype(tokens.dtype)])


def _moments(
    kept: Kept, states: bool, saves: Int[np.ndarray, " saves"]
) -> Float[AnyArray, "paths saves moments"]:
    """The mean overlap of every path and its square at these times."""
    mean = mean_overlap(kept.states[:, saves]) if states else kept.observed[0][:, saves, 0]
    return (jnp if is_traced(mean) else np).stack([mean, mean**2], axis=-1)
