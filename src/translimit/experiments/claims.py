"""Claims of an experiment: checkable sentences over a grid, declared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from translimit import core
from translimit.core import UNAVAILABLE, Claim, Estimate
from translimit.experiments.parts import Alone, Found, alone, fill

C = TypeVar("C")
P = TypeVar("P")


@dataclass(frozen=True)
class Rival(Generic[C, P]):
    """A plausible wrong theory, which the data of a claim must refute at the claim's tolerance.

    Attributes:
        name: what it does otherwise, as in "without the MLP".
        prediction: its number, or how it follows from what was found, with its own error if it
            has one; that of the claim by default.
        estimate: what is measured with this theory in the place of the right one (the distance of
            the data from its law, say); the claim's own measurement by default.
        printed: whether it is the paper's printed form, which the claim corrects.
        when: the points at which it differs from the claim; all by default.
    """

    name: str
    prediction: float | Callable[[Found[C], P], float | Estimate] | None = None
    estimate: Callable[[Found[C], P], Estimate] | None = None
    printed: bool = False
    when: Callable[[C, P], bool] | None = None

    def at(self, found: Found[C], point: P, prediction: float) -> core.Rival:
        """The rival at a point.

        Args:
            found: the results.
            point: of the claim's grid.
            prediction: the claim's own, which stands for a missing one.
        """
        told = self.prediction(found, point) if callable(self.prediction) else self.prediction
        told = prediction if told is None else told
        number = told if isinstance(told, Estimate) else Estimate(float(told))
        measured = self.estimate(found, point) if self.estimate else None
        return core.Rival(self.name, number.value, measured, number.floor, self.printed)


@dataclass(frozen=True)
class Claims(Generic[C, P]):
    """One sentence for every point of a grid.

    Attributes:
        name: template of the claims' names, with the point's fields and properties in braces.
        statement: the sentence, or how it follows from what was found.
        estimate: the number that is measured, with its errors.
        prediction: the number that theory predicts.
        tol: the largest gap that still counts as agreement, known before anything is computed;
            written before the first run.
        over: the points; `alone` for a single claim.
        rivals: the plausible wrong theories that the same data must refute; a claim without one
            is never supported.
        one_sided: the estimate may lie below the prediction by any amount (an upper bound); its
            rivals lie above.
        printed: the paper's own statement, where it is known.
        reference: where the prediction comes from; the experiment's by default.
        decided_by: the smallest preset whose samples are meant to decide it.
    """

    name: str
    statement: str | Callable[[Found[C], P], str]
    estimate: Callable[[Found[C], P], Estimate]
    prediction: float | Callable[[Found[C], P], float]
    tol: float | Callable[[C, P], float]
    over: Callable[[C], Sequence[P]]
    rivals: tuple[Rival[C, P], ...] = ()
    one_sided: bool = False
    printed: str | Callable[[Found[C], P], str] = UNAVAILABLE
    reference: str = ""
    decided_by: str = "demo"

    def tolerance(self, config: C, point: P) -> float:
        """The tolerance at a point."""
        return float(self.tol(config, point) if callable(self.tol) else self.tol)

    def rivals_at(self, config: C, point: P) -> list[Rival[C, P]]:
        """The rivals that differ from the claim at a point."""
        return [one for one in self.rivals if one.when is None or one.when(config, point)]

    def names(self, config: C) -> list[str]:
        """The names of the claims of a configuration."""
        return [fill(self.name, point) for point in self.over(config)]

    def check(self, found: Found[C], reference: str) -> list[Claim]:
        """The claims, from what was found.

        Args:
            found: the results.
            reference: the experiment's.
        """
        return [self._claim(found, point, reference) for point in self.over(found.config)]

    def _claim(self, found: Found[C], point: P, reference: str) -> Claim:
        predicted = self.prediction
        prediction = float(predicted(found, point) if callable(predicted) else predicted)
        rivals = self.rivals_at(found.config, point)
        return Claim(
            name=fill(self.name, point),
            statement=_text(self.statement, found, point),
            prediction=prediction,
            estimate=self.estimate(found, point),
            tol=self.tolerance(found.config, point),
            printed=_text(self.printed, found, point),
            reference=self.reference or reference,
            one_sided=self.one_sided,
            rivals=tuple(one.at(found, point, prediction) for one in rivals),
            decided_by=self.decided_by,
        )


def claim(
    name: str,
    statement: str,
    estimate: Callable[[Found[C]], Estimate],
    prediction: float | Callable[[Found[C]], float],
    tol: float,
    *,
    rivals: tuple[Rival[C, Alone], ...] = (),
    one_sided: bool = False,
    printed: str = UNAVAILABLE,
    decided_by: str = "demo",
) -> Claims[C, Alone]:
    """A single sentence.

    Args:
        name: short and unique within its experiment.
        statement: see `Claims`.
        estimate: the number that is measured, from what was found.
        prediction: the number that theory predicts, or how it follows from what was found.
        tol: see `Claims`.
        rivals: see `Claims`.
        one_sided: see `Claims`.
        printed: see `Claims`.
        decided_by: see `Claims`.
    """
    predicted = prediction
    return Claims(
        name,
        statement,
        estimate=lambda found, at: estimate(found),
        prediction=(lambda found, at: predicted(found)) if callable(predicted) else predicted,
        tol=tol,
        over=alone,
        rivals=rivals,
        one_sided=one_sided,
        printed=printed,
        decided_by=decided_by,
    )


def _text(value: str | Callable[[Found[C], P], str], found: Found[C], point: P) -> str:
    return value(found, point) if callable(value) else value
