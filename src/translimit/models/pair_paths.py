"""What chains of sharp heads did to the overlap of two tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from jaxtyping import Float

from translimit.core import AbstractSimulation, Times, reference

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class PairPaths(AbstractSimulation):
    """Overlaps of two tokens, by replica.

    Attributes:
        ts: slow times tau / dim, as they were asked for [times].
        overlaps: of the two tokens, after the nearest whole layer [samples, times].
        samples: replicas.
    """

    ts: Times
    overlaps: Float[np.ndarray, "samples times"]

    reference: ClassVar[str] = reference("koubbi2026")

    def _dataset(self) -> xarray.Dataset:
        """The overlaps."""
        import xarray

        about = {"long_name": "overlap of two tokens", "units": "1"}
        time = {"long_name": r"slow time $\tau / d$", "units": "slow time"}
        return xarray.Dataset(
            {"overlap": (("sample", "time"), self.overlaps, about)},
            coords={"time": ("time", np.asarray(self.ts), time)},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The overlap of every replica, and the mean over replicas with its standard error."""
        from translimit.figures import plot_fan

        return plot_fan(self._drawn()["overlap"], ax)
