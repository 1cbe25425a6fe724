"""Ensembles of covariance paths along depth: medians and bands, the ended ones counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from translimit.figures.style import COLOURS, finish, new_axes

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


def plot_correlation_bands(
    data: xarray.Dataset, ax: Axes | None = None, *, sample: str = "paths"
) -> Axes:
    """Median, 25-75 % and 10-90 % bands of the correlation of tokens 0 and 1 along depth.

    Args:
        data: `cov` [sample, time, token, token2], and `blow_up_time` [sample] where paths can
            explode; those that have
            exploded leave the bands, and are counted in the label.
        ax: where to draw.
        sample: what a sample is, in the plural.
    """
    ax = new_axes(ax)
    cov = data["cov"].values
    rho = cov[..., 0, 1] / np.sqrt(cov[..., 0, 0] * cov[..., 1, 1])
    low, quarter, median, upper, high = np.nanquantile(rho, [0.1, 0.25, 0.5, 0.75, 0.9], axis=0)
    time = data["time"].values
    exploded = int(np.isfinite(data["blow_up_time"]).sum()) if "blow_up_time" in data else 0
    ax.fill_between(time, low, high, color=COLOURS[0], alpha=0.15, label="10-90 %")
    ax.fill_between(time, quarter, upper, color=COLOURS[0], alpha=0.3, label="25-75 %")
    label = f"median of {len(rho)} {sample}" + (f", {exploded} exploded" if exploded else "")
    ax.plot(time, median, color=COLOURS[0], label=label)
    ax.set_ylim(-1.02, 1.02)
    finish(ax, xlabel="depth over width $t$", ylabel="correlation of tokens 0 and 1")
    return ax
