"""Sharpness along training, and the rates at the edge of stability."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import equinox as eqx
import numpy as np
from jaxtyping import Float

from translimit.core import (
    AbstractSolution,
    NotEstimated,
    Numbers,
    Outcome,
    Times,
    reference,
    with_error,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class EdgeSolution(AbstractSolution):
    """How sharp the loss is while the limit trains.

    Attributes:
        ts: evaluations that were looked at.
        sharpness: Lambda = lambda_max((w J)^(1/2) K (w J)^(1/2)), with the tangent kernel K of
            all outputs, weights w and second derivative J of the loss; no rate is in it.
        stderr: its standard error over populations, 0 where nothing is sampled.
        discretisation: its error from the eigenvalue, from the step of branches, and from the
            cells of the depth ODE.
        rates: learning rates `eta0` at the edge there, 2 (1 + momentum) / Lambda in the
            convention of the problem, over the factor of its schedule.
        ratio: the problem's rate over that; above 1 it is beyond the edge.
        directions: errors of rows and outputs along which the loss is sharpest.
        outcome: `successful`, or `non_finite` where the pass ceased to be finite.
        samples: independent populations; 1 where none are sampled.
        products: with the tangent kernel, at most, at one time.
        momentum: of the heavy ball.
    """

    ts: Times
    sharpness: Float[np.ndarray, " times"]
    stderr: Float[np.ndarray, " times"]
    discretisation: Numbers | NotEstimated
    rates: Float[np.ndarray, " times"]
    ratio: Float[np.ndarray, " times"]
    directions: Float[np.ndarray, "times rows outputs"]
    outcome: Outcome
    samples: int = eqx.field(static=True)
    products: int = eqx.field(static=True)
    momentum: float = eqx.field(static=True)

    reference: ClassVar[str] = reference("bordelon2024")

    def summary(self) -> dict[str, str]:
        """What a person asks first: sharpness, the rate at the edge and how far it is."""
        errors = np.hypot(self.stderr, cast("np.ndarray", self.discretisation))
        at = int(np.nanargmax(self.ratio)) if np.isfinite(self.ratio).any() else 0
        words = {
            "sharpness": ", ".join(
                f"{with_error(float(value), float(error), '.4g', '.1g')} at {t:g}"
                for t, value, error in zip(self.ts, self.sharpness, errors, strict=True)
            ),
            "nearest to the edge": f"{self.ratio[at]:.3g} of it at {self.ts[at]:g}, where the "
            f"edge is at eta0 = {self.rates[at]:.4g}",
        }
        return super().summary() | words

    def _dataset(self) -> xarray.Dataset:
        """Sharpness, its errors, rates and directions as labelled arrays."""
        import xarray

        named = {
            "sharpness": (self.sharpness, "sharpness"),
            "stderr": (self.stderr, "standard error of the sharpness"),
            "error": (self.discretisation, "error of eigenvalue, step and cells"),
            "rates": (self.rates, "learning rate at the edge of stability"),
            "ratio": (self.ratio, "distance to the edge of stability"),
        }
        data = {
            name: (("time",), values, {"long_name": words, "units": "1"})
            for name, (values, words) in named.items()
        }
        dims = ("time", "row", "output")
        directions = (dims, self.directions, {"long_name": "sharpest direction", "units": "1"})
        time = ("time", np.asarray(self.ts), {"long_name": "evaluation", "units": "updates"})
        return xarray.Dataset(data | {"directions": directions}, coords={"time": time})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Learning rates at the edge of stability against updates, and the problem's."""
        from translimit.figures import LIMIT, bars, finish, new_axes

        ax = new_axes(ax)
        error = np.hypot(self.stderr, cast("np.ndarray", self.discretisation))
        relative = error / self.sharpness
        error = 2 * bars(relative * self.rates)
        ax.errorbar(self.ts, self.rates, error, marker="o", color=LIMIT, label="edge of stability")
        ax.plot(
            self.ts, self.rates * self.ratio, linestyle="--", color="0.3", label="learning rate"
        )
        return finish(ax, xlabel="updates", ylabel="learning rate $\\eta_0$")
