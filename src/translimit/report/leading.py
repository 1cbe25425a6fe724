"""What to look at first: three lines at the top of a report, each with where it leads.

What went against expectation comes first: refuted claims, printed forms that are corrected, claims
without a decision, agreement that is off by many standard errors. Where little of that is there,
the closest call and the main figures fill the lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from translimit.core import Verdict, format_count
from translimit.experiments import clause
from translimit.report.ledger import ClaimRow
from translimit.report.page import Pointer, Section

#: Lines at the top of a page.
LINES = 3


def look_first(sections: Sequence[Section]) -> tuple[Pointer, ...]:
    """The lines at the top of a report.

    Args:
        sections: the experiments of the page.
    """
    claims = [claim for section in sections for claim in section.claims]
    found: dict[str, Pointer] = {}
    for pointer in _pointers(sections, claims):
        found.setdefault(pointer.target, pointer)
    return tuple(found.values())[:LINES]


def _pointers(sections: Sequence[Section], claims: Sequence[ClaimRow]) -> Iterator[Pointer]:
    """All lines that there could be, in their order."""
    yield from _of_verdict(claims, Verdict.refuted, "refuted")
    yield from _errata(claims)
    yield from _of_verdict(claims, Verdict.underpowered, "underpowered (too few samples to decide)")
    yield from _significant(claims)
    yield from _closest(claims)
    for section in sections:
        for figure in section.figures[:1]:
            yield Pointer(f"Figure {figure.number}: {figure.title}", figure.slug)


def _of_verdict(claims: Sequence[ClaimRow], verdict: Verdict, word: str) -> Iterator[Pointer]:
    """The claims of a verdict, in one line."""
    found = [claim for claim in claims if claim.verdict == verdict.value]
    if found:
        first = ", first" if len(found) > 1 else ""
        said = f"{_counted(found, 'claim')} {word}{first}: {clause(found[0].statement)}"
        yield Pointer(said, found[0].slug)


def _significant(claims: Sequence[ClaimRow]) -> Iterator[Pointer]:
    """A supported claim that is off by many standard errors."""
    for claim in claims:
        if claim.remark and claim.verdict == Verdict.supported.value:
            yield Pointer(f"Supported, {claim.remark}: {clause(claim.statement)}", claim.slug)
            return


def _closest(claims: Sequence[ClaimRow]) -> Iterator[Pointer]:
    """The supported claim whose nearest rival is excluded by the fewest standard errors.

    Printed forms have a line of their own.
    """
    near = [
        (claim.margin, claim, claim.nearest)
        for claim in claims
        if claim.verdict == Verdict.supported.value and claim.nearest
    ]
    near = [one for one in near if math.isfinite(one[0]) and not one[2].printed]
    if near:
        _, claim, rival = min(near, key=lambda one: one[0])
        said = f"The closest call, rival “{rival.name}” {rival.excluded}"
        yield Pointer(f"{said}: {clause(claim.statement)}", claim.slug)


def _errata(claims: Sequence[ClaimRow]) -> Iterator[Pointer]:
    """The printed forms that are corrected, in one line."""
    corrected = [(claim, rival) for claim in claims for rival in claim.errata]
    if corrected:
        claim, rival = corrected[0]
        said = _counted(corrected, "printed form")
        yield Pointer(
            f"{said} corrected, first “{rival.name}”: {clause(claim.statement)}", "errata"
        )


def _counted(found: Sequence[object], noun: str) -> str:
    """`1 claim is`, `12 claims are`."""
    return f"{format_count(len(found), noun)} {'is' if len(found) == 1 else 'are'}"
