"""What an ensemble leaves behind: losses of all steps, observations, divergences, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from translimit.core import ArgumentError, nearest

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class History:
    """The record of an ensemble.

    Attributes:
        rates: base learning rates.
        losses: minibatch loss before every update [seeds, rates, steps]; NaN once a member has
            diverged.
        diverged_at: the first step whose loss was not finite, -1 where all were [seeds, rates].
        observed_at: numbers of updates after which was observed.
        observations: by name, [observations, seeds, rates, ...].
        dims: names of the further axes of the observations.
        parameters: of the end, by name [seeds, rates, ...].
    """

    rates: tuple[float, ...]
    losses: Float[np.ndarray, "seeds rates steps"]
    diverged_at: Int[np.ndarray, "seeds rates"]
    observed_at: tuple[int, ...] = ()
    observations: Mapping[str, np.ndarray] = field(default_factory=dict)
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        """An observation by name.

        Raises:
            ArgumentError: it was not recorded.
        """
        if name not in self.observations:
            raise ArgumentError("name", f"{name!r} was not recorded", nearest(name, self.dims))
        return self.observations[name]

    @property
    def diverged(self) -> np.ndarray:
        """Which members diverged [seeds, rates]."""
        return self.diverged_at >= 0

    def describe_divergence(self) -> str:
        """A sentence for each member that diverged; empty where none did."""
        return " ".join(
            f"Seed {seed} at rate {self.rates[rate]:g} diverged at step "
            f"{self.diverged_at[seed, rate]}."
            for seed, rate in np.argwhere(self.diverged)
        )

    def to_xarray(self) -> xr.Dataset:
        """Losses, divergences and observations, labelled."""
        import xarray as xr

        seeds, _, steps = self.losses.shape
        outer = ("observation", "seed", "rate")
        variables: dict[str, Any] = {
            "loss": (("seed", "rate", "step"), self.losses, {"long_name": "minibatch loss"}),
            "diverged_at": (("seed", "rate"), self.diverged_at),
        }
        for name, value in self.observations.items():
            axes = self.dims[name]
            variables[name] = ((*outer, *axes), value)
        coords = {
            "rate": list(self.rates),
            "seed": np.arange(seeds),
            "step": np.arange(steps),
            "updates": ("observation", np.array(self.observed_at, dtype=int)),
        }
        return xr.Dataset(variables, coords=coords)


def time_kernel(history: History) -> Float[np.ndarray, "seeds rates levels rows rows"]:
    """<h_a(t) h_b(t')> of the pooled stream over all observations, rows ordered by time.

    Args:
        history: of an ensemble that observed `PooledStream`.

    Raises:
        ArgumentError: it did not.
    """
    stream = history["pooled_stream"].astype(np.float64)
    rows = np.moveaxis(stream, 0, 3)  # seeds, rates, levels, times, samples, coordinates
    rows = rows.reshape(*rows.shape[:3], -1, rows.shape[-1])
    return np.einsum("...ad,...bd->...ab", rows, rows) / rows.shape[-1]
