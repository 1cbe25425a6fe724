"""Eigenvalues on the way to a limit, and histograms of the rank that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from translimit.figures.style import COLOURS, DASHES, HATCHES, LIMIT, finish, new_axes

if TYPE_CHECKING:
    import xarray


def plot_eigenvalue_paths(
    paths: xarray.DataArray, ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Eigenvalues of a covariance against depth, both logarithmic, one line and dash each.

    Args:
        paths: eigenvalues [..., time, eigenvalue], leading axes over members; zeros and NaN are
            left out.
        ax: axes to draw into.
        title: of the axes.
    """
    ax = new_axes(ax)
    times = np.asarray(paths["time"], dtype=float)
    table = np.asarray(paths.transpose(..., "eigenvalue", "time"))
    for index in range(table.shape[-2]):
        label = rf"$\lambda_{index + 1}$"
        members = table[..., index, :].reshape(-1, times.size)
        for values in members:
            shown = (values > 0) & (times > 0)
            if shown.any():
                ax.plot(
                    times[shown],
                    values[shown],
                    color=COLOURS[index % len(COLOURS)],
                    linestyle=DASHES[index % len(DASHES)],
                    linewidth=1.5 if len(members) == 1 else 0.5,
                    alpha=1.0 if len(members) == 1 else 0.5,
                    label=label,
                )
                label = "_"
    ax.set_xscale("log")
    ax.set_yscale("log")
    return finish(ax, xlabel="depth $t$", ylabel="eigenvalues of the covariance", title=title)


def plot_rank_histogram(
    counts: Mapping[str, Sequence[int]],
    bars: Sequence[str],
    ax: Axes | None = None,
    *,
    bound: int | None = None,
    title: str = "",
    legend: bool = True,
) -> Axes:
    """Counts of ranks side by side, one colour and hatch a way of counting.

    Args:
        counts: for each way of counting its counts [bars].
        bars: what the bars are: ranks, and `undecided`.
        ax: axes to draw into.
        bound: the largest rank that theory allows, marked by a dashed line after its bar.
        title: of the axes.
        legend: whether to name the ways of counting.
    """
    ax = new_axes(ax)
    width = 0.8 / len(counts)
    for series, (label, values) in enumerate(counts.items()):
        at = np.arange(len(bars)) + (series - (len(counts) - 1) / 2) * width
        place = series % len(COLOURS)
        ax.bar(
            at,
            values,
            width,
            color=COLOURS[place],
            hatch=HATCHES[place],
            edgecolor="white",
            linewidth=0.0,
            label=label,
        )
    if bound is not None:
        ax.axvline(list(bars).index(str(bound)) + 0.5, color=LIMIT, linestyle="--", linewidth=1.0)
    ax.set_xticks(range(len(bars)), list(bars))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return finish(ax, xlabel="rank of the limit", ylabel="draws", title=title, legend=legend)
