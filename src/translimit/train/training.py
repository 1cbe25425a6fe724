r"""What a training run is: optimiser, rates, seeds, steps, batches, loss, schedule, precision.

With `centred` the loss is that of f(t) - f(0), where f(0) is the same network at its start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from translimit.checks import schedule_factor
from translimit.core import (
    NOT_NEGATIVE,
    POSITIVE,
    ArgumentError,
    Bounds,
    Record,
    brief,
    nearest,
    require_count,
    require_flag,
    require_real,
)
from translimit.train.losses import AbstractLoss, Loss, row_loss
from translimit.train.optimizers import Optimizer

T = TypeVar("T")
#: What a schedule may do after its warm-up.
DECAYS = ("constant", "cosine", "linear", "wsd")


@dataclass(frozen=True)
class Schedule:
    """A factor of the rate at every step; ratios between roles stay as they are.

    Attributes:
        warmup: steps of linear growth from 1 / warmup to 1.
        decay: "constant", "cosine", "linear" or "wsd" (stable, then linear in the last quarter)
            afterwards.
        final: the factor at the last step; what wsd decays to.
        factors: of every step instead, as many as there are steps; none by default.

    Raises:
        ArgumentError: an unknown decay, `final` outside [0, 1], factors below 0 or beside a decay
            or warm-up.
    """

    warmup: int = 0
    decay: Literal["constant", "cosine", "linear", "wsd"] = "constant"
    final: float = 0.0
    factors: tuple[float, ...] = ()

    def __post_init__(self):
        require_count(self.warmup, "warmup", 0)
        if self.decay not in DECAYS:
            raise ArgumentError("decay", f"got {self.decay!r}", nearest(str(self.decay), DECAYS))
        require_real(self.final, "final", Bounds(0.0, 1.0))
        factors = tuple(require_real(one, "factors", NOT_NEGATIVE) for one in self.factors)
        object.__setattr__(self, "factors", factors)
        if factors and (self.warmup or self.decay != "constant"):
            raise ArgumentError(
                "factors",
                f"are given beside a warm-up of {self.warmup} steps and {self.decay!r} decay",
                "pass the factors of all steps alone, or warmup and decay alone",
            )

    @property
    def constant(self) -> bool:
        """Whether the rate after the warm-up does not depend on how many steps there are."""
        return self.decay == "constant" and not self.factors

    def factor(self, step: int, steps: int) -> float:
        """The factor of one step, counted from 0."""
        if self.factors:
            return self.factors[step]
        if step < self.warmup:
            return (step + 1) / self.warmup
        shape = schedule_factor(self.decay, step - self.warmup, steps - self.warmup)
        return 1.0 if self.decay == "constant" else self.final + (1 - self.final) * shape


@dataclass(frozen=True)
class Training(Record):
    """The training of an ensemble: every seed at every rate.

    Attributes:
        steps: updates.
        rates: base learning rates, one member of the ensemble each.
        seeds: independent starts and batch orders, each with every rate.
        batch: examples of an update.
        optimizer: at the base.
        loss: "cross_entropy" or "mse", or a loss with choices: `CrossEntropy`, `SquaredError`,
            `Huber`, `Logistic`.
        schedule: of the rate.
        accumulate: parts into which a batch is cut, one gradient at a time; a divisor of `batch`.
        precision: "float32" or "float64" of weights and activations; with "bfloat16" weights,
            the optimiser's moments and losses stay in float32, and products, activations and the
            stream are bfloat16 (statistics of norms and the softmax are float32).
        centred: whether outputs of the start are subtracted from all outputs, inputs by inputs.

    Raises:
        ArgumentTypeError: a count that is no integer, a rate that is no number.
        ArgumentError: counts below 1, no rate or one that is not positive, `accumulate` that does
            not divide `batch`, factors of another number of steps, an unknown loss or precision.
    """

    steps: int
    rates: tuple[float, ...]
    seeds: int = 1
    batch: int = 32
    optimizer: Optimizer = field(default_factory=Optimizer)
    loss: Loss = "cross_entropy"
    schedule: Schedule = field(default_factory=Schedule)
    accumulate: int = 1
    precision: Literal["bfloat16", "float32", "float64"] = "float32"
    centred: bool = False

    def __post_init__(self):
        for name, least in (("steps", 0), ("seeds", 1), ("batch", 1), ("accumulate", 1)):
            object.__setattr__(self, name, require_count(getattr(self, name), name, least))
        if not isinstance(self.rates, tuple) or not self.rates:
            raise ArgumentError("rates", f"got {brief(self.rates)}", "pass a tuple of rates")
        rates = tuple(require_real(rate, "rates", POSITIVE) for rate in self.rates)
        object.__setattr__(self, "rates", rates)
        if self.batch % self.accumulate:
            raise ArgumentError(
                "accumulate",
                f"got {self.accumulate} parts of {self.batch}",
                f"pass a divisor of {self.batch}",
            )
        if self.schedule.factors and len(self.schedule.factors) != self.steps:
            raise ArgumentError(
                "schedule",
                f"has factors of {len(self.schedule.factors)} steps, and there are {self.steps}",
                "pass a factor for each step",
            )
        row_loss(self.loss)
        object.__setattr__(self, "centred", require_flag(self.centred, "centred"))
        if self.precision not in ("bfloat16", "float32", "float64"):
            raise ArgumentError(
                "precision", f"got {self.precision!r}", "pass bfloat16, float32 or float64"
            )

    @property
    def row_loss(self) -> AbstractLoss:
        """The loss itself, where it has a name."""
        return row_loss(self.loss)

    @property
    def kept_in(self) -> Literal["float32", "float64"]:
        """The type of weights, moments and losses."""
        return "float64" if self.precision == "float64" else "float32"

    def narrowed(self, arrays: T) -> T:
        """Weights and inputs as the network takes them."""
        if self.precision != "bfloat16":
            return arrays

        def narrow(array: Array) -> Array:
            wide = jnp.issubdtype(array.dtype, jnp.floating)
            return array.astype(jnp.bfloat16) if wide else array

        return jax.tree.map(narrow, arrays)
