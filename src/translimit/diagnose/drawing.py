"""A diagnosis drawn: small multiples over layers, and z of all observables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from translimit import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from translimit.diagnose.diagnosed import Diagnosed

#: What is drawn over layers, with the words of its axis.
PANELS = {
    "overlap": "overlap",
    "effective_rank": "effective rank",
    "entropy": "entropy over log n",
    "score_spread": "spread of scores",
    "head_var": "variance over heads",
    "ratio_a": "attention / stream",
    "ratio_f": "MLP / stream",
    "sink": "weight on one early key",
}


def plot_diagnosis(diagnosis: Diagnosed) -> Figure:
    """Trained figures with two errors, mean and two deviations of the null, the prediction dashed.

    Args:
        diagnosis: what was found.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 8.2), layout="constrained")
    grid = figure.add_gridspec(3, 4, height_ratios=(1, 1, 1.1))
    for place, name in enumerate(PANELS):
        _panel(diagnosis, name, figure.add_subplot(grid[place // 4, place % 4]), told=place == 0)
    if diagnosis.nulls:
        _scores(diagnosis, figure.add_subplot(grid[2, :]))
    return figure


def _panel(diagnosis: Diagnosed, name: str, ax: Axes, *, told: bool) -> None:
    one, layers = diagnosis.compared[name], np.arange(len(diagnosis.compared[name].value))
    if np.isfinite(one.null).any():
        low, high = one.null - 2 * one.null_std, one.null + 2 * one.null_std
        ax.fill_between(layers, low, high, color=figures.LIMIT, alpha=0.15, linewidth=0)
        ax.plot(
            layers,
            one.null,
            color=figures.LIMIT,
            linewidth=0.8,
            label=diagnosis.null if told else None,
        )
    if diagnosis.prediction is not None and name in diagnosis.prediction.values:
        values = diagnosis.prediction.values[name]
        ax.plot(
            layers, values, color=figures.LIMIT, linestyle="--", label="predicted" if told else None
        )
    error = np.where(np.isfinite(one.error), 2 * one.error, 0.0)
    label, colour, marker = "trained" if told else None, figures.COLOURS[0], figures.MARKERS[0]
    drawn = ax.errorbar(layers, one.value, error, color=colour, marker=marker, label=label)
    drawn.lines[0].set(markersize=3, linewidth=1.2)
    figures.finish(ax, xlabel="layer", ylabel=PANELS[name])


def _scores(diagnosis: Diagnosed, ax: Axes) -> None:
    """The z of all observables by layer, as a map."""
    names = [name for name in diagnosis.compared if np.isfinite(diagnosis.compared[name].z).any()]
    values = np.array([diagnosis.compared[name].z for name in names])
    shown = np.sign(values) * np.log10(1 + np.abs(values))
    drawn = ax.imshow(shown.T, aspect="auto", cmap="RdBu_r", vmin=-2, vmax=2)
    ax.set_xticks(np.arange(len(names)), names, rotation=60, ha="right", fontsize=7)
    ax.set_ylabel("layer")
    bar = ax.figure.colorbar(drawn, ax=ax, ticks=[-2, -1.04, 0, 1.04, 2])
    bar.ax.set_yticklabels(["-99", "-10", "0", "10", "99"])
    bar.set_label("z against the null")
