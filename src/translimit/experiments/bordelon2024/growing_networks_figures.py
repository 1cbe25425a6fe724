"""Figures of networks in a size that grows: losses, distances from the limit, law of attention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import figures
from translimit.experiments.bordelon2024.growing_networks import (
    Config,
    errors,
    fitted_rate,
    limit,
    networks,
    other,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: How figures call the axes.
LABELS = {"heads": "heads $H$", "head_dim": "head dimension $N$", "layers": "layers $L$"}


def _loss_columns(config: Config) -> tuple[str, ...]:
    sizes = [f"{config.symbol}={size}" for size in config.ends]
    ranges = [f"{quantile} %, {size}" for size in sizes for quantile in (10, 90)]
    without = [f"limit without {name}" for name in config.without]
    return ("updates", "limit", *(f"median, {size}" for size in sizes), *ranges, *without)


def _loss_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    losses = [
        np.quantile(one.loss, (0.1, 0.5, 0.9), axis=0) for one in networks(found, found.config.ends)
    ]
    ranges = [quantiles[i] for quantiles in losses for i in (0, 2)]
    without = [other(found, name).loss for name in found.config.without]
    columns = (limit(found).loss, *(quantiles[1] for quantiles in losses), *ranges, *without)
    for t, row in enumerate(zip(*columns, strict=True)):
        yield (t, *map(float, row))


def _loss_layers(config: Config) -> tuple[figures.Layer, ...]:
    layers = []
    for i, size in enumerate(config.ends):
        name = f"{config.symbol}={size}"
        label = f"networks, ${config.symbol} = {size}$"
        layers += [
            figures.band(f"10 %, {name}", f"90 %, {name}", label="", series=i),
            figures.line(f"median, {name}", label=label, series=i, joined=True),
        ]
    layers.append(figures.line("limit", label="limit", series=None))
    for place, name in enumerate(config.without):
        label, dash = f"limit without $R^{name[-1]}$", f"{6 - place} {3 + place}"
        layers.append(figures.line(f"limit without {name}", label=label, series=None, dash=dash))
    return tuple(layers)


def _rate_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """The error of the rms follows from that of the mean square."""
    for size, row in zip(found.config.sizes, found.once(errors), strict=True):
        rms = float(np.sqrt(np.mean(row**2)))
        stderr = float((row**2).std(ddof=1) / (2 * rms * math.sqrt(row.size)))
        yield (size, rms, stderr)


def _draw_rate(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    """With the fitted rate and its interval in the legend."""
    import xarray

    axis = found.config.axis
    sizes = ("size", table.column(axis), {"long_name": LABELS[axis]})
    error, stderr = (
        xarray.DataArray(table.numbers(name), dims="size", coords={"size": sizes})
        for name in table.columns[1:]
    )
    fit = found.once(fitted_rate)
    figures.plot_convergence(error, stderr, canvas.subplots(), fit=fit, predicted_rate=-0.5)


def _attention_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Densities at the start and at the end, over 99.5 % of the scores at the end."""
    ends = networks(found, found.config.sizes[-1:])[0].score
    edges = np.quantile(np.abs(ends[:, -1]), 0.995) * np.linspace(-1, 1, 41)
    for t, when in ((0, "at the start"), (-1, f"after {found.config.steps - 1} updates")):
        columns = (
            (edges[1:] + edges[:-1]) / 2,
            np.histogram(ends[:, t], edges, density=True)[0],
            np.histogram(limit(found).score[t], edges, density=True)[0],
        )
        for row in zip(*columns, strict=True):
            yield (when, *map(float, row))


LOSS = ex.Figure(
    name="loss",
    title="Loss of networks and of the limit",
    caption=lambda found: (
        (
            f"Median and 10-90 % band over {found.config.seeds} networks of each size, the "
            if found.config.ends
            else "The "
        )
        + "limit (line)"
        + (" and the limit without one of its responses (dashed)" if found.config.without else "")
        + ". Nothing is fitted."
    ),
    columns=_loss_columns,
    rows=_loss_rows,
    layers=_loss_layers,
    x="updates",
    ylabel="loss",
    log="y",
    shown=lambda found, table: len(found.config.ends),
)
ERRORS = ex.Figure(
    name="rate",
    title="Distance of one network from the limit",
    caption="Rms distance of predictions over evaluations, inputs and {seeds} networks of each "
    "size, with its standard error.",
    columns=lambda c: (c.axis, "rms distance", "standard error"),
    rows=_rate_rows,
    draw=_draw_rate,
    shown=lambda found, table: len(table.rows),
    when=lambda c: c.axis != "none",
)
LAW = ex.Figure(
    name="attention",
    title="Law of a score over heads",
    caption=lambda found: (
        "The score of the second token on the first, first input; all heads of all networks of "
        f"$H = {found.config.sizes[-1]}$ against {limit(found).score.shape[1]} heads of the limit. "
        "Its tails are those of a quadratic form: excess kurtosis is 6 / head dimension at the "
        "start."
    ),
    columns=("evaluation", "score", "networks", "limit"),
    rows=_attention_rows,
    x="score",
    panels="evaluation",
    layers=(
        figures.steps("networks", label="networks"),
        figures.steps("limit", label="limit", series=None),
    ),
    xlabel="score over heads",
    ylabel="density",
    log="y",
    size=(9.0, 4.0),
    when=lambda c: c.axis == "heads",
)
FIGURES = (LOSS, ERRORS, LAW)
