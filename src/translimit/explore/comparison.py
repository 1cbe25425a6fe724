"""Two architectures in one chart: the marks of the second beside those of the first."""

from __future__ import annotations

from dataclasses import replace

from translimit.explore.panel import Panel
from translimit.explore.view import View
from translimit.figures import (
    COLOURS,
    INK,
    Chart,
    ChartAxis,
    Line,
    Mark,
    Points,
)


def compared(first: Panel, second: Panel, view: View) -> Panel:
    """The first panel with the curves of the second in its charts, dashed and hollow.

    Maps, images and bands are those of the first; what the second says stands behind it.

    Args:
        first: of the view.
        second: the same panel of the view's second architecture.
        view: the view.
    """
    others = (one for one in second.figures if isinstance(one, Chart))
    figures = tuple(
        _both(one, next(others)) if isinstance(one, Chart) else one for one in first.figures
    )
    return replace(
        first,
        says=f"{first.says} The second, {view.named_other}: {second.says}",
        figures=figures,
        code=f"{first.code}# The second: the same of View.from_query({view.other_query!r})\n",
    )


def refused(first: Panel, error: Exception, view: View) -> Panel:
    """The first panel alone, and why there is no second."""
    return replace(first, says=f"{first.says} The second, {view.named_other}, is refused: {error}")


def _both(chart: Chart, other: Chart) -> Chart:
    found = tuple(moved for mark in other.marks if (moved := _second(mark)) is not None)
    if not found:
        return chart
    chart, other = chart.ranged(), other.ranged()
    return replace(
        chart,
        alt=f"{chart.alt} The second, dashed and hollow: {other.alt}",
        x=_around(chart.x, other.x),
        y=_around(chart.y, other.y),
        marks=(*chart.marks, *found),
    )


def _second(mark: Mark) -> Mark | None:
    """A mark of the second architecture; None for those that only the first shows."""
    label = f"{mark.label} (second)" if isinstance(mark, (Line, Points)) and mark.label else ""
    if isinstance(mark, Line) and len(mark.x) > 2:
        return replace(mark, colour=_other(mark.colour), dash="6 3", label=label)
    if isinstance(mark, Points):
        size = mark.size if mark.kind != "star" else 7.0
        return replace(mark, colour=_other(mark.colour), hollow=True, label=label, size=size)
    return None


def _other(colour: str) -> str:
    """Another colour for the same thing."""
    place = COLOURS.index(colour) if colour in COLOURS else 2
    return COLOURS[(place + 3) % len(COLOURS)] if colour != INK else COLOURS[3]


def _around(one: ChartAxis, other: ChartAxis) -> ChartAxis:
    """The axis that holds both ranges."""
    assert one.low is not None
    assert one.high is not None
    assert other.low is not None
    assert other.high is not None
    low, high = min(one.low, other.low), max(one.high, other.high)
    ticks = one.ticks if (low, high) == (one.low, one.high) else ()
    return replace(one, low=low, high=high, ticks=ticks)
