"""Charts as SVG text in a few milliseconds: what a page needs that answers while a slider moves.

What would be black is drawn in `currentColor`, so that a chart follows the colours of the page,
light or dark; the legend is text under the chart, so that it covers nothing.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from translimit.figures import (
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

WIDTH, HEIGHT = 420, 300
_TOP, _RIGHT, _BOTTOM = 10, 14, 44
#: Corners of points, y downwards.
_POLYGONS = {
    "up": ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
    "down": ((0, 1.2), (1.1, -0.9), (-1.1, -0.9)),
    "diamond": ((0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)),
    "plus": tuple(
        (a * s, b * t)
        for s, t, corners in (
            (1, -1, ((0.4, 1.2), (0.4, 0.4), (1.2, 0.4))),
            (1, 1, ((1.2, 0.4), (0.4, 0.4), (0.4, 1.2))),
            (-1, 1, ((0.4, 1.2), (0.4, 0.4), (1.2, 0.4))),
            (-1, -1, ((1.2, 0.4), (0.4, 0.4), (0.4, 1.2))),
        )
        for a, b in corners
    ),
}
_FONT = 'font-family="system-ui, sans-serif" font-size="13"'


def svg(chart: Chart) -> str:
    """A chart with its title and legend, as a `figure` element of a page.

    Args:
        chart: what is drawn.
    """
    chart = chart.ranged()
    top, bottom = _TOP, HEIGHT - _BOTTOM
    left, right = chart.left, WIDTH - _RIGHT
    if chart.square:
        side = min(right - left, bottom - top)
        left = (WIDTH - side) // 2
        right = left + side
    frame = left, top, right - left, bottom - top
    inner = "".join(_drawn(mark, chart.x, chart.y, frame[2], frame[3]) for mark in chart.marks)
    label = html.escape(chart.alt, quote=True)
    title = f"<figcaption>{html.escape(chart.title)}</figcaption>" if chart.title else ""
    return (
        f'<figure class="chart">{title}<svg role="img" aria-label="{label}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" {_FONT} fill="{INK}">'
        f"{_axes(chart, *frame)}"
        f'<svg x="{left}" y="{top}" width="{frame[2]}" height="{frame[3]}" '
        f'overflow="hidden" aria-hidden="true">{inner}</svg></svg>'
        f"{_legend(chart.marks)}</figure>"
    )


def _axes(
    chart: Chart, left: float | int, top: float | int, width: float | int, height: float | int
) -> str:
    parts = []
    for place, text in _placed(chart.x):
        x = left + place * width
        anchor = "middle"
        parts.append(
            f'<path d="M{x:.1f} {top}V{top + height}" stroke="{INK}" opacity="0.13"/>'
            f'<text x="{x:.1f}" y="{top + height + 17}" text-anchor="{anchor}">{text}</text>'
        )
    for place, text in _placed(chart.y):
        y = top + (1 - place) * height
        parts.append(
            f'<path d="M{left} {y:.1f}H{left + width}" stroke="{INK}" opacity="0.13"/>'
            f'<text x="{left - 6}" y="{y + 4.5:.1f}" text-anchor="end">{text}</text>'
        )
    parts.append(
        f'<path d="M{left} {top}V{top + height}H{left + width}" fill="none" stroke="{INK}"/>'
        f'<text x="{left + width / 2:.1f}" y="{HEIGHT - 7}" text-anchor="middle">'
        f"{html.escape(chart.x.label)}</text>"
    )
    if chart.y.label:
        x, y = (left - chart.left) + 13, top + height / 2
        parts.append(
            f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">'
            f"{html.escape(chart.y.label)}</text>"
        )
    return "".join(parts)


def _placed(axis: ChartAxis) -> Iterable[tuple[float, str]]:
    for value, text in axis.marks():
        place = float(axis.place(value))
        if -1e-9 <= place <= 1 + 1e-9:
            yield place, html.escape(text)


def _drawn(mark: Mark, x: ChartAxis, y: ChartAxis, width: float | int, height: float | int) -> str:
    if isinstance(mark, Cells):
        return _cells(mark, width, height)
    if isinstance(mark, Image):
        return _cells(_shaded(mark), width, height)
    if isinstance(mark, Steps):
        return _drawn(_outline(mark), x, y, width, height)
    if isinstance(mark, Level):
        return _drawn(_across(mark, x, y), x, y, width, height)
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
    joint = f'<path d="{_path(xs, ys)}" fill="none" stroke="{mark.colour}"/>' if mark.joined else ""
    bars = ""
    if mark.error is not None:
        y_, error = np.asarray(mark.y, float), np.asarray(mark.error, float)
        error = np.where(np.isfinite(error), error, 0.0)
        ends = [(1 - y.place(end)) * height for end in (y_ - error, y_ + error)]
        rows = np.transpose([xs, np.where(np.isfinite(ends[0]), ends[0], height), ends[1]])
        bars = "".join(
            f'<path d="M{at:.1f} {low:.1f}V{high:.1f}" stroke="{mark.colour}"/>'
            for at, low, high in rows[error > 0]
            if math.isfinite(at) and math.isfinite(high)
        )
    return joint + bars + "".join(_point(mark, a, b) for a, b in zip(xs, ys, strict=True))


def _outline(mark: Steps) -> Line:
    """The outline of a histogram, from its first edge to its last."""
    x, y = np.repeat(np.asarray(mark.edges, float), 2)[1:-1], np.repeat(mark.heights, 2)
    return Line(x, y, mark.colour, mark.label, mark.dash, 1.5)


def _across(mark: Level, x: ChartAxis, y: ChartAxis) -> Line:
    """A level as a line between the ends of the other axis."""
    other = y if mark.vertical else x
    ends, at = [other.low or 0.0, other.high or 0.0], [mark.value] * 2
    xs, ys = (at, ends) if mark.vertical else (ends, at)
    return Line(xs, ys, mark.colour, mark.label, mark.dash, 1.0)


def _shaded(mark: Image) -> Cells:
    """An image in sixteen greys."""
    values = np.asarray(mark.values, float)
    low = np.nanmin(values) if mark.low is None else mark.low
    high = np.nanmax(values) if mark.high is None else mark.high
    part = np.clip((values - low) / (high - low if high > low else 1.0), 0.0, 1.0)
    classes = np.where(np.isfinite(part), np.round(15 * np.nan_to_num(part)), 16).astype(int)
    greys = tuple(f"#{17 * k:02x}{17 * k:02x}{17 * k:02x}" for k in range(16))
    return Cells(classes, (*greys, "none"), tuple("" for _ in range(17)))


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
    if mark.hollow and mark.kind == "square":
        return (
            f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}" '
            f'fill="none" stroke="{mark.colour}" stroke-width="1.4"/>'
        )
    if mark.kind == "ring" or mark.hollow:
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
    if mark.kind in _POLYGONS:
        corners = " ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in _POLYGONS[mark.kind])
        return f'<polygon points="{corners}" fill="{mark.colour}"/>'
    if mark.kind == "dash":
        d = f"M{x - 2 * r:.1f} {y:.1f}H{x + 2 * r:.1f}"
        return f'<path d="{d}" stroke="{mark.colour}" stroke-width="2"/>'
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


def _legend(marks: Sequence[Mark]) -> str:
    entries: list[tuple[str, str]] = []
    for mark in marks:
        if isinstance(mark, Cells):
            present = np.unique(mark.classes).tolist()
            entries += [
                (_swatch(f'<rect y="3" width="24" height="10" fill="{mark.colours[k]}"/>'), text)
                for k, text in enumerate(mark.labels)
                if k in present
            ]
        elif mark.label:
            entries.append((_swatch(_sample(mark)), mark.label))
    if not entries:
        return ""
    listed = "".join(f"<span>{swatch}{html.escape(text)}</span>" for swatch, text in entries)
    return f'<div class="legend">{listed}</div>'


def _sample(mark: Line | Band | Points | Steps | Image | Level) -> str:
    """What stands for a mark in the legend."""
    if isinstance(mark, Image):
        return '<rect y="3" width="24" height="10" fill="#888888"/>'
    if isinstance(mark, Band):
        area = f'<rect y="3" width="24" height="10" fill="{mark.colour}" opacity="'
        return f'{area}{mark.opacity}"/>'
    if isinstance(mark, Points):
        return _point(replace(mark, size=min(mark.size, 7.0)), 12, 8)  # stars of maps are larger
    line = _outline(mark) if isinstance(mark, Steps) else mark
    if isinstance(line, Level):
        line = Line([], [], line.colour, "", line.dash, 1.0)
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    return f'<path d="M0 8H24" stroke="{line.colour}" stroke-width="{line.width}"{dash}/>'


def _swatch(content: str) -> str:
    return f'<svg width="24" height="16" aria-hidden="true">{content}</svg>'
