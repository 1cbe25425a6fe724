"""Colours, markers and the few finishing touches that every figure shares."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Okabe and Ito's colours, in the order in which series take them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
#: A marker for each colour, so that greyscale still tells the series apart.
MARKERS = ("o", "s", "^", "D", "v", "P")
#: The colour of a limit's line.
LIMIT = "#222222"


def new_axes(ax: Axes | None = None) -> Axes:
    """The given axes, or those of a new figure (without pyplot: nothing global is touched)."""
    return Figure(figsize=(6.0, 4.2), layout="constrained").add_subplot() if ax is None else ax


def finish(ax: Axes, *, xlabel: str, ylabel: str, title: str = "", legend: bool = True) -> Axes:
    """Label the axes, lighten the frame, and place the legend where it covers least."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title, fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, alpha=0.25, linewidth=0.6)
    if legend and ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize="small")
    return ax
