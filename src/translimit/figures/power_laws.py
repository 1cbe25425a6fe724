"""Power laws over sizes, and losses over rates: the panels of checks and sweeps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Real
from matplotlib.axes import Axes

from translimit.core import AnyArray, Estimate, with_error
from translimit.figures.style import COLOURS, LIMIT, MARKERS, bars, finish, new_axes

#: Sizes of networks.
Sizes: TypeAlias = Sequence[int] | Sequence[float] | Real[AnyArray, " sizes"]


def plot_power_law(
    ax: Axes | None,
    sizes: Sizes,
    rows: Float[AnyArray, "sizes replicates"],
    fitted: Estimate,
    *,
    series: int,
    label: str,
    expected: float | None = None,
) -> Axes:
    """Means over replicates with bars, the fitted exponent in the legend, the expected one dashed.

    Args:
        ax: where to draw.
        sizes: [sizes].
        rows: [sizes, replicates].
        fitted: the exponent.
        series: which colour and marker.
        label: what is drawn.
        expected: exponent of the dashed line.
    """
    ax = new_axes(ax)
    along, rows = np.asarray(sizes, float), np.asarray(rows, float)
    colour = COLOURS[series % len(COLOURS)]
    mean = rows.mean(axis=1)
    error = [Estimate.over_seeds(row).stderr for row in rows]
    text = f"{label}: {with_error(fitted.value, fitted.stderr, '+.2f')}"
    text = text.replace("-", "\N{MINUS SIGN}")
    ax.errorbar(
        along,
        mean,
        yerr=bars(error),
        fmt=MARKERS[series % len(MARKERS)],
        color=colour,
        markersize=4.5,
        capsize=2.5,
        label=text,
    )
    if expected is not None:
        anchor = np.exp(np.mean(np.log(mean) - expected * np.log(along)))
        ax.plot(along, anchor * along**expected, "--", color=colour, linewidth=1.0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(along, [f"{size:g}" for size in along])
    ax.minorticks_off()
    return ax


def legend_below(ax: Axes) -> Axes:
    """Move the legend to the lower left and make room for it under what is drawn.

    Args:
        ax: with a logarithmic ordinate.
    """
    labels = ax.get_legend_handles_labels()[1]
    if not labels:
        return ax
    low, high = ax.get_ylim()
    share = min(0.6, 0.06 + 0.085 * len(labels))
    ax.set_ylim(high * (low / high) ** (1 / (1 - share)), high)
    ax.legend(loc="lower left", frameon=False, fontsize="small", labelspacing=0.3)
    return ax


def plot_transfer(
    ax: Axes | None,
    rates: Sequence[float] | Float[AnyArray, " rates"],
    losses: Float[AnyArray, "sizes seeds rates"],
    optima: Sequence[float] | Float[AnyArray, " sizes"],
    errors: Sequence[float] | Float[AnyArray, " sizes"],
    sizes: Sizes,
    *,
    bounds: Sequence[str],
    ylabel: str = "loss",
    title: str = "",
    floor: float | None = None,
    floor_label: str = "linear model",
) -> Axes:
    """Loss against rate, one curve a size, with optima, their bars, and the base's as a line.

    An optimum that is a bound points along the axis, to where it may be, and has no bar.

    Args:
        ax: where to draw.
        rates: [rates].
        losses: [sizes, seeds, rates]; geometric means over seeds are drawn.
        optima: log10 of the best rates [sizes]; the first is that of the base.
        errors: their standard errors [sizes].
        sizes: [sizes].
        bounds: "at most" or "at least" where an optimum is a bound, else "" [sizes].
        ylabel: of the losses.
        title: of the panel.
        floor: a loss to compare with.
        floor_label: what it is.
    """
    ax = new_axes(ax)
    for series, size in enumerate(sizes):
        mean = np.exp(np.log(np.asarray(losses[series])).mean(axis=0))
        optimum, bound = float(optima[series]), bounds[series]
        error = float("nan") if bound else float(bars(errors[series]))
        colour = COLOURS[series % len(COLOURS)]
        ax.plot(
            rates,
            mean,
            marker=MARKERS[series % len(MARKERS)],
            color=colour,
            markersize=3.5,
            linewidth=1.2,
            label=f"{size}: best {_power_of_ten(optimum, float(errors[series]), bound)}",
        )
        low, middle, high = (10 ** (optimum + shift) for shift in (-error, 0, error))
        span = [[middle - low], [high - middle]]
        depth = float(mean.min()) * 0.93
        points_along = {"at most": "<", "at least": ">"}.get(bound, "v")
        ax.errorbar(middle, depth, xerr=span, fmt=points_along, color=colour, capsize=2.5)
    ax.axvline(10 ** float(optima[0]), color=LIMIT, linewidth=0.8)
    if floor is not None:
        ax.axhline(floor, color="0.5", linestyle=":", linewidth=1.0, label=floor_label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    return finish(ax, xlabel="learning rate at the base", ylabel=ylabel, title=title)


def _power_of_ten(exponent: float, error: float, bound: str) -> str:
    r"""Ten to a power with the error of the exponent, as mathematics: `$10^{-2.31 \pm 0.02}$`."""
    said = with_error(exponent, error, bound=bound)
    return re.sub(
        r"-?\d[\d.]*(?: ± [\d.]+)?",
        lambda found: f"$10^{{{found[0].replace('±', chr(92) + 'pm')}}}$",
        said,
        count=1,
    )
