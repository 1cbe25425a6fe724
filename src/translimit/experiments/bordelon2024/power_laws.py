"""Power laws over sizes: a figure with a panel for each coordinate, and the rivals of an exponent.

Reference: documentation, "Scaling rules", the coordinate check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import checks, figures
from translimit.core import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

C = TypeVar("C")
P = TypeVar("P")

#: What a one-sided claim of a difference must exclude.
NO_EFFECT = "no effect"


@dataclass(frozen=True)
class PowerLaw:
    """A positive quantity over sizes.

    Attributes:
        panel: where it is drawn.
        series: its name there.
        sizes: of the networks.
        rows: the quantity, a row for each size.
        expected: its exponent, drawn dashed; None where nothing is expected.
    """

    panel: str
    series: str
    sizes: Sequence[int]
    rows: Float[np.ndarray, "sizes replicates"]
    expected: float | None = None

    @property
    def exponent(self) -> Estimate:
        """Fitted for every replicate."""
        return checks.power_law_exponent(self.sizes, self.rows)


def power_law_figure(
    laws: Callable[[ex.Found[C]], Iterable[PowerLaw]],
    *,
    name: str,
    title: str,
    caption: str | Callable[[ex.Found[C]], str],
    xlabel: str,
    size: tuple[float, float],
    ylabel: str = "rms",
    across: int = 3,
    when: Callable[[C], bool] | None = None,
) -> ex.Figure[C]:
    """Means over replicates with bars, fitted exponents in the legends, expected ones dashed.

    Args:
        laws: of what was found, by panel.
        name: see `experiments.Figure`.
        title: one line.
        caption: see `experiments.Figure`.
        xlabel: of all panels.
        size: width and height in inches.
        ylabel: of all panels.
        across: panels of a row.
        when: whether a configuration has the figure.
    """

    def rows(found: ex.Found[C]) -> Iterator[figures.Row]:
        for law in found.once(laws):
            fit, expected = law.exponent, law.expected
            expected = float("nan") if expected is None else expected
            yield law.panel, law.series, fit.value, fit.stderr, expected

    def draw(canvas: Figure, table: figures.Table, found: ex.Found[C]) -> None:
        del table
        every = list(found.once(laws))
        panels = list(dict.fromkeys(law.panel for law in every))
        columns = min(across, len(panels))
        grid = canvas.subplots(-(-len(panels) // columns), columns, squeeze=False)
        for place, (ax, panel) in enumerate(zip(grid.flat, panels, strict=False)):
            for series, law in enumerate(one for one in every if one.panel == panel):
                figures.plot_power_law(
                    ax,
                    law.sizes,
                    law.rows,
                    law.exponent,
                    series=series,
                    label=law.series,
                    expected=law.expected,
                )
            label = xlabel if place + columns >= len(panels) else ""
            figures.finish(ax, xlabel=label, ylabel=ylabel, title=panel)
            figures.legend_below(ax)
        for ax in list(grid.flat)[len(panels) :]:
            ax.set_axis_off()

    return ex.Figure(
        name=name,
        title=title,
        caption=caption,
        columns=("panel", "series", "exponent", "stderr", "expected"),
        rows=rows,
        draw=draw,
        shown=lambda found, table: len(table.rows),
        size=size,
        when=when,
    )


def shifted(
    predicted: Callable[[ex.Found[C], P], float], *shifts: float
) -> tuple[ex.Rival[C, P], ...]:
    """Rivals of an exponent that are off by so much.

    Args:
        predicted: the exponent that is claimed.
        shifts: by how much.
    """

    def rival(shift: float) -> ex.Rival[C, P]:
        return ex.Rival(
            f"an exponent {'larger' if shift > 0 else 'smaller'} by {abs(shift):g}",
            prediction=lambda found, at: predicted(found, at) + shift,
        )

    return tuple(rival(shift) for shift in shifts)
