"""Errors against sizes on logarithmic axes, with the fitted and the predicted power law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from translimit.core import RateFit
from translimit.figures.style import COLOURS, LIMIT, MARKERS, bars, finish, new_axes

if TYPE_CHECKING:
    import xarray


def plot_convergence(
    error: xarray.DataArray,
    stderr: xarray.DataArray,
    ax: Axes | None = None,
    *,
    fit: RateFit | None = None,
    predicted_rate: float | None = None,
    series: int = 0,
    label: str = "measured",
    ylabel: str = "root mean square error",
    theory_label: str = "predicted",
) -> Axes:
    """Draw rms errors with error bars, their fitted rate, and a line of the predicted slope.

    Args:
        error: errors over one coordinate of sizes, whose `long_name` labels the axis.
        stderr: their standard errors.
        ax: axes to draw into.
        fit: the fitted power law; drawn dashed, its rate and interval in the legend.
        predicted_rate: slope of the solid line, anchored at the first fitted (or measured) error.
        series: which colour and marker to take.
        label: legend of the points.
        ylabel: label of the error axis.
        theory_label: legend of the predicted slope.
    """
    ax = new_axes(ax)
    (name,) = error.dims
    sizes = np.asarray(error[name], dtype=float)
    colour, marker = COLOURS[series % len(COLOURS)], MARKERS[series % len(MARKERS)]
    span = np.array([sizes.min(), sizes.max()])
    if fit is not None:
        low, high = fit.interval
        rates = f"fitted rate {fit.rate:.3f} [{low:.3f}, {high:.3f}]"
        label = f"{label}, {rates}".replace("-", "\N{MINUS SIGN}")
        ax.plot(span, fit.constant * span**fit.rate, "--", color=colour, linewidth=1.2)
    ax.errorbar(
        sizes,
        error,
        yerr=bars(stderr.values),
        fmt=marker,
        color=colour,
        capsize=3,
        markersize=6,
        label=label,
    )
    if predicted_rate is not None:
        anchor = float(error[0]) if fit is None else fit.constant * span[0] ** fit.rate
        ax.plot(
            span,
            anchor * (span / span[0]) ** predicted_rate,
            color=LIMIT,
            linewidth=1.4,
            label=f"{theory_label} rate {predicted_rate:g}".replace("-", "\N{MINUS SIGN}"),
            zorder=0,
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.minorticks_off()
    return finish(ax, xlabel=str(error[name].attrs.get("long_name", name)), ylabel=ylabel)
