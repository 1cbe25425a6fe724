"""What every experiment promises, as checks that anybody can run on an experiment.

Nothing is stored: cells are computed at a configuration of small sizes, claims and figures are made
of them, and what a run, a report and a list rely on is looked at.

Reference: documentation, "Extending", an experiment.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from translimit.core import BIBLIOGRAPHY, ArgumentError, config
from translimit.experiments.experiment import PRESETS, Experiment
from translimit.experiments.parts import Results

C = TypeVar("C")


@dataclass(frozen=True)
class ExperimentReport:
    """What `check_experiment` found.

    Attributes:
        experiment: its name.
        passed: checks that hold.
        failed: checks that do not, with what was found.
        results: the data sets of the cells, to look further.
    """

    experiment: str
    passed: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    results: Results = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        rows = [f"{self.experiment}: {len(self.passed)} passed, {len(self.failed)} failed"]
        rows += [f"  passed   {name}" for name in self.passed]
        rows += [f"  failed   {name}: {what}" for name, what in self.failed.items()]
        return "\n".join(rows)


def check_experiment(
    experiment: Experiment[C], settings: C, *, seed: int = 0, throw: bool = True
) -> ExperimentReport:
    """Compute an experiment at small sizes and check it against what all of them promise.

    Args:
        experiment: the experiment.
        settings: a configuration of small sizes: every cell is computed, the first one twice.
        seed: of the run that is imitated.
        throw: raise when a check fails; otherwise look at `failed`.

    Raises:
        ArgumentError: some checks failed (with `throw=True`); the message is the report.
    """
    results: dict[str, Any] = {}
    passed, failed = [], {}
    checks: dict[str, Callable[[], None]] = {
        "presets and citations are known": lambda: _names(experiment),
        "configurations are plain data": lambda: _plain(experiment, settings),
        "cells and costs": lambda: _cells(experiment, settings),
        "cells compute": lambda: _compute(experiment, settings, seed, results),
        "same seed, same bits": lambda: _again(experiment, settings, seed, results),
        "claims are those that are announced": lambda: _claims(experiment, settings, results),
        "figures draw, with their tables": lambda: _figures(experiment, settings, results),
    }
    for name, check in checks.items():
        try:
            check()
        except Exception as error:  # an experiment may raise anything: that is a finding too
            failed[name] = " ".join(f"{type(error).__name__}: {error}".split())
        else:
            passed.append(name)
    report = ExperimentReport(experiment.name, tuple(passed), failed, results)
    if throw and failed:
        raise ArgumentError("experiment", str(report), "see the failed checks")
    return report


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ArgumentError("experiment", problem, "see the documentation, Extending")


def _names(experiment: Experiment[Any]) -> None:
    _require("/" in experiment.name, f"the name {experiment.name!r} has no paper before a slash")
    unknown = set(experiment.presets) - set(PRESETS)
    _require(not unknown, f"unknown presets {sorted(unknown)}")
    missing = [key for key in experiment.citations if key not in BIBLIOGRAPHY]
    _require(not missing, f"unknown citations {missing}")


def _plain(experiment: Experiment[Any], settings: object) -> None:
    for one in (settings, *experiment.presets.values()):
        data = json.loads(json.dumps(config.to_json(one)))
        _require(config.from_json(type(one), data) == one, f"{one} is not what its JSON says")


def _cells(experiment: Experiment[C], settings: C) -> None:
    for one in (settings, *experiment.presets.values()):
        names = [cell.name for cell in experiment.cells(one)]
        json.dumps([dict(cell.parameters) for cell in experiment.cells(one)])
        _require(len(names) > 0 and len(set(names)) == len(names), f"cells {names}")
        costs = experiment.costs(one)
        finite = all(math.isfinite(c.seconds) and c.seconds > 0 for c in costs.values())
        _require(set(costs) == set(names) and finite, f"costs {costs}")
        claims = experiment.claim_names(one)
        _require(len(set(claims)) == len(claims), f"two claims of one name in {claims}")


def _compute(experiment: Experiment[C], settings: C, seed: int, results: dict[str, Any]) -> None:
    for cell in experiment.cells(settings):
        results[cell.name] = experiment.compute_cell(settings, cell, seed)


def _again(experiment: Experiment[C], settings: C, seed: int, results: Results) -> None:
    cell = experiment.cells(settings)[0]
    again = experiment.compute_cell(settings, cell, seed)
    _require(again.identical(results[cell.name]), f"cell {cell.name} differs from itself")


def _claims(experiment: Experiment[C], settings: C, results: Results) -> None:
    claims = experiment.check(settings, results)
    names = tuple(claim.name for claim in claims)
    _require(names == experiment.claim_names(settings), f"announced otherwise: {names}")
    for claim in claims:
        json.dumps(claim.to_json())
        _require(claim.tol >= 0, f"claim {claim.name} has the tolerance {claim.tol}")
        _require(bool(claim.statement), f"claim {claim.name} says nothing")
        _require(len(claim.rivals) > 0, f"claim {claim.name} names no rival")
        rivals = [rival.name for rival in claim.rivals]
        _require(len(set(rivals)) == len(rivals), f"claim {claim.name}: two rivals of one name")


def _figures(experiment: Experiment[C], settings: C, results: Results) -> None:
    from matplotlib.figure import Figure

    specs = experiment.drawings(settings, results)
    names = [spec.name for spec in specs]
    _require(len(set(names)) == len(names), f"two figures of one name in {names}")
    for spec in specs:
        canvas = Figure(figsize=spec.size)
        spec.draw(canvas)
        _require(bool(canvas.axes), f"figure {spec.name} draws nothing")
        widths = {len(row) for row in spec.table.rows}
        _require(widths == {len(spec.table.columns)}, f"figure {spec.name}: rows of {widths}")
        plain = (str, float, int, bool, np.generic, type(None))
        odd = [cell for row in spec.table.rows for cell in row if not isinstance(cell, plain)]
        _require(not odd, f"figure {spec.name}: {odd[:3]} in its table")
