"""Pictures that experiments share: clouds with ellipses, and distances with their rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit import core, figures

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


#: Columns of the rows of `rate_rows` beside the sizes, and how they are drawn.
RATE_COLUMNS = ("rms distance", "stderr", "fitted", "predicted")
RATE = (
    figures.line("predicted", label="predicted rate", by="", series=None),
    figures.line("fitted", label="fitted rate", by="", dash="6 3"),
    figures.points("rms distance", "stderr", label="measured", by=""),
)


def rate_rows(
    sizes: Sequence[int | float] | np.ndarray,
    errors: Sequence[np.ndarray] | np.ndarray,
    fit: core.RateFit,
    predicted: float,
) -> Iterator[tuple[float, ...]]:
    """Sizes, rms distances with their errors, the fitted power law and the predicted slope.

    Args:
        sizes: of the systems.
        errors: for each size distances of independent replicates.
        fit: the fitted power law.
        predicted: the rate of theory; its line starts where the fitted one does.
    """
    for size, row in zip(sizes, errors, strict=True):
        rms = float(np.sqrt(np.mean(row**2)))
        stderr = float(core.standard_error(row**2)) / (2 * rms)
        fitted, slope = fit.constant * size**fit.rate, (size / sizes[0]) ** predicted
        line = fit.constant * sizes[0] ** fit.rate * slope
        yield (float(size), rms, stderr, float(fitted), float(line))


def said_rate(fit: core.RateFit) -> str:
    """A fitted rate with its interval, for a caption."""
    return f"{fit.rate:.3f} [{fit.interval[0]:.3f}, {fit.interval[1]:.3f}]"
