r"""Losses of networks: what a row of outputs pays.

yhat = (1 - smoothing) onehot + smoothing / outputs, d = abs(y - f), and

| loss | l(f, y), summed over outputs |
|---|---|
| `SquaredError` | (y - f)^2 / 2; labels become one-hot vectors |
| `Huber` | d^2 / 2 up to d = delta, then delta (d - delta / 2) |
| `Logistic` | log(1 + exp(-y f / T)), y = -1 or 1 |
| `CrossEntropy` | -sum yhat log softmax(f / T) |

A row is an example, or a token where every token has outputs. Labels of -1 have no target. The mean
is over rows with a target, unless rows have weights: then it is their weighted sum. Gradients are
those of automatic differentiation.

Reference: documentation, "Training transformers".
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArgumentTypeError,
    Bounds,
    brief,
    nearest,
    require_real,
)


@dataclass(frozen=True)
class AbstractLoss(abc.ABC):
    """A loss of rows; frozen and hashable, it compiles into the program."""

    @property
    def takes_labels(self) -> bool:
        """Whether targets may be integers."""
        return True

    @property
    def takes_vectors(self) -> bool:
        """Whether targets may be numbers, one for each output."""
        return True

    @abc.abstractmethod
    def rows(self, outputs: Array, targets: Array) -> Array:
        """What every row pays [*rows].

        Args:
            outputs: [*rows, outputs].
            targets: labels [*rows] or vectors [*rows, outputs].
        """

    def right(self, outputs: Array, targets: Array) -> Array:
        """Whether the largest output is that of the target [*rows]."""
        labels = targets
        if not jnp.issubdtype(targets.dtype, jnp.integer):
            labels = jnp.argmax(targets, axis=-1)
        return (jnp.argmax(outputs, axis=-1) == labels).astype(outputs.dtype)


@dataclass(frozen=True)
class SquaredError(AbstractLoss):
    """Half the squared distance from vectors, or from one-hot labels."""

    def rows(self, outputs: Array, targets: Array) -> Array:
        """See the base class."""
        return jnp.sum((_vectors(outputs, targets) - outputs) ** 2, axis=-1) / 2


@dataclass(frozen=True)
class Huber(AbstractLoss):
    """Squared up to a distance, then linear.

    Attributes:
        delta: the distance, in units of the outputs.

    Raises:
        ArgumentError: delta is not positive.
    """

    delta: float | int = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", require_real(self.delta, "delta", POSITIVE))

    def rows(self, outputs: Array, targets: Array) -> Array:
        """See the base class."""
        d = jnp.abs(_vectors(outputs, targets) - outputs)
        near = jnp.minimum(d, self.delta)
        return jnp.sum(near * (d - near / 2), axis=-1)


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
        value = require_real(self.temperature, "temperature", POSITIVE)
        object.__setattr__(self, "temperature", value)

    @property
    def takes_labels(self) -> bool:
        """No: signs are numbers."""
        return False

    def rows(self, outputs: Array, targets: Array) -> Array:
        """See the base class."""
        return jax.nn.softplus(-targets * outputs / self.temperature).sum(axis=-1)

    def right(self, outputs: Array, targets: Array) -> Array:
        """How many outputs have the sign of their target."""
        return jnp.mean((1 + jnp.sign(outputs) * targets) / 2, axis=-1)


@dataclass(frozen=True)
class CrossEntropy(AbstractLoss):
    """Cross-entropy of labels, in nats.

    Attributes:
        smoothing: this share of a target is spread over all outputs.
        temperature: divides the outputs.

    Raises:
        ArgumentError: smoothing outside [0, 1), temperature not positive.
    """

    smoothing: float | int = 0.0
    temperature: float | int = 1.0

    def __post_init__(self) -> None:
        for name, bound in (("smoothing", Bounds(0.0, 1.0, "[)")), ("temperature", POSITIVE)):
            object.__setattr__(self, name, require_real(getattr(self, name), name, bound))

    @property
    def takes_vectors(self) -> bool:
        """No."""
        return False

    def rows(self, outputs: Array, targets: Array) -> Array:
        """See the base class."""
        if self.temperature != 1:
            outputs = outputs / self.temperature
        own = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        if not self.smoothing:
            return own
        # Its mean over all outputs in the place of the target.
        spread = jax.nn.logsumexp(outputs, axis=-1) - outputs.mean(axis=-1)
        return (1 - self.smoothing) * own + self.smoothing * spread


#: A loss, or the name of one without choices.
Loss = AbstractLoss | Literal["cross_entropy", "mse"]
#: The losses that names mean.
NAMED: dict[str, AbstractLoss] = {"cross_entropy": CrossEntropy(), "mse": SquaredError()}


def row_loss(loss: Loss) -> AbstractLoss:
    """The loss itself, where a name may stand for it.

    Raises:
        ArgumentError: an unknown name.
        ArgumentTypeError: neither a loss nor a name.
    """
    if isinstance(loss, AbstractLoss):
        return loss
    if not isinstance(loss, str):
        raise ArgumentTypeError(
            "loss", f"got {brief(loss)}", "pass a train.AbstractLoss, or the name of one"
        )
    if loss not in NAMED:
        raise ArgumentError("loss", f"got {loss!r}", nearest(loss, NAMED))
    return NAMED[loss]


def mean_loss(
    loss: Loss, outputs: Array, targets: Array, weights: Float[Array, ...] | None = None
) -> Array:
    """The loss of a batch.

    Args:
        loss: a loss, or "cross_entropy" or "mse".
        outputs: [batch, outputs] or [batch, tokens, outputs].
        targets: labels without the last axis, or vectors with it.
        weights: of rows, whose sum is taken; by default the mean of all rows.

    Raises:
        ArgumentError: an unknown name.
    """
    rows = row_loss(loss).rows(outputs, targets)
    return rows.mean() if weights is None else jnp.sum(weights * rows)


def mean_over_targets(rows: Array, targets: Array) -> Array:
    """The mean of what rows have, over those with a target."""
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        return rows.mean()
    counted = targets >= 0
    return jnp.where(counted, rows, 0).sum() / jnp.maximum(counted.sum(), 1)


def _vectors(outputs: Array, targets: Array) -> Array:
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        return targets
    return jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
