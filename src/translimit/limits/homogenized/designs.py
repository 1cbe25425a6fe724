"""Designs of a layer that postpone the collapse at a given mean square update of a token.

A smaller step postpones collapse by doing less. At a fixed update the question is which temperature
moves tokens without drawing them together; the step follows from it.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from translimit.core import ArgumentError, Bounds, Number, in_float64, require_real
from translimit.describe import AbstractIsotropicHeads, WideHeads, diffusive_step
from translimit.limits.homogenized.averages import averages, sizes_of
from translimit.limits.homogenized.collapse import CollapseDepth, collapse_depth


@dataclass(frozen=True)
class Design:
    """A design of a layer, and the depth to which it gets.

    Attributes:
        score_std: standard deviation of the scores.
        step: residual step.
        heads: heads of a layer (a real number).
        depth: the predicted collapse depth of the design.
    """

    score_std: float
    step: float
    heads: float
    depth: CollapseDepth


def token_update(
    law: AbstractIsotropicHeads, *, tokens: int, step: Number, heads: Number
) -> Number:
    """Mean square by which one layer moves a token of an orthogonal set.

    (d - 1) / d times the diffusive step times s_ii = f: what a layer does to a token, while the
    overlaps move with s_ij alone.
    """
    f, _ = in_float64(averages, np.float64(0.0), law.score_std, sizes_of(law, tokens))
    return (law.dim - 1) / law.dim * f * diffusive_step(law, step=step, heads=heads)


def postpone_collapse(
    *,
    dim: int,
    tokens: int,
    update: float,
    score_stds: tuple[float, float] = (0.0, 8.0),
    heads: float = 1.0,
    threshold: float = 0.5,
    law: Callable[[float], AbstractIsotropicHeads] | None = None,
) -> Design:
    """The temperature and step that postpone collapse most at a given mean square update.

    Args:
        dim: dimension of the tokens.
        tokens: number of tokens, at least 2 and at most dim.
        update: mean square by which a layer moves a token, in (0, 0.25].
        score_stds: interval of the standard deviation of the scores that is searched.
        heads: heads of a layer; the step scales with its root, the depth does not change.
        threshold: mean overlap of different tokens that counts as collapsed.
        law: from score_std to heads; `WideHeads` at standard scaling by default.

    Raises:
        ArgumentError: numbers outside their ranges.
    """
    from scipy.optimize import minimize_scalar

    update = require_real(update, "update", Bounds(0.0, 0.25, "(]"))
    low, high = score_stds
    if not 0 <= low < high < np.inf:
        raise ArgumentError("score_stds", f"got {score_stds}", "pass a finite increasing interval")
    build = law or (lambda score_std: WideHeads(dim=dim, score_std=score_std))

    def design(score_std: float) -> Design:
        heads_law = build(score_std)
        unit = float(token_update(heads_law, tokens=tokens, step=1.0, heads=heads))
        step = (update / unit) ** 0.5
        depth = collapse_depth(
            heads_law, tokens=tokens, step=step, heads=heads, threshold=threshold
        )
        return Design(score_std, step, heads, depth)

    found: Any = minimize_scalar(  # SciPy gives its result no types
        lambda score_std: -float(design(score_std).depth.layers),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 0.02},
    )
    ends = [design(float(value)) for value in (low, found.x, high)]
    return max(ends, key=lambda one: float(one.depth.layers))
