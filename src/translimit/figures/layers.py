"""Tables drawn by layers: points with errors, lines, bands, histograms, images, levels.

A column of the table splits its rows into series, another into panels; series keep their colour,
shape and dash in all layers and panels. Panels that show other columns are named one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypedDict, Unpack, cast

import numpy as np

from translimit.figures.chart import (
    COLOURS,
    INK,
    PATTERNS,
    SHAPES,
    Band,
    Chart,
    ChartAxis,
    Image,
    Level,
    Line,
    Mark,
    Points,
    Steps,
)
from translimit.figures.table import Plain, Table, Where


@dataclass(frozen=True)
class Layer:
    """How some rows are drawn; made by `points`, `line`, `band`, `steps`, `image` and `level`.

    Attributes:
        kind: which mark.
        y: column of the ordinates (of the shades of an image), or a number of a level.
        x: column of the abscissae; that of the figure by default.
        by: column that tells the series; that of the figure by default, "" for a single series.
        label: in the legend: `{}` stands for the value of `by`; nothing by default for layers
            after the first of a series.
        error: column of the half lengths of bars, or of the upper line of a band.
        where: which rows are drawn.
        series: which colour, shape and dash a single series has; None for those of a limit.
        dash: of lines, instead of the series' own.
        joined: whether a line joins points; whether points lie along a line.
        vertical: whether a level stands upright.
        opacity: of bands and lines.
        limits: lowest and highest shade of an image.
        left: whether the abscissae of a histogram are left edges of its bins, not their centres.
    """

    kind: Literal["points", "line", "band", "steps", "image", "level"]
    y: str | float
    x: str = ""
    by: str | None = None
    label: str = "{}"
    error: str = ""
    where: Where = field(default_factory=dict)
    series: int | None = 0
    dash: str | None = None
    joined: bool = False
    vertical: bool = False
    opacity: float | None = None
    limits: tuple[float | None, float | None] = (None, None)
    left: bool = False


class Options(TypedDict, total=False):
    """What a layer may say besides its columns; see `Layer`."""

    x: str
    by: str | None
    label: str
    where: Where
    series: int | None
    dash: str | None
    joined: bool
    vertical: bool
    opacity: float | None
    limits: tuple[float | None, float | None]
    left: bool


def points(y: str, error: str = "", **options: Unpack[Options]) -> Layer:
    """Points, with bars where there is a column of errors (finite systems).

    Args:
        y: column of the ordinates.
        error: column of the standard errors.
        options: see `Layer`.
    """
    return Layer("points", y, error=error, **options)


def line(y: str, **options: Unpack[Options]) -> Layer:
    """A line through the rows (limits).

    Args:
        y: column of the ordinates.
        options: see `Layer`.
    """
    return Layer("line", y, **options)


def band(low: str, high: str, **options: Unpack[Options]) -> Layer:
    """The area between two columns.

    Args:
        low: column of the lower line.
        high: column of the upper line.
        options: see `Layer`.
    """
    return Layer("band", low, error=high, **options)


def steps(y: str, **options: Unpack[Options]) -> Layer:
    """A histogram as an outline; the abscissae are the centres of equal bins.

    Args:
        y: column of the heights.
        options: see `Layer`.
    """
    return Layer("steps", y, **options)


def image(values: str, y: str, **options: Unpack[Options]) -> Layer:
    """Shades over a grid.

    Args:
        values: column of the shades.
        y: column of the ordinates.
        options: see `Layer`; the label is that of the shades.
    """
    return Layer("image", values, error=y, **options)


def level(y: str | float, **options: Unpack[Options]) -> Layer:
    """A line across: a number, or a column that has one value.

    Args:
        y: the number, or the column.
        options: see `Layer`.
    """
    options = {"by": "", "series": None, **options}
    return Layer("level", y, **options)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a table is drawn over.

    Attributes:
        x: column of the abscissae.
        by: column that tells the series, or "".
        panels: column whose values have a panel each, or "".
        titles: titles of the panels by their value, or a template in which `{}` stands for it.
        across: panels of a row; all by default.
        xlabel: the name of `x` by default.
        ylabel: of all panels, or by panel.
        log: which axes are logarithmic: "", "x", "y" or "xy".
        ticks: whether the abscissae are the ticks of their axis; or the column of their labels.
        xlim: ends of the abscissae.
        ylim: ends of the ordinates.
    """

    x: str = ""
    by: str = ""
    panels: str = ""
    titles: str | Mapping[Plain, str] = "{}"
    across: int | None = None
    xlabel: str = ""
    ylabel: str | Mapping[Plain, str] = ""
    log: Literal["", "x", "y", "xy"] = ""
    ticks: bool | str = False
    xlim: tuple[float | None, float | None] = (None, None)
    ylim: tuple[float | None, float | None] = (None, None)

    def charts(self, table: Table, layers: Sequence[Drawn], alt: str = "") -> list[Chart]:
        """The charts of a table, one for each panel.

        Args:
            table: the rows.
            layers: what is drawn, from below to above; or the panels.
            alt: the text alternative of each.

        Raises:
            ArgumentError: a column that the table does not have.
        """
        charts = [chart for one in _panels(layers) for chart in one.charts(self, table, alt)]
        own = [one for one in layers if isinstance(one, Layer)]
        if own or not charts:
            charts += [self._chart(table, own, alt, one) for one in table.values(self.panels)]
        return charts

    def series(self, table: Table, layers: Sequence[Drawn]) -> int:
        """How many series are drawn in all panels.

        Args:
            table: the rows.
            layers: what is drawn.
        """
        if panels := _panels(layers):
            return sum(one.series(self, table) for one in panels)
        layers = [one for one in layers if isinstance(one, Layer)]
        kinds = {(self.panels, self.by if one.by is None else one.by) for one in layers}
        drawn = {
            (columns, *key)
            for columns in kinds
            for key in zip(*(table.column(name) for name in columns if name), strict=True)
        }
        return max(len(drawn), 1)

    def _chart(self, whole: Table, layers: Sequence[Layer], alt: str, panel: Plain) -> Chart:
        table = whole.where({self.panels: panel}) if self.panels else whole
        marks: list[Mark] = []
        named: set[str] = set()
        for layer in layers:
            by = self.by if layer.by is None else layer.by
            rows = table.where(layer.where)
            for place, value in enumerate(whole.values(by)):
                own = rows.where({by: value}) if by else rows
                if not own.rows:
                    continue
                text = layer.label.replace("{}", _word(value)) if by else layer.label
                text = "" if text == "{}" or text in named else text
                named.add(text)
                series = layer.series if not by or layer.series is None else place
                across = layer.x or self.x
                if layer.by == "" and layer.kind == "line":
                    own = _once(own, across, str(layer.y))
                marks.append(_mark(layer, own, across, series, text))
        title = self._title(panel) if self.panels else ""
        x = ChartAxis(self.xlabel or self.x, *self.xlim, "x" in self.log, self._ticks(whole))
        label = self.ylabel if isinstance(self.ylabel, str) else self.ylabel.get(panel, "")
        y = ChartAxis(label, *self.ylim, "y" in self.log)
        return Chart(f"{alt} {title}".strip(), x, y, tuple(marks), title)

    def _ticks(self, table: Table) -> tuple[tuple[float, str], ...]:
        if not self.ticks:
            return ()
        places = table.numbers(self.x).tolist()
        words = places if self.ticks is True else table.column(self.ticks)
        named = {place: _word(word) for place, word in zip(places, words, strict=True)}
        return tuple(sorted(named.items()))

    def _title(self, panel: Plain) -> str:
        word = _word(panel)
        if isinstance(self.titles, str):
            return self.titles.replace("{}", word)
        return self.titles.get(panel, word)


