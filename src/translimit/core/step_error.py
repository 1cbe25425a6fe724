r"""What the steps of a stochastic solve do to means, and a default step that nobody can see.

A scheme of weak order one moves the mean of an observable by c h. Two ensembles of paths, with
step h and with a coarser one, tell c: on the same noise path by path, else with the noise of both.
A default step is halved until its error lies below the sampling error of the paths; a step that is
given is kept.

Reference: Kloeden and Platen, Numerical Solution of Stochastic Differential Equations, 1992
(weak order); Giles, Oper. Res. 56, 2008 (coupled noise).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core.types import Number, Numbers

#: A default step is halved at most so often.
HALVINGS = 6
#: What rounding may do to a mean in single precision: an observable that does not vary from path
#: to path has no sampling error to hide it.
ROUNDING = 1e-6


class StepError(eqx.Module):
    """Errors of means [...], one entry for each observable and time; NaN below two paths.

    Attributes:
        bias: size of the step's error, as estimated.
        noise: standard error of that estimate.
        sampling: standard error of the mean over the paths of the solve.
    """

    bias: Numbers
    noise: Numbers
    sampling: Numbers

    @property
    def hidden(self) -> bool:
        """Whether every error, its noise added, lies below the sampling error."""
        bias, noise, sampling = self._numbers()
        return not bool(np.any(bias + noise > sampling + ROUNDING))

    @property
    def visible(self) -> bool:
        """Whether an error lies above the sampling error by twice its noise."""
        return self.exceeds(1.0)

    def exceeds(self, factor: float) -> bool:
        """Whether an error lies above so many sampling errors by twice its noise.

        Args:
            factor: of the sampling error.
        """
        bias, noise, sampling = self._numbers()
        return bool(np.any(bias - 2 * noise > factor * sampling + ROUNDING))

    @property
    def lost(self) -> bool:
        """Whether every error is hidden, or less than twice its noise and so not told from it."""
        bias, noise, sampling = self._numbers()
        return not bool(np.any(bias > np.maximum(sampling - noise, 2 * noise) + ROUNDING))

    def _numbers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.asarray(self.bias), np.asarray(self.noise), np.asarray(self.sampling)

    @property
    def largest(self) -> Number:
        """The largest of all errors, each with its noise added; NaN where none is a number."""
        size: Any = self.bias + self.noise
        xp = _module(size)
        if size.size == 0:
            return 0.0
        there = xp.isfinite(size)
        largest = xp.where(xp.any(there), xp.max(xp.where(there, size, 0.0)), xp.nan)
        return float(largest) if xp is np else largest


def coupled_step_error(
    coarse: Float[Array | np.ndarray, "pairs ..."],
    fine: Float[Array | np.ndarray, "pairs ..."],
    ratio: Numbers,
    paths: int,
) -> StepError:
    """The error of the step of `fine`, from paths with a coarser step on the same noise.

    Args:
        coarse: an observable [pairs, ...]; the mean is that of the values that are finite.
        fine: the same on the same noise with the finer step [pairs, ...].
        ratio: error of the step that is asked for over the difference of the two errors; 1 for
            the step of `fine` where the coarse step is twice as large.
        paths: of the solve, for its sampling error.
    """
    one, other = _centred(coarse), _centred(fine)
    count = coarse.shape[0]
    noise = _deviation(one[1] - other[1]) / count**0.5
    sampling = _deviation(other[1]) / paths**0.5
    return StepError(abs(one[0] - other[0]) * ratio, noise * ratio, sampling)


def separate_step_error(
    coarse: Float[Array | np.ndarray, "others ..."],
    fine: Float[Array | np.ndarray, "paths ..."],
    ratio: Numbers,
) -> StepError:
    """The error of the step of `fine`, the paths of the solve, from others with a coarser step.

    Args:
        coarse: an observable [other paths, ...].
        fine: the same of the paths of the solve [paths, ...].
        ratio: as for `coupled_step_error`.
    """
    (one, one_change), (other, other_change) = _centred(coarse), _centred(fine)
    one_error = _deviation(one_change) / coarse.shape[0] ** 0.5
    sampling = _deviation(other_change) / fine.shape[0] ** 0.5
    noise = (one_error**2 + sampling**2) ** 0.5
    return StepError(abs(one - other) * ratio, noise * ratio, sampling)


def hidden_step(first: float, is_hidden: Callable[[float], bool]) -> float:
    """The first of the steps first, first / 2, ... whose error is hidden; at last the smallest.

    Args:
        first: the largest step to try.
        is_hidden: whether nobody sees the error of a step.
    """
    step = first
    for _ in range(HALVINGS):
        if is_hidden(step):
            return step
        step = step / 2
    is_hidden(step)
    return step


def _centred(values: Any) -> tuple[Any, Any]:
    """The mean of the finite values over the leading axis, and what each of all does to it.

    The mean is a ratio, whose error is that of (value - mean) / (fraction that is finite), and zero
    for a value that is not finite.
    """
    xp = _module(values)
    counted = xp.isfinite(values)
    count = xp.sum(counted, axis=0)
    some = xp.where(count > 1, count, 1)
    mean = xp.where(count > 1, xp.sum(xp.where(counted, values, 0.0), axis=0) / some, xp.nan)
    change = xp.where(counted, values - xp.where(count > 1, mean, 0.0), 0.0)
    return mean, change * values.shape[0] / some


def _deviation(changes: Any) -> Any:
    """Standard deviation over the leading axis of numbers of mean zero."""
    xp = _module(changes)
    count = max(changes.shape[0] - 1, 1)
    return (xp.sum(changes**2, axis=0) / count) ** 0.5


def _module(*values: Any) -> Any:
    """NumPy for arrays of NumPy, else JAX's."""
    return jnp if any(isinstance(value, jax.Array) for value in values) else np
