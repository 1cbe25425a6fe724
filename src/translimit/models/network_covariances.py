r"""What shaped networks did to the covariance of their tokens, layer by layer.

A network of depth L and width n is compared with the covariance SDE at the times t = layers / n, so
that its covariances carry the times, and the face, of a solution of that equation.

Reference: Noci et al., arXiv 2306.17759.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Float

from translimit.core import (
    AbstractSolution,
    AnyArray,
    NotEstimated,
    Numbers,
    Outcome,
    Times,
    reference,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class NetworkCovariances(AbstractSolution):
    """Covariances of the tokens of independent networks along depth.

    Attributes:
        ts: the layers kept, over the width [times]; the first is the input's.
        cov: V = X X^T / n of every network [samples, times, tokens, tokens]; frozen after a stop.
        outcome: `successful`, as a finite network always is.
        samples: the networks, each with weights of its own.
        discretisation: there is none.
    """

    ts: Times
    cov: Float[AnyArray, "samples times tokens tokens"]
    outcome: Outcome
    samples: int = eqx.field(static=True)
    discretisation: Numbers | NotEstimated = eqx.field(
        kw_only=True, static=True, default=NotEstimated("a network has no steps but its layers")
    )
    reference: ClassVar[str] = reference("noci2023")

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
