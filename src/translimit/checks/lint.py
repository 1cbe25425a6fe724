r"""The linter: what the optimiser really does to every parameter, against what the rules say.

Rates, epsilons, decays and starts of one parameter are compared across sizes: the ratio of what is
found to what its role takes must not grow with the size. A constant factor is the base's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np

from translimit.checks.promises import AxisName
from translimit.core import Json
from translimit.describe import Role, Size
from translimit.scaling import Rules

#: What is compared, as sentences call it.
NUMBERS = {"lr": "learning rate", "eps": "epsilon", "wd": "weight decay", "init": "start"}
#: Exponents may differ by this much: rates are exact, starts are drawn.
TOLERANCE = {"lr": 0.02, "eps": 0.02, "wd": 0.02, "init": 0.1}
#: An epsilon up to this size cannot matter, and is not compared.
NEGLIGIBLE_EPSILON = 1e-12


class NumbersRecord(TypedDict):
    """`ParameterNumbers` as plain data."""

    name: str
    roles: Sequence[str]
    lr: float | None
    eps: float | None
    wd: float | None
    init: float
    entries: int


@dataclass(frozen=True)
class ParameterNumbers:
    """What one parameter of one network takes.

    Attributes:
        name: of the parameter.
        roles: its role; several for a packed tensor; none where the table does not know it.
        lr: learning rate over the rate of the base; None where the optimiser does not tell.
        eps: epsilon, or None.
        wd: weight decay, or None.
        init: root mean square of the start.
        entries: how many numbers it has.
    """

    name: str
    roles: tuple[Role, ...]
    lr: float | None
    eps: float | None
    wd: float | None
    init: float
    entries: int

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: NumbersRecord) -> ParameterNumbers:
        """From what `to_json` gave."""
        return cls(**{**data, "roles": tuple(Role(role) for role in data["roles"])})


@dataclass(frozen=True)
class Finding:
    """One number of one parameter that does not follow the rules.

    Attributes:
        role: of the parameter.
        parameter: its name, with `*` for the number of the block.
        number: `lr`, `eps`, `wd`, `init`, `score_scale`, `unread` for what does nothing, or
            `misplaced` for what is read elsewhere than its role says.
        found: its exponent along the axis.
        expected: the exponent that the rules have.
        sentence: for people.
    """

    role: str
    parameter: str
    number: str
    found: float
    expected: float
    sentence: str

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return asdict(self)


def compare(
    axis: AxisName,
    sizes: Sequence[Size],
    numbers: Sequence[Iterable[ParameterNumbers]],
    rules: Sequence[Rules],
    score_scales: Sequence[float | None] = (),
) -> tuple[Finding, ...]:
    """What does not follow the rules along one axis.

    Args:
        axis: which size changes.
        sizes: of the networks.
        numbers: of all parameters, by size.
        rules: from the base to each size.
        score_scales: what multiplies q . k, by size, where the module tells it.
    """
    along = np.log([float(getattr(size, axis)) for size in sizes])
    tables = [_by_template(one) for one in numbers]
    found: list[Finding] = []
    for template in dict.fromkeys(name for table in tables for name in table):
        if any(template not in table for table in tables):
            continue
        columns = [table[template] for table in tables]
        roles = columns[0][0].roles
        if not roles:
            sentence = f"{template} has no role: name it in the table of roles"
            found.append(Finding("", template, "role", math.nan, math.nan, sentence))
        for number in NUMBERS:
            if finding := _stray(template, number, columns):
                found.append(finding)
            for role in roles:
                finding = _finding(axis, along, template, role, number, columns, rules)
                if finding is not None:
                    found.append(finding)
                    break
    if len(score_scales) == len(sizes) and all(scale for scale in score_scales):
        measured = np.log([float(scale or 1) for scale in score_scales])
        wanted = np.log([one.score_scale for one in rules])
        got, expected = _slope(along, measured), _slope(along, wanted)
        if abs(got - expected) > TOLERANCE["lr"]:
            sentence = _sentence("the score scale", axis, got, expected, "attention", False)
            found.append(Finding("scores", "attention", "score_scale", got, expected, sentence))
    return tuple(found)


def summarize(axis: str, findings: Iterable[Finding]) -> list[str]:
    """Sentences about all findings; parameters with the same fault share one."""
    alike: dict[tuple[Any, ...], list[Finding]] = {}
    for one in findings:
        same = (one.number, f"{one.found:.2f}", f"{one.expected:.2f}")
        alone = one.parameter if math.isnan(one.found) else ""
        alike.setdefault((*same, alone), []).append(one)
    said = []
    for (number, found, expected, _), those in alike.items():
        roles = list(dict.fromkeys(one.role for one in those))
        if len(roles) == 1 and len(those) == 1:
            said.append(those[0].sentence)
            continue
        constant = float(found) == 0
        grow = f"do not change with {axis}" if constant else f"grow with {axis}^{found}"
        why = "their roles are unmatched" if constant else "they follow another rule"
        names = ", ".join(one.parameter for one in those)
        said.append(
            f"the {NUMBERS[number]}s of {', '.join(roles)} {grow}, where the rules have "
            f"{axis}^{expected}: {why} ({names})"
        )
    return said


def _by_template(numbers: Iterable[ParameterNumbers]) -> dict[str, list[ParameterNumbers]]:
    table: dict[str, list[ParameterNumbers]] = {}
    for one in numbers:
        table.setdefault(re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", one.name), []).append(one)
    return table


def _stray(
    template: str, number: str, columns: Sequence[Sequence[ParameterNumbers]]
) -> Finding | None:
    """A parameter whose number differs from that of its siblings in other blocks."""
    if number == "init":
        return None
    for column in columns:
        values = [getattr(one, number) for one in column]
        common = max(set(values), key=values.count)
        for one, value in zip(column, values, strict=True):
            if value != common and (not value or not common or abs(value / common - 1) > 1e-6):
                role = one.roles[0].value if one.roles else ""
                sentence = (
                    f"the {NUMBERS[number]} of {one.name} is {value:g}, and {common:g} in the "
                    "other blocks: one group has lost it"
                    if value is not None and common is not None
                    else f"the {NUMBERS[number]} of {one.name} is not that of the other blocks"
                )
                return Finding(role, one.name, number, math.nan, math.nan, sentence)
    return None


def _finding(
    axis: AxisName,
    along: np.ndarray,
    template: str,
    role: Role,
    number: str,
    columns: Sequence[Sequence[ParameterNumbers]],
    rules: Sequence[Rules],
) -> Finding | None:
    values = [[getattr(one, number) for one in column] for column in columns]
    wanted = [getattr(one.role(role), number) for one in rules]
    flat = [value for row in values for value in row]
    if any(value is None for value in (*flat, *wanted)) or not all(value > 0 for value in flat):
        return None  # not told, no number of this optimiser, or 0 by choice
    if number == "eps" and max(flat) <= NEGLIGIBLE_EPSILON:
        return None
    measured = np.array([np.mean(np.log(row)) for row in values])
    got, expected = _slope(along, measured), _slope(along, np.log(wanted))
    drawn = number == "init" and not (role.is_gain or role.is_factor)
    noise = 4.5 / math.sqrt(2 * min(sum(one.entries for one in column) for column in columns))
    tolerance = TOLERANCE[number] + (noise if drawn else 0.0)
    if abs(got - expected) <= tolerance:
        return None
    what = f"the {role.value}'s {NUMBERS[number]}"
    sentence = _sentence(what, axis, got, expected, template, abs(got) <= tolerance)
    return Finding(role.value, template, number, got, expected, sentence)


def _sentence(
    what: str, axis: str, found: float, expected: float, name: str, constant: bool
) -> str:
    grows = f"does not change with {axis}" if constant else f"grows with {axis}^{found:.2f}"
    why = "its role is unmatched" if constant else "it follows another rule"
    return f"{what} {grows}, where the rules have {axis}^{expected:.2f}: {why} ({name})"


def _slope(along: np.ndarray, values: np.ndarray | Sequence[float]) -> float:
    slope = float(np.polyfit(along, np.asarray(values, float), 1)[0])
    return 0.0 if abs(slope) < 1e-9 else slope
