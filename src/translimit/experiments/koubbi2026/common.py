"""What the experiments on random heads share: references, estimates, points with error bars."""

from __future__ import annotations

from typing import Any

import numpy as np

from translimit import figures
from translimit.core import Estimate, standard_error

REFERENCE = "Koubbi et al., arXiv 2604.01978"
TAU = r"unit diffusive time $\tau$"


def mean_and_stderr(values: Any, axis: int = 0) -> tuple[Any, Any]:
    """Mean and standard error over independent replicas along one axis."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(values.mean(axis)), standard_error(values, axis)


def estimate(values: Any, discretisation: float = 0.0) -> Estimate:
    """The mean of independent values."""
    return Estimate.from_samples(np.asarray(values, np.float64), discretisation=discretisation)


def points(ax: Any, x: Any, mean: Any, stderr: Any, series: int, label: str) -> None:
    """Finite systems: markers with bars of one standard error."""
    ax.errorbar(
        x,
        mean,
        yerr=figures.bars(stderr),
        fmt=figures.MARKERS[series % len(figures.MARKERS)],
        color=figures.COLOURS[series % len(figures.COLOURS)],
        fillstyle="full" if series < len(figures.MARKERS) else "none",
        markersize=4.5,
        capsize=2.5,
        linewidth=1.0,
        label=label,
    )


def line(ax: Any, x: Any, y: Any, series: int | None, label: str, style: str = "-") -> None:
    """A limit: a line through the points of its colour, or in the limits' own colour."""
    colour = figures.LIMIT if series is None else figures.COLOURS[series % len(figures.COLOURS)]
    ax.plot(x, y, style, color=colour, linewidth=1.5, label=label, zorder=1)
