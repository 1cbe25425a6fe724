"""What is fixed before anything is computed: tolerances and rivals of all claims, as one table.

The table is a file of the documentation, so that its history shows what changed after a first run.

Reference: documentation, "Statements and claims".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from translimit.experiments.claims import Claims, Rival
from translimit.experiments.registry import all_experiments

COLUMNS = ("experiment", "claim", "prediction", "tolerance", "side", "decided by", "rivals")


def registered_claims() -> list[tuple[str, ...]]:
    """One row for each template of claims of the experiments that ship; see `COLUMNS`.

    Tolerances are those of the preset standard, which may have no such claim. A prediction that is
    no constant is "computed".
    """
    return [
        (
            name,
            claims.name,
            _number(claims.prediction),
            _tolerances(claims, one.presets["standard"]),
            "upper bound" if claims.one_sided else "two-sided",
            claims.decided_by,
            " | ".join(map(_rival, claims.rivals)),
        )
        for name, one in all_experiments().items()
        for claims in one.claims
    ]


def _number(value: float | Callable[..., object] | None) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else "computed"


def _tolerances(claims: Claims[Any, Any], config: object) -> str:
    points: Sequence[object] = claims.over(config)
    if not callable(claims.tol):
        return f"{claims.tol:g}"
    told = "; ".join(f"{one:g}" for one in sorted({claims.tolerance(config, p) for p in points}))
    return told or "no such claim at standard"


def _rival(rival: Rival[Any, Any]) -> str:
    said = rival.name + (" (printed)" if rival.printed else "")
    constant = isinstance(rival.prediction, (int, float))
    return f"{said} = {rival.prediction:g}" if constant else said
