"""What a chart is: ranges, labels and marks, as data that two back ends draw.

`draw_chart` draws it into Matplotlib's axes, for reports; the explorer writes it as SVG in a few
milliseconds. A series has a dash or a shape besides its colour, so that it is told without colour
as well. NaN breaks lines and bands, and draws no point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from translimit.core import ArgumentError

#: The colour of text and axes, and of limits.
INK = "currentColor"
#: Okabe and Ito's colours, in the order in which series take them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
#: Shapes of points, in the order in which series take them.
SHAPES = ("disc", "square", "up", "diamond", "down", "plus")
#: Dashes in the order in which series take them: lengths of strokes and gaps.
PATTERNS = ("", "6 3", "7 2 1.5 2", "1.5 2", "5 1 1 1 1 1", "9 2")
#: Digits as exponents.
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

#: Numbers along a mark.
Values = Sequence[float] | Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Line:
    """A line through points.

    Attributes:
        x: abscissae.
        y: ordinates.
        colour: of the line.
        label: in the legend, or "".
        dash: lengths of strokes and gaps, or "" for a solid line.
        width: of the line.
        opacity: of the line.
        shape: of points along it, about ten, or "" for none.
    """

    x: Values
    y: Values
    colour: str = INK
    label: str = ""
    dash: str = ""
    width: float | int = 2.0
    opacity: float | int = 1.0
    shape: str = ""


@dataclass(frozen=True)
class Band:
    """The area between two lines.

    Attributes:
        x: abscissae.
        low: lower line.
        high: upper line.
        colour: of the area.
        label: in the legend, or "".
        opacity: of the area.
    """

    x: Values
    low: Values
    high: Values
    colour: str
    label: str = ""
    opacity: float | int = 0.25


@dataclass(frozen=True)
class Points:
    """Points, with bars where they have an error.

    Attributes:
        x: abscissae.
        y: ordinates.
        colour: of the points.
        label: in the legend, or "".
        kind: one of `SHAPES`, ring, star or dash.
        size: radius.
        error: half lengths of vertical bars; no bar where NaN, infinite or 0.
        joined: whether a line joins them.
        hollow: whether only their outline is drawn.
    """

    x: Values
    y: Values
    colour: str = INK
    label: str = ""
    kind: str = "disc"
    size: float | int = 4.0
    error: Values | None = None
    joined: bool = False
    hollow: bool = False


@dataclass(frozen=True)
class Steps:
    """A histogram as an outline.

    Attributes:
        edges: of the bins [bins + 1].
        heights: of the bins [bins].
        colour: of the outline.
        label: in the legend, or "".
        dash: as of a line.
    """

    edges: Values
    heights: Values
    colour: str = INK
    label: str = ""
    dash: str = ""


@dataclass(frozen=True)
class Image:
    """Numbers over a grid, as shades from dark (low) to light (high).

    Attributes:
        x: abscissae of the columns.
        y: ordinates of the rows.
        values: [rows, columns]; NaN is left out.
        label: of the shades.
        low: the number of the darkest shade; the least by default.
        high: that of the lightest; the largest by default.
    """

    x: Values
    y: Values
    values: np.ndarray
    label: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Level:
    """A line from one side of the chart to the other.

    Attributes:
        value: where it lies on its axis.
        colour: of the line.
        label: in the legend, or "".
        dash: as of a line.
        vertical: whether it stands upright.
    """

    value: float | int
    colour: str = INK
    label: str = ""
    dash: str = ""
    vertical: bool = False


@dataclass(frozen=True)
class Cells:
    """A map of classes over a grid that is even on the axes.

    Attributes:
        classes: numbers of classes [rows, columns], the lowest row first.
        colours: of the classes.
        labels: of the classes.
    """

    classes: np.ndarray
    colours: tuple[str, ...]
    labels: tuple[str, ...]


Mark = Line | Band | Points | Steps | Image | Level | Cells


@dataclass(frozen=True)
class ChartAxis:
    """One axis.

    Attributes:
        label: what it shows.
        low: its least value; by default what the marks need.
        high: its largest; by default what the marks need.
        log: whether it is logarithmic.
        ticks: values and labels; chosen by themselves where there are none.
    """

    label: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def place(self, values: Values | float) -> np.ndarray:
        """The part of the axis at which values lie; NaN where there is none."""
        numbers = np.asarray(values, dtype=float)
        least, most = self._ends()
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.log:
                low, high = math.log(least), math.log(most)
                logs = np.log(np.where(numbers > 0, numbers, np.nan))
                return np.asarray((logs - low) / (high - low))
            return np.asarray((numbers - least) / (most - least))

    def marks(self) -> tuple[tuple[float, str], ...]:
        """Ticks with their labels."""
        if self.ticks:
            return self.ticks
        return (_decades if self.log else _round_ticks)(*self._ends())

    def _ends(self) -> tuple[float | int, float | int]:
        if self.low is None or self.high is None:
            raise ArgumentError("axis", f"{self.label!r} has no range", "ask `Chart.ranged`")
        return self.low, self.high

    def around(self, values: np.ndarray) -> ChartAxis:
        """The axis with a range in which the values lie, where it has none."""
        kept = values[np.isfinite(values) & ((values > 0) | (not self.log))]
        if not kept.size:
            kept = np.array([1.0])
        numbers = np.log(kept) if self.log else kept
        low, high = float(numbers.min()), float(numbers.max())
        margin = 0.05 * (high - low) if high > low else 0.5
        ends = [low - margin, high + margin]
        if self.log:
            ends = [math.exp(end) for end in ends]
        low = ends[0] if self.low is None else self.low
        return replace(self, low=low, high=ends[1] if self.high is None else self.high)


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        alt: the text alternative.
        x: the horizontal axis.
        y: the vertical axis.
        marks: what is drawn, from below to above.
        title: above it, or "".
        left: room for the labels of the vertical axis.
        square: whether both axes have one unit; their ranges must then be equally long.
    """

    alt: str
    x: ChartAxis
    y: ChartAxis
    marks: tuple[Mark, ...]
    title: str = ""
    left: int = 60
    square: bool = False

    def ranged(self) -> Chart:
        """The chart with the ranges that its marks need."""
        sides = [_extent(mark) for mark in self.marks]
        x = np.concatenate([side[0] for side in sides] or [np.ones(1)])
        y = np.concatenate([side[1] for side in sides] or [np.ones(1)])
        return replace(self, x=self.x.around(x), y=self.y.around(y))


