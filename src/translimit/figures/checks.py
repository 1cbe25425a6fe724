"""Figures of coordinate checks and of transfer sweeps, from their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from translimit.core import Estimate
from translimit.figures.power_laws import legend_below, plot_power_law, plot_transfer
from translimit.figures.style import finish

#: The panels of a check, where they were recorded.
PANELS = (
    "stream",
    "stream_change",
    "hidden_change",
    "score",
    "learned_key_change",
    "learned_score_change",
    "output",
    "output_change",
)
#: How axes are called.
LABELS = {"head_dim": "head dimension $N$", "heads": "heads $H$", "layers": "layers $L$"}


@runtime_checkable
class Exponents(Protocol):
    """What is drawn of a `CoordinateCheck`; see there."""

    @property
    def axis(self) -> str:
        """Which size changes."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Its values."""
        ...

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers of updates."""
        ...

    @property
    def values(self) -> Mapping[str, Float[np.ndarray, "sizes steps seeds"]]:
        """By coordinate."""
        ...

    @property
    def expected(self) -> Mapping[tuple[str, int], float]:
        """Promised exponents by coordinate and updates."""
        ...

    def exponent(self, coordinate: str, step: int) -> Estimate:
        """The exponent of a coordinate after some updates."""
        ...


@runtime_checkable
class Sweep(Protocol):
    """What is drawn of a `TransferSweep`; see there."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Its values."""
        ...

    @property
    def rates(self) -> tuple[float, ...]:
        """The grid."""
        ...

    @property
    def losses(self) -> Float[np.ndarray, "sizes seeds rates"]:
        """On the probe after the last step."""
        ...

    def optimum(self, size: int) -> Estimate:
        """log10 of the best rate of a size."""
        ...

    def bound(self, size: int) -> str:
        """What the optimum of a size is a bound of."""
        ...

    def optimum_drift_in_words(self) -> str:
        """The drift with its error."""
        ...


def draw_check(check: Exponents) -> Figure:
    """Panels of one check, a colour for each number of updates, promised exponents dashed.

    Args:
        check: a `CoordinateCheck`.
    """
    names = [name for name in PANELS if name in check.values]
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.0 * rows), layout="constrained")
    for place, name in enumerate(names):
        ax = figure.add_subplot(rows, columns, place + 1)
        for series, step in enumerate(check.steps):
            values = check.values[name][:, check.steps.index(step)]
            if not np.all(np.isfinite(values) & (values > 0)):
                continue
            plot_power_law(
                ax,
                check.sizes,
                values,
                check.exponent(name, step),
                series=series,
                label=f"step {step}",
                expected=check.expected.get((name, step)),
            )
        finish(ax, xlabel=LABELS[check.axis], ylabel="rms", title=name.replace("_", " "))
        legend_below(ax)
    return figure


def draw_sweeps(sweeps: Mapping[str, Sweep], across: int | None = None) -> Figure:
    """A panel for each sweep: loss against rate, optima, and the base's as a line.

    Args:
        sweeps: `TransferSweep`s by title.
        across: panels of a row; all by default.
    """
    columns = across or len(sweeps)
    rows = -(-len(sweeps) // columns)
    figure = Figure(figsize=(4.6 * columns, 4.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey="row", squeeze=False)
    for ax, (title, sweep) in zip(panels.flat, sweeps.items(), strict=True):
        optima = [sweep.optimum(size) for size in sweep.sizes]
        drift = sweep.optimum_drift_in_words().replace("-", "\N{MINUS SIGN}")
        plot_transfer(
            ax,
            sweep.rates,
            sweep.losses,
            [one.value for one in optima],
            [one.stderr for one in optima],
            sweep.sizes,
            bounds=[sweep.bound(size) for size in sweep.sizes],
            ylabel="loss" if ax in panels[:, 0] else "",
            title=f"{title}: drift {drift}",
        )
    return figure
