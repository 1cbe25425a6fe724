r"""What a ledger of horizons shows: a verdict on every cell, claims, and figures.

Drift and regret of the largest size against the base have joint errors of a bootstrap over seeds.
Claims are about each, and about how the best rate of one size falls with the number of updates: in
a kernel limit with gradient noise like T^{-beta / (1 + beta)} at a constant rate, and less under a
schedule that decays.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import translimit.experiments as ex
from translimit import figures
from translimit.checks import DRIFT_TOLERANCE, REGRET_TOLERANCE, TransferSweep
from translimit.core import ConfigError, Estimate, with_error
from translimit.experiments.bordelon2024.networks import AXIS_LABELS, OPTIMIZER_LABELS
from translimit.experiments.horizons.cells import (
    Entry,
    Ledger,
    Optimizer,
    Schedule,
    sweep,
)
from translimit.scaling import Horizon

Found = ex.Found[Ledger]


@dataclass(frozen=True)
class Falls:
    """How the best rate of the base changes with the number of updates."""

    optimizer: Optimizer
    schedule: Schedule


def sweeps(found: Found) -> dict[Entry, TransferSweep]:
    """All cells of a ledger."""
    return {entry: sweep(found, entry) for entry in found.config.entries()}


def slope(found: Found, optimizer: Optimizer, schedule: Schedule) -> Estimate:
    """Decades of the base's best rate in a decade of updates, by least squares.

    The error is that of a bootstrap over seeds, the same draw at all horizons.
    """
    told = [
        one
        for entry, one in found.once(sweeps).items()
        if (entry.optimizer, entry.schedule) == (optimizer, schedule)
        and entry.axis == found.config.axes[0]
    ]
    logs = np.log10([one.steps for one in told])
    logs = (logs - logs.mean()) / np.square(logs - logs.mean()).sum()
    base = told[0].sizes[0]
    places = np.array([one.optimum(base).value for one in told])
    drawn = np.array([one.resampled_optima(base) for one in told])
    if any(one.bound(base) for one in told):
        return Estimate(float(logs @ places), math.nan, told[0].seeds)
    spread = np.std((logs @ drawn)[np.isfinite(drawn).all(axis=0)])
    seeds = told[0].seeds
    return Estimate(float(logs @ places), float(spread * (seeds / (seeds - 1)) ** 0.5), seeds)


def _where(entry: Entry) -> str:
    return (
        f"{OPTIMIZER_LABELS[entry.optimizer]}, {AXIS_LABELS[entry.axis]}, {entry.schedule} rate, "
        f"{entry.steps} updates"
    )


def _several(config: Ledger) -> list[Falls]:
    """Optimisers and schedules with several horizons, along the first axis."""
    return [
        Falls(optimizer, schedule)
        for optimizer in config.optimizers
        for schedule in config.schedules
        if len(config.times(optimizer)) > 1 and (optimizer == "adamw" or config.axes[0] == "layers")
    ]


def _constant(config: Ledger) -> list[Falls]:
    return [one for one in _several(config) if one.schedule == "constant"]


def _flattened(config: Ledger) -> list[Falls]:
    if "constant" not in config.schedules:
        return []
    return [one for one in _several(config) if one.schedule != "constant"]


def _flatter(found: Found, at: Falls) -> Estimate:
    """Slope at a constant rate minus that under a schedule; their seeds are other draws."""
    one, other = (slope(found, at.optimizer, kind) for kind in ("constant", at.schedule))
    return Estimate(one.value - other.value, math.hypot(one.stderr, other.stderr), other.count)


CLAIMS = (
    ex.Claims(
        "{optimizer}-{axis}-{schedule}-{steps}-regret",
        lambda found, entry: (
            f"{_where(entry)}: the largest network pays at most {REGRET_TOLERANCE} nats for the "
            "base's best rate instead of its own (log of the ratio of losses)."
        ),
        estimate=lambda found, entry: _largest_regret(found, entry),
        prediction=0.0,
        tol=REGRET_TOLERANCE,
        over=lambda config: config.entries(),
        rivals=(ex.Rival("it pays a quarter of the loss", 0.25),),
        one_sided=True,
        decided_by="standard",
    ),
    ex.Claims(
        "{optimizer}-{axis}-{schedule}-{steps}-drift",
        lambda found, entry: (
            f"{_where(entry)}: the best rate of the largest network is that of the base (decades)."
        ),
        estimate=lambda found, entry: found.once(sweeps)[entry].optimum_drift,
        prediction=0.0,
        tol=DRIFT_TOLERANCE,
        over=lambda config: config.entries(),
        rivals=(
            ex.Rival[Ledger, Entry](
                "it falls like one over the size",
                lambda found, entry: -math.log10(found.config.largest),
            ),
            ex.Rival[Ledger, Entry](
                "it grows with the size", lambda found, entry: math.log10(found.config.largest)
            ),
        ),
        decided_by="standard",
    ),
    ex.Claims(
        "{optimizer}-falls-at-{schedule}-rate",
        lambda found, at: (
            f"{OPTIMIZER_LABELS[at.optimizer]}: at a constant rate the base's best rate falls like "
            "the number of updates to the power -1/2 (decades in a decade)."
        ),
        estimate=lambda found, at: slope(found, at.optimizer, at.schedule),
        prediction=-0.5,
        tol=0.15,
        over=_constant,
        rivals=(
            ex.Rival("it does not depend on the horizon", 0.0),
            ex.Rival("it falls like one over the horizon", -1.0),
        ),
        decided_by="standard",
    ),
    ex.Claims(
        "{optimizer}-{schedule}-flattens",
        lambda found, at: (
            f"{OPTIMIZER_LABELS[at.optimizer]}: under {at.schedule} decay it falls less than at a "
            "constant rate (difference of the slopes is below 0)."
        ),
        estimate=_flatter,
        prediction=0.0,
        tol=0.0,
        over=_flattened,
        rivals=(ex.Rival("the schedule changes nothing", 0.0),),
        one_sided=True,
        decided_by="standard",
    ),
)


def _largest_regret(found: Found, entry: Entry) -> Estimate:
    told = found.once(sweeps)[entry]
    return told.regret(told.sizes[-1])


COLUMNS = (
    *("cell", "networks", "optimizer", "axis", "schedule", "updates", "multiple", "seeds"),
    *("optimum", "optimum error", "drift", "drift error", "regret", "regret error", "censored"),
    *("curvature", "epochs", "log loss", "one step above", "verdict"),
)


def rows(found: Found) -> Iterator[figures.Row]:
    """The ledger: a row for every cell and size; the base has no drift."""
    config = found.config
    for entry, told in found.once(sweeps).items():
        for multiple, size in zip(config.multiples, told.sizes, strict=True):
            best, drift, regret = told.optimum(size), told.optimum_drift_at(size), told.regret(size)
            first = multiple == 1
            yield (
                f"{OPTIMIZER_LABELS[entry.optimizer]}, {AXIS_LABELS[entry.axis]}",
                f"{entry.schedule}, {multiple}x",
                *(entry.optimizer, entry.axis, entry.schedule, entry.steps, multiple, told.seeds),
                *(best.value, _finite(best.stderr)),
                *((None, None) if first else (drift.value, _finite(drift.stderr))),
                *((None, None) if first else (regret.value, _finite(regret.stderr))),
                *(None if first else told.censored(size), _finite(told.curvature(size))),
                *(config.epochs(entry.steps), told.depth(size), told.loss_one_step_above(size)),
                "" if first else told.verdict(size).value,
            )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _counted(found: Found) -> str:
    counts: dict[str, int] = {}
    for told in found.once(sweeps).values():
        word = told.verdict().value
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))


def _caption(found: Found) -> str:
    most = max(found.config.epochs(entry.steps) for entry in found.config.entries())
    return (
        "log10 of the best rate of every size against the number of updates, with one error of a "
        "bootstrap over seeds (none where the lowest loss lies at an end of the grid). The longest "
        f"runs see their data {most:.2g} times. Largest size of each cell: {_counted(found)}."
    )


def _regret_caption(found: Found) -> str:
    told = found.once(sweeps)
    entry = max(told, key=lambda one: _largest_regret(found, one).value)
    worst = _largest_regret(found, entry)
    return (
        "What a size pays for the best rate of the base, as the log of the ratio of losses, with "
        "one error of a bootstrap over seeds; line: the tolerance. The largest: "
        f"{with_error(worst.value, worst.stderr, unit='nats')} ({_where(entry)})."
    )


def _valley_rows(found: Found) -> Iterator[figures.Row]:
    config = found.config
    first = config.entries()[0]
    for entry, told in found.once(sweeps).items():
        if (entry.optimizer, entry.axis) != (first.optimizer, first.axis):
            continue
        for multiple, losses in zip(config.multiples, told.losses, strict=True):
            logs = np.log(losses)
            errors = logs.std(axis=0, ddof=1) / len(logs) ** 0.5
            for rate, mean, error in zip(told.rates, logs.mean(axis=0), errors, strict=True):
                where = f"{entry.schedule}, {entry.steps} updates"
                yield where, f"{multiple}x", rate, float(mean), float(error)


def _panels(config: Ledger) -> int:
    return len({(entry.optimizer, entry.axis) for entry in config.entries()})


BEST_RATES = ex.Figure(
    name="best-rates",
    title="Best rate against the number of updates",
    caption=_caption,
    columns=COLUMNS,
    rows=rows,
    x="updates",
    by="networks",
    panels="cell",
    layers=(figures.points("optimum", "optimum error", joined=True),),
    xlabel="updates",
    ylabel="log10 of the best rate",
    log="x",
    size=lambda config: (5.0 * _panels(config), 4.0),
)
REGRETS = ex.Figure(
    name="regrets",
    title="What the base's best rate costs",
    caption=_regret_caption,
    columns=COLUMNS,
    rows=lambda found: (row for row in rows(found) if row[COLUMNS.index("multiple")] != 1),
    x="updates",
    by="networks",
    panels="cell",
    layers=(
        figures.points("regret", "regret error", joined=True),
        figures.level(REGRET_TOLERANCE),
    ),
    xlabel="updates",
    ylabel="nats",
    log="x",
    size=lambda config: (5.0 * _panels(config), 4.0),
)
VALLEYS = ex.Figure(
    name="valleys",
    title="Loss against rate at every horizon",
    caption="Mean log loss on the probe against the rate of the base, along the first axis under "
    "the first optimiser, with standard errors over seeds; diverged runs count as a loss of 10.",
    columns=("horizon", "size", "rate", "log loss", "stderr"),
    rows=_valley_rows,
    x="rate",
    by="size",
    panels="horizon",
    layers=(figures.points("log loss", "stderr", joined=True),),
    xlabel="rate of the base",
    ylabel="log loss",
    log="x",
    across=3,
    size=lambda config: (10.0, 3.2 * -(-len(config.schedules) * len(config.horizons) // 3)),
)
FIGURES = (BEST_RATES, REGRETS, VALLEYS)


def horizons(found: Found, digest: str) -> list[Horizon]:
    """The records of the cells that were computed, at every multiple of the base.

    Args:
        found: the results; cells that are missing are left out.
        digest: of the run.
    """
    config = found.config
    told: list[Horizon] = []
    for entry in config.entries():
        try:
            own = sweep(found, entry)
        except ConfigError:  # a cell that was not computed
            continue
        epochs = config.epochs(entry.steps)
        told += own.horizons(
            data=config.data, optimizer=entry.optimizer, epochs=epochs, digest=digest
        )
    return told
