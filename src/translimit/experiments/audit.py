"""The audit of a ledger: wrong theories are put in the place of the right ones.

Every rival is swapped in for the prediction of its claim: none may come out supported. Every
prediction is multiplied by 1.1 (a zero and a bound are replaced by their nearest rival): at least
one claim of an experiment must be refuted then, or its data decide nothing.

Reference: documentation, "How runs work", claims and verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from translimit.core import Claim, Verdict


@dataclass(frozen=True)
class Audit:
    """What wrong theories came to.

    Attributes:
        swaps: rivals that were put in the place of a prediction.
        supported: those that came out supported, as "claim: rival"; there should be none.
        disturbed: claims whose prediction was replaced by a wrong one.
        refuted: the names of those that were refuted.
    """

    swaps: int
    supported: tuple[str, ...]
    disturbed: int
    refuted: tuple[str, ...]


def audit(claims: Iterable[Claim], factor: float = 1.1) -> Audit:
    """Put wrong theories in the place of the right ones, with the data as they are.

    Args:
        claims: of one experiment, as `Experiment.check` gives them or `Claim.from_json` reads them.
        factor: by which a prediction is made wrong.
    """
    claims = list(claims)
    swapped = [(one, rival, one.swapped(rival)) for one in claims for rival in one.rivals]
    wrong = [one for claim in claims if (one := claim.disturbed(factor)) is not None]
    return Audit(
        swaps=len(swapped),
        supported=tuple(
            f"{one.name}: {rival.name}"
            for one, rival, claim in swapped
            if claim.verdict == Verdict.supported
        ),
        disturbed=len(wrong),
        refuted=tuple(one.name for one in wrong if one.verdict == Verdict.refuted),
    )
