"""Figures of coordinate checks, and what claims and figures read from a stored check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from translimit import checks, figures
from translimit.core import Estimate
from translimit.experiments.base import Cell, FigureSpec, Results, Table
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.controls import CONTROLS

if TYPE_CHECKING:
    import xarray as xr

    from translimit.experiments.bordelon2024.coordinates import Config, Coordinates

#: Distance from the promised exponent beyond which a control has failed.
BITE = 0.25


def exponent(check: xr.Dataset, coordinate: str, step: int) -> Estimate:
    """The fitted exponent of a coordinate after some updates."""
    return checks.power_law_exponent(
        check["size"].values, check[coordinate].sel(updates=step).values
    )


def promised_exponents(check: xr.Dataset) -> dict[tuple[str, int], float]:
    """The exponents that the rules promise, by coordinate and updates."""
    attrs = check.attrs
    names, steps = np.atleast_1d(attrs["coordinates"]), np.atleast_1d(attrs["steps"])
    values = np.atleast_1d(attrs["promised"])
    return {(str(n), int(s)): float(v) for n, s, v in zip(names, steps, values, strict=True)}


#: The panels of a check.
PANELS = (
    ("stream", "stream_change", "hidden_change"),
    ("learned_key_change", "learned_score_change", "output_change"),
)


def check_figure(config: Config, cell: Cell, check: xr.Dataset) -> FigureSpec:
    """Six coordinates of one check, a colour for each number of updates."""
    facts, promised = cell.parameters, promised_exponents(check)
    sizes, axis = check["size"].values, facts["axis"]
    fits = {
        (name, step): exponent(check, name, step)
        for row in PANELS
        for name in row
        for step in config.steps
        if not (name.endswith("change") and step == 0)
    }

    def draw(figure: Any) -> None:
        grid = figure.subplots(2, 3, sharex=True)
        for row, names in enumerate(PANELS):
            for column, name in enumerate(names):
                ax = grid[row][column]
                shown = [step for step in config.steps if (name, step) in fits]
                for series, step in enumerate(shown):
                    figures.plot_power_law(
                        ax,
                        sizes,
                        check[name].sel(updates=step).values,
                        fits[name, step],
                        series=series,
                        label=f"step {step}",
                        expected=promised.get((name, step)),
                    )
                title = name.replace("_", " ")
                label = networks.AXIS_LABELS[axis] if row == 1 else ""
                figures.finish(ax, xlabel=label, ylabel="rms", title=title)
                figures.legend_below(ax)

    rows = tuple(
        (name, step, fit.value, fit.stderr, promised.get((name, step), float("nan")))
        for (name, step), fit in fits.items()
    )
    where = f"{networks.OPTIMIZER_LABELS[facts['optimizer']]}, {networks.AXIS_LABELS[axis]}"
    exponents = f"$(\\alpha_A, \\alpha_L) = ({facts['alpha_A']:g}, {facts['alpha_L']:g})$"
    slug = cell.name.replace("/", "-").replace(",", "-").replace(".", "")
    return FigureSpec(
        name=slug,
        title=f"Coordinate check: {where}, {exponents}",
        caption=f"Root mean squares over entries, blocks and {config.batch} images against the "
        f"{networks.AXIS_LABELS[axis]}, one colour a number of updates; means and standard errors "
        f"over {config.seeds} seeds, fitted exponents in the legend, promised ones dashed. "
        "Learned changes are those at the inputs of the start. Dimensionless.",
        draw=draw,
        table=Table(("coordinate", "updates", "exponent", "stderr", "promised"), rows),
        shown=len(rows),
        size=(12.0, 6.8),
    )


def control_figure(experiment: Coordinates, config: Config, results: Results) -> FigureSpec:
    """The exponent of every control beside what a check accepts."""
    rows = []
    for cell in experiment.cells(config):
        name = cell.parameters["control"]
        if name:
            control, check = CONTROLS[name], results[cell.name]
            found = exponent(check, control.coordinate, control.step)
            promised = promised_exponents(check)[control.coordinate, control.step]
            rows.append(
                (
                    name,
                    control.axis,
                    control.roles,
                    control.coordinate,
                    found.value,
                    found.stderr,
                    promised,
                    control.measured,
                )
            )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        places = np.arange(len(rows))
        for place, row in zip(places, rows, strict=True):
            ax.fill_betweenx([place - 0.4, place + 0.4], row[6] - BITE, row[6] + BITE, color="0.9")
        found, error = np.array([[row[4], row[5]] for row in rows]).T
        style: dict[str, Any] = {"fmt": "o", "color": figures.COLOURS[1], "capsize": 2.5}
        ax.errorbar(found, places, xerr=error, label="control", **style)
        ax.plot([row[7] for row in rows], places, "|", color="0.4", ms=12, label="documentation")
        ax.plot([row[6] for row in rows], places, "|", color=figures.LIMIT, label="promised")
        ax.set_yticks(places, [f"{row[0]}: {row[3].replace('_', ' ')}" for row in rows])
        figures.finish(ax, xlabel="exponent", ylabel="")

    columns = ("control", "axis", "roles", "coordinate", "exponent", "stderr", "promised")
    return FigureSpec(
        name="controls",
        title="Negative controls: one factor of the rules left out",
        caption=f"Fitted exponents with one standard error over {config.seeds} seeds; grey: what a "
        "check accepts around the promised exponent; tick: the value of the documentation.",
        draw=draw,
        table=Table((*columns, "documentation"), tuple(rows)),
        shown=len(rows),
        size=(8.0, 1.2 + 0.45 * len(rows)),
    )
