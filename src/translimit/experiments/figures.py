"""Figures of an experiment: rows made from what was found, and layers over their columns.

The table and the picture come from the same rows; what layers cannot say is drawn freely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from translimit import figures
from translimit.experiments.parts import Found, Hole, fill

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from translimit.figures import Drawn, Row, Table

C = TypeVar("C")


@dataclass(frozen=True)
class FigureSpec:
    """One figure with its data, to be drawn.

    Attributes:
        name: a slug, unique within the experiment.
        title: one line.
        caption: what is drawn, with units and what the error bars are. `$...$` is mathematics.
        draw: fills an empty Matplotlib figure from stored data; it must not compute.
        table: the numbers that are drawn.
        shown: how many cases the figure shows.
        excluded: how many cases it leaves out, with the reason in the caption.
        size: width and height in inches.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Canvas], None]
    table: Table
    shown: int
    excluded: int = 0
    size: tuple[float, float] = (7.0, 4.2)


@dataclass(frozen=True, kw_only=True)
class Figure(figures.Layout, Generic[C]):
    """One declared figure; how it is laid out says `figures.Layout`.

    Attributes:
        name: a slug, unique within the experiment.
        title: one line.
        caption: what is drawn, with units and what the error bars are: a template with fields of
            the configuration in braces (double those of mathematics), or how it follows from what
            was found.
        columns: header of the table.
        rows: the table, from what was found.
        layers: what is drawn over it: layers of one pair of axes, or panels (`figures.panel`).
        draw: instead of layers: fills an empty Matplotlib figure from the table and what was
            found; it must not compute.
        shown: how many cases the figure shows; the number of its series in all panels by default.
        excluded: how many cases it leaves out, with the reason in the caption.
        size: width and height in inches.
        when: whether a configuration has the figure; every one by default.
    """

    name: str
    title: str
    caption: str | Callable[[Found[C]], str]
    columns: tuple[str, ...] | Callable[[C], tuple[str, ...]]
    rows: Callable[[Found[C]], Iterable[Row]]
    layers: tuple[Drawn, ...] | Callable[[C], tuple[Drawn, ...]] = ()
    draw: Callable[[Canvas, Table, Found[C]], None] | None = None
    shown: Callable[[Found[C], Table], int] | None = None
    excluded: Callable[[Found[C], Table], int] | None = None
    size: tuple[float, float] | Callable[[C], tuple[float, float]] = (7.0, 4.2)
    when: Callable[[C], bool] | None = None

    def spec(self, found: Found[C], holes: Sequence[Hole]) -> FigureSpec:
        """The figure of what was found, ready to be drawn.

        Args:
            found: the results.
            holes: what was not computed; the caption says so.
        """
        config, free = found.config, self.draw
        columns = self.columns(config) if callable(self.columns) else self.columns
        layers = self.layers(config) if callable(self.layers) else self.layers
        table = figures.Table(columns, tuple(self.rows(found)))
        caption = self.caption(found) if callable(self.caption) else fill(self.caption, config)
        for hole in holes:
            caption += f" Not computed: {hole.cell}, {hole.reason}."

        def draw(canvas: Canvas) -> None:
            if free is not None:
                free(canvas, table, found)
            else:
                charts = self.charts(table, layers, self.title)
                figures.draw_charts(charts, canvas, columns=self.across)

        return FigureSpec(
            name=self.name,
            title=self.title,
            caption=caption,
            draw=draw,
            table=table,
            shown=self.shown(found, table) if self.shown else self.series(table, layers),
            excluded=(self.excluded(found, table) if self.excluded else 0) + len(holes),
            size=self.size(config) if callable(self.size) else self.size,
        )
