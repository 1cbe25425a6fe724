"""A prediction drawn: a page of panels, bands of two standard errors of a single network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from translimit.figures import (
    COLOURS,
    INK,
    PATTERNS,
    SHAPES,
    Band,
    Chart,
    ChartAxis,
    Level,
    Line,
    Mark,
)
from translimit.predict.curves import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.predict.answer import Answer

#: Columns of the page.
COLUMNS = 3


def page(prediction: Answer) -> Figure:
    """All panels.

    Args:
        prediction: what is drawn.
    """
    from matplotlib.figure import Figure

    from translimit.figures import draw_charts

    drawn = charts(prediction)
    rows = -(-len(drawn) // COLUMNS)
    figure = Figure(figsize=(4.4 * COLUMNS, 3.4 * rows + 0.5), layout="constrained")
    draw_charts(drawn, figure, columns=COLUMNS)
    reading = prediction.reading
    figure.suptitle(f"{reading.title}; {prediction.source}", fontsize="medium")
    return figure


def charts(prediction: Answer) -> list[Chart]:
    """The panels as data: overlap, rank, stream and its shares, entropy, gradients, weights.

    Args:
        prediction: what is drawn.
    """
    own, distinct = prediction.curves, prediction.distinct
    tokens = {"as they enter": own, "all different": distinct}
    named = {name: one["overlap"] for name, one in tokens.items() if one}
    rank = {name: one["effective_rank"] for name, one in tokens.items() if one}
    collapse = Level(prediction.collapse.threshold, INK, "threshold", "2 4")
    shares = {
        "attention adds": own["attention_share"],
        "hidden units add": own["units_share"],
    }
    told = [
        _chart("mean overlap of two tokens", named, (collapse,), low=0.0, high=1.02),
        _chart("effective rank", rank, low=0.0),
        _chart("rms of the stream", {"": own["rms"]}, log=True),
        _chart("share of the stream's square", shares, low=0.0, high=1.02),
    ]
    if "entropy" in own:
        told.append(_chart("entropy over its largest", {"": own["entropy"]}, low=0.0, high=1.02))
    if "gradient" not in own:
        return told
    gradient = {"independent at the top": own["gradient"]}
    if prediction.shared is not None:
        gradient["shared"] = prediction.shared
    told.append(_chart("rms gradient of the stream", gradient, log=True))
    groups = {
        name.removeprefix("gradient_").replace("_", " "): one
        for name, one in own.items()
        if name.startswith("gradient_") and one.by == "layer"
    }
    told.append(_chart("gradient of weights", groups, log=True))
    return told


def _chart(
    label: str,
    curves: Mapping[str, Curve],
    more: tuple[Mark, ...] = (),
    *,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
) -> Chart:
    marks: list[Mark] = []
    for place, (name, curve) in enumerate(curves.items()):
        value, error = np.array(curve.value), np.array(curve.error)
        start = 0 if curve.by == "level" else 1
        x = np.arange(start, start + len(value))
        shown = np.where(value > 0, value, np.nan) if log else value
        colour, dash = COLOURS[place % len(COLOURS)], PATTERNS[place % len(PATTERNS)]
        below, above = shown - 2 * error, shown + 2 * error
        if log:
            below = np.maximum(below, shown / 10)
        marks.append(Band(x, below, above, colour, opacity=0.18))
        # Colours come around again: from the seventh on a line has a shape besides.
        shape = SHAPES[place // len(COLOURS) - 1] if place >= len(COLOURS) else ""
        marks.append(Line(x, shown, colour, name, dash, shape=shape))
    by = next(iter(curves.values())).by
    return Chart(
        alt=f"{label} by {by}.",
        x=ChartAxis("level" if by == "level" else "layer"),
        y=ChartAxis(label, low, high, log),
        marks=(*marks, *more),
    )
