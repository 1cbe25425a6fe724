"""An extrapolation as a person meets it: what it answers, printed, drawn, and as plain data.

Reference: documentation, "From small runs to the infinite network".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from translimit.core import JsonObject, small_picture
from translimit.extrapolate.collapsing import Collapse, collapse
from translimit.extrapolate.drawing import plot_extrapolation
from translimit.extrapolate.fitted import Fitted
from translimit.extrapolate.optima import Optimum, optimum
from translimit.extrapolate.page import as_html, as_json, as_text
from translimit.extrapolate.shapes import Coefficients, Shapes, best_shapes, coefficients_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray
    from matplotlib.axes import Axes

    from translimit.extrapolate.predicted import Predicted


@dataclass(frozen=True)
class Extrapolation(Fitted):
    """What runs at a few sizes say about others; `Fitted` tells its fields.

    Printed it is the backtest and the infinite network, in a notebook a table as well.
    """

    def optimum(self, **sizes: int | float) -> Optimum:
        """The best learning rate at infinite size, and what two rates cost at a size.

        Args:
            **sizes: the size, as in `layers=64`; infinite by default.

        Raises:
            DataError: several axes, fewer than three rates, or an optimum at an edge of the grid.
        """
        return optimum(self.runs, self.axes, **sizes)

    @property
    def coefficients(self) -> Coefficients:
        """What every axis costs: the excess of its smallest size, times that size."""
        return coefficients_of(self)

    def shape(
        self,
        *,
        parameters: float | int | None = None,
        flops: float | int | None = None,
        tokens: float | int | None = None,
        mlp_ratio: float | int = 4.0,
        gated: bool = False,
    ) -> Shapes:
        """The best head dimension, heads and layers of a budget, at the steps of the runs.

        Args:
            parameters: of the blocks.
            flops: of training, 6 a parameter and token; needs `tokens`.
            tokens: that all runs see.
            mlp_ratio: hidden units over width.
            gated: whether the MLP has a gate.

        Raises:
            ArgumentError: not exactly one budget.
            DataError: other axes, or an axis that does not limit the loss.
        """
        return best_shapes(self, parameters, flops, tokens, mlp_ratio, gated)

    def collapse(self, floor: float | int = 0.0) -> Collapse:
        """Whether loss curves of all sizes are one curve up to scale.

        Args:
            floor: irreducible loss, which is subtracted.

        Raises:
            DataError: fewer than three steps, or a loss below the floor.
        """
        return collapse(self.curves, floor)

    def to_xarray(self) -> xarray.Dataset:
        """Losses of the runs, and the infinite curve with its errors."""
        return self.curves.to_xarray().merge(self.infinite.to_xarray())

    def plot(self, ax: Axes | None = None, **sizes: int | float) -> Axes:
        """Mean curves of the runs, and the band at a size.

        Args:
            ax: where to draw; a new figure by default.
            **sizes: the size; infinite by default.
        """
        return plot_extrapolation(self, self.at(sizes) if sizes else self.infinite, ax)

    def _repr_html_(self) -> str:
        if not self.backtest.passes:  # there is no value to draw
            return as_html(self)
        return as_html(self) + small_picture(self.plot().figure, "curves of the runs")

    def __str__(self) -> str:
        return as_text(self)

    def text(self, targets: Sequence[Predicted]) -> str:
        """The answer for a terminal.

        Args:
            targets: sizes that were asked for; none where the backtest fails.
        """
        return as_text(self, targets)

    def to_json(self, targets: Sequence[Predicted]) -> JsonObject:
        """The answer as plain data.

        Args:
            targets: see `text`.
        """
        return as_json(self, targets)
