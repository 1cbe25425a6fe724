"""Pictures that experiments share: clouds with ellipses, and distances with their rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit import core, figures
from translimit.experiments.castin2025.canonical import curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cloud:
    """What one panel shows.

    Attributes:
        title: above it.
        tokens: of the cloud.
        mean: of the Gaussian.
        cov: of the Gaussian.
    """

    title: str
    tokens: Float[np.ndarray, "token component"]
    mean: Float[np.ndarray, " component"]
    cov: Float[np.ndarray, "component component"]


def draw_clouds(
    canvas: Figure,
    axes: Sequence[Axes],
    clouds: Sequence[Cloud],
    extent: tuple[float, float, float, float],
) -> None:
    """Draw clouds in their first two components, with one legend below all of them.

    Args:
        canvas: the figure.
        axes: empty axes, one for each cloud.
        clouds: what they show.
        extent: left, right, bottom and top of all of them.
    """
    for place, (ax, cloud) in enumerate(zip(axes, clouds, strict=True)):
        figures.plot_cloud(
            cloud.tokens, cloud.mean, cloud.cov, ax, title=cloud.title, extent=extent
        )
        if place:
            ax.set_ylabel("")
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(
        handles, labels, loc="outside lower center", ncols=3, frameon=False, markerscale=3
    )


def draw_rate(
    ax: Axes,
    table: figures.Table,
    columns: tuple[str, str, str],
    fit: core.RateFit,
    predicted: float,
    words: tuple[str, str, str],
    series: int = 0,
) -> None:
    """Draw distances over sizes, their fitted rate and the predicted one.

    Args:
        ax: empty axes, or those of the series before.
        table: the numbers.
        columns: of the sizes, the distances and their standard errors.
        fit: the fitted power law.
        predicted: the rate of theory.
        words: for the sizes, the distances and the series.
        series: which colour and marker to take.
    """
    figures.plot_convergence(
        *curves(table, *columns, xlabel=words[0]),
        ax,
        fit=fit,
        predicted_rate=predicted,
        series=series,
        label=words[2],
        ylabel=words[1],
        theory_label="_predicted" if series else "predicted",
    )
