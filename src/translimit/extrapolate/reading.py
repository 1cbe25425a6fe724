"""Reading runs: from columns to `Curves`, with a refusal for everything that cannot be compared.

A loss is one at a number of steps. Under a constant rate every step of a run is such a horizon, of
a decaying one only the last is, and horizons that grow with the size are another question.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from translimit.core import DataError
from translimit.extrapolate.curves import SAME_STEP, SIZES, Curves
from translimit.extrapolate.tables import columns_of

#: Columns that must say the same in all rows: two values are two recipes.
RECIPE = ("schedule", "batch", "parameterization")


@dataclass(frozen=True)
class _Run:
    """One run: places of its point, seed and rate, and its losses by step."""

    point: int
    seed: int
    rate: int
    horizon: float
    steps: Float[np.ndarray, " own"]
    losses: Float[np.ndarray, " own"]


def read_runs(path: str | Path, *, paired: bool = True) -> Curves:
    """Curves from a CSV file.

    Columns: any of `head_dim`, `heads`, `layers`, `width`, `experts` (those that vary are the
    axes), `seed`, `lr` (the base rate), `step`, `loss`; optional are `schedule`, `batch`,
    `parameterization` and `steps` (the horizon of a run). In place of `step` and `loss` a column
    `file` may name an export of wandb or TensorBoard for every run (and `metric` its column).

    Args:
        path: of the file.
        paired: seed s has the same start and the same batches at all sizes; otherwise seed sets
            may differ, and errors are larger.

    Raises:
        StoreError: a file cannot be read.
        DataError: columns are missing; seed sets differ; two recipes are mixed; horizons grow with
            the size; steps do not lie on one grid; a loss is not positive.
    """
    columns = columns_of(Path(path))
    for name in RECIPE:
        if name in columns and len(values := np.unique(columns[name])) > 1:
            raise DataError(
                name, f"{values[0]} and {values[1]} are mixed", "compare two files with --against"
            )
    schedule = str(columns["schedule"][0]) if "schedule" in columns else ""
    sizes = {name: columns[name] for name in SIZES if name in columns}
    for name, values in sizes.items():
        if not np.all(values > 0):
            raise DataError(name, "has an empty or negative size", "pass positive numbers")
    table, points = np.unique(np.stack(list(sizes.values()), axis=1), axis=0, return_inverse=True)
    varied = [place for place, column in enumerate(table.T) if len(set(column)) > 1]
    if not varied:
        told = ", ".join(f"{name}={values[0]:g}" for name, values in sizes.items())
        raise DataError(str(path), f"has one size only ({told})", "pass at least 3 sizes")
    axes = tuple(list(sizes)[place] for place in varied)
    rates, rate = _labels(columns.get("lr", np.zeros(len(points))))
    seeds, seed = _labels(columns["seed"])
    told_horizons = "steps" in columns and schedule != "constant"
    horizons, horizon = _labels(columns["steps"] if told_horizons else np.zeros(len(points)))
    keys = (points.reshape(-1), seed, rate, horizon)
    runs = _runs(keys, horizons, columns["step"], columns["loss"])
    named = [", ".join(f"{a}={n:g}" for a, n in zip(sizes, row, strict=True)) for row in table]
    runs, notes = _at_horizons(runs, schedule, told_horizons, named)
    grid = _common_grid(runs, [str(one) for one in seeds], named)
    losses = np.full((len(table), len(seeds), len(rates), len(grid)), np.nan)
    ran = np.zeros(losses.shape[:3], bool)
    for run in runs:
        place = (run.point, run.seed, run.rate)
        if ran[place]:
            raise DataError(
                "seed",
                f"{seeds[run.seed]} occurs twice at {named[run.point]}",
                "give every run its own seed and lr",
            )
        losses[place], ran[place] = _on_grid(run, grid), True
    curves = Curves(
        axes,
        table[:, varied],
        tuple(map(str, seeds)),
        tuple(map(float, rates)) if "lr" in columns else (float("nan"),),
        grid,
        losses,
        ran,
        paired,
        tuple(notes),
    )
    curves.require_positive()
    return curves


def _labels(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, and the place of every row among them."""
    values, places = np.unique(column, return_inverse=True)
    return values, places.reshape(-1)


