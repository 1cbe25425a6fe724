"""Figures of coordinate checks: six coordinates of each, and the exponents of all controls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import figures
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
from translimit.experiments.bordelon2024.power_laws import PowerLaw, power_law_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.figures import Table

#: Distance from the promised exponent beyond which a control has failed.
BITE = 0.25
#: The coordinates that are drawn.
SHOWN = (
    *("stream", "stream_change", "hidden_change"),
    *("learned_key_change", "learned_score_change", "output_change"),
)


def _figure(check: Check) -> ex.Figure[Config]:
    """Six coordinates of one check, a series for each number of updates."""

    def laws(found: ex.Found[Config]) -> Iterator[PowerLaw]:
        """At the start nothing has changed."""
        record, promised = found(CHECK, check), check.promises(found.config.steps)
        for name in SHOWN:
            for step in found.config.steps:
                if step > 0 or not name.endswith("change"):
                    expected = promised.get((name, step))
                    rows = record.of(name, step)
                    sizes = record.size.tolist()
                    yield PowerLaw(name.replace("_", " "), f"step {step}", sizes, rows, expected)

    along = networks.AXIS_LABELS[check.axis]
    slug = f"{check.optimizer}-{check.axis}-{check.alpha_A:g}-{check.alpha_L:g}"
    return power_law_figure(
        lambda found: list(laws(found)),
        name=slug.replace(".", ""),
        title=f"Coordinate check: {check}",
        caption="Root mean squares over entries, blocks and {batch} images against the "
        f"{along}, one colour a number of updates; means and standard errors over {{seeds}} seeds, "
        "fitted exponents in the legend, promised ones dashed. Learned changes are those at the "
        "inputs of the start. Dimensionless.",
        xlabel=along,
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
