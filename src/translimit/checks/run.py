r"""Coordinate checks of the networks that a factory makes.

Reference: documentation, "Checking your own model"; arXiv 2405.15712.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import numpy as np

from translimit.checks.coordinates import CoordinateCheck
from translimit.checks.errors import FactoryError
from translimit.checks.factory import Factory, make
from translimit.checks.lint import Finding, ParameterNumbers, compare
from translimit.checks.places import MAPS
from translimit.checks.promises import AxisName, expected_exponents, role_exponents
from translimit.checks.trial import Trial, require_sizes, resized
from translimit.core import ArgumentError, Json
from translimit.describe import Role, Size, Update
from translimit.scaling import Rules

#: Updates from which a random readout's part of the output's change is small.
_LATE = 5


def coordinate_check(
    factory: Factory,
    axis: AxisName,
    sizes: Sequence[int],
    *,
    base: Size,
    rate: float,
    steps: Sequence[int] = (0, 1, 2, 5, 10),
    seeds: int = 3,
    standard: bool = False,
    cache: MutableMapping[str, Json] | None = None,
    progress: Callable[[float], object] | None = None,
) -> CoordinateCheck:
    """Train networks of several sizes for a few steps on one batch and record their coordinates.

    What is promised follows from the rules that the factory's networks carry: optimiser, exponents
    and style. A readout of zeros makes the change of the output clean from the first step; from a
    random one nothing is promised for it before 5 updates, since its random part falls like
    d^{-1/2}.

    Args:
        factory: makes the network of a trial.
        axis: which size changes.
        sizes: its values, at least 3, increasing; 5 are better.
        base: the size at which rates are tuned, and at which the other sizes are held.
        rate: base rate, at which the loss falls clearly within the steps.
        steps: numbers of updates after which to record; the start is always recorded.
        seeds: independent starts.
        standard: check the standard parameterization against the rules.
        cache: finished cells by name, plain data; what is there is not computed again.
        progress: called with the fraction done.

    Raises:
        ArgumentError: fewer than 3 sizes, sizes that do not increase, or an unknown axis.
        FactoryError: the factory raises, or returns something that cannot be checked.
    """
    sizes = require_sizes(axis, sizes, 3)
    _require_counts(rate=rate, seeds=seeds)
    steps = tuple(sorted({0, *steps}))
    shapes = [resized(base, axis, size) for size in sizes]
    cells: list[list[dict[str, Any]]] = []
    kind = "standard" if standard else "rules"
    done, total = 0.0, sum(size * seeds for size in sizes)
    apart: bool | None = None  # the first network is asked, for all of the factory
    for size, shape in zip(sizes, shapes, strict=True):
        row = []
        for seed in range(seeds):
            trial = Trial(base=base, size=shape, seed=seed, rate=rate, standard=standard)
            name = f"coordinates-{kind}-{axis}-{size}-seed{seed}"
            row.append(_cell(cache, name, lambda t=trial, a=apart: _record(factory, t, steps, a)))
            if apart is None and "apart" in row[-1]["values"]:
                apart = row[-1]["values"]["apart"][0] == 1
            done += size
            if progress is not None:
                progress(done / total)
        cells.append(row)
    rules = [Rules.from_json(row[0]["rules"]) for row in cells]
    names = set.intersection(*(set(cell["values"]) for row in cells for cell in row))
    values = {
        name: np.array(
            [[[float(x) for x in cell["values"][name]] for cell in row] for row in cells]
        ).transpose(0, 2, 1)
        for name in cells[0][0]["values"]
        if name in names
    }
    findings = compare(
        axis,
        shapes,
        [[ParameterNumbers.from_json(one) for one in row[0]["numbers"]] for row in cells],
        rules,
        [row[0]["score_scale"] for row in cells],
    )
    unread = [
        Finding(role, parameter, "unread", math.nan, math.nan, sentence)
        for role, parameter, sentence in cells[-1][0].get("unread", ())
    ]
    findings = (*unread, *findings)
    tokens = int(values.pop("tokens", np.zeros(1)).max())
    decays = bool(values.pop("decays", np.zeros(1)).max())
    values.pop("apart", None)
    expected = _promises(axis, steps, rules, shapes, values)
    if decays and "output" in values and not np.any(values["output"][:, 0] > 0):
        # From a readout of zeros only decay moves what is before it, in the first update.
        for name in ("stream_change", "hidden_change"):
            expected.pop((name, 1), None)
    notes = (*_notes(axis, shapes, tokens, seeds), *rules[0].warnings)
    return CoordinateCheck(axis, sizes, steps, values, expected, findings, notes)


def _record(
    factory: Factory, trial: Trial, steps: Sequence[int], apart: bool | None
) -> dict[str, Any]:
    """One network of a check as plain data."""
    made = make(factory, trial)
    if made.rules is None:
        raise FactoryError(
            "rules",
            "the factory's model carries none, so nothing is promised",
            "return rules=scaling.rules(trial.base, trial.size, ...)",
        )
    if made.rules.question.target != trial.size:
        raise FactoryError(
            "rules", f"are for {made.rules.question.target}", f"make them for {trial.size}"
        )
    told: dict[str, Any] = {}
    if trial.seed == 0:  # one seed tells what all take; starts have many entries
        told["rules"] = made.rules.to_json()
        told["numbers"] = [one.to_json() for one in made.numbers(trial.rate)]
        told["score_scale"] = made.score_scale()
        if trial.size != trial.base:
            told["unread"] = [list(one) for one in made.unread()]
    return {**told, "values": made.record(steps, trial.size, apart)}


def _notes(axis: str, shapes: Sequence[Size], tokens: int, seeds: int) -> list[str]:
    """What makes verdicts doubtful."""
    said = []
    if tokens > shapes[0].width and axis != "layers":
        said.append(
            f"the repeated batch has {tokens} tokens, more than the narrowest network is wide "
            f"({shapes[0].width}): what is learned falls with width until it exceeds them; repeat "
            "a smaller batch, or start wider"
        )
    if len(shapes) < 4:
        said.append(f"{len(shapes)} sizes: 5 are better")
    if seeds < 3:
        said.append(f"{seeds} seed{'s' if seeds > 1 else ''}: 3 are better")
    return said


def _promises(
    axis: AxisName,
    steps: Sequence[int],
    rules: Sequence[Rules],
    shapes: Sequence[Size],
    values: dict[str, np.ndarray],
) -> dict[tuple[str, int], float]:
    """What the rules promise for the coordinates that were recorded."""
    question = rules[0].question
    suppressed = question.kind.update is Update.GRADIENT
    promised = expected_exponents(axis, steps, suppressed, question.alpha_A, question.alpha_L)
    if "output" in values and np.any(values["output"][:, 0] > 0):
        promised = {
            place: exponent
            for place, exponent in promised.items()
            if place[0] != "output_change" or place[1] >= _LATE
        }
    if axis == "layers" and question.alpha_L > 0.5:
        # The share of the branches in the stream of the start falls like L^(1 - 2 alpha_L): how
        # much of it there is at the base, the rules do not say.
        promised.pop(("stream", 0), None)
    roles = (*MAPS, Role.QUERY, Role.KEY)
    table = role_exponents(rules[0], axis, shapes[0], shapes[-1], roles)
    for (what, role), exponent in table.items():
        for step in steps:
            if (what == "start") is (step == 0):
                promised[f"{what} of {role.value}", step] = exponent
    return {place: exponent for place, exponent in promised.items() if place[0] in values}


def _cell(cache: MutableMapping[str, Json] | None, name: str, compute: Callable[[], Any]) -> Any:
    if cache is None:
        return compute()
    if name not in cache:
        cache[name] = compute()
    return cache[name]


def _require_counts(*, rate: float, **counts: int) -> None:
    if not (0 < rate < math.inf):
        raise ArgumentError("rate", f"got {rate}", "pass a positive learning rate")
    for name, value in counts.items():
        if value < 1:
            raise ArgumentError(name, f"got {value}", "pass at least 1")
