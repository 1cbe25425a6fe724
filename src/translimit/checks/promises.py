r"""What the rules promise: exponents of coordinates along head dimension, heads and layers.

| coordinate | head_dim | heads | layers |
|---|---|---|---|
| stream, hidden and their changes, output change | 0 | 0 | 0 |
| output at the start | -1/2 | -1/2 | 0 |
| scores at the start | 1/2 - alpha_A | 0 | 0 |
| learned key change | alpha_A - 1 (SGD: 1/2 less in its first steps) | 0 | alpha_L - 1 |
| learned score change | 0 (SGD: -1/2 in its first steps) | 0 | alpha_L - 1 |

The output of the linear map of one role, at the inputs of the start, begins at
init (fan-in)^{1/2} and moves by lr_Adam fan-in, whatever the optimiser: both follow from the rules
of its style.

Reference: documentation, "Scaling rules", the coordinate check; arXiv 2405.15712.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from translimit.describe import Role, Size
from translimit.scaling import Rules

AxisName = Literal["head_dim", "heads", "layers"]
AXES = ("head_dim", "heads", "layers")


def expected_exponents(
    axis: AxisName,
    steps: Sequence[int],
    suppressed: bool,
    alpha_A: float,
    alpha_L: float,
) -> dict[tuple[str, int], float]:
    """What the rules promise, by coordinate and updates.

    Args:
        axis: which size changes.
        steps: numbers of updates.
        suppressed: whether the first update is incoherent, as of SGD: then only it has a promise
            for what keys and queries learn along the head dimension.
        alpha_A: exponent of the scores.
        alpha_L: exponent of the branches.
    """
    promised: dict[tuple[str, int], float] = {}
    for step in steps:
        if step == 0:
            promised["stream", 0] = promised["hidden", 0] = 0.0
            promised["score", 0] = 0.5 - alpha_A if axis == "head_dim" else 0.0
            if axis != "layers":
                promised["output", 0] = -0.5
            continue
        for name in ("stream_change", "output_change"):
            promised[name, step] = 0.0
        if axis != "layers":
            promised["hidden_change", step] = 0.0
        late = suppressed and axis == "head_dim"
        if late and step > 1:
            continue
        less = 0.5 if late else 0.0
        key = {"head_dim": alpha_A - 1 - less, "heads": 0.0, "layers": alpha_L - 1}[axis]
        score = {"head_dim": -less, "heads": 0.0, "layers": alpha_L - 1}[axis]
        promised["learned_key_change", step] = key
        promised["learned_score_change", step] = score
    return promised


def role_exponents(
    rules: Rules, axis: AxisName, small: Size, large: Size, roles: Sequence[Role]
) -> dict[tuple[str, Role], float]:
    """Exponents of what the linear map of a role gives at fixed inputs: its start, its update.

    Args:
        rules: any of the comparison; base, optimiser, exponents and style are read.
        axis: which size changes.
        small: one size along the axis.
        large: another one.
        roles: of linear maps and embeddings; keys and queries have coordinates of their own.

    Returns:
        By ("start" or "update", role).
    """
    # The wanted change of an output does not depend on the optimiser: Adam's rate tells it.
    wanted = [
        Rules(replace(rules.question, target=size, optimizer="adamw", decay="constant"))
        for size in (small, large)
    ]

    def numbers(one: Rules, role: Role) -> tuple[float, float]:
        rule, fan_in = one.role(role), role.fan_in.length(one.question.target)
        return rule.init * fan_in**0.5, rule.lr * fan_in

    span = math.log(getattr(large, axis) / getattr(small, axis))
    found = {}
    for role in roles:
        pairs = zip(*(numbers(one, role) for one in wanted), strict=True)
        start, update = (math.log(b / a) / span for a, b in pairs)
        found["start", role], found["update", role] = start, update
    return found
