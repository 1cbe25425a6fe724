"""Charts as SVG text in a few milliseconds: what a page needs that answers while a slider moves.

A chart is data: ranges, labels and marks. What would be black is drawn in `currentColor`, so that a
chart follows the colours of the page, light or dark; every series has a dash or a shape besides its
colour; the legend is text under the chart, so that it covers nothing.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

#: The colour of text and axes.
INK = "currentColor"
WIDTH, HEIGHT = 420, 300
_TOP, _RIGHT, _BOTTOM = 10, 14, 44
_FONT = 'font-family="system-ui, sans-serif" font-size="13"'
#: Digits as exponents.
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Line:
    """A line through points; NaN breaks it.

    Attributes:
        x: abscissae.
        y: ordinates.
        colour: of the line.
        label: in the legend, or "".
        dash: pattern of SVG, or "" for a solid line.
        width: of the line.
        opacity: of the line.
    """

    x: Any
    y: Any
    colour: str = INK
    label: str = ""
    dash: str = ""
    width: float | int = 2.0
    opacity: float | int = 1.0


@dataclass(frozen=True)
class Band:
    """The area between two lines; where one is NaN there is none.

    Attributes:
        x: abscissae.
        low: lower line.
        high: upper line.
        colour: of the area.
        label: in the legend, or "".
        opacity: of the area.
    """

    x: Any
    low: Any
    high: Any
    colour: str
    label: str = ""
    opacity: float | int = 0.25


@dataclass(frozen=True)
class Points:
    """Points as discs, rings, squares or stars.

    Attributes:
        x: abscissae.
        y: ordinates.
        colour: of the points.
        label: in the legend, or "".
        kind: disc, ring, square or star.
        size: radius.
    """

    x: Any
    y: Any
    colour: str = INK
    label: str = ""
    kind: str = "disc"
    size: float | int = 4.0


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


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        label: what it shows.
        low: its least value.
        high: its largest.
        log: whether it is logarithmic.
        ticks: values and labels; chosen by themselves where there are none.
    """

    label: str
    low: float | int
    high: float | int
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def place(self, values: Any) -> Any:
        """The part of the axis at which values lie; NaN where there is none."""
        values = np.asarray(values, dtype=float)
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.log:
                low, high = math.log(self.low), math.log(self.high)
                return (np.log(np.where(values > 0, values, np.nan)) - low) / (high - low)
            return (values - self.low) / (self.high - self.low)

    def marks(self) -> tuple[tuple[float, str], ...]:
        """Ticks with their labels."""
        if self.ticks:
            return self.ticks
        return _decades(self.low, self.high) if self.log else _round_ticks(self.low, self.high)


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
    x: Axis
    y: Axis
    marks: tuple[Line | Band | Points | Cells, ...]
    title: str = ""
    left: int = 60
    square: bool = False

    def svg(self) -> str:
        """The chart with its title and legend, as a `figure` element of a page."""
        top, bottom = _TOP, HEIGHT - _BOTTOM
        left, right = self.left, WIDTH - _RIGHT
        if self.square:
            side = min(right - left, bottom - top)
            left = (WIDTH - side) // 2
            right = left + side
        frame = left, top, right - left, bottom - top
        inner = "".join(_drawn(mark, self.x, self.y, frame[2], frame[3]) for mark in self.marks)
        label = html.escape(self.alt, quote=True)
        title = f"<figcaption>{html.escape(self.title)}</figcaption>" if self.title else ""
        return (
            f'<figure class="chart">{title}<svg role="img" aria-label="{label}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" {_FONT} fill="{INK}">'
            f"{self._axes(*frame)}"
            f'<svg x="{left}" y="{top}" width="{frame[2]}" height="{frame[3]}" '
            f'overflow="hidden" aria-hidden="true">{inner}</svg></svg>'
            f"{_legend(self.marks)}</figure>"
        )

    def _axes(
        self, left: float | int, top: float | int, width: float | int, height: float | int
    ) -> str:
        parts = []
        for place, text in _placed(self.x):
            x = left + place * width
            anchor = "middle"
            parts.append(
                f'<path d="M{x:.1f} {top}V{top + height}" stroke="{INK}" opacity="0.13"/>'
                f'<text x="{x:.1f}" y="{top + height + 17}" text-anchor="{anchor}">{text}</text>'
            )
        for place, text in _placed(self.y):
            y = top + (1 - place) * height
            parts.append(
                f'<path d="M{left} {y:.1f}H{left + width}" stroke="{INK}" opacity="0.13"/>'
                f'<text x="{left - 6}" y="{y + 4.5:.1f}" text-anchor="end">{text}</text>'
            )
        parts.append(
            f'<path d="M{left} {top}V{top + height}H{left + width}" fill="none" stroke="{INK}"/>'
            f'<text x="{left + width / 2:.1f}" y="{HEIGHT - 7}" text-anchor="middle">'
            f"{html.escape(self.x.label)}</text>"
        )
        if self.y.label:
            x, y = (left - self.left) + 13, top + height / 2
            parts.append(
                f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">'
                f"{html.escape(self.y.label)}</text>"
            )
        return "".join(parts)