def _extent(mark: Mark) -> tuple[np.ndarray, np.ndarray]:
    """Abscissae and ordinates that a mark needs."""
    nothing = np.zeros(0)
    if isinstance(mark, Cells):
        return nothing, nothing
    if isinstance(mark, Steps):
        return np.asarray(mark.edges, float), np.append(np.asarray(mark.heights, float), 0.0)
    if isinstance(mark, Level):
        at = np.array([mark.value], float)
        return (at, nothing) if mark.vertical else (nothing, at)
    x = np.asarray(mark.x, float)
    if isinstance(mark, Band):
        return x, np.concatenate([np.asarray(mark.low, float), np.asarray(mark.high, float)])
    return x, np.asarray(mark.y, float)


def _round_ticks(low: float | int, high: float | int) -> tuple[tuple[float, str], ...]:
    """About five round numbers."""
    span = high - low
    unit = 10.0 ** math.floor(math.log10(span / 5))
    step = next(m * unit for m in (1, 2, 5, 10) if span / (m * unit) <= 6)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple((k * step, f"{k * step:.6g}") for k in range(first, last + 1))


def _decades(low: float | int, high: float | int) -> tuple[tuple[float, str], ...]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    each = max(1, (last - first) // 6 + 1) if last - first > 6 else 1
    named = {-2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100"}
    return tuple(
        (10.0**k, named.get(k, f"10{str(k).translate(SUPERSCRIPTS)}"))
        for k in range(first, last + 1, each)
    )
