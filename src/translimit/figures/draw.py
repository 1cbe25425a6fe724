"""Charts drawn into Matplotlib's axes: the back end of reports (see `Chart`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from translimit.core import ArgumentError
from translimit.figures.chart import (
    INK,
    Band,
    Cells,
    Chart,
    ChartAxis,
    Image,
    Level,
    Line,
    Mark,
    Points,
    Steps,
)
from translimit.figures.style import LIMIT, bars, finish

#: Names that a legend inside the axes has at most, also where four or more charts share a row, and
#: names in a row of one above them.
INSIDE, INSIDE_SMALL, ACROSS = 5, 2, 4
#: Matplotlib's names of the shapes of points.
MARKERS_OF_SHAPES = {
    "disc": "o",
    "ring": "o",
    "square": "s",
    "up": "^",
    "diamond": "D",
    "down": "v",
    "plus": "P",
    "star": "*",
    "dash": "_",
}


def draw_charts(charts: Sequence[Chart], figure: Figure, *, columns: int | None = None) -> None:
    """Draw charts side by side into an empty figure; names that one has told are not told again.

    Many names, all of them in one of the charts, have a legend above all charts.

    Args:
        charts: what is drawn.
        figure: an empty figure.
        columns: charts of a row; all of them by default.
    """
    across = columns or len(charts)
    rows = -(-len(charts) // across)
    named = [{getattr(mark, "label", "") for mark in chart.marks} - {""} for chart in charts]
    most = max(range(len(charts)), key=lambda place: len(named[place]))
    shared = (
        len(charts) > 1
        and len(named[most]) > (INSIDE if across < 4 else INSIDE_SMALL)
        and all(names <= named[most] for names in named)
    )
    for place, (chart, names) in enumerate(zip(charts, named, strict=True)):
        ax = figure.add_subplot(rows, across, place + 1)
        draw_chart(chart, ax, legend=not shared and names not in named[:place])
    if shared:
        in_row = ACROSS + across - 1
        figure.legend(
            *figure.axes[most].get_legend_handles_labels(),
            loc="outside upper left",
            frameon=False,
            fontsize="small",
            ncols=-(-len(named[most]) // -(-len(named[most]) // in_row)),
            columnspacing=1.2,
        )


def draw_chart(chart: Chart, ax: Axes, *, legend: bool = True) -> Axes:
    """Draw one chart; many names stand above axes that have no title, where they cover nothing.

    Args:
        chart: what is drawn.
        ax: empty axes.
        legend: whether to name the marks.

    Raises:
        ArgumentError: a shape of points that does not exist.
    """
    for axis in (chart.x, chart.y):
        if axis.log:
            (ax.set_xscale if axis is chart.x else ax.set_yscale)("log")
    for mark in chart.marks:
        _draw(mark, ax, chart)
    _range(chart.x, ax, horizontal=True)
    _range(chart.y, ax, horizontal=False)
    if chart.square:
        ax.set_aspect("equal", adjustable="datalim")
    names = len(ax.get_legend_handles_labels()[1]) if legend else 0
    above = names > INSIDE and not chart.title
    finish(
        ax,
        xlabel=chart.x.label,
        ylabel=chart.y.label,
        title=chart.title,
        legend=legend and not above,
    )
    if above:
        _legend_above(ax)
    if any(isinstance(mark, (Image, Cells)) for mark in chart.marks):
        ax.grid(visible=False)
    return ax


def _legend_above(ax: Axes) -> None:
    """A legend that covers nothing."""
    ax.legend(
        frameon=False,
        fontsize="small",
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=ACROSS,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _range(axis: ChartAxis, ax: Axes, *, horizontal: bool) -> None:
    """The axis' ends and ticks, where it states them."""
    if axis.low is not None or axis.high is not None:
        (ax.set_xlim if horizontal else ax.set_ylim)(axis.low, axis.high)
    if axis.ticks:
        values, labels = zip(*axis.ticks, strict=True)
        (ax.set_xticks if horizontal else ax.set_yticks)(values, labels)
        (ax.xaxis if horizontal else ax.yaxis).minorticks_off()


