"""Claims for a reader: formatted numbers, and the verdict rule as a drawing to scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from translimit.core import REFUTED, Verdict, format_count, format_estimate, format_number
from translimit.report.names import slug
from translimit.store import ClaimRecord, EstimateRecord, RivalRecord

#: Where the drawing has zero, the tolerance and the end of its scale (twice the tolerance).
ZERO, TOLERANCE, END = 2.0, 60.0, 118.0


@dataclass(frozen=True)
class Gauge:
    """The bar from g - 4.5 s to g + 2 s against the tolerance, in units of the drawing.

    Attributes:
        low: left end of the bar, not below zero.
        high: its right end, at most the end of the scale.
        dot: the gap g.
        beyond: the bar leaves the scale.
        dot_beyond: the gap itself leaves the scale.
        label: the same in words.
    """

    low: str
    high: str
    dot: str
    beyond: bool
    dot_beyond: bool
    label: str


@dataclass(frozen=True)
class RivalRow:
    """A rival as it stands on the page.

    Attributes:
        name: what it does otherwise.
        prediction: the number that it predicts, or its measured distance where its law enters.
        excluded: by how many standard errors beyond the tolerance, in words.
        refuted: whether the data exclude it.
        printed: whether it is the paper's printed form.
    """

    name: str
    prediction: str
    excluded: str
    refuted: bool
    printed: bool


@dataclass(frozen=True)
class ClaimRow:
    """One claim as it stands on the page; numbers are formatted, texts may hold `$...$`.

    `margin` is by how many standard errors the nearest rival is excluded, NaN where none is known.
    """

    slug: str
    name: str
    statement: str
    printed: str
    reference: str
    one_sided: bool
    prediction: str
    measured: str
    samples: str
    discretisation: str
    gap: str
    floor: str
    tolerance: str
    verdict: str
    remark: str
    rivals: tuple[RivalRow, ...]
    nearest: RivalRow | None
    margin: float
    gauge: Gauge | None

    @property
    def errata(self) -> tuple[RivalRow, ...]:
        """The printed forms that it corrects."""
        if self.verdict != Verdict.supported.value:
            return ()
        return tuple(rival for rival in self.rivals if rival.printed)


def claim_row(experiment: str, claim: ClaimRecord) -> ClaimRow:
    """The row of a claim, from what `Claim.to_json` stored."""
    estimate = claim["estimate"]
    printed = claim["printed"]
    rivals = tuple(map(_rival, claim.get("rivals", [])))
    nearest = claim.get("nearest")
    margins = [r["excluded_by"] for r in claim.get("rivals", []) if r["name"] == nearest]
    return ClaimRow(
        slug=slug("claim", experiment, claim["name"]),
        name=claim["name"],
        statement=claim["statement"],
        printed="" if printed == "unavailable" else printed,
        reference=claim["reference"],
        one_sided=claim["one_sided"],
        prediction=format_number(claim["prediction"]),
        measured=format_estimate(estimate["value"], estimate["stderr"]),
        samples=_samples(estimate),
        discretisation=format_number(estimate["discretisation"], 2),
        gap=format_number(claim["gap"], 3),
        floor=format_number(claim["floor"], 2) if math.isfinite(claim["floor"]) else "none",
        tolerance=format_number(claim["tol"]),
        verdict=Verdict(claim["verdict"]).value,
        remark=claim.get("remark", ""),
        rivals=rivals,
        nearest=next((one for one in rivals if one.name == nearest), None),
        margin=margins[0] if margins else math.nan,
        gauge=gauge(claim["gap"], claim["floor"], claim["tol"]),
    )


def _rival(rival: RivalRecord) -> RivalRow:
    measured = rival["estimate"]
    told = rival["prediction"] if measured is None else measured["value"]
    return RivalRow(
        name=rival["name"],
        prediction=format_number(told),
        excluded=excluded(rival["excluded_by"]),
        refuted=rival["refuted"],
        printed=rival["printed"],
    )


def excluded(by: float) -> str:
    """By how many standard errors a rival is excluded, in words.

    Args:
        by: standard errors beyond the tolerance; NaN where that is not known.
    """
    if math.isnan(by) or by <= 0:
        return "not excluded"
    if math.isinf(by):
        return "excluded without sampling error"
    word = "excluded" if by > REFUTED else "not excluded, off"
    return f"{word} by {format_number(by, 2)} standard errors"


def count_verdicts(claims: Sequence[ClaimRow]) -> tuple[tuple[str, int], ...]:
    """How many claims have each verdict.

    Args:
        claims: rows of a ledger.
    """
    verdicts = [claim.verdict for claim in claims]
    return tuple((verdict.value, verdicts.count(verdict.value)) for verdict in Verdict)


def _samples(estimate: EstimateRecord) -> str:
    if estimate["count"] == 1 and estimate["stderr"] == 0:
        return "deterministic"
    return format_count(estimate["count"], "sample")


def gauge(gap: float | int, floor: float | int, tol: float | int) -> Gauge | None:
    """The drawing of a verdict; None where there is no scale (a number is infinite, or tol = 0)."""
    if not all(map(math.isfinite, (gap, floor, tol))) or tol <= 0:
        return None

    def place(value: float) -> float:
        return ZERO + (TOLERANCE - ZERO) * value / tol

    low, dot, high = place(gap - 4.5 * floor), place(gap), place(gap + 2.0 * floor)
    label = (
        f"gap {format_number(max(gap, 0.0) / tol, 2)} of the tolerance, bar from "
        f"{format_number(max(gap - 4.5 * floor, 0.0) / tol, 2)} to "
        f"{format_number(max(gap + 2.0 * floor, 0.0) / tol, 2)}"
    )
    return Gauge(
        low=f"{min(max(low, ZERO), END - 10.0):.1f}",
        high=f"{max(min(high, END), ZERO):.1f}",
        dot=f"{max(dot, ZERO):.1f}",
        beyond=high > END,
        dot_beyond=dot > END - 6.0,
        label=label,
    )
