"""Curves of training: predictions with their errors, towards their targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from translimit.figures.style import COLOURS, LIMIT, finish, new_axes

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

#: Predictions that are drawn; the first ones.
SHOWN = 12


def plot_predictions(data: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """Predictions [step, input(, output)] with two standard errors, targets as dotted lines.

    Args:
        data: `predictions`, `stderr` and `targets`.
        ax: where to draw.
    """
    ax = new_axes(ax)
    steps = data["step"].values
    f = data["predictions"].values.reshape(len(steps), -1)
    error = 2 * data["stderr"].values.reshape(len(steps), -1)
    targets = data["targets"].values.reshape(-1)
    for i in range(min(SHOWN, f.shape[1])):
        colour = COLOURS[i % len(COLOURS)]
        label = "predictions" if i == 0 else ""
        ax.plot(steps, f[:, i], color=colour, linewidth=1.6, label=label)
        ax.fill_between(
            steps,
            f[:, i] - error[:, i],
            f[:, i] + error[:, i],
            color=colour,
            alpha=0.3,
            linewidth=0,
        )
        if np.isfinite(targets[i]):
            ax.axhline(
                targets[i],
                color=LIMIT,
                linestyle=":",
                linewidth=0.8,
                label="targets" if i == 0 else "",
            )
    return finish(ax, xlabel="updates", ylabel="prediction $f$")
