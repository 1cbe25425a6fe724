"""A diagnosis drawn: small multiples over layers, along depth, and z of all observables."""

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
#: Parts of the update of the overlap, with the words of the legend.
UPDATES = {
    "overlap_drift": "drift",
    "overlap_coherent": "coherent",
    "overlap_independent": "independent",
}
#: Closures that are drawn.
CLOSURES = {"gaussian": "infinitely many keys", "finite": "as many keys", "atoms": "with atoms"}


def plot_diagnosis(diagnosis: Diagnosed) -> Figure:
    """Trained figures with two errors, mean and two deviations of the null, the prediction dashed.

    Args:
        diagnosis: what was found.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 10.4), layout="constrained")
    parts = figure.add_gridspec(3, 1, height_ratios=(2, 1, 1.2))
    upper, middle, lower = (figure.add_subfigure(parts[place]) for place in range(3))
    axes = upper.subplots(2, 4).ravel()
    for place, name in enumerate(PANELS):
        _panel(diagnosis, name, axes[place], told=place == 0)
    update, cosines, closures = middle.subplots(1, 3, width_ratios=(2, 1.3, 1.3))
    _update(diagnosis, update)
    _cosines(diagnosis, cosines)
    _closures(diagnosis, closures)
    _scores(diagnosis, lower.subplots())
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


def _update(diagnosis: Diagnosed, ax: Axes) -> None:
    """What heads add to the mean product of two tokens: bars by layer."""
    if not np.isfinite(diagnosis.compared["overlap_independent"].value).any():
        ax.set_axis_off()
        return
    layers = np.arange(1, len(diagnosis.compared["overlap"].value))
    for place, (name, label) in enumerate(UPDATES.items()):
        one = diagnosis.compared[name]
        ax.bar(
            layers + 0.27 * (place - 1),
            one.value[1:],
            0.25,
            yerr=np.nan_to_num(2 * one.error[1:]),
            color=figures.COLOURS[place],
            hatch=("", "///", "...")[place],
            error_kw={"linewidth": 0.8},
            label=label,
        )
    ax.axhline(0, color="0.4", linewidth=0.6)
    figures.finish(ax, xlabel="layer", ylabel="change of overlap")


def _cosines(diagnosis: Diagnosed, ax: Axes) -> None:
    """Cosines of A between layers."""
    values = diagnosis.along_depth.cosines
    if not np.isfinite(values).any():
        ax.set_axis_off()
        return
    end = len(values) + 0.5
    drawn = ax.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0.5, end, end, 0.5))
    ax.set_xlabel("layer")
    ax.set_ylabel("layer")
    ax.figure.colorbar(drawn, ax=ax).set_label(r"cosine of $\sum_h W_Q W_K^\top$")


def _closures(diagnosis: Diagnosed, ax: Axes) -> None:
    """R^2 of the closures of attention."""
    if not diagnosis.closures:
        ax.set_axis_off()
        return
    data, layers = diagnosis.observables, np.arange(1, len(diagnosis.compared["overlap"].value))
    for place, (name, label) in enumerate(CLOSURES.items()):
        values = data[f"closure_{name}"].values[1:]
        colour, marker = figures.COLOURS[place], figures.MARKERS[place]
        ax.plot(layers, values, color=colour, marker=marker, ms=3, lw=1.1, label=label)
    ax.set_ylim(-1, 1)
    figures.finish(ax, xlabel="layer", ylabel="$R^2$ of attention")


def _scores(diagnosis: Diagnosed, ax: Axes) -> None:
    """The z of all observables by layer, as a map."""
    if not diagnosis.nulls:
        ax.set_axis_off()
        return
    names = [name for name in diagnosis.compared if np.isfinite(diagnosis.compared[name].z).any()]
    values = np.array([diagnosis.compared[name].z for name in names])
    shown = np.sign(values) * np.log10(1 + np.abs(values))
    drawn = ax.imshow(shown.T, aspect="auto", cmap="RdBu_r", vmin=-2, vmax=2)
    ax.set_xticks(np.arange(len(names)), names, rotation=60, ha="right", fontsize=7)
    ax.set_ylabel("layer")
    bar = ax.figure.colorbar(drawn, ax=ax, ticks=[-2, -1.04, 0, 1.04, 2])
    bar.ax.set_yticklabels(["-99", "-10", "0", "10", "99"])
    bar.set_label("z against the null")
