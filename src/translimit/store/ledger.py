"""Counts of a stored ledger: claims by verdict, and the printed forms that they correct."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from translimit.core import Verdict
from translimit.store.records import ClaimRecord


def count_verdicts(ledger: Mapping[str, Iterable[ClaimRecord]]) -> dict[str, int]:
    """How many claims there are of each verdict.

    Args:
        ledger: claims by the name of their experiment.
    """
    found = [claim["verdict"] for claims in ledger.values() for claim in claims]
    return {verdict.value: found.count(verdict.value) for verdict in Verdict}


def count_errata(ledger: Mapping[str, Iterable[ClaimRecord]]) -> int:
    """How many printed forms are refuted beside the supported claims that correct them.

    They are counted by themselves, not as refuted claims.

    Args:
        ledger: claims by the name of their experiment.
    """
    supported = Verdict.supported.value
    return sum(
        rival["printed"]
        for claims in ledger.values()
        for claim in claims
        if claim["verdict"] == supported
        for rival in claim.get("rivals", [])
    )
