r"""Coordinates of networks of several sizes: exponents with intervals, promises, verdicts.

Reference: documentation, "Checking your own model"; arXiv 2405.15712.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from translimit.checks.exponents import Fitted, Levels, fitted
from translimit.checks.lint import Finding, summarize
from translimit.checks.promises import AxisName
from translimit.core import ArgumentError, Estimate, Json, Verdict, format_count, with_error

#: How many undecided promises a sentence lists.
_LISTED = 3

#: What a coordinate that is off says about roles, where no parameter's numbers are off.
_SUSPECTS = {
    "stream": "the branches or the embedding",
    "hidden": "mlp_in or the norm before it",
    "score": "the score scale, or query and key",
    "output": "the readout or its multiplier",
    "stream_change": "what writes to the stream: the multipliers of the branches, attention_out, "
    "mlp_out or the embedding",
    "hidden_change": "mlp_in, or the stream that it reads",
    "learned_key_change": "key",
    "learned_query_change": "query",
    "learned_score_change": "query and key, or the score scale",
    "output_change": "the readout, its multiplier, or the stream that it reads",
}


class ExponentRow(TypedDict):
    """A promise: what was found, and the verdict ("still" where nothing moved).

    `settled` is the exponent with a finite-size term, which counts where the coordinate `bends`.
    """

    coordinate: str
    updates: int
    exponent: float
    stderr: float
    interval: list[float]
    bends: bool
    settled: float
    settled_stderr: float
    expected: float
    verdict: str


class CheckRecord(TypedDict):
    """A coordinate check as plain data."""

    axis: str
    sizes: list[int]
    steps: list[int]
    tol: float
    seeds: int
    looks: list[int]
    verdict: str
    in_words: str
    lint: list[str]
    refuted: list[str]
    notes: list[str]
    findings: list[dict[str, Json]]
    rows: list[ExponentRow]
    values: dict[str, list[list[list[float]]]]


@dataclass(frozen=True)
class CoordinateCheck:
    """Coordinates of networks of several sizes.

    Attributes:
        axis: which size changes.
        sizes: its values.
        steps: numbers of updates after which was recorded; 0 is the start.
        values: by coordinate [sizes, steps, seeds]; NaN where a network diverged.
        expected: promised exponents by (coordinate, updates).
        findings: parameters whose numbers do not follow the rules.
        notes: what makes verdicts doubtful, what was not judged, and why.
        looks: numbers of seeds at which was to be decided, fixed beforehand; the last one that was
            reached is the number of seeds.
        stopped: why later looks were not taken, or nothing.
    """

    axis: AxisName
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    values: Mapping[str, Float[np.ndarray, "sizes steps seeds"]] = field(repr=False)
    expected: Mapping[tuple[str, int], float] = field(repr=False)
    findings: tuple[Finding, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    looks: tuple[int, ...] = field(default=())
    stopped: str = ""

    @property
    def seeds(self) -> int:
        """How many there are."""
        return next((rows.shape[-1] for rows in self.values.values()), 0)

    @cached_property
    def levels(self) -> Levels:
        """Chances of a wrong decision, for all looks and for all promises that may be judged."""
        judged = sum(not self.is_still(*place) for place in self.expected)
        return Levels(max(len(self.looks), 1), judged)

    def fit(self, coordinate: str, step: int) -> Fitted:
        """The exponent of a coordinate after some updates, without and with a finite-size term.

        Args:
            coordinate: one of `values`.
            step: one of `steps`.
        """
        return fitted(self.sizes, self._rows(coordinate, step))

    def exponent(self, coordinate: str, step: int) -> Estimate:
        """The exponent of a coordinate after some updates, without a finite-size term.

        Args:
            coordinate: one of `values`.
            step: one of `steps`.

        Returns:
            Value and standard error over seeds; NaN where a network diverged or the coordinate is
            0.
        """
        return self.fit(coordinate, step).plain

    def interval(self, coordinate: str, step: int, confidence: float = 0.95) -> tuple[float, float]:
        """Student's interval of an exponent over seeds; infinite with one seed."""
        from scipy.special import stdtrit

        fit = self.fit(coordinate, step)
        found = fit.plain
        if found.count < 2 or not math.isfinite(found.value):
            return -math.inf, math.inf
        half = found.stderr * float(stdtrit(fit.degrees, 0.5 + confidence / 2))
        return found.value - half, found.value + half

    def is_still(self, coordinate: str, step: int) -> bool:
        """Whether a coordinate is exactly 0 in every network: there is no exponent to judge.

        So are the changes of all but the readout after one step from a readout of zeros.
        """
        return bool(np.all(self._rows(coordinate, step) == 0))

    def verdict(self, coordinate: str, step: int, tol: float = 0.15) -> Verdict:
        """Whether an exponent is the promised one, within `tol`; refuted where a network diverged.

        Raises:
            ArgumentError: nothing is promised for it.
        """
        if (coordinate, step) not in self.expected:
            raise ArgumentError(
                "coordinate",
                f"nothing is promised for {coordinate!r} at step {step}",
                "pass one that `table()` lists with a promise",
            )
        if self.is_still(coordinate, step):
            return Verdict.underpowered
        # The rivals of a promise are all exponents beyond its tolerance: it names no others.
        promise = self.expected[coordinate, step]
        return self.fit(coordinate, step).verdict(promise, tol, self.levels)

    def undecided(self, tol: float = 0.25) -> list[tuple[str, int]]:
        """The promises that these networks neither support nor refute, widest gap first."""
        those = [
            place
            for place in self.expected
            if not self.is_still(*place) and self.verdict(*place, tol) is Verdict.underpowered
        ]
        return sorted(those, key=lambda p: -abs(self.fit(*p).plain.value - self.expected[p]))

    def overall(self, tol: float = 0.25) -> Verdict:
        """Refuted if anything promised is, or a parameter's numbers are off; supported if all is.

        Coordinates that do not move at a step are left out; if nothing moves, underpowered.
        """
        verdicts = {
            self.verdict(name, step, tol)
            for name, step in self.expected
            if not self.is_still(name, step)
        }
        if self.findings or Verdict.refuted in verdicts:
            return Verdict.refuted
        return Verdict.supported if verdicts == {Verdict.supported} else Verdict.underpowered

    def nears(self, place: tuple[str, int]) -> bool:
        """Whether a finite-size term brings a coordinate's exponent nearer to its promise."""
        return self.fit(*place).nears(self.expected[place])

    def in_words(self, tol: float = 0.25) -> str:
        """The verdict in one sentence, with what would decide where it is open."""
        verdict, judged = self.overall(tol), self.levels.promises
        if verdict is Verdict.refuted:
            said = self.lint(tol) if self.findings else self.refuted(tol)
            more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
            return f"refuted: {said[0]}{more}"
        seeds = "one seed" if self.seeds == 1 else f"{self.seeds} seeds"
        if verdict is Verdict.supported:
            at = f", look {self.looks.index(self.seeds) + 1} of {len(self.looks)}"
            looked = at if self.seeds in self.looks and len(self.looks) > 1 else ""
            return f"supported: all {judged} promises hold within {tol:g} ({seeds}{looked})"
        if not judged:
            return "inconclusive: nothing moved; take more updates"
        if self.seeds == 1:
            return "inconclusive with one seed: it has no error; run 3"
        places = self.undecided(tol)
        listed = "; ".join(self._open(*place) for place in places[:_LISTED])
        more = f"; and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
        why = f" ({self.stopped})" if self.stopped else ""
        return (
            f"inconclusive with {seeds}{why}: {len(places)} of {judged} promises are open, "
            f"{listed}{more}. {self._remedy(places, tol)}"
        )

    def _open(self, name: str, step: int) -> str:
        """An undecided promise in words."""
        fit, expected = self.fit(name, step), self.expected[name, step]
        nearer = fit.nears(expected)
        found = fit.settled if nearer else fit.plain
        told = with_error(found.value, found.stderr, "+.2f")
        bends = ", with its finite-size term" if nearer else ""
        times = format_count(step, "update")
        return f"{name} after {times} ({told}{bends}, promised {expected:+.2f})"

    def _remedy(self, places: Sequence[tuple[str, int]], tol: float) -> str:
        """What would decide."""
        needed = [
            self.fit(*place).seeds_needed(self.expected[place], tol, self.levels)
            for place in places
        ]
        bends = any(map(self.nears, places))
        if all(one is not None for one in needed):
            seeds = max(one for one in needed if one is not None)
            if seeds > self.seeds and (seeds <= 8 * self.seeds or not bends):
                return f"About {seeds} seeds would decide"
        if bends:
            return (
                "These still bend: larger sizes would decide, and a smaller repeated batch bends "
                "less"
            )
        return "Their gaps are as large as the tolerance: more seeds would decide"

    def refuted(self, tol: float = 0.25) -> list[str]:
        """Sentences that name coordinate, updates, axis and exponents of all that is refuted."""
        sentences = []
        for (coordinate, step), expected in self.expected.items():
            if self.verdict(coordinate, step, tol) is Verdict.refuted:
                found = self.exponent(coordinate, step)
                grows = f"to the power {with_error(found.value, found.stderr, '+.2f')}"
                if not math.isfinite(found.value):
                    grows = "to no power (a network diverged)"
                sentences.append(
                    f"{coordinate} after {format_count(step, 'update')} grows with {self.axis} "
                    f"{grows}, and {expected:+.2f} is promised"
                )
        return sentences

    def lint(self, tol: float = 0.25) -> list[str]:
        """What is off, in terms of roles and parameters; where none is known, what to suspect."""
        if self.findings:
            return summarize(self.axis, self.findings)
        said: list[str] = []
        seen = {n for n, s in self.expected if self.verdict(n, s, tol) is Verdict.refuted}
        roles = [name for name in seen if " of " in name]
        for name in sorted(roles):
            what, _, role = name.partition(" of ")
            said.append(f"the {what} of {role} is off, although its numbers follow the rules")
        others = sorted(name for name in seen - set(roles) if not (roles and "change" in name))
        said += [
            f"{name} is off: suspect {_SUSPECTS.get(name, 'what makes it')}" for name in others
        ]
        return said

    def rows(self, tol: float = 0.25) -> list[ExponentRow]:
        """A row of plain data for every promise: exponent, interval, promise and verdict."""
        made: list[ExponentRow] = []
        for (name, step), expected in self.expected.items():
            fit, interval = self.fit(name, step), self.interval(name, step)
            made.append(
                {
                    "coordinate": name,
                    "updates": step,
                    "exponent": fit.plain.value,
                    "stderr": fit.plain.stderr,
                    "interval": list(interval),
                    "bends": fit.bends,
                    "settled": fit.settled.value,
                    "settled_stderr": fit.settled.stderr,
                    "expected": expected,
                    "verdict": "still"
                    if self.is_still(name, step)
                    else self.verdict(name, step, tol).value,
                }
            )
        return made

    def to_json(self, tol: float = 0.25) -> CheckRecord:
        """Everything as plain data."""
        return {
            "axis": self.axis,
            "sizes": list(self.sizes),
            "steps": list(self.steps),
            "tol": tol,
            "seeds": self.seeds,
            "looks": list(self.looks),
            "verdict": self.overall(tol).value,
            "in_words": self.in_words(tol),
            "lint": self.lint(tol),
            "refuted": self.refuted(tol),
            "notes": list(self.notes),
            "findings": [finding.to_json() for finding in self.findings],
            "rows": self.rows(tol),
            "values": {name: rows.tolist() for name, rows in self.values.items()},
        }

    def _rows(self, coordinate: str, step: int) -> np.ndarray:
        if coordinate not in self.values or step not in self.steps:
            raise ArgumentError(
                "coordinate",
                f"{coordinate!r} was not recorded at step {step}",
                f"known: {', '.join(self.values)}, at the steps {', '.join(map(str, self.steps))}",
            )
        return self.values[coordinate][:, self.steps.index(step)]