class LayoutOptions(TypedDict, total=False):
    """What a panel may say of its layout; see `Layout`."""

    x: str
    by: str
    panels: str
    titles: str | Mapping[Plain, str]
    xlabel: str
    ylabel: str | Mapping[Plain, str]
    log: Literal["", "x", "y", "xy"]
    ticks: bool | str
    xlim: tuple[float | None, float | None]
    ylim: tuple[float | None, float | None]


@dataclass(frozen=True)
class Panel:
    """One part of a figure with columns of its own; made by `panel`.

    Attributes:
        title: above it.
        layers: what is drawn.
        where: which rows it shows; one without any is not drawn.
        changed: where its layout differs from the figure's.
    """

    title: str
    layers: tuple[Layer, ...]
    where: Where
    changed: LayoutOptions

    def charts(self, layout: Layout, table: Table, alt: str) -> list[Chart]:
        """Its charts, one for each value of its column of panels.

        Args:
            layout: the figure's.
            table: the figure's.
            alt: the text alternative.
        """
        table, own = table.where(self.where), self._layout(layout)
        if not table.rows:
            return []
        charts = own.charts(table, self.layers, f"{alt} {self.title}".strip())
        return [replace(one, title=one.title or self.title) for one in charts]

    def series(self, layout: Layout, table: Table) -> int:
        """How many series it draws.

        Args:
            layout: the figure's.
            table: the figure's.
        """
        table = table.where(self.where)
        return self._layout(layout).series(table, self.layers) if table.rows else 0

    def _layout(self, layout: Layout) -> Layout:
        whole: dict[str, Any] = {one.name: getattr(layout, one.name) for one in fields(Layout)}
        return Layout(**whole | cast("dict[str, Any]", self.changed))


