"""Claims of an experiment: checkable sentences over a grid, declared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from translimit.core import UNAVAILABLE, Claim, Estimate
from translimit.experiments.parts import Alone, Found, alone, fill

C = TypeVar("C")
P = TypeVar("P")


@dataclass(frozen=True)
class Rival(Generic[C, P]):
    """A plausible wrong theory: another prediction of the same estimate.

    Attributes:
        name: what it does otherwise, as in "without the MLP".
        prediction: its number, or how it follows from what was found.
    """

    name: str
    prediction: float | Callable[[Found[C], P], float]


@dataclass(frozen=True)
class Claims(Generic[C, P]):
    """One sentence for every point of a grid.

    Attributes:
        name: template of the claims' names, with the point's fields and properties in braces.
        statement: the sentence, or how it follows from what was found.
        estimate: the number that is measured, with its errors.
        prediction: the number that theory predicts.
        tol: the largest gap that still counts as agreement; written before the first run.
        over: the points; `alone` for a single claim.
        one_sided: the estimate may lie below the prediction by any amount (an upper bound).
        printed: the paper's own statement, where it is known.
        rivals: what the same estimate must refute.
        reference: where the prediction comes from; the experiment's by default.
    """

    name: str
    statement: str | Callable[[Found[C], P], str]
    estimate: Callable[[Found[C], P], Estimate]
    prediction: float | Callable[[Found[C], P], float]
    tol: float | Callable[[Found[C], P], float]
    over: Callable[[C], Sequence[P]]
    one_sided: bool = False
    printed: str | Callable[[Found[C], P], str] = UNAVAILABLE
    rivals: tuple[Rival[C, P], ...] = ()
    reference: str = ""

    def names(self, config: C) -> list[str]:
        """The names of the claims of a configuration."""
        return [fill(self.name, point) for point in self.over(config)]

    def check(self, found: Found[C], reference: str) -> list[Claim]:
        """The claims, from what was found.

        Args:
            found: the results.
            reference: the experiment's.
        """
        return [
            Claim(
                name=fill(self.name, point),
                statement=_text(self.statement, found, point),
                prediction=_number(self.prediction, found, point),
                estimate=self.estimate(found, point),
                tol=_number(self.tol, found, point),
                printed=_text(self.printed, found, point),
                reference=self.reference or reference,
                one_sided=self.one_sided,
                rivals={one.name: _number(one.prediction, found, point) for one in self.rivals},
            )
            for point in self.over(found.config)
        ]


def claim(
    name: str,
    statement: str,
    estimate: Callable[[Found[C]], Estimate],
    prediction: float | Callable[[Found[C]], float],
    tol: float,
    *,
    one_sided: bool = False,
    printed: str = UNAVAILABLE,
) -> Claims[C, Alone]:
    """A single sentence.

    Args:
        name: short and unique within its experiment.
        statement: see `Claims`.
        estimate: the number that is measured, from what was found.
        prediction: the number that theory predicts, or how it follows from what was found.
        tol: see `Claims`.
        one_sided: see `Claims`.
        printed: see `Claims`.
    """
    predicted = prediction
    return Claims(
        name,
        statement,
        estimate=lambda found, at: estimate(found),
        prediction=(lambda found, at: predicted(found)) if callable(predicted) else predicted,
        tol=tol,
        over=alone,
        one_sided=one_sided,
        printed=printed,
    )


def _text(value: str | Callable[[Found[C], P], str], found: Found[C], point: P) -> str:
    return value(found, point) if callable(value) else value


def _number(value: float | Callable[[Found[C], P], float], found: Found[C], point: P) -> float:
    return float(value(found, point) if callable(value) else value)
