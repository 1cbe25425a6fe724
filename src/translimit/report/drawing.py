"""Figures of a run as SVG and PNG: same figure, same bytes, and no global Matplotlib state.

The object interface is used throughout (no pyplot); the style holds within the call. Text becomes
outlines, so that a page looks the same where its fonts are missing. Crowded scatter plots are
stored as pixels inside the vector figure.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from translimit.experiments import FigureSpec
from translimit.report.tables import data_uri

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

#: Markers in one artist beyond which it is stored as pixels.
CROWDED = 2000

#: Bytes of an SVG beyond which the page shows the PNG instead.
LARGEST_SVG = 1_000_000

#: Pixels per inch of the PNG and of the pixels inside an SVG.
RESOLUTION = 200


@dataclass(frozen=True)
class Drawing:
    """One figure, drawn.

    Attributes:
        svg: the vector figure.
        png: the same as pixels.
    """

    svg: bytes
    png: bytes


def draw(spec: FigureSpec) -> Drawing:
    """Draw a figure from stored data into SVG and PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not the reader's matplotlibrc: a run has one appearance
        matplotlib.rcParams.update(_style())
        matplotlib.rcParams["svg.hashsalt"] = spec.name
        figure = Figure(figsize=spec.size, layout="constrained")
        spec.draw(figure)
        _store_crowds_as_pixels(figure)
        if any(axes.get_aspect() != "auto" for axes in figure.axes):
            figure.draw_without_rendering()  # such a layout settles at the second drawing
        svg, png = io.BytesIO(), io.BytesIO()
        dateless = {"Date": None, "Creator": None}
        figure.savefig(svg, format="svg", dpi=RESOLUTION, metadata=dateless)
        figure.set_layout_engine("none")  # the layout that the first drawing found
        figure.savefig(png, format="png", dpi=RESOLUTION, metadata={"Software": None})
    return Drawing(svg.getvalue(), png.getvalue())


def inline(drawing: Drawing, prefix: str, label: str, described_by: str) -> Markup:
    """The figure as an element of a page: the SVG itself, or the PNG when the SVG is large.

    Args:
        drawing: the figure.
        prefix: put before every identifier, so that two figures of a page never share one: a
            clip path would cut the other figure's curves.
        label: the text alternative.
        described_by: identifier of the caption.
    """
    from markupsafe import Markup, escape

    names = Markup(f'role="img" aria-label="{escape(label)}" aria-describedby="{described_by}"')
    if len(drawing.svg) > LARGEST_SVG:
        source = data_uri(drawing.png, "image/png")
        return Markup(f'<img {names} alt="{escape(label)}" src="{source}">')
    text = drawing.svg.decode("utf-8")
    text = text[text.index("<svg") :]  # neither XML declaration nor document type
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would style the whole page
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return Markup(text.replace("<svg", f"<svg {names}", 1))  # Matplotlib has escaped its texts


def _style() -> dict[Any, Any]:
    """The settings of `templates/figures.mplstyle`, with the colours that all figures share."""
    import matplotlib
    from cycler import cycler

    from translimit.figures import COLOURS

    source = resources.files("translimit.report") / "templates" / "figures.mplstyle"
    with resources.as_file(source) as path:
        settings = dict(matplotlib.rc_params_from_file(path, use_default_template=False))
    return settings | {"axes.prop_cycle": cycler(color=COLOURS)}


def _store_crowds_as_pixels(figure: Figure) -> None:
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D

    for axes in figure.axes:
        for artist in axes.get_children():
            if isinstance(artist, PathCollection):
                crowded = len(artist.get_offsets()) > CROWDED  # pyright: ignore[reportArgumentType]
            elif isinstance(artist, Line2D):
                bare = artist.get_linestyle() in ("None", "none", "", " ")
                crowded = bare and len(artist.get_xdata()) > CROWDED  # pyright: ignore[reportArgumentType]
            else:
                continue
            if crowded:
                artist.set_rasterized(True)
