r"""Coordinate checks of the networks that a factory makes, in looks that are fixed beforehand.

Reference: documentation, "Checking your own model"; arXiv 2405.15712.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from translimit.checks.coordinates import CoordinateCheck
from translimit.checks.errors import FactoryError
from translimit.checks.factory import Factory, make
from translimit.checks.judged import Networks, judged
from translimit.checks.looks import BUDGET, SEEDS, Forecast, looks_of, seconds_in_words
from translimit.checks.promises import AxisName
from translimit.checks.trial import Trial, require_sizes, resized
from translimit.core import POSITIVE, Bounds, Json, Verdict, require_real
from translimit.describe import Size

#: Within this of its promise an exponent must be, unless told.
TOLERANCE = 0.25


def coordinate_check(
    factory: Factory,
    axis: AxisName,
    sizes: Sequence[int],
    *,
    base: Size,
    rate: float,
    steps: Sequence[int] = (0, 1, 2, 5, 10),
    seeds: int | Sequence[int] = SEEDS,
    larger: bool = True,
    budget: float | int = BUDGET,
    tol: float = TOLERANCE,
    standard: bool = False,
    cache: MutableMapping[str, Json] | None = None,
    progress: Callable[[float], object] | None = None,
    announce: Callable[[str], object] | None = None,
) -> CoordinateCheck:
    """Train networks of several sizes for a few steps on one batch and record their coordinates.

    What is promised follows from the rules that the factory's networks carry: optimiser, exponents
    and style. A readout of zeros makes the change of the output clean from the first step; from a
    random one nothing is promised for it until it exceeds the output of the start, since its random
    part falls like d^{-1/2}.

    The check looks at its networks after each number of `seeds`, and stops when every promise is
    decided. Chances of a wrong decision allow for the number of looks and of promises.

    Args:
        factory: makes the network of a trial.
        axis: which size changes.
        sizes: its values, at least 3, increasing; 5 are better.
        base: the size at which rates are tuned, and at which the other sizes are held.
        rate: base rate, at which the loss falls clearly within the steps.
        steps: numbers of updates after which to record; the start is always recorded.
        seeds: independent starts at each look; a number is one look.
        larger: add a size twice the largest at the last of several looks, where a promise is open
            and its coordinate bends.
        budget: seconds; a look that would exceed it is not taken.
        tol: within which an exponent must be to end the looks.
        standard: check the standard parameterization against the rules.
        cache: finished cells by name, plain data; what is there is not computed again.
        progress: called with the fraction done of a look.
        announce: called with a sentence on what the check will take, when the smallest and the
            largest network have been timed.

    Raises:
        ArgumentError: fewer than 3 sizes, sizes or seeds that do not increase, or an unknown axis.
        FactoryError: the factory raises, or returns something that cannot be checked.
    """
    sizes, looks = require_sizes(axis, sizes, 3), looks_of(seeds)
    require_real(rate, "rate", POSITIVE)
    require_real(budget, "budget", Bounds(0.0, math.inf, "(]"))
    run = _Run(
        factory,
        axis,
        base,
        rate,
        tuple(sorted({0, *steps})),
        standard,
        {} if cache is None else cache,
        narrowest=resized(base, axis, sizes[0]).width,
    )
    begun, stopped = time.monotonic(), ""
    run.cell(sizes[0], 0)  # what is loaded in the first network is nobody's cost
    run.timed.clear()
    for place, seed in ((sizes[-1], 0), (sizes[0], min(1, looks[0] - 1))):
        run.cell(place, seed)
    if announce is not None and run.timed:
        announce(f"{axis}: {Forecast(run.timed).in_words(sizes, looks, larger)}")
    check = None
    for look, count in enumerate(looks):
        if check is not None:
            if not check.undecided(tol):
                break
            last = larger and look == len(looks) - 1
            if last and any(map(check.nears, check.undecided(tol))):
                sizes = _enlarged(sizes, base, axis)
            missing = run.forecast(sizes, count)
            if time.monotonic() - begun + missing > budget:
                stopped = (
                    f"the next look would take {seconds_in_words(missing)} more, beyond the budget "
                    f"of {seconds_in_words(budget)}"
                )
                sizes = check.sizes
                break
        found = run.networks(sizes, count, progress)
        expected, values, findings, notes = judged(found)
        check = CoordinateCheck(axis, sizes, run.steps, values, expected, findings, notes, looks)
        if check.findings or check.overall(tol) is Verdict.refuted:
            break
    assert check is not None
    return replace(check, stopped=stopped)


def _enlarged(sizes: tuple[int, ...], base: Size, axis: AxisName) -> tuple[int, ...]:
    larger = 2 * sizes[-1]
    resized(base, axis, larger)
    return (*sizes, larger)


@dataclass
class _Run:
    """The networks of a check, computed once each."""

    factory: Factory
    axis: AxisName
    base: Size
    rate: float
    steps: tuple[int, ...]
    standard: bool
    cache: MutableMapping[str, Json]
    narrowest: int
    #: Seconds of the networks that were not in the cache, by size.
    timed: dict[int, float] = field(default_factory=dict)
    #: Whether fields need passes of their own, and how many examples are repeated: the first
    #: network is asked, for all of the factory.
    apart: bool | None = None
    examples: int | None = None

    def name(self, size: int, seed: int) -> str:
        """Of one network in the cache."""
        kind = "standard" if self.standard else "rules"
        return f"coordinates-{kind}-{self.axis}-{size}-seed{seed}"

    def cell(self, size: int, seed: int) -> dict[str, Any]:
        """One network as plain data."""
        name = self.name(size, seed)
        if name not in self.cache:
            begun = time.monotonic()
            self.cache[name] = self._record(size, seed)
            seconds = time.monotonic() - begun
            self.timed[size] = min(seconds, self.timed.get(size, seconds))
        made: Any = self.cache[name]
        if self.apart is None and "apart" in made["values"]:
            self.apart = made["values"]["apart"][0] == 1
            self.examples = int(made["values"]["examples"][0])
        return made

    def forecast(self, sizes: Sequence[int], seeds: int) -> float:
        """Seconds of what is not there yet."""
        law = Forecast(self.timed)
        return sum(
            law.network(size)
            for size in sizes
            for seed in range(seeds)
            if self.name(size, seed) not in self.cache
        )

    def networks(
        self, sizes: Sequence[int], seeds: int, progress: Callable[[float], object] | None
    ) -> Networks:
        """Networks of all sizes and seeds."""
        done, total = 0.0, sum(size * seeds for size in sizes)
        rows = []
        for size in sizes:
            rows.append([])
            for seed in range(seeds):
                rows[-1].append(self.cell(size, seed))
                done += size
                if progress is not None:
                    progress(done / total)
        shapes = [resized(self.base, self.axis, size) for size in sizes]
        return Networks(self.axis, self.steps, shapes, rows)

    def _record(self, size: int, seed: int) -> dict[str, Any]:
        shape = resized(self.base, self.axis, size)
        trial = Trial(base=self.base, size=shape, seed=seed, rate=self.rate, standard=self.standard)
        made = make(self.factory, trial)
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
                told["misplaced"] = [list(one) for one in made.misplaced()]
        values = made.record(self.steps, trial.size, self.apart, self.narrowest, self.examples)
        return {**told, "values": values}