#: What a figure is made of: layers over one pair of axes, or panels of them.
Drawn = Layer | Panel


def panel(
    title: str, *layers: Layer, where: Where | None = None, **changed: Unpack[LayoutOptions]
) -> Panel:
    """A panel that shows other columns or rows than its neighbours.

    Args:
        title: above it.
        layers: what is drawn.
        where: which rows it shows.
        changed: where its layout differs from the figure's; see `Layout`.
    """
    return Panel(title, layers, where or {}, changed)


def _panels(layers: Sequence[Drawn]) -> list[Panel]:
    return [one for one in layers if isinstance(one, Panel)]


def _word(value: Plain) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _once(table: Table, x: str, y: str) -> Table:
    """Rows in the order of x, those with the same point once: one line, whatever repeats them."""
    points = np.stack([table.numbers(x), table.numbers(y)])
    _, first = np.unique(points, axis=1, return_index=True)
    return replace(table, rows=tuple(table.rows[place] for place in first))


def _mark(layer: Layer, table: Table, x: str, series: int | None, label: str) -> Mark:
    """One mark of a layer."""
    place = 0 if series is None else series % len(COLOURS)
    colour = INK if series is None else COLOURS[place]
    hollow = series is not None and series >= len(COLOURS)
    pattern = "" if series is None else PATTERNS[place]
    dash = pattern if layer.dash is None else layer.dash
    if layer.kind == "level":
        return _level(layer, table, colour, label, dash)
    xs, ys = table.numbers(x), table.numbers(str(layer.y))
    opacity = 1.0 if layer.opacity is None else layer.opacity
    if layer.kind == "line":
        shape = SHAPES[place] if layer.joined else ""
        return Line(xs, ys, colour, label, dash, 2.0, opacity, shape)
    if layer.kind == "band":
        opacity = 0.2 if layer.opacity is None else layer.opacity
        return Band(xs, ys, table.numbers(layer.error), colour, label, opacity)
    if layer.kind == "steps":
        width = xs[1] - xs[0] if len(xs) > 1 else 1.0
        edges = np.append(xs, xs[-1] + width) - (0.0 if layer.left else width / 2)
        return Steps(edges, ys, colour, label, dash)
    if layer.kind == "image":
        across, up = np.unique(xs), np.unique(table.numbers(layer.error))
        shades = np.full((len(up), len(across)), np.nan)
        rows, columns = np.searchsorted(up, table.numbers(layer.error)), np.searchsorted(across, xs)
        shades[rows, columns] = ys
        return Image(across, up, shades, label, *layer.limits)
    error = table.numbers(layer.error) if layer.error else None
    shape = "dash" if series is None else SHAPES[place]
    return Points(xs, ys, colour, label, shape, 4.0, error, layer.joined, hollow)


def _level(layer: Layer, table: Table, colour: str, label: str, dash: str) -> Mark:
    """A line from one side to the other."""
    value = layer.y if not isinstance(layer.y, str) else float(table.numbers(layer.y)[0])
    return Level(value, colour, label, dash, layer.vertical)
