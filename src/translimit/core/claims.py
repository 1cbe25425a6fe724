r"""Claims: checkable sentences with a prediction, rivals, an estimate and a verdict.

With `tol` and the rivals fixed in the experiment file before its first run, g the gap between
estimate and prediction and s the combined standard error (sampling and discretisation):

    refuted       if g - 4.5 s >  tol
    supported     if g + 2 s   <= tol, and every rival is refuted by the same data
    underpowered  otherwise

A rival is a plausible wrong theory: a term dropped, a factor, another exponent, no effect. It is
refuted by the first line, with its own prediction and error and the claim's tolerance. So data that
cannot tell the theory from its rivals support neither, and a claim without rivals is never
supported.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from translimit.core.estimates import Estimate

#: The printed statement of a paper is quoted only from a source that quotes it.
UNAVAILABLE = "unavailable"
#: Standard errors beyond the tolerance that refute, and within it that support.
REFUTED = 4.5
SUPPORTED = 2.0


class Verdict(enum.StrEnum):
    """The three verdicts that exist."""

    supported = "supported"
    refuted = "refuted"
    underpowered = "underpowered"


@dataclass(frozen=True)
class Rival:
    """A plausible wrong theory of the same measurement.

    Attributes:
        name: what it does otherwise, as in "without the MLP".
        prediction: the number that it predicts.
        estimate: what is measured with this theory in the place of the right one; None where only
            the prediction differs.
        stderr: the error of its prediction.
        printed: whether it is the paper's printed form, which we correct: an erratum once refuted.
    """

    name: str
    prediction: float
    estimate: Estimate | None = None
    stderr: float = 0.0
    printed: bool = False


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
        one_sided: the estimate may lie below the prediction by any amount (an upper bound); its
            rivals lie above.
        rivals: the plausible wrong theories that the same data must refute.
        decided_by: the smallest preset whose samples are meant to decide it.
    """

    name: str
    statement: str
    prediction: float
    estimate: Estimate
    tol: float
    printed: str = UNAVAILABLE
    reference: str = ""
    one_sided: bool = False
    rivals: tuple[Rival, ...] = ()
    decided_by: str = ""

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
        if self.gap - REFUTED * self.floor > self.tol:
            return Verdict.refuted
        if self.holds and self.rivals and not self.left:
            return Verdict.supported
        return Verdict.underpowered

    @property
    def holds(self) -> bool:
        """Whether the prediction is within its tolerance, by two standard errors."""
        return self.gap + SUPPORTED * self.floor <= self.tol

    @property
    def left(self) -> tuple[Rival, ...]:
        """The rivals that the data do not refute."""
        return tuple(rival for rival in self.rivals if not self.excluded_by(rival) > REFUTED)

    @property
    def nearest(self) -> Rival | None:
        """The rival that came nearest: excluded by the fewest standard errors."""
        return min(self.rivals, key=self._distance, default=None)

    @property
    def errata(self) -> tuple[Rival, ...]:
        """The printed forms that the data refute while the claim is supported."""
        if self.verdict != Verdict.supported:
            return ()
        return tuple(rival for rival in self.rivals if rival.printed)

    def gap_of(self, rival: Rival) -> float:
        """The gap with a rival in the place of the theory.

        Args:
            rival: one of `rivals`.
        """
        if rival.estimate is not None:
            difference = rival.estimate.value - rival.prediction
            return difference if self.one_sided else abs(difference)
        difference = rival.prediction - self.estimate.value
        return difference if self.one_sided else abs(difference)

    def floor_of(self, rival: Rival) -> float:
        """The combined standard error of that gap.

        Args:
            rival: one of `rivals`.
        """
        return math.hypot((rival.estimate or self.estimate).floor, rival.stderr)

    def excluded_by(self, rival: Rival) -> float:
        """How many standard errors a rival's gap lies beyond the tolerance; NaN if not finite.

        Args:
            rival: one of `rivals`.
        """
        gap, floor = self.gap_of(rival), self.floor_of(rival)
        if not (math.isfinite(gap) and math.isfinite(floor)):
            return math.nan
        beyond = gap - self.tol
        if floor > 0:
            return beyond / floor
        return math.inf if beyond > 0 else -math.inf

    @property
    def remark(self) -> str:
        """What the verdict does not say: a significant gap, the rivals left, who decides."""
        said = []
        if self.holds and self.gap > REFUTED * self.floor > 0:
            off = f"off by {self.gap / self.floor:.0f} standard errors"
            said.append(f"within {self.tol:.3g}, but {off}")
        if self.verdict != Verdict.underpowered:
            return "".join(said)
        if not self.rivals:
            return "; ".join([*said, "names no rival"])
        if self.holds and self.left:
            said.append("not told from: " + "; ".join(rival.name for rival in self.left))
        if self.decided_by:
            said.append(f"sized to be decided at {self.decided_by}")
        return "; ".join(said)

    def swapped(self, rival: Rival) -> Claim:
        """The claim that a believer in a rival would make: its prediction, ours as its rival.

        A bound is mirrored, because its rival lies on the other side.

        Args:
            rival: one of `rivals`.
        """
        ours = Rival("the claim's own", self.prediction, self.estimate)
        estimate = rival.estimate or self.estimate
        widened = replace(estimate, stderr=math.hypot(estimate.stderr, rival.stderr))
        swapped = replace(self, prediction=rival.prediction, estimate=widened, rivals=(ours,))
        return swapped._mirrored() if self.one_sided and rival.estimate is None else swapped

    def _mirrored(self) -> Claim:
        """The same with the signs of all numbers changed."""
        return replace(
            self,
            prediction=-self.prediction,
            estimate=replace(self.estimate, value=-self.estimate.value),
            rivals=tuple(replace(r, prediction=-r.prediction, estimate=None) for r in self.rivals),
        )

    def disturbed(self, factor: float = 1.1) -> Claim | None:
        """The claim with a wrong prediction: times a factor, or the nearest rival's.

        An exponent is multiplied as well. Below one in absolute value that is less than a change by
        `factor` - 1 (-0.5 becomes -0.55, not -0.6), so that it is the harder to notice.

        A prediction of zero and a bound have no factor; for them the nearest rival stands in. None
        where there is none.

        Args:
            factor: of the prediction.
        """
        if self.prediction == 0 or self.one_sided:
            return None if self.nearest is None else self.swapped(self.nearest)
        return replace(self, prediction=factor * self.prediction, rivals=())

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Claim:
        """The claim that `to_json` wrote.

        Args:
            told: as read from a ledger; one of before 0.2 has no rivals.
        """
        own = {key: told[key] for key in ("name", "statement", "prediction", "tol")}
        own |= {key: told[key] for key in ("printed", "reference", "one_sided")}
        rivals = tuple(_rival(one) for one in told.get("rivals", ()))
        estimate = Estimate(**told["estimate"])
        decided = told.get("decided_by", "")
        return cls(**own, estimate=estimate, rivals=rivals, decided_by=decided)

    def to_json(self) -> dict[str, Any]:
        """The claim as plain data, with gap, floor and verdict written out."""
        nearest = self.nearest
        return asdict(self) | {
            "gap": self.gap,
            "floor": self.floor,
            "verdict": self.verdict.value,
            "remark": self.remark,
            "rivals": [self._told(rival) for rival in self.rivals],
            "nearest": None if nearest is None else nearest.name,
        }

    def _told(self, rival: Rival) -> dict[str, Any]:
        excluded = self.excluded_by(rival)
        return asdict(rival) | {
            "gap": self.gap_of(rival),
            "floor": self.floor_of(rival),
            "excluded_by": excluded,
            "refuted": excluded > REFUTED,
        }

    def _distance(self, rival: Rival) -> float:
        excluded = self.excluded_by(rival)
        return -math.inf if math.isnan(excluded) else excluded


def _rival(told: Mapping[str, Any]) -> Rival:
    own = {key: told[key] for key in ("name", "prediction", "stderr", "printed")}
    return Rival(**own, estimate=None if told["estimate"] is None else Estimate(**told["estimate"]))