def _runs(
    keys: tuple[np.ndarray, ...], horizons: np.ndarray, step: np.ndarray, loss: np.ndarray
) -> list[_Run]:
    """Rows by run, with increasing steps."""
    order = np.lexsort((step, *reversed(keys)))
    sorted_keys = np.stack(keys, axis=1)[order]
    starts = np.flatnonzero(np.any(np.diff(sorted_keys, axis=0), axis=1)) + 1
    runs = []
    for rows in np.split(order, starts):
        point, seed, rate, horizon = (int(key[rows[0]]) for key in keys)
        steps = step[rows]
        if not np.all(np.isfinite(steps)):
            raise DataError("step", "has an empty cell", "pass the number of updates")
        if not np.all(np.diff(steps) > 0):
            twice = steps[1:][np.diff(steps) <= 0][0]
            raise DataError(
                "step",
                f"{twice:g} occurs twice with the same sizes, seed and lr",
                "tell the runs apart by seed, lr, or by steps (the horizon)",
            )
        runs.append(_Run(point, seed, rate, float(horizons[horizon]), steps, loss[rows]))
    return runs


def _at_horizons(
    runs: list[_Run], schedule: str, told: bool, named: list[str]
) -> tuple[list[_Run], list[str]]:
    """The runs with the steps at which their losses are those of a horizon."""
    if schedule == "constant":
        return runs, []
    if told:
        return _by_horizon(runs, named), []
    last: dict[int, float] = {}
    for run in runs:
        last[run.point] = max(last.get(run.point, 0.0), run.steps[-1])
    least, most = min(last, key=last.__getitem__), max(last, key=last.__getitem__)
    if last[most] > (1 + SAME_STEP) * last[least]:
        _refuse_horizons(named[least], last[least], named[most], last[most], schedule)
    if not schedule:
        return runs, [
            "no schedule is told: steps before the last are read as horizons, which holds for a "
            "constant rate only"
        ]
    ends = [_Run(r.point, r.seed, r.rate, r.horizon, r.steps[-1:], r.losses[-1:]) for r in runs]
    return ends, [f"{schedule} schedule: only the last step of a run is read"]


def _refuse_horizons(small: str, few: float, large: str, many: float, schedule: str) -> None:
    """Runs whose lengths differ between sizes.

    Raises:
        DataError: always.
    """
    remedy = "train all sizes for the same number of steps"
    if not schedule:
        remedy += ", or add a column schedule=constant if the rate was constant"
    raise DataError(
        "steps",
        f"the horizon changes with the size: {few:g} steps at {small}, {many:g} at {large}",
        remedy,
    )


def _by_horizon(runs: list[_Run], named: list[str]) -> list[_Run]:
    """One run a point, seed and rate, whose steps are the horizons of several."""
    groups: dict[tuple[int, int, int], list[_Run]] = {}
    for run in runs:
        if abs(run.steps[-1] - run.horizon) > SAME_STEP * run.horizon:
            raise DataError(
                "steps",
                f"a run of {named[run.point]} ends at step {run.steps[-1]:g} of {run.horizon:g}",
                "leave out runs that were not finished",
            )
        groups.setdefault((run.point, run.seed, run.rate), []).append(run)
    of_point: dict[int, set[float]] = {}
    for (point, _, _), some in groups.items():
        of_point.setdefault(point, set()).update(run.horizon for run in some)
    first = min(of_point)
    for point, horizons in of_point.items():
        if horizons != of_point[first]:
            small, large = of_point[first], horizons
            _refuse_horizons(named[first], max(small), named[point], max(large), "told")
    return [
        _Run(
            *key,
            0.0,
            np.array([run.horizon for run in some]),
            np.array([run.losses[-1] for run in some]),
        )
        for key, some in groups.items()
    ]


def _common_grid(
    runs: list[_Run], seeds: list[str], named: list[str]
) -> Float[np.ndarray, " steps"]:
    """The steps of the run with the fewest, on which all others must lie up to 5 %."""
    shortest = min(runs, key=lambda run: (run.steps[-1], len(run.steps)))
    grid = min(runs, key=lambda run: len(run.steps)).steps
    grid = grid[grid <= (1 + SAME_STEP) * shortest.steps[-1]]
    for run in runs:
        after = np.searchsorted(run.steps, grid).clip(0, len(run.steps) - 1)
        before = (after - 1).clip(0)
        away = np.minimum(abs(run.steps[after] - grid), abs(run.steps[before] - grid))
        bad = np.flatnonzero(away > SAME_STEP * np.maximum(grid, 1))
        if bad.size:
            raise DataError(
                "step",
                f"seed {seeds[run.seed]} of {named[run.point]} has no loss within 5 % of step "
                f"{grid[bad[0]]:g}, which another run has",
                "log all runs at the same steps, to their ends",
            )
    return grid


def _on_grid(run: _Run, grid: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """The losses of a run at the steps of the grid, on the line between its own."""
    found = np.interp(grid, run.steps, run.losses)
    return np.where(np.isfinite(found), found, np.nan)
