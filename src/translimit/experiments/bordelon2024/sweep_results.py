r"""What sweeps of learning rates show: claims of drifts and losses, and a figure for each axis.

Under the rules the optimum stays, and the largest network pays little for the base's best rate. In
the standard parameterization it falls under AdamW, by more than half of log10 of the size.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", hyper-parameter
transfer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import AxisName
from translimit.experiments.bordelon2024.power_laws import NO_EFFECT
from translimit.experiments.bordelon2024.rate_sweeps import (
    AXES,
    OPTIMIZERS,
    RULES,
    STANDARD,
    Optimizer,
    Study,
    Sweep,
    Sweeps,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.figures import Table

Found = ex.Found[Sweeps]


def _where(study: Study) -> str:
    return f"{networks.OPTIMIZER_LABELS[study.optimizer]}, {networks.AXIS_LABELS[study.axis]}"


def _separated(config: Sweeps) -> list[Study]:
    """Comparisons in which a drift is claimed under the rules."""
    return [
        s for s in config.all_studies() if config.drift_tolerance(s.optimizer, s.axis) is not None
    ]


def _standard(config: Sweeps) -> list[Study]:
    """Comparisons in which a drift is claimed in the standard parameterization."""
    studies = config.all_studies()
    return [s for s in studies if (s.optimizer, s.alpha_A) == ("adamw", config.alphas[0])]


def _tolerance(config: Sweeps, study: Study) -> float:
    tolerance = config.drift_tolerance(study.optimizer, study.axis)
    return np.nan if tolerance is None else tolerance


def _standard_drift(found: Found, study: Study) -> Estimate:
    return found(STANDARD, (study.optimizer, study.axis)).drift_estimate()


def _span(found: Found) -> float:
    """Decades of sizes."""
    return float(np.log10(found.config.largest))


def _down(found: Found, study: Study) -> float:
    del study
    return -_span(found)


def _up(found: Found, study: Study) -> float:
    del study
    return _span(found)


def _regret(sweep: Sweep) -> Estimate:
    return Estimate(float(sweep.regret), float(sweep.regret_stderr), sweep.loss.shape[1])


def _gain(found: Found, study: Study) -> Estimate:
    """Log of the loss of the largest network over that of the base, at the base's best rate.

    The rate is that of all seeds on the grid; a seed has one order of data.
    """
    losses = np.log(found(RULES, study).loss)
    best = int(np.argmin(losses[0].mean(axis=0)))
    return Estimate.over_seeds(losses[-1, :, best] - losses[0, :, best])


CLAIMS = (
    ex.Claims(
        "{optimizer}-{axis}-{alpha_A:g}-rules-drift",
        lambda found, study: (
            f"{_where(study)}: from base to {found.config.largest} times the base the best rate "
            f"stays in place under the rules, $\\alpha_A = {study.alpha_A:g}$ (decades)."
        ),
        estimate=lambda found, study: found(RULES, study).drift_estimate(),
        prediction=0.0,
        tol=_tolerance,
        over=_separated,
        rivals=(
            ex.Rival("it falls like one over the size", _down),
            ex.Rival("it grows with the size", _up),
            ex.Rival(
                "it moves as in the standard parameterization",
                _standard_drift,
                when=lambda config, study: study.optimizer == "adamw" and study.axis != "layers",
            ),
        ),
        decided_by="standard",
    ),
    ex.Claims(
        "{optimizer}-{axis}-{alpha_A:g}-regret",
        lambda found, study: (
            f"{_where(study)}: under the rules the largest network pays little for the base's best "
            "rate instead of its own: the log of the ratio of losses."
        ),
        estimate=lambda found, study: _regret(found(RULES, study)),
        prediction=0.0,
        tol=lambda config, study: config.negligible,
        over=_separated,
        rivals=(
            ex.Rival("it pays a quarter of the loss", 0.25),
            ex.Rival(
                "it pays what the standard parameterization pays",
                lambda found, study: _regret(found(STANDARD, (study.optimizer, study.axis))),
                when=lambda config, study: study.optimizer == "adamw" and study.axis != "layers",
            ),
        ),
        one_sided=True,
        decided_by="standard",
    ),
    ex.Claims(
        "{optimizer}-{axis}-{alpha_A:g}-standard-drift",
        lambda found, study: (
            f"{_where(study)}: in the standard parameterization the best rate falls by more than "
            f"the root of the size, {_span(found) / 2:.2f} decades."
        ),
        estimate=_standard_drift,
        prediction=lambda found, study: -_span(found) / 2,
        tol=0.0,
        over=_standard,
        rivals=(
            ex.Rival("it stays", 0.0),
            ex.Rival(
                "by the root of the missing $1/m_d$",
                lambda found, study: -_span(found) / 2,
                when=lambda config, study: study.axis != "layers",
            ),
        ),
        one_sided=True,
        decided_by="standard",
    ),
    ex.Claims(
        "{optimizer}-{axis}-{alpha_A:g}-wider-is-better",
        lambda found, study: (
            f"{_where(study)}: at the best rate of the base the largest network has a lower loss "
            "than the base (log of the ratio is below 0)."
        ),
        estimate=_gain,
        prediction=0.0,
        tol=0.0,
        over=lambda c: [study for study in c.all_studies() if study.axis != "layers"],
        rivals=(ex.Rival(NO_EFFECT, 0.0),),
        one_sided=True,
        decided_by="standard",
    ),
)


def _kinds(found: Found, optimizer: Optimizer, axis: AxisName) -> dict[str, Sweep]:
    """The sweeps of an axis: the rules, the standard parameterization, the rules otherwise."""
    studies = found.config.studies(optimizer, axis)
    ruled = {f"rules, alpha_A={study.alpha_A:g}": found(RULES, study) for study in studies}
    first, *others = ruled
    standard = {"standard": found(STANDARD, (optimizer, axis))}
    return {first: ruled[first]} | standard | {kind: ruled[kind] for kind in others}


def _figure(optimizer: Optimizer, axis: AxisName) -> ex.Figure[Sweeps]:
    """Losses against rates along an axis, a panel for each parameterization."""
    where = networks.AXIS_LABELS[axis]

    def rows(found: Found) -> Iterator[figures.Row]:
        for kind, sweep in _kinds(found, optimizer, axis).items():
            columns = (sweep.optimum, sweep.optimum_stderr, sweep.best_loss, sweep.base_rate_loss)
            for size, *numbers in zip(sweep.size, *columns, strict=True):
                yield (kind, int(size), *map(float, numbers))

    def caption(found: Found) -> str:
        config, kinds = found.config, _kinds(found, optimizer, axis)
        best = ", ".join(f"{sweep.best_loss[-1]:.2f} ({kind})" for kind, sweep in kinds.items())
        return (
            f"Cross-entropy in nats on {config.samples} after {config.steps} steps, geometric "
            f"means over {config.seeds} seeds; legend: {where} and its best rate. Triangles: "
            "optima with bars of one standard error over seeds; those that point along the axis: "
            "bounds, where the optimum lies at the end of the grid; vertical line: optimum of the "
            f"base; dotted: {config.floor_label}. Lowest losses on the grid at the largest size: "
            f"{best}. The rules buy transfer, not the lowest loss of a short run."
        )

    def draw(canvas: Figure, table: Table, found: Found) -> None:
        config, kinds = found.config, _kinds(found, optimizer, axis)
        panels = canvas.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for ax, (kind, sweep) in zip(panels, kinds.items(), strict=True):
            again, name = sweep.again(axis), kind.replace("alpha_A=", "$\\alpha_A$ = ")
            drift = again.optimum_drift_in_words().replace("-", "\N{MINUS SIGN}")
            figures.plot_transfer(
                ax,
                sweep.rate,
                sweep.loss,
                sweep.optimum,
                sweep.optimum_stderr,
                sweep.size,
                bounds=[again.bound(size) for size in again.sizes],
                ylabel=f"loss after {config.steps} steps" if ax is panels[0] else "",
                title=f"{name}: drift {drift}",
                floor=float(sweep.floor),
                floor_label=config.floor_label,
            )

    return ex.Figure(
        name=f"{optimizer}-{axis}",
        title=f"{networks.OPTIMIZER_LABELS[optimizer]}: loss against rate along {where}",
        caption=caption,
        columns=(
            *("parameterization", axis, "log10_optimum", "stderr", "best_loss"),
            "base_rate_loss",
        ),
        rows=rows,
        draw=draw,
        shown=lambda found, table: len(table.rows),
        size=lambda c: (4.2 * (1 + len(c.studies(optimizer, axis))), 4.0),
        when=lambda c: (optimizer, axis) in c.pairs(),
    )


#: In the order of the words, whatever that of a configuration.
FIGURES = tuple(_figure(optimizer, axis) for optimizer in OPTIMIZERS for axis in AXES)
