"""What one network of attention layers did to its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from jaxtyping import Float

from translimit.core import AbstractSimulation, AnyArray, Times, reference

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class TokenPath(AbstractSimulation):
    """Tokens at the layers kept.

    Attributes:
        ts: the depths l t1 / L of the layers kept [times].
        tokens: the tokens there [times, tokens, dim].
        samples: one network.
    """

    ts: Times
    tokens: Float[AnyArray, "times tokens dim"]

    reference: ClassVar[str] = reference("castin2025")

    def _dataset(self) -> xarray.Dataset:
        """The tokens."""
        import xarray

        axes, about = ("time", "token", "component"), {"long_name": "tokens", "units": "1"}
        depth = {"long_name": "depth", "units": "depth"}
        return xarray.Dataset(
            {"tokens": (axes, np.asarray(self.tokens), about)},
            coords={"time": ("time", np.asarray(self.ts), depth)},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Trajectories of the tokens in the first two components, from start (open) to end."""
        from translimit.figures import plot_trajectories

        return plot_trajectories(self._drawn(), ax)
