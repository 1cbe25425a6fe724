r"""Coordinates of networks of several sizes: exponents with intervals, promises, verdicts.

A power law is fitted to every coordinate of every seed; the exponent is the mean over seeds.

Reference: documentation, "Checking your own model"; arXiv 2405.15712.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from jaxtyping import Float, Real

from translimit.checks.lint import Finding, summarize
from translimit.checks.promises import AxisName
from translimit.core import ArgumentError, Claim, Estimate, Json, Verdict, with_error

#: Sizes of networks.
Sizes = Sequence[int] | Sequence[float] | Real[np.ndarray, " sizes"]

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
    """A promise: what was found, and the verdict ("still" where nothing moved)."""

    coordinate: str
    updates: int
    exponent: float
    stderr: float
    interval: list[float]
    expected: float
    verdict: str


class CheckRecord(TypedDict):
    """A coordinate check as plain data."""

    axis: str
    sizes: list[int]
    steps: list[int]
    tol: float
    verdict: str
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
        notes: what makes verdicts doubtful.
    """

    axis: AxisName
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    values: Mapping[str, Float[np.ndarray, "sizes steps seeds"]]
    expected: Mapping[tuple[str, int], float]
    findings: tuple[Finding, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())

    def exponent(self, coordinate: str, step: int) -> Estimate:
        """The exponent of a coordinate after some updates: least squares for every seed.

        Args:
            coordinate: one of `values`.
            step: one of `steps`.

        Returns:
            Mean and standard error over seeds; NaN where a network diverged or the coordinate is 0.
        """
        return power_law_exponent(self.sizes, self._rows(coordinate, step))

    def interval(self, coordinate: str, step: int, confidence: float = 0.95) -> tuple[float, float]:
        """Student's interval of an exponent over seeds; infinite with one seed."""
        from scipy.special import stdtrit

        found = self.exponent(coordinate, step)
        if found.count < 2 or not math.isfinite(found.value):
            return -math.inf, math.inf
        half = found.stderr * float(stdtrit(found.count - 1, 0.5 + confidence / 2))
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
        found = self.exponent(coordinate, step)
        if not math.isfinite(found.value):
            return Verdict.refuted
        # The rivals of a promise are all exponents beyond its tolerance: it names no others.
        promise = Claim(coordinate, "", self.expected[coordinate, step], found, tol)
        return Verdict.supported if promise.holds else promise.verdict

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
                    f"{coordinate} after {step} updates grows with {self.axis} {grows}, and "
                    f"{expected:+.2f} is promised"
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
            found, interval = self.exponent(name, step), self.interval(name, step)
            made.append(
                {
                    "coordinate": name,
                    "updates": step,
                    "exponent": found.value,
                    "stderr": found.stderr,
                    "interval": list(interval),
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
            "verdict": self.overall(tol).value,
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


def power_law_exponents(
    sizes: Sizes, rows: Float[np.ndarray, "sizes replicates"] | Sequence[Sequence[float]]
) -> Float[np.ndarray, " replicates"]:
    """Exponents of power laws: least squares of log rows [sizes, replicates] on log sizes.

    Args:
        sizes: [sizes].
        rows: [sizes, replicates].

    Returns:
        One for each replicate; NaN where a row is not positive and finite.
    """
    sizes, rows = np.asarray(sizes, float), np.asarray(rows, float)
    if not np.all(np.isfinite(rows) & (rows > 0)):
        return np.full(rows.shape[1], math.nan)
    return np.polyfit(np.log(sizes), np.log(rows), 1)[0]


def power_law_exponent(
    sizes: Sizes, rows: Float[np.ndarray, "sizes replicates"] | Sequence[Sequence[float]]
) -> Estimate:
    """The mean of `power_law_exponents` with its standard error over replicates.

    Args:
        sizes: [sizes].
        rows: [sizes, replicates].
    """
    found = power_law_exponents(sizes, rows)
    if not np.all(np.isfinite(found)):
        return Estimate(math.nan, math.nan, len(found))
    return Estimate.over_seeds(found)