def _placed(axis: Axis) -> Iterable[tuple[float, str]]:
    for value, text in axis.marks():
        place = float(axis.place(value))
        if -1e-9 <= place <= 1 + 1e-9:
            yield place, html.escape(text)


def _drawn(
    mark: Line | Band | Points | Cells, x: Axis, y: Axis, width: float | int, height: float | int
) -> str:
    if isinstance(mark, Cells):
        return _cells(mark, width, height)
    xs = x.place(mark.x) * width
    if isinstance(mark, Band):
        low, high = ((1 - y.place(one)) * height for one in (mark.low, mark.high))
        kept = np.isfinite(low) & np.isfinite(high)
        if not kept.any():
            return ""
        there = np.concatenate([xs[kept], xs[kept][::-1]])
        back = np.concatenate([low[kept], high[kept][::-1]])
        return f'<path d="{_path(there, back)}Z" fill="{mark.colour}" opacity="{mark.opacity}"/>'
    ys = (1 - y.place(mark.y)) * height
    if isinstance(mark, Line):
        dash = f' stroke-dasharray="{mark.dash}"' if mark.dash else ""
        return (
            f'<path d="{_path(xs, ys)}" fill="none" stroke="{mark.colour}" '
            f'stroke-width="{mark.width}" stroke-linejoin="round" opacity="{mark.opacity}"{dash}/>'
        )
    return "".join(_point(mark, a, b) for a, b in zip(xs, ys, strict=True))


def _path(xs: np.ndarray, ys: np.ndarray) -> str:
    """Moves and lines; far outside of the frame numbers are cut, and NaN starts a new piece."""
    parts, pen = [], "M"
    ys = np.clip(ys, -1e5, 1e5)
    xs = np.clip(xs, -1e5, 1e5)
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if math.isfinite(x) and math.isfinite(y):
            parts.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _point(mark: Points, x: float | int, y: float | int) -> str:
    if not (math.isfinite(x) and math.isfinite(y)):
        return ""
    r = mark.size
    if mark.kind == "ring":
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="none" stroke="{mark.colour}" '
            'stroke-width="1.4"/>'
        )
    if mark.kind == "square":
        return (
            f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}" '
            f'fill="{mark.colour}"/>'
        )
    if mark.kind == "star":
        turns = [math.pi * k / 5 for k in range(10)]
        radii = [r if k % 2 == 0 else 0.45 * r for k in range(10)]
        corners = " ".join(
            f"{x + q * math.sin(t):.1f},{y - q * math.cos(t):.1f}"
            for q, t in zip(radii, turns, strict=True)
        )
        return f'<polygon points="{corners}" fill="#ffffff" stroke="#000000" stroke-width="1.5"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{mark.colour}" fill-opacity="0.85"/>'


def _cells(mark: Cells, width: float | int, height: float | int) -> str:
    """One rectangle for every run of equal classes in a row."""
    rows, columns = mark.classes.shape
    w, h = width / columns, height / rows
    parts = []
    for row in range(rows):
        values = mark.classes[row].tolist()
        start = 0
        for column in range(1, columns + 1):
            if column < columns and values[column] == values[start]:
                continue
            parts.append(
                f'<rect x="{start * w:.1f}" y="{height - (row + 1) * h:.1f}" '
                f'width="{(column - start) * w + 0.5:.1f}" height="{h + 0.5:.1f}" '
                f'fill="{mark.colours[values[start]]}"/>'
            )
            start = column
    return "".join(parts)


def _legend(marks: Sequence[Line | Band | Points | Cells]) -> str:
    entries = []
    for mark in marks:
        if isinstance(mark, Cells):
            present = np.unique(mark.classes).tolist()
            entries += [
                (_swatch(f'<rect y="3" width="24" height="10" fill="{mark.colours[k]}"/>'), text)
                for k, text in enumerate(mark.labels)
                if k in present
            ]
        elif not mark.label:
            continue
        elif isinstance(mark, Band):
            area = f'<rect y="3" width="24" height="10" fill="{mark.colour}" opacity="'
            entries.append((_swatch(f'{area}{mark.opacity}"/>'), mark.label))
        elif isinstance(mark, Line):
            dash = f' stroke-dasharray="{mark.dash}"' if mark.dash else ""
            line = f'<path d="M0 8H24" stroke="{mark.colour}" stroke-width="{mark.width}"{dash}/>'
            entries.append((_swatch(line), mark.label))
        else:
            small = replace(mark, size=min(mark.size, 7.0))  # a star of the map is larger
            entries.append((_swatch(_point(small, 12, 8)), mark.label))
    if not entries:
        return ""
    listed = "".join(f"<span>{swatch}{html.escape(text)}</span>" for swatch, text in entries)
    return f'<div class="legend">{listed}</div>'


def _swatch(content: str) -> str:
    return f'<svg width="24" height="16" aria-hidden="true">{content}</svg>'


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
