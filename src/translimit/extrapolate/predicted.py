"""A loss curve at a size that was not trained, with its two errors and its range; the backtest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit.core import Estimate

if TYPE_CHECKING:
    import xarray

#: Errors that the printed range holds.
ERRORS = 2.0
#: Errors of the backtest up to which a value is given, and within which a power is good.
LARGEST_Z, GOOD_Z = 3.0, 2.0


@dataclass(frozen=True)
class Backtest:
    """The largest size, predicted from the others.

    Attributes:
        size: what was held out, by axis.
        powers: of 1/n.
        value: predicted log loss.
        error: of the prediction and of the measurement together.
        measured: mean log loss.
        measured_error: of the mean.
    """

    size: Float[np.ndarray, " axes"]
    powers: tuple[float, ...]
    value: Float[np.ndarray, "powers steps"]
    error: Float[np.ndarray, "powers steps"]
    measured: Float[np.ndarray, " steps"]
    measured_error: Float[np.ndarray, " steps"]

    @property
    def z(self) -> Float[np.ndarray, "powers steps"]:
        """Predicted minus measured in errors."""
        away = self.value - self.measured
        return np.divide(away, self.error, out=np.zeros_like(away), where=self.error > 0)

    @property
    def passes(self) -> bool:
        """Whether some power predicts the last step within three errors."""
        return bool(np.min(abs(self.z[:, -1])) <= LARGEST_Z)

    @property
    def kept(self) -> tuple[float, ...]:
        """The powers that the last step leaves: all, unless one is good and another misses."""
        z = abs(self.z[:, -1])
        if not np.any(z <= GOOD_Z):
            return self.powers
        return tuple(p for p, one in zip(self.powers, z, strict=True) if one <= LARGEST_Z)

    @property
    def told_z(self) -> str:
        """The errors of the last step in words."""
        return " and ".join(f"{one:.1f}" for one in abs(self.z[:, -1]))


@dataclass(frozen=True)
class Predicted:
    """A loss curve at a size.

    Attributes:
        sizes: by axis; infinite ones among them.
        steps: numbers of updates.
        powers: of 1/n; the first is the one whose value is told.
        log_loss: mean over seeds.
        error: one standard error in all.
        seed_error: the part of it that comes from the seeds.
        largest: mean log loss of the largest size that was trained.
        seeds: behind it.
    """

    sizes: Mapping[str, float]
    steps: Float[np.ndarray, " steps"]
    powers: tuple[float, ...]
    log_loss: Float[np.ndarray, "powers steps"]
    error: Float[np.ndarray, "powers steps"]
    seed_error: Float[np.ndarray, "powers steps"]
    largest: Float[np.ndarray, " steps"]
    seeds: int

    @property
    def misspecification(self) -> Float[np.ndarray, "powers steps"]:
        """The part of the error that comes from not knowing the series."""
        return np.sqrt(np.maximum(self.error**2 - self.seed_error**2, 0.0))

    @property
    def loss(self) -> Float[np.ndarray, " steps"]:
        """The loss by the first power: the exponential of the mean log loss."""
        return np.exp(self.log_loss[0])

    @property
    def low(self) -> Float[np.ndarray, " steps"]:
        """The lower end of the range: two errors below, by the power that gives least."""
        return np.exp((self.log_loss - ERRORS * self.error).min(axis=0))

    @property
    def high(self) -> Float[np.ndarray, " steps"]:
        """The upper end of the range."""
        return np.exp((self.log_loss + ERRORS * self.error).max(axis=0))

    @property
    def resolved(self) -> bool:
        """Whether the last step differs by two errors from the largest size, by every power."""
        away = abs(self.log_loss[:, -1] - self.largest[-1])
        return bool(np.all(away >= ERRORS * self.error[:, -1]))

    def estimate(self) -> Estimate:
        """The log loss after the last step by the first power.

        Misspecification stands in the place of the discretisation.
        """
        return Estimate(
            float(self.log_loss[0, -1]),
            float(self.seed_error[0, -1]),
            self.seeds,
            float(self.misspecification[0, -1]),
        )

    def named(self) -> str:
        """The sizes in words."""
        return ", ".join(
            f"{axis} = {'∞' if math.isinf(size) else f'{size:g}'}"
            for axis, size in self.sizes.items()
        )

    def to_xarray(self) -> xarray.Dataset:
        """Log loss with its errors by power and step, the loss and its range by step."""
        import xarray

        both = ("power", "step")
        return xarray.Dataset(
            {
                "log_loss": (both, self.log_loss, {"long_name": "mean log loss"}),
                "error": (both, self.error),
                "seed_error": (both, self.seed_error),
                "misspecification": (both, self.misspecification),
                "predicted_loss": ("step", self.loss),
                "low": ("step", self.low),
                "high": ("step", self.high),
            },
            {"power": list(self.powers), "step": self.steps},
            {f"target_{axis}": size for axis, size in self.sizes.items()},
        )
