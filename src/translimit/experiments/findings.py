"""What an experiment found, in one sentence that its claims fill with numbers.

The words say what was measured, never how it came out: numbers, errors and verdicts are those of
the checked claims, so that the sentence stays true when a claim is refuted or undecided.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, final

from translimit.core import Verdict, format_estimate, format_number

#: A checked claim as `core.Claim.to_json` writes it, and as a ledger keeps it.
Checked = Mapping[str, Any]
#: What is said beside a number whose claim is not supported.
AGAINST = (Verdict.refuted.value, Verdict.underpowered.value)


@final
@dataclass(frozen=True)
class Finding:
    """The sentence that leads the report of an experiment.

    Attributes:
        says: the sentence without its full stop, with `{0}`, `{1}` ... where the measured numbers
            of `claims` stand (double the braces of mathematics). `{0:negated}` stands for the
            number with the other sign: a lower bound is claimed as the upper bound of its negative.
        claims: their names, or patterns as in `H=*-below-H=*`, which mean the last that matches.
    """

    says: str
    claims: tuple[str, ...]

    def cited(self, names: Sequence[str]) -> list[str] | None:
        """The claims that the sentence is about; None where a configuration lacks one.

        Args:
            names: of all claims.
        """
        found = [
            [n for n in names if n == pattern or fnmatchcase(n, pattern)] for pattern in self.claims
        ]
        return [matching[-1] for matching in found] if all(found) else None


@dataclass(frozen=True)
class _Measured:
    """The measured number of a claim where a sentence has its place."""

    claim: Checked

    def __format__(self, spec: str) -> str:
        if spec not in ("", "negated"):
            raise ValueError(f"{spec!r} is no way to tell a number: negated or nothing")
        return measured(self.claim, negated=spec == "negated")


def found_sentence(claims: Sequence[Checked], finding: Finding | None = None) -> str:
    """What an experiment found, with the uncertainty of its numbers; "" without claims.

    Args:
        claims: all claims of the experiment, as `Claim.to_json` writes them.
        finding: the sentence that the experiment declares. Without one, or where one of its claims
            is not there, the first claim is told, or the first that is refuted.

    Returns:
        A sentence; `$...$` is mathematics.
    """
    if not claims:
        return ""
    known = {one["name"]: one for one in claims}
    cited = finding.cited(list(known)) if finding is not None else None
    if finding is None or cited is None:
        refuted = [one for one in claims if one["verdict"] == Verdict.refuted.value]
        told = (refuted or claims)[0]
        said = f"{clause(told['statement'])}: {measured(told)}"
        cited = [told["name"]]
    else:
        said = finding.says.format(*(_Measured(known[name]) for name in cited))
    rest = [one for one in claims if one["name"] not in cited]
    return f"{said}{_others(rest)}."


def measured(claim: Checked, *, negated: bool = False) -> str:
    r"""The measured number of a claim, with its error, the prediction, and a verdict against it.

    Args:
        claim: as `Claim.to_json` writes it.
        negated: whether number and prediction have the other sign.

    Examples:
        >>> estimate = {"value": 0.4123, "stderr": 0.02, "count": 9, "discretisation": 0.0}
        >>> claim = {"estimate": estimate, "prediction": 0.5, "tol": 0.01, "floor": 0.02}
        >>> measured(claim | {"one_sided": False, "verdict": "underpowered"})
        '0.41\xa0±\xa00.02 (predicted 0.5; underpowered)'
    """
    value = claim["estimate"]["value"]
    said = format_estimate(-value if negated else value, claim["floor"])
    said = said.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    against = f"; {claim['verdict']}" if claim["verdict"] in AGAINST else ""
    return f"{said} ({predicted(claim, negated=negated)}{against})"


def predicted(claim: Checked, *, negated: bool = False) -> str:
    """What was predicted of a claim's number: a number, a bound, or zero within a tolerance.

    Args:
        claim: as `Claim.to_json` writes it.
        negated: see `measured`.
    """
    number = format_number(-claim["prediction"] if negated else claim["prediction"], 4)
    if claim["prediction"] == 0 and claim["tol"] > 0:
        return f"predicted 0 to within {format_number(claim['tol'], 2)}"
    bound = ("at least " if negated else "at most ") if claim["one_sided"] else ""
    return f"predicted {bound}{number}"


def clause(statement: str) -> str:
    """A statement without its full stop and without a remark in parentheses at its end.

    Args:
        statement: of a claim.
    """
    bare = statement.strip().rstrip(".")
    return re.sub(r"\s*\((?=[^()]*[a-z])[^()]*\)$", "", bare) or bare


def _others(rest: Sequence[Checked]) -> str:
    """What is not supported among the claims that the sentence does not tell."""
    parts = []
    for verdict in AGAINST:
        names = [one["name"] for one in rest if one["verdict"] == verdict]
        if names:
            verb = "is" if len(names) == 1 else "are"
            parts.append(f"{len(names)} {verb} {verdict} ({_shown(names)})")
            if len(names) == len(rest):
                all_of = "the other claim" if len(rest) == 1 else f"all {len(rest)} other claims"
                return f"; {all_of} {verb} {verdict} ({_shown(names)})"
    return f"; of {len(rest)} further claims {' and '.join(parts)}" if parts else ""


def _shown(names: Sequence[str], most: int = 2) -> str:
    """Some names, and how many are not shown."""
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")
