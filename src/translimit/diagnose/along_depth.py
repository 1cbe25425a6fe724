r"""A network between two limits in depth: layers as independent noise, or as a flow.

Branches tell it by `observe.Straightness`: s is 1 of independent ones and L of equal ones. Weights
tell it by the cosines of A = sum_h W_Q,h W_K,h^T between neighbouring layers. Of independent
Gaussian matrices a cosine has mean 0 and standard deviation 1 / D exactly, since A is isotropic on
both sides: E <A, U A' V>^2 = |A|^2 |A'|^2 / D^2 over uniform rotations U and V. The mean over the
L - 1 neighbours has 1 / (D (L - 1)^(1/2)).

Sources: Noci et al., arXiv 2306.17759 (layers as noise); Castin et al., arXiv 2501.18322 (layers as
a flow); documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from translimit.core import JsonObject, with_error
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.depth import depth_cosines, neighbour_sum
from translimit.diagnose.measuring import Measured
from translimit.diagnose.plain import plain_number, plain_rows
from translimit.diagnose.statistics import sequence_error

#: Deviations of a drawn network's mean cosine from which on neighbours are correlated.
CORRELATED = 4.0
#: The branches whose straightness is told.
BRANCHES = ("attention", "mlp")


@dataclass(frozen=True, eq=False)
class AlongDepth:
    """How branches and weights go along depth.

    Attributes:
        straightness: s by branch, its mean over sequences; NaN where there is no branch.
        errors: over sequences, and over drawn networks where there are some.
        null: s of drawn networks by branch; NaN without.
        cosines: of A between all layers [layers, layers]; NaN without a reader.
        deviation: of the mean neighbour cosine of drawn layers; 0 where they share their weights.
    """

    straightness: dict[str, float]
    errors: dict[str, float]
    null: dict[str, float]
    cosines: Float[np.ndarray, "layers layers"]
    deviation: float

    @property
    def neighbours(self) -> float:
        """The mean cosine of A of neighbouring layers; NaN of one layer."""
        found = np.diagonal(self.cosines, 1)
        return float(found.mean()) if found.size else math.nan

    @property
    def largest_gain(self) -> float:
        """What the best exchange of two layers adds to the sum of neighbours' cosines.

        Clean networks of many layers gain a little by some exchange: information, no verdict.
        """
        given = tuple(range(len(self.cosines)))
        before, best = neighbour_sum(self.cosines, given), 0.0
        for i, j in itertools.combinations(given, 2):
            order = list(given)
            order[i], order[j] = j, i
            best = max(best, neighbour_sum(self.cosines, order) - before)
        return best

    @property
    def regime(self) -> Literal["noise", "drift", "neither"] | None:
        """Noise, drift, neither; None where errors or cosines are not known.

        Noise: attention's s below 1 + 2 errors, and neighbours' cosines below four deviations of
        drawn ones. Drift: s above L / 2 by two errors.
        """
        s, error, layers = (
            self.straightness["attention"],
            self.errors["attention"],
            len(self.cosines),
        )
        if not math.isfinite(error) or not math.isfinite(s) or layers < 2:
            return None
        if s - 2 * error > layers / 2:
            return "drift"
        if self.deviation == 0 or not math.isfinite(self.neighbours):
            return None
        still = self.neighbours < CORRELATED * self.deviation
        return "noise" if s < 1 + 2 * error and still else "neither"

    def to_json(self) -> JsonObject:
        """As plain data."""
        return {
            "straightness": {
                name: plain_number(value) for name, value in self.straightness.items()
            },
            "straightness_error": {
                name: plain_number(value) for name, value in self.errors.items()
            },
            "straightness_null": {k: plain_number(v) for k, v in self.null.items()},
            "cosines": plain_rows(self.cosines),
            "neighbours": plain_number(self.neighbours),
            "neighbours_deviation": self.deviation,
            "largest_gain": plain_number(self.largest_gain),
            "regime": self.regime,
        }

    def __str__(self) -> str:
        s, e = self.straightness, self.errors
        told = {name: with_error(s[name], e[name], ".2f") for name in BRANCHES}
        parts = [f"attention's branches add up to {told['attention']} of {len(self.cosines)}"]
        if math.isfinite(s["mlp"]):
            parts.append(f"the MLPs' to {told['mlp']}")
        if self.deviation > 0 and math.isfinite(self.neighbours):
            parts.append(
                f"maps of neighbours have cosine {self.neighbours:.3f}, drawn ones "
                f"{with_error(0.0, self.deviation, '.4f')}"
            )
        said = {
            "noise": "along depth the layers are independent noise",
            "drift": "along depth the layers are a flow",
            "neither": "along depth the layers are neither independent noise nor a flow",
            None: "along depth",
        }[self.regime]
        return f"{said}: {', '.join(parts)}"


def along_depth(
    checkpoint: Checkpoint | None, measured: Measured, nulls: Sequence[Measured] = ()
) -> AlongDepth:
    """Where a network stands between noise and drift.

    Args:
        checkpoint: whose weights are compared; None of a module without a reader.
        measured: its figures.
        nulls: those of drawn networks, whose spread counts as an error of s.
    """
    layers = measured.sink_keys.shape[1]
    means = np.array([one.straight.mean(axis=0) for one in nulls]).reshape(-1, 2)
    errors = np.asarray(sequence_error(measured.straight))
    if len(means) > 1:
        errors = np.hypot(errors, means.std(axis=0, ddof=1))
    null = means.mean(axis=0) if len(means) else np.full(2, math.nan)
    cosines, deviation = np.full((layers, layers), math.nan), 0.0
    if checkpoint is not None:
        cosines = depth_cosines(checkpoint)[0]
        if not checkpoint.shared and layers > 1:
            deviation = 1 / checkpoint.dim / (layers - 1) ** 0.5

    def named(row: np.ndarray) -> dict[str, float]:
        return dict(zip(BRANCHES, map(float, row), strict=True))

    s = measured.straight.mean(axis=0)
    return AlongDepth(named(s), named(errors), named(null), cosines, deviation)
