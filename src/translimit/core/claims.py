r"""Claims: checkable sentences with a prediction, an estimate and a verdict.

With `tol` fixed in the experiment file before its first run, g the gap between estimate and
prediction and s the combined standard error (sampling and discretisation):

    supported     if g + 2 s   <= tol
    refuted       if g - 4.5 s >  tol
    underpowered  otherwise

so that a verdict is never made from a gap smaller than its own floor.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from translimit.core.estimates import Estimate

#: The printed statement of a paper is quoted only from a source that quotes it.
UNAVAILABLE = "unavailable"


class Verdict(enum.StrEnum):
    """The three verdicts that exist."""

    supported = "supported"
    refuted = "refuted"
    underpowered = "underpowered"


@dataclass(frozen=True)
class Claim:
    """One checkable sentence of an experiment.

    Attributes:
        name: short and unique within its experiment.
        statement: the sentence, in our words.
        prediction: the number that theory predicts.
        estimate: what was measured, with its standard error and count.
        tol: the largest gap that still counts as agreement; written before the first run.
        printed: the paper's own statement, where it is known.
        reference: where the prediction comes from.
        one_sided: the estimate may lie below the prediction by any amount (an upper bound).
        rivals: what plausible wrong theories predict for the same estimate, by name.
    """

    name: str
    statement: str
    prediction: float
    estimate: Estimate
    tol: float
    printed: str = UNAVAILABLE
    reference: str = ""
    one_sided: bool = field(default=False)
    rivals: Mapping[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Distance of the estimate from the prediction; its signed excess when one-sided.

        Signed, so that an estimate far below an upper bound supports it whatever its error.
        """
        difference = self.estimate.value - self.prediction
        return difference if self.one_sided else abs(difference)

    @property
    def floor(self) -> float:
        """The combined standard error of sampling and discretisation."""
        return self.estimate.floor

    @property
    def verdict(self) -> Verdict:
        """The verdict rule of the module docstring; NaN or infinity anywhere is underpowered."""
        numbers = (self.estimate.value, self.prediction, self.floor, self.tol)
        if not all(map(math.isfinite, numbers)):
            return Verdict.underpowered
        if self.gap + 2.0 * self.floor <= self.tol:
            return Verdict.supported
        if self.gap - 4.5 * self.floor > self.tol:
            return Verdict.refuted
        return Verdict.underpowered

    def to_json(self) -> dict[str, Any]:
        """The claim as plain data, with gap, floor and verdict written out."""
        told = asdict(self)
        if not self.rivals:
            del told["rivals"]
        return told | {
            "gap": self.gap,
            "floor": self.floor,
            "verdict": self.verdict.value,
        }
