r"""Losses of a training problem: what a row of outputs pays, and the error that it sends back.

A row f [outputs] with target y pays l(f, y), and the whole loss is the sum over rows of w l. The
pass needs no more of it than Delta = -w dl/df; the curvature J = d^2 l / df^2 tells stability.

| loss | l | -dl/df | J |
|---|---|---|---|
| squared | (y - f)^2 / 2 | y - f | 1 |
| Huber | d^2 / 2, linear beyond delta; d = y - f | clip(d, -delta, delta) | 1 where quadratic |
| logistic, y = -1, 1 | log(1 + exp(-y f / T)) | y s / T, s = sigmoid(-y f / T) | s (1 - s) / T^2 |
| cross-entropy | -sum yhat log p, p = softmax(f / T) | (yhat - p) / T | (diag p - p p) / T^2 |

The first three are summed over outputs. yhat = (1 - smoothing) onehot + smoothing / classes, on
the true class too.

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import POSITIVE, ArgumentError, Bounds, require_real


@dataclass(frozen=True)
class AbstractLoss(abc.ABC):
    """A loss of single rows; frozen and hashable, it compiles into the program."""

    @property
    def endless(self) -> bool:
        """Whether the loss of data that can be fitted has no minimum."""
        return False

    def columns(
        self, targets: Float[np.ndarray, "rows outputs"]
    ) -> Float[np.ndarray, "rows outputs"]:
        """What `error` and `value` compare outputs with.

        Raises:
            ArgumentError: targets that this loss has no use for.
        """
        return targets

    @abc.abstractmethod
    def value(
        self, f: Float[np.ndarray, "*more rows outputs"], y: Float[np.ndarray, "rows outputs"]
    ) -> Float[np.ndarray, "*more rows"]:
        """What every row pays."""

    @abc.abstractmethod
    def error(
        self, f: Float[Array, "rows outputs"], y: Float[Array, "rows outputs"]
    ) -> Float[Array, "rows outputs"]:
        """Minus the derivative of `value` by the outputs."""

    @abc.abstractmethod
    def curvature(
        self, f: Float[np.ndarray, "*more rows outputs"], y: Float[np.ndarray, "rows outputs"]
    ) -> Float[np.ndarray, "*more rows outputs"]:
        """Second derivative by each output."""


@dataclass(frozen=True)
class SquaredError(AbstractLoss):
    """Half the squared distance to real targets."""

    def value(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(y - f)^2 / 2, summed over outputs."""
        return np.sum((y - f) ** 2, axis=-1) / 2

    def error(self, f: Array, y: Array) -> Array:
        """The distance y - f."""
        return y - f

    def curvature(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """One."""
        return np.ones_like(f)


@dataclass(frozen=True)
class Huber(AbstractLoss):
    """Squared up to a distance, then linear: single targets far away pull no harder.

    Attributes:
        delta: the distance, in units of the outputs.

    Raises:
        ArgumentError: delta is not positive.
    """

    delta: float | int = 1.0

    def __post_init__(self) -> None:
        """Check the distance."""
        object.__setattr__(self, "delta", require_real(self.delta, "delta", POSITIVE))

    def value(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """d^2 / 2, or delta (|d| - delta / 2) beyond delta; summed over outputs."""
        d = np.abs(y - f)
        each = np.where(d <= self.delta, d**2 / 2, self.delta * (d - self.delta / 2))
        return np.sum(each, axis=-1)

    def error(self, f: Array, y: Array) -> Array:
        """The distance, clipped."""
        return jnp.clip(y - f, -self.delta, self.delta)

    def curvature(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """One where the loss is quadratic."""
        return (np.abs(y - f) <= self.delta).astype(np.float64)


@dataclass(frozen=True)
class Logistic(AbstractLoss):
    """Two classes, -1 and 1, for each output.

    Attributes:
        temperature: divides the outputs.

    Raises:
        ArgumentError: temperature is not positive.
    """

    temperature: float | int = 1.0

    def __post_init__(self) -> None:
        """Check the temperature."""
        value = require_real(self.temperature, "temperature", POSITIVE)
        object.__setattr__(self, "temperature", value)

    @property
    def endless(self) -> bool:
        """Outputs of separable data grow without end."""
        return True

    def columns(self, targets: np.ndarray) -> np.ndarray:
        """The signs."""
        if not np.all(np.abs(targets) == 1):
            raise ArgumentError("targets", "are not all -1 or 1", "pass the two classes as -1, 1")
        return targets

    def value(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """log(1 + exp(-y f / temperature)), summed over outputs."""
        return np.sum(np.logaddexp(0.0, -y * f / self.temperature), axis=-1)

    def error(self, f: Array, y: Array) -> Array:
        """The sign times the probability of the other class, over the temperature."""
        return y * jax.nn.sigmoid(-y * f / self.temperature) / self.temperature

    def curvature(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The product of both probabilities, over temperature^2."""
        half = np.cosh(np.clip(f / (2 * self.temperature), -350, 350))
        return 1 / (2 * self.temperature * half) ** 2


@dataclass(frozen=True)
class CrossEntropy(AbstractLoss):
    """Classes as integers from 0.

    Attributes:
        smoothing: of labels: this share of a target is spread over all classes.
        temperature: divides the outputs.

    Raises:
        ArgumentError: smoothing outside [0, 1), temperature not positive.
    """

    smoothing: float | int = 0.0
    temperature: float | int = 1.0

    def __post_init__(self) -> None:
        """Check both numbers."""
        for name, bound in (("smoothing", Bounds(0.0, 1.0, "[)")), ("temperature", POSITIVE)):
            object.__setattr__(self, name, require_real(getattr(self, name), name, bound))

    @property
    def endless(self) -> bool:
        """Outputs of separable data grow without end, unless labels are smoothed."""
        return self.smoothing == 0

    def columns(self, targets: np.ndarray) -> np.ndarray:
        """Smoothed one-hot rows; of nothing where there is no target."""
        spread = self.smoothing * targets.sum(axis=-1, keepdims=True) / targets.shape[-1]
        return (1 - self.smoothing) * targets + spread

    def value(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Minus the mean log-probability."""
        scaled = f / self.temperature
        scaled = scaled - scaled.max(axis=-1, keepdims=True)
        normaliser = np.log(np.sum(np.exp(scaled), axis=-1, keepdims=True))
        return -np.sum(y * (scaled - normaliser), axis=-1)

    def error(self, f: Array, y: Array) -> Array:
        """(yhat - p) / temperature."""
        return (y - jax.nn.softmax(f / self.temperature, axis=-1)) / self.temperature

    def curvature(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """That of equal outputs, 1 / (classes temperature^2) away from their common mode."""
        return np.full_like(f, 1 / (f.shape[-1] * self.temperature**2))
