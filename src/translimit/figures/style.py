"""Colours, markers and the few finishing touches that every figure shares.

Colour is never the only carrier: a series has its marker, its dash or its hatch besides, because
some of the colours are equally light, and a print or a colour-blind reader tells them apart badly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from translimit.core import Numbers
from translimit.figures.chart import COLOURS

#: A marker for each colour, so that greyscale still tells the series apart.
MARKERS = ("o", "s", "^", "D", "v", "P")
#: A dash for each colour, for lines and outlines that have no markers.
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
#: A hatch for each colour, for areas and bars.
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
#: The colour of a limit's line.
LIMIT = "#222222"


def new_axes(ax: Axes | None = None) -> Axes:
    """The given axes, or those of a new figure (without pyplot: nothing global is touched)."""
    return Figure(figsize=(6.0, 4.2), layout="constrained").add_subplot() if ax is None else ax


class MarkedLine(TypedDict):
    """Keywords of a line with markers, as Matplotlib takes them."""

    color: str
    marker: str
    markersize: float
    markevery: int
    fillstyle: Literal["full", "none"]


def marked(series: int, points: int) -> MarkedLine:
    """Keywords of a line of many points: its colour, and its marker about ten times along it.

    Args:
        series: which colour and marker; from the seventh on markers are hollow.
        points: how many the line has.
    """
    place = series % len(COLOURS)
    return {
        "color": COLOURS[place],
        "marker": MARKERS[place],
        "markersize": 4.0,
        "markevery": max(1, points // 10),
        "fillstyle": "full" if series < len(COLOURS) else "none",
    }


def bars(stderr: Numbers | Sequence[float]) -> Float[np.ndarray, ...]:
    """Standard errors as lengths of bars: NaN, which draws none, where there is no error.

    Args:
        stderr: any shape; infinite for one sample, 0 for a deterministic number.
    """
    length = np.asarray(stderr, float)
    return np.where(np.isfinite(length) & (length > 0), length, np.nan)


def finish(ax: Axes, *, xlabel: str, ylabel: str, title: str = "", legend: bool = True) -> Axes:
    """Label the axes, lighten the frame, and place the legend where it covers least."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title, fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, alpha=0.25, linewidth=0.6)
    for axis in (ax.xaxis, ax.yaxis):
        _number(axis)
    if legend and ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _number(axis: Axis) -> None:
    """Numbers at 1, 2 and 5 where a logarithmic axis is too short for its powers of ten."""
    locator = axis.get_major_locator()
    low, high = sorted(axis.get_view_interval())
    if axis.get_scale() != "log" or isinstance(locator, FixedLocator) or low <= 0:
        return
    if getattr(locator, "_base", 10.0) != 10.0 or high >= 100 * low:
        return
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 3 * low else tuple(range(1, 10))))
    axis.set_major_formatter(FuncFormatter(_short))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float, place: int | None = None) -> str:
    """A number as a tick shows it."""
    del place
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    digits, power = f"{value:.0e}".split("e")
    return f"${digits} \\times 10^{{{int(power)}}}$"