def _ink(colour: str) -> str:
    return LIMIT if colour == INK else colour


def _dashes(dash: str) -> str | tuple[int, tuple[float, ...]]:
    return (0, tuple(float(length) for length in dash.split())) if dash else "-"


def _marker(shape: str) -> str:
    if shape not in MARKERS_OF_SHAPES:
        raise ArgumentError("kind", f"got {shape!r}", f"use one of {', '.join(MARKERS_OF_SHAPES)}")
    return MARKERS_OF_SHAPES[shape]


def _draw(mark: Mark, ax: Axes, chart: Chart) -> None:
    if isinstance(mark, Line):
        ax.plot(
            mark.x,
            mark.y,
            linestyle=_dashes(mark.dash),
            color=_ink(mark.colour),
            linewidth=0.75 * mark.width,
            alpha=mark.opacity,
            marker=_marker(mark.shape) if mark.shape else "",
            markersize=4.0,
            markevery=max(1, len(mark.x) // 10),
            label=mark.label or "_",
        )
    elif isinstance(mark, Band):
        colour = _ink(mark.colour)
        ax.fill_between(
            np.asarray(mark.x, float),
            np.asarray(mark.low, float),
            np.asarray(mark.high, float),
            color=colour,
            alpha=mark.opacity,
            linewidth=0,
            label=mark.label or "_",
        )
    elif isinstance(mark, Points):
        ax.errorbar(
            np.asarray(mark.x, float),
            np.asarray(mark.y, float),
            yerr=None if mark.error is None else bars(np.asarray(mark.error, float)),
            fmt=_marker(mark.kind) + ("-" if mark.joined else ""),
            fillstyle="none" if mark.hollow or mark.kind == "ring" else "full",
            color=_ink(mark.colour),
            markersize=1.2 * mark.size if mark.kind != "dash" else 22.0,
            linewidth=1.0,
            capsize=2.5,
            label=mark.label or "_",
        )
    elif isinstance(mark, Level):
        (ax.axvline if mark.vertical else ax.axhline)(
            mark.value,
            color=_ink(mark.colour),
            linestyle=_dashes(mark.dash),
            linewidth=1.0,
            label=mark.label or "_",
        )
    elif isinstance(mark, Steps):
        ax.stairs(
            np.asarray(mark.heights, float),
            np.asarray(mark.edges, float),
            color=_ink(mark.colour),
            linestyle=_dashes(mark.dash),
            linewidth=1.3,
            label=mark.label or "_",
        )
    elif isinstance(mark, Image):
        mesh = ax.pcolormesh(
            np.asarray(mark.x, float),
            np.asarray(mark.y, float),
            np.asarray(mark.values, float),
            cmap="magma",
            vmin=mark.low,
            vmax=mark.high,
            shading="nearest",
            rasterized=True,
        )
        ax.figure.colorbar(mesh, ax=ax, label=mark.label)
    else:
        _draw_cells(mark, ax, chart)


def _draw_cells(mark: Cells, ax: Axes, chart: Chart) -> None:
    """Classes, each with its colour, over the range of the axes."""
    rows, columns = mark.classes.shape
    sides = []
    for axis, count in ((chart.x, columns), (chart.y, rows)):
        low, high = axis.low, axis.high
        if low is None or high is None:
            raise ArgumentError("axis", f"{axis.label!r} has no range", "cells need low and high")
        sides.append((np.geomspace if axis.log else np.linspace)(low, high, count + 1))
    last = max(len(mark.colours) - 1, 1)
    colours = ListedColormap(mark.colours)
    ax.pcolormesh(*sides, mark.classes, cmap=colours, vmin=0, vmax=last, rasterized=True)
    for colour, label in zip(mark.colours, mark.labels, strict=True):
        ax.fill_between([], [], [], color=colour, label=label or "_")
