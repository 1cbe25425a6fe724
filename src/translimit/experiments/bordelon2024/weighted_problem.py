r"""What training minimises and at which rates: the loss, weights of its rows, a schedule.

Networks of gradient descent take the schedule as a factor of their weights: a heavy ball gathers
updates that have been made, as in the limit. Adam does not see such a factor, and has it on its
rate.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

from translimit import data, limits, train
from translimit.core import ConfigError
from translimit.experiments.bordelon2024.particle_problem import ParticleProblem
from translimit.experiments.checked import Entries, Positive, Within

#: Numbers of inputs; or of inputs and tokens, or of steps and inputs; or of all three.
Weights = (
    tuple[float, ...] | tuple[tuple[float, ...], ...] | tuple[tuple[tuple[float, ...], ...], ...]
)
Factor = Annotated[float, Within(0, 1e12)]


@dataclass(frozen=True)
class WeightedProblem(ParticleProblem):
    """A problem, its loss with the weights of rows, and the course of its learning rate.

    Attributes:
        loss: "squared", "huber", "logistic" or "cross_entropy"; "" is cross-entropy for a
            language model, else squared.
        delta: of the Huber loss.
        temperature: of the logistic loss and of cross-entropy.
        smoothing: of labels under cross-entropy.
        weights: of rows in the loss: a number for each input, or a list of its tokens where these
            have outputs; or a list of such lists, one for each step (minibatches). Rows of weight
            0 are a test. [] for equal weights of all rows with a target, 1 in sum.
        schedule: factors of the learning rate, one for each step; [] where all are 1.
        lr_convention: "table" is the paper's printed table, where the others are lazy at small
            gamma0: "gamma0_squared" of gradient descent, "gamma0" of the others. "" is
            "gamma0_squared" for gradient descent, else "table".
    """

    loss: Literal["", "squared", "huber", "logistic", "cross_entropy"] = ""
    delta: Positive = 1.0
    temperature: Positive = 1.0
    smoothing: Annotated[float, Within(0, 1, below=True)] = 0.0
    weights: Weights = ()
    schedule: Annotated[tuple[Factor, ...], Entries(0)] = ()
    lr_convention: Literal["", "gamma0_squared", "gamma0", "table"] = ""

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.given_weights()
        if self.schedule and len(self.schedule) != self.steps:
            raise ConfigError(
                "schedule",
                f"has {len(self.schedule)} factors, and there are {self.steps} steps",
                "pass one for each step, or leave it out",
            )
        known = ("gamma0_squared", "table") if self.optimizer == "sgd" else ("gamma0", "table")
        if self.lr_convention not in ("", *known):
            raise ConfigError(
                "lr_convention",
                f"got {self.lr_convention!r} with optimizer {self.optimizer!r}",
                f"pass {' or '.join(known)}",
            )

    @property
    def chosen_loss(self) -> str:
        """The loss by its name."""
        return self.loss or "squared"

    @property
    def row_loss(self) -> limits.dmft.AbstractLoss:
        """What a row of outputs pays."""
        match self.chosen_loss:
            case "huber":
                return limits.dmft.Huber(self.delta)
            case "logistic":
                return limits.dmft.Logistic(self.temperature)
            case "cross_entropy":
                return limits.dmft.CrossEntropy(self.smoothing, self.temperature)
            case _:
                return limits.dmft.SquaredError()

    @property
    def network_loss(self) -> train.AbstractLoss:
        """What networks minimise: the same loss, of the trainer."""
        match self.chosen_loss:
            case "huber":
                return train.Huber(self.delta)
            case "logistic":
                return train.Logistic(self.temperature)
            case "cross_entropy":
                return train.CrossEntropy(self.smoothing, self.temperature)
            case _:
                return train.SquaredError()

    def given_weights(self) -> Float[np.ndarray, ...] | None:
        """Weights as they are given; None where they are not.

        Raises:
            ConfigError: lists of different lengths, negative numbers or such that are not finite.
        """
        if not self.weights:
            return None
        try:
            w = np.array(self.weights, dtype=np.float64)
        except ValueError:
            remedy = "pass lists of equal lengths"
            raise ConfigError("weights", "has lists of different lengths", remedy) from None
        if not w.size or not np.all((w >= 0) & (w <= 1e12)):
            raise ConfigError(
                "weights",
                "is empty" if not w.size else f"goes from {w.min():g} to {w.max():g}",
                "pass numbers from 0 to 1e12, or leave it out",
            )
        return w

    def require_weights(self, rows: tuple[int, ...]) -> None:
        """Refuse weights of other rows.

        Args:
            rows: how many there are, [inputs] or [inputs, tokens].

        Raises:
            ConfigError: they have another shape.
        """
        w = self.given_weights()
        if w is not None and w.shape not in (rows, (self.steps, *rows)):
            raise ConfigError(
                "weights",
                f"has shape {list(w.shape)}",
                f"pass {list(rows)}, or {[self.steps, *rows]} for weights of every step",
            )

    def row_weights(self) -> Float[np.ndarray, "steps inputs ..."] | None:
        """Weights of all steps, 0 where there is no target; None where none are given."""
        w = self.given_weights()
        if w is None:
            return None
        x, y = self.data()
        rows = self.rows_of(x, y)
        self.require_weights(rows)
        counted = y >= 0 if y.dtype.kind in "iu" else True
        return np.broadcast_to(w * counted, (self.steps, *rows)).copy()

    def source(self) -> data.AbstractSource:
        """What networks are trained on; under gradient descent the schedule is in the weights."""
        weights, shown = self.row_weights(), self.shown()
        if self.schedule and self.optimizer == "sgd":
            x, y = self.data()
            rows = self.rows_of(x, y)
            counted = y >= 0 if y.dtype.kind in "iu" else np.ones(rows)
            equal = np.broadcast_to(counted / np.sum(counted), (self.steps, *rows))
            weights = equal if weights is None else weights
            weights = weights * np.reshape(self.schedule, (-1, *(1,) * len(rows)))
        if weights is None:
            return data.FullBatch(*shown)
        return data.FullBatch(*shown, weights, by_step=True)

    @property
    def network_schedule(self) -> train.Schedule:
        """Of the rate of networks; that of gradient descent is in the weights."""
        if self.optimizer == "sgd" or not self.schedule:
            return train.Schedule()
        return train.Schedule(factors=self.schedule[: self.steps - 1])

    @property
    def network_rate(self) -> float:
        """eta_0 in the convention of the limit, which is that of networks."""
        if self.lr_convention == "table" and self.optimizer == "sgd":
            return self.eta0 / self.gamma0**2
        return self.eta0 * (self.gamma0 if self.lr_convention == "gamma0" else 1.0)

    @property
    def of_the_limit(self) -> dict[str, object]:
        """Arguments of `limits.dmft.TrainingDynamics`."""
        return {
            "weights": self.given_weights(),
            "schedule": self.schedule or None,
            "lr_convention": self.lr_convention or None,
        }
