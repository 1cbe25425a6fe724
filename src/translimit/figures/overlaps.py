"""Overlaps along depth: one curve, or a fan of paths under common noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from translimit.core import standard_error
from translimit.figures.style import COLOURS, LIMIT, bars, finish, new_axes

if TYPE_CHECKING:
    import xarray

#: Paths that a fan draws; all of them enter its mean and its quantiles.
SHOWN = 40


def plot_overlap(
    overlap: xarray.DataArray,
    ax: Axes | None = None,
    *,
    colour: str = LIMIT,
    label: str = "",
    linestyle: str = "-",
) -> Axes:
    """One overlap against time [time]."""
    ax = new_axes(ax)
    ax.plot(overlap["time"], overlap, color=colour, label=label, linestyle=linestyle, linewidth=1.6)
    return finish(ax, xlabel=_time_label(overlap), ylabel=_label(overlap))


def plot_fan(overlap: xarray.DataArray, ax: Axes | None = None, *, series: int = 0) -> Axes:
    """Overlaps of paths [sample, time]: single paths, the middle half, and the mean with its error.

    The error is over paths: averages over tokens do not concentrate under common noise.
    """
    ax = new_axes(ax)
    colour = COLOURS[series % len(COLOURS)]
    time = overlap["time"]
    values = overlap.transpose("sample", "time").values
    ax.plot(time, values[:SHOWN].T, color=colour, alpha=0.18, linewidth=0.7)
    low, high = np.quantile(values, (0.25, 0.75), axis=0)
    ax.fill_between(time, low, high, color=colour, alpha=0.25, linewidth=0, label="middle half")
    mean = values.mean(axis=0)
    error = 2 * bars(standard_error(values))
    ax.plot(time, mean, color=colour, linewidth=1.8, label=f"mean of {len(values)} paths")
    ax.fill_between(
        time,
        mean - error,
        mean + error,
        color=LIMIT,
        alpha=0.3,
        linewidth=0,
        label="two standard errors",
    )
    return finish(ax, xlabel=_time_label(overlap), ylabel=_label(overlap))


def _time_label(data: xarray.DataArray) -> str:
    return str(data["time"].attrs.get("long_name", "time"))


def _label(data: xarray.DataArray) -> str:
    return str(data.attrs.get("long_name", "overlap"))
