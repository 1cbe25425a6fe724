r"""What shaped networks did to the covariance of their tokens, layer by layer.

A network of depth L and width n is compared with the covariance SDE at the times t = layers / n, so
that its covariances carry the times, and the face, of a solution of that equation.

Reference: Noci et al., arXiv 2306.17759.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jaxtyping import Float

from translimit.core import AbstractSolution, AnyArray, NotEstimated, Outcome, Times

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class NetworkCovariances(AbstractSolution):
    """Covariances of the tokens of independent networks along depth.

    Attributes:
        ts: the layers kept, over the width [times]; the first is the input's.
        cov: V = X X^T / n of every network [samples, times, tokens, tokens]; frozen after a stop.
        outcome: `successful`, as a finite network always is.
    """

    ts: Times
    cov: Float[AnyArray, "samples times tokens tokens"]
    outcome: Outcome
    reference: ClassVar[str] = "Noci et al., arXiv 2306.17759"

    @property
    def samples(self) -> int:
        """The networks, each with weights of its own."""
        return self.cov.shape[0]

    @property
    def discretisation(self) -> NotEstimated:
        """There is none: layers are what they are."""
        return NotEstimated("a network has no steps but its layers")

    def _dataset(self) -> xarray.Dataset:
        """The covariances."""
        import xarray

        cov = {"long_name": "covariance of the tokens", "units": "1"}
        time = {"long_name": "depth over width", "units": "layers / dim"}
        return xarray.Dataset(
            {"cov": (("sample", "time", "token", "token2"), np.asarray(self.cov), cov)},
            coords={"time": ("time", np.asarray(self.ts), time)},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Median and bands of the correlation of the first two tokens along depth."""
        from translimit.figures import plot_correlation_bands

        return plot_correlation_bands(self.to_xarray(), ax, sample="networks")
