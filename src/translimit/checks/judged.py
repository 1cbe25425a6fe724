r"""What of recorded networks is judged: coordinates at fixed inputs, promises, and reasons.

The output of a map at the inputs of the start is taken over the size of these inputs, so that its
coordinates are those of the weights: behind a norm the inputs have size 1, and a map that reads the
stream itself (OLMo 2) is not blamed for the stream.

Not judged, with a note:

* the change of the output, until it exceeds the output of a random readout at the start;
* along the depth, at alpha_L > 1/2, the stream at the start, and what reads it without a norm;
  where branches drawn at random are most of that stream, its first changes;
* what is learned where more tokens are repeated than the narrowest network is wide, if it falls
  short of its promise: up to n^{-1/2} a factor, that is what incoherent tokens do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from translimit.checks.exponents import fitted
from translimit.checks.lint import Finding, ParameterNumbers, compare
from translimit.checks.places import LATENT_MAPS, MAPS
from translimit.checks.promises import AxisName, expected_exponents, role_exponents
from translimit.core import format_count
from translimit.describe import Role, Size, Update
from translimit.scaling import Rules

#: Coordinates by name.
Values = dict[str, Float[np.ndarray, "sizes steps seeds"]]
#: Promised exponents by coordinate and updates.
Promised = dict[tuple[str, int], float]

#: How far the output of a random readout must have moved, over its start, to be judged.
_SETTLED = 2.0
#: An exponent of the inputs of maps above which their sizes are not those behind a norm.
_UNNORMED = 0.05
#: Updates from which branches that were drawn at random have been taught to add up.
_EARLY = 5
#: Facts that are recorded beside the coordinates.
_FACTS = ("tokens", "examples", "decays", "apart")


@dataclass(frozen=True)
class Networks:
    """The networks of a check as they were recorded.

    Attributes:
        axis: which size changes.
        steps: numbers of updates.
        shapes: sizes of the networks.
        rows: of every size, of every seed.
    """

    axis: AxisName
    steps: tuple[int, ...]
    shapes: Sequence[Size]
    rows: Sequence[Sequence[dict[str, Any]]]

    @property
    def rules(self) -> list[Rules]:
        """From the base to every size."""
        return [Rules.from_json(row[0]["rules"]) for row in self.rows]

    def values(self) -> Values:
        """What all networks have."""
        cells = [cell["values"] for row in self.rows for cell in row]
        names = set.intersection(*(set(one) for one in cells))
        return {
            name: np.array(
                [[[float(x) for x in cell["values"][name]] for cell in row] for row in self.rows]
            ).transpose(0, 2, 1)
            for name in cells[0]
            if name in names
        }


def judged(found: Networks) -> tuple[Promised, Values, tuple[Finding, ...], tuple[str, ...]]:
    """Promises, coordinates, findings of the linter, and notes.

    Args:
        found: networks of a check.
    """
    values = found.values()
    facts = {name: float(values.pop(name).max()) for name in _FACTS if name in values}
    rules, notes = found.rules, list[str]()
    promised = _promises(found, rules, values)
    notes += _random_readout(found.steps, values, promised)
    if facts.get("decays") and "output" in values and not np.any(values["output"][:, 0] > 0):
        # From a readout of zeros only decay moves what is before it, in the first update.
        for name in ("stream_change", "hidden_change"):
            promised.pop((name, 1), None)
    notes += _random_branches(found, rules[0], values, promised)
    _over_inputs(values)
    notes += _many_tokens(found, values, promised, facts)
    notes += _few(found)
    return promised, values, _findings(found, rules), (*notes, *rules[0].warnings)


def _findings(found: Networks, rules: Sequence[Rules]) -> tuple[Finding, ...]:
    """What the linter says of the numbers, what was set and does nothing, what is elsewhere."""
    unread = [
        Finding(role, parameter, number, math.nan, math.nan, sentence)
        for number in ("unread", "misplaced")
        for role, parameter, sentence in found.rows[-1][0].get(number, ())
    ]
    numbers = [[ParameterNumbers.from_json(one) for one in row[0]["numbers"]] for row in found.rows]
    scales = [row[0]["score_scale"] for row in found.rows]
    return (*unread, *compare(found.axis, found.shapes, numbers, rules, scales))


def _promises(found: Networks, rules: Sequence[Rules], values: Values) -> Promised:
    """What the rules promise for the coordinates that were recorded."""
    question, axis, steps = rules[0].question, found.axis, found.steps
    suppressed = question.kind.update is Update.GRADIENT
    promised = expected_exponents(axis, steps, suppressed, question.alpha_A, question.alpha_L)
    if axis == "layers" and question.alpha_L > 0.5:
        # The share of the branches in the stream of the start falls like L^(1 - 2 alpha_L): how
        # much of it there is at the base, the rules do not say.
        promised.pop(("stream", 0), None)
    roles = [one for one in (*MAPS, *LATENT_MAPS, Role.QUERY, Role.KEY) if one in rules[0].table()]
    table = role_exponents(rules[0], axis, found.shapes[0], found.shapes[-1], roles)
    for (what, role), exponent in table.items():
        for step in steps:
            if (what == "start") is (step == 0):
                promised[f"{what} of {role.value}", step] = exponent
    return {place: exponent for place, exponent in promised.items() if place[0] in values}


def _random_readout(at: Sequence[int], values: Values, promised: Promised) -> list[str]:
    """Withdraw the change of an output that still moves with its random readout."""
    if "output" not in values or not np.any(values["output"][:, 0] > 0):
        return []
    start, change = values["output"][:, 0], values.get("output_change")
    steps = [step for name, step in promised if name == "output_change"]
    if change is None:
        return []
    early = []
    for step in steps:
        moved = change[:, at.index(step)].mean(axis=1) / start.mean(axis=1)
        if not np.all(moved >= _SETTLED):
            early.append(step)
            promised.pop(("output_change", step))
    if not early:
        return []
    many = format_count(max(early), "update")
    after = "at any of the steps" if len(early) == len(steps) else f"up to {many}"
    return [
        "the readout starts at random: what moves in the stream moves the output through it, like "
        f"d^(-1/2), until what the readout learns exceeds its start; {after} it did not, and the "
        "output's change is not judged there (start the readout at zero, or take more updates)"
    ]


def _random_branches(
    found: Networks, rules: Rules, values: Values, promised: Promised
) -> list[str]:
    """Withdraw along the depth what follows a stream that is mostly branches drawn at random.

    They add up like L^{1/2 - alpha_L}, and so does what their first updates change at random.
    """
    if found.axis != "layers" or rules.question.alpha_L == 0.5:
        return []
    sizes, said = [size.layers for size in found.shapes], []

    def exponent(name: str) -> float:
        rows = values.get(name)
        return 0.0 if rows is None else fitted(sizes, rows[:, 0]).plain.value

    read = [("input of key", "score"), ("input of mlp_in", "hidden")]
    unnormed = [name for given, name in read if abs(exponent(given)) > _UNNORMED]
    off = [name for name in unnormed if promised.pop((name, 0), None) is not None]
    if off:
        said.append(
            "the maps read the stream without a norm, and its start changes with the depth: "
            f"{' and '.join(off)} of the start are not judged (draw embeddings of unit size)"
        )
    if exponent("stream") < (0.5 - rules.question.alpha_L) / 2:
        early = [step for step in found.steps if 0 < step < _EARLY]
        gone = [promised.pop(("stream_change", step), None) for step in early]
        if any(one is not None for one in gone):
            said.append(
                "branches drawn at random are most of the stream at the start, which falls with "
                f"the depth: its changes in the first {_EARLY - 1} updates are not judged (draw "
                "embeddings of unit size)"
            )
    return said


def _over_inputs(values: Values) -> None:
    """Outputs of maps at the inputs of the start, over the size of these inputs."""
    inputs = {
        name.removeprefix("input of "): values.pop(name)
        for name in [name for name in values if name.startswith("input of ")]
    }
    for role, size in inputs.items():
        for name in (f"start of {role}", f"update of {role}", f"learned_{role}_change"):
            if name in values:
                values[name] = values[name] / size
    if "query" in inputs and "key" in inputs and "learned_score_change" in values:
        values["learned_score_change"] /= inputs["query"] * inputs["key"]


def _many_tokens(
    found: Networks, values: Values, promised: Promised, facts: dict[str, float]
) -> list[str]:
    """Withdraw what many tokens teach and cannot add up yet, where it falls short."""
    tokens, width = int(facts.get("tokens", 0)), found.shapes[0].width
    said = []
    if facts.get("examples"):
        said.append(
            f"the repeated batch is {int(facts['examples'])} of the examples of a batch "
            f"({tokens} tokens), as many as have no more tokens than the narrowest network is wide "
            f"({width}); repeated= chooses another"
        )
    if tokens <= width or found.axis == "layers":
        return said
    sizes = [getattr(size, found.axis) for size in found.shapes]
    short = []
    for name, step in list(promised):
        if not (name.endswith("_change") or name.startswith("update of ")):
            continue
        rows = values[name][:, found.steps.index(step)]
        least = -1.0 if name == "learned_score_change" else -0.5
        gap = fitted(sizes, rows).plain.value - promised[name, step]
        if least - 0.1 <= gap < -0.1:
            del promised[name, step]
            short.append(name)
    judged = (
        f"; {', '.join(dict.fromkeys(short))} fall short so, and are not judged" if short else ""
    )
    said.append(
        f"the repeated batch has {tokens} tokens, more than the narrowest network is wide "
        f"({width}): what is learned falls with width until it exceeds them{judged} (repeat a "
        "smaller batch, or start wider)"
    )
    return said


def _few(found: Networks) -> list[str]:
    """Whether there are few sizes or seeds."""
    said, seeds = [], len(found.rows[0])
    if len(found.shapes) < 4:
        said.append(f"{len(found.shapes)} sizes: 5 are better")
    if seeds < 3:
        said.append(f"{seeds} seed{'s' if seeds > 1 else ''}: 3 are better")
    return said
