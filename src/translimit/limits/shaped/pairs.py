"""The error of the step of the covariance SDE: paths with two steps on the same noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.core import (
    AnyArray,
    Keep,
    Number,
    StepError,
    Times,
    coupled_step_error,
    hidden_step,
    is_traced,
)
from translimit.limits.shaped.paths import Ensemble, Paths

#: Times at which pairs of paths are compared.
CHECKPOINTS = 4
#: Pairs: one for so many paths, but at least so many, as far as there are paths.
PATHS_A_PAIR, LEAST_PAIRS = 8, 32
#: A step is halved so often for the sake of log det at most: that of many tokens asks for more,
#: where norms and correlations do not.
LOG_DET_HALVINGS = 3
#: Entries of covariances that pairs may hold.
_ENTRIES = 2**22


#: From paths to numbers, one or several for each path.
PathStatistic = Callable[[Paths], Float[AnyArray, "paths ..."]]


class Pairs(eqx.Module):
    """Paths with a step and with twice that step, on the same noise.

    Attributes:
        coarse: with the larger step.
        fine: with the smaller one.
        max_step: the largest step of the solve.
        ratio: that over the step of `fine`.
        paths: of the solve.
    """

    coarse: Paths
    fine: Paths
    max_step: Number
    ratio: Number
    paths: int = eqx.field(static=True)

    def times_unit(self, unit: float) -> Pairs:
        """The pairs of `unit` times these covariances."""
        coarse, fine = self.coarse.times_unit(unit), self.fine.times_unit(unit)
        return dataclasses.replace(self, coarse=coarse, fine=fine)

    def step_error(self, statistic: PathStatistic) -> StepError:
        """The error of the solve's step in the mean of a statistic [pairs, ...] of paths."""
        coarse, fine = statistic(self.coarse), statistic(self.fine)
        return coupled_step_error(coarse, fine, self.ratio, self.paths)

    @property
    def headline(self) -> StepError:
        """The error in the mean log det; in the mean correlations where no log det is finite."""
        error = self.step_error(log_det)
        if is_traced(error) or self.fine.cov.shape[-1] == 1 or np.isfinite(error.bias).any():
            return error
        return self.step_error(correlations)


def step_and_pairs(ensemble: Ensemble, ts: Times, keep: Keep) -> tuple[float, Pairs]:
    """The step to ask for, and the pairs that tell its error, of a solve that keeps so much.

    A step that is given is kept. Else the method's own is halved until its errors in log norms
    and correlations are not seen above the sampling error, and that in the mean log det is below
    it, lost in the noise of its estimate, or so large that `LOG_DET_HALVINGS` would not hide it.
    With traced numbers nothing can be decided, and the first step is kept.
    """
    method = ensemble.method
    first = method.first_max_step(ensemble.block, len(ensemble.initial))
    paths = method.paths
    few = max(paths // PATHS_A_PAIR, min(LEAST_PAIRS, paths))
    most = max(16, _ENTRIES // (len(ts) * len(ensemble.initial) ** 2))
    few, many = (max(2, min(count, most)) for count in (few, max(few, paths)))
    if method.max_step is not None or is_traced(ensemble, ts):
        return first, _pairs(ensemble, ts, first, few, keep)
    found: list[Pairs] = []

    def is_hidden(step: float) -> bool:
        # The fewer pairs, the more noise; more of them only where few leave the question open.
        for count in sorted({few, many}):
            pairs = _pairs(ensemble, ts, step, count, keep)
            found[:] = [pairs]
            if is_traced(pairs):  # inside somebody's jit, of numbers that are not traced
                return True
            if pairs.step_error(log_norms_and_correlations).visible:
                return False
            error = pairs.headline
            if error.hidden or error.exceeds(2.0**LOG_DET_HALVINGS * step / first):
                return True
        # Paths near an explosion part whatever the step: their noise falls with no step.
        return found[0].headline.lost

    return hidden_step(first, is_hidden), found[0]


def log_det(paths: Paths) -> Float[AnyArray, "paths times"]:
    """Log det [paths, times]; not finite where the covariance is singular or has exploded.

    Args:
        paths: of the covariance.
    """
    return paths.log_det


def log_norms_and_correlations(
    paths: Paths,
) -> Float[AnyArray, "paths times observables"]:
    """Log norms and correlations [paths, times, observables]; not finite after a blow-up.

    Args:
        paths: of the covariance.
    """
    xp = jnp if is_traced(paths) else np
    with np.errstate(divide="ignore", invalid="ignore"):
        norms = xp.log(xp.diagonal(paths.cov, axis1=-2, axis2=-1))
    return xp.concatenate([norms, correlations(paths)], axis=-1)


def correlations(paths: Paths) -> Float[AnyArray, "paths times pairs"]:
    """Correlations of any two tokens [paths, times, pairs of tokens].

    Args:
        paths: of the covariance.
    """
    xp = jnp if is_traced(paths) else np
    with np.errstate(divide="ignore", invalid="ignore"):
        root = xp.sqrt(xp.diagonal(paths.cov, axis1=-2, axis2=-1))
        rho = paths.cov / (root[..., :, None] * root[..., None, :])
    return rho[..., *np.triu_indices(rho.shape[-1], 1)]


def _pairs(ensemble: Ensemble, ts: Times, step: Number, count: int, keep: Keep) -> Pairs:
    """So many pairs for a solve that keeps these times, with steps of at most `step`."""
    end, saves, paths = ts[-1], len(ts), ensemble.method.paths
    traced = is_traced(ts)
    xp = jnp if traced else np
    gaps = xp.diff(ts, prepend=0.0)
    taken = xp.max(gaps / xp.maximum(xp.ceil(gaps / step * (1 - 1e-9)), 1.0))
    # Coarse steps in all, as many between any two times that are compared.
    checkpoints = min(saves, CHECKPOINTS)
    taken = xp.where(taken > 0, taken, step)  # nothing but the start is kept
    if not traced:
        checkpoints = max(1, min(checkpoints, int(end / (2 * taken) * (1 + 1e-9))))
    each = xp.maximum(xp.ceil(end / (2 * taken * checkpoints) * (1 - 1e-9)), 1.0)
    coarse = xp.where(end > 0, end / (checkpoints * each), step)
    times = end * np.arange(1, checkpoints + 1) / checkpoints
    if keep.states:
        # As many times as the solve keeps, so that both are one program: the first are all zero.
        times = xp.concatenate([np.zeros(saves - checkpoints), times])
    else:
        keep = Keep()  # the pairs are compared by their covariances
    both = (
        _last(ensemble.paths(count, times, size, parts, keep), checkpoints)
        for size, parts in ((coarse, 2), (coarse / 2, 1))
    )
    return Pairs(*both, max_step=taken, ratio=taken / (coarse / 2), paths=paths)


def _last(paths: Paths, checkpoints: int) -> Paths:
    """The paths at the last times."""
    cov, log_det = paths.cov[:, -checkpoints:], paths.log_det[:, -checkpoints:]
    return dataclasses.replace(paths, cov=cov, log_det=log_det, observed={})
