"""Figures of coordinate checks: six coordinates of each, and the exponents of all controls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.controls import CONTROLS
from translimit.experiments.bordelon2024.coordinate_checks import (
    CHECK,
    CHECKS,
    CONTROL,
    Check,
    Config,
    controlled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.figures import Table

#: Distance from the promised exponent beyond which a control has failed.
BITE = 0.25
#: The panels of a check.
PANELS = (
    ("stream", "stream_change", "hidden_change"),
    ("learned_key_change", "learned_score_change", "output_change"),
)


def _fits(found: ex.Found[Config], check: Check) -> dict[tuple[str, int], Estimate]:
    """Exponents by coordinate and updates; at the start nothing has changed."""
    return {
        (name, step): found(CHECK, check).exponent(name, step)
        for row in PANELS
        for name in row
        for step in found.config.steps
        if step > 0 or not name.endswith("change")
    }


def _figure(check: Check) -> ex.Figure[Config]:
    """Six coordinates of one check, a colour for each number of updates."""
    along = networks.AXIS_LABELS[check.axis]
    slug = f"{check.optimizer}-{check.axis}-{check.alpha_A:g}-{check.alpha_L:g}"

    def rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
        promised = check.promises(found.config.steps)
        for (name, step), fit in _fits(found, check).items():
            yield (name, step, fit.value, fit.stderr, promised.get((name, step), float("nan")))

    def draw(canvas: Figure, table: Table, found: ex.Found[Config]) -> None:
        record, promised = found(CHECK, check), check.promises(found.config.steps)
        fits, grid = _fits(found, check), canvas.subplots(2, 3, sharex=True)
        for place, name in enumerate(name for row in PANELS for name in row):
            ax = grid.flat[place]
            shown = [step for step in found.config.steps if (name, step) in fits]
            for series, step in enumerate(shown):
                figures.plot_power_law(
                    ax,
                    record.size,
                    record.of(name, step),
                    fits[name, step],
                    series=series,
                    label=f"step {step}",
                    expected=promised.get((name, step)),
                )
            label = along if place >= 3 else ""
            figures.finish(ax, xlabel=label, ylabel="rms", title=name.replace("_", " "))
            figures.legend_below(ax)

    return ex.Figure(
        name=slug.replace(".", ""),
        title=f"Coordinate check: {check}",
        caption="Root mean squares over entries, blocks and {batch} images against the "
        f"{along}, one colour a number of updates; means and standard errors over {{seeds}} seeds, "
        "fitted exponents in the legend, promised ones dashed. Learned changes are those at the "
        "inputs of the start. Dimensionless.",
        columns=("coordinate", "updates", "exponent", "stderr", "promised"),
        rows=rows,
        draw=draw,
        shown=lambda found, table: len(table.rows),
        size=(12.0, 6.8),
        when=lambda c: check in c.checks(),
    )


def _controls(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for name, record in found.each(CONTROL):
        control = CONTROLS[name]
        fit = record.exponent(control.coordinate, control.step)
        promises = controlled(control).promises(found.config.steps)
        yield (
            *(name, control.axis, control.roles, control.coordinate, fit.value, fit.stderr),
            *(promises[control.coordinate, control.step], control.measured),
        )


def _draw_controls(canvas: Figure, table: Table, found: ex.Found[Config]) -> None:
    """The exponent of every control beside what a check accepts."""
    ax, places = canvas.subplots(), np.arange(len(table.rows))
    promised, exponents = table.numbers("promised"), table.numbers("exponent")
    for place, centre in zip(places, promised, strict=True):
        ax.fill_betweenx([place - 0.4, place + 0.4], centre - BITE, centre + BITE, color="0.9")
    ax.errorbar(
        exponents,
        places,
        xerr=table.numbers("stderr"),
        fmt="o",
        color=figures.COLOURS[1],
        capsize=2.5,
        label="control",
    )
    measured = table.numbers("documentation")
    ax.plot(measured, places, "|", color="0.4", ms=12, label="documentation")
    ax.plot(promised, places, "|", color=figures.LIMIT, label="promised")
    names = zip(table.column("control"), table.column("coordinate"), strict=True)
    ax.set_yticks(places, [f"{name}: {what.replace('_', ' ')}" for name, what in names])
    figures.finish(ax, xlabel="exponent", ylabel="")


CONTROL_FIGURE = ex.Figure(
    name="controls",
    title="Negative controls: one factor of the rules left out",
    caption="Fitted exponents with one standard error over {seeds} seeds; grey: what a check "
    "accepts around the promised exponent; tick: the value of the documentation.",
    columns=(
        *("control", "axis", "roles", "coordinate", "exponent", "stderr", "promised"),
        "documentation",
    ),
    rows=_controls,
    draw=_draw_controls,
    shown=lambda found, table: len(table.rows),
    size=lambda c: (8.0, 1.2 + 0.45 * len(c.used_controls())),
    when=lambda c: bool(c.used_controls()),
)
FIGURES = (*(_figure(check) for check in CHECKS), CONTROL_FIGURE)
