"""A series of checkpoints drawn: small multiples against log(step + 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from translimit import figures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@runtime_checkable
class Along(Protocol):
    """What is drawn of a series of checkpoints; see `translimit.diagnose.Series`."""

    @property
    def steps(self) -> Float[np.ndarray, " checkpoints"]:
        """Of every checkpoint."""
        ...

    @property
    def losses(self) -> Float[np.ndarray, " checkpoints"]:
        """In nats."""
        ...

    @property
    def moved(self) -> Mapping[str, Float[np.ndarray, "checkpoints layers"]]:
        """Movement of matrices."""
        ...

    @property
    def scores_moved(self) -> Float[np.ndarray, "checkpoints layers"]:
        """Movement of scores."""
        ...

    @property
    def alignment(self) -> Float[np.ndarray, "checkpoints places"]:
        """Of kernels with the first."""
        ...

    @property
    def neighbours(self) -> Float[np.ndarray, " checkpoints"]:
        """Mean cosine of neighbouring layers."""
        ...

    @property
    def straightness(self) -> Float[np.ndarray, "checkpoints 2"]:
        """Of the branches of attention and of the MLPs."""
        ...

    def mean(self, name: str) -> Float[np.ndarray, "checkpoints places"]:
        """An observable's mean over sequences."""
        ...


#: Observables by layer, with the words of their axis.
PANELS = {
    "overlap": "overlap",
    "entropy": "entropy over log n",
    "head_var": "variance over heads",
    "score_spread": "spread of scores",
}


def plot_series(series: Along) -> Figure:
    """Loss, observables by layer, movement of weights and scores, alignment, along depth.

    Args:
        series: of checkpoints.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 6.4), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    _lines(axes[0], series, {"loss": series.losses}, "loss in nats")
    for ax, (name, label) in zip(axes[1:5], PANELS.items(), strict=True):
        _layers(ax, series, series.mean(name)[:, 1:], label, told=name == "overlap")
    moved = {name: rows.mean(axis=1) for name, rows in series.moved.items()}
    axes[5].plot(
        series.steps, series.scores_moved.mean(axis=1), color="0.2", ls="--", lw=1.4, label="scores"
    )
    _lines(axes[5], series, moved, "movement")
    _layers(axes[6], series, series.alignment[:, 1:], "alignment with the first", told=False)
    s = series.straightness
    names = {"attention": s[:, 0], "MLPs": s[:, 1], "cosine of neighbours": series.neighbours}
    _lines(axes[7], series, names, "along depth")
    return figure


def _layers(
    ax: Axes,
    series: Along,
    rows: Float[np.ndarray, "checkpoints layers"],
    label: str,
    *,
    told: bool,
) -> None:
    """A line a layer, from light to dark."""
    from matplotlib import colormaps

    count = rows.shape[1]
    shades = colormaps["viridis_r"](np.linspace(0.1, 1.0, count))
    for place, shade in enumerate(shades):
        marker = figures.MARKERS[place % len(figures.MARKERS)]
        ends = f"layer {place + 1}" if told and place in (0, count - 1) else None
        ax.plot(series.steps, rows[:, place], color=shade, marker=marker, ms=3, lw=1.1, label=ends)
    _finish(ax, series, label)


def _lines(
    ax: Axes, series: Along, rows: Mapping[str, Float[np.ndarray, " checkpoints"]], label: str
) -> None:
    for place, (name, values) in enumerate(rows.items()):
        colour = figures.COLOURS[place % len(figures.COLOURS)]
        marker = figures.MARKERS[place % len(figures.MARKERS)]
        told = name if len(rows) > 1 else None
        ax.plot(series.steps, values, color=colour, marker=marker, ms=3, lw=1.1, label=told)
    _finish(ax, series, label)


def _finish(ax: Axes, series: Along, label: str) -> None:
    ax.set_xscale("symlog", linthresh=1.0)
    ax.set_xlim(left=0)
    figures.finish(ax, xlabel="step", ylabel=label)
