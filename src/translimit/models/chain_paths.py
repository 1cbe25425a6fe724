"""What chains of random heads did: tokens on the sphere at the layers kept, on all clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from jaxtyping import Float

from translimit.core import AbstractSimulation, AnyArray, Times, reference
from translimit.describe import Clocks
from translimit.observe import AbstractSpherePaths

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class ChainPaths(AbstractSpherePaths, AbstractSimulation):
    """Replicas of a chain at the layers kept.

    Attributes:
        ts: the layers kept [times].
        tokens: unit tokens [samples, times, tokens, width], width the dimension; from
            `simulate_overlaps` up to a rotation of every replica at every layer, in as many
            coordinates as they need.
        clocks: the layers kept on all four clocks, each [times].
        samples: replicas.
    """

    ts: Times
    tokens: Float[AnyArray, "samples times tokens width"]
    clocks: Clocks

    reference: ClassVar[str] = reference("koubbi2026")

    def _dataset(self) -> xarray.Dataset:
        """Overlaps by replica and layer, with the clocks."""
        import xarray

        clocks = {
            "time": (self.ts, "layer", "layers"),
            "paper_time": (self.clocks.paper_time, r"paper time $t = \ell \eta$", "paper time"),
            "diffusive_time": (
                self.clocks.diffusive_time,
                r"unit diffusive time $\tau$",
                "unit diffusive time",
            ),
            "slow_time": (self.clocks.slow_time, r"slow time $\tau / d$", "slow time"),
        }
        about = {"long_name": "overlap", "units": "1"}
        mean = {"long_name": "mean overlap of two tokens", "units": "1"}
        return xarray.Dataset(
            {
                "overlaps": (
                    ("sample", "time", "token", "token2"),
                    np.asarray(self.overlaps),
                    about,
                ),
                "mean_overlap": (("sample", "time"), np.asarray(self.mean_overlaps), mean),
            },
            coords={
                name: ("time", np.asarray(values), {"long_name": text, "units": units})
                for name, (values, text, units) in clocks.items()
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mean overlap of every replica, and the mean over replicas with its standard error."""
        from translimit.figures import plot_fan

        return plot_fan(self.to_xarray()["mean_overlap"], ax)
