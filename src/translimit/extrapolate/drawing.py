"""An extrapolation drawn: curves of the runs, and the band at a size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from translimit import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from translimit.extrapolate.fitted import Fitted
    from translimit.extrapolate.predicted import Predicted


def plot_extrapolation(extrapolation: Fitted, predicted: Predicted, ax: Axes | None = None) -> Axes:
    """Mean curves of all sizes, and the band of one that was not trained.

    Of a single step, losses against 1/n.

    Args:
        extrapolation: the fit.
        predicted: the size.
        ax: where to draw; a new figure by default.
    """
    ax = figures.new_axes(ax)
    series = extrapolation.series[0]
    order = np.argsort(np.log(series.sizes).sum(axis=1))
    if len(extrapolation.steps) == 1:
        return _against_size(extrapolation, predicted, ax)
    for place, point in enumerate(order):
        named = ", ".join(
            f"{a} = {s:g}" for a, s in zip(extrapolation.axes, series.sizes[point], strict=True)
        )
        ax.plot(
            extrapolation.steps,
            np.exp(series.means[point]),
            color=figures.COLOURS[place % len(figures.COLOURS)],
            linestyle=figures.DASHES[place % len(figures.DASHES)],
            linewidth=1.2,
            label=named,
        )
    _band(predicted, ax)
    ax.set_yscale("log")
    return figures.finish(ax, xlabel="updates", ylabel="loss")


def _band(predicted: Predicted, ax: Axes) -> None:
    steps = predicted.steps
    seeds = 2 * predicted.seed_error[0]
    ax.fill_between(
        steps,
        predicted.low,
        predicted.high,
        color=figures.LIMIT,
        alpha=0.15,
        linewidth=0,
        label="at two errors",
    )
    ax.fill_between(
        steps,
        predicted.loss * np.exp(-seeds),
        predicted.loss * np.exp(seeds),
        color=figures.LIMIT,
        alpha=0.3,
        linewidth=0,
        label="of the seeds alone",
    )
    ax.plot(steps, predicted.loss, color=figures.LIMIT, linewidth=1.8, label=predicted.named())


def _against_size(extrapolation: Fitted, predicted: Predicted, ax: Axes) -> Axes:
    series = extrapolation.series[0]
    n = series.sizes[:, 0]
    target = next(iter(predicted.sizes.values()))
    bars = 2 * np.sqrt(np.diagonal(series.noise[-1]))
    losses = np.exp(series.means[:, -1])
    ax.errorbar(1 / n, losses, yerr=losses * bars, fmt="o", color=figures.COLOURS[0], label="runs")
    middle = predicted.loss[-1]
    ends = [[middle - predicted.low[-1]], [predicted.high[-1] - middle]]
    ax.errorbar(
        [1 / target],
        [middle],
        yerr=ends,
        fmt="s",
        color=figures.LIMIT,
        capsize=3,
        label=f"{predicted.named()}, at two errors",
    )
    return figures.finish(ax, xlabel=f"1 / {extrapolation.axes[0]}", ylabel="loss")
