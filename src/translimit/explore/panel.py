"""What one panel of the page holds: figures, what they assume, how far they were verified, code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from translimit.explore.globe import Globe
from translimit.figures import Chart


@dataclass(frozen=True)
class Verified:
    """An experiment whose claims hold a limit against finite systems.

    Attributes:
        experiment: its name, as `translimit list` has it.
        claims: names of its claims; `*` stands for anything.
        says: what they say.
    """

    experiment: str
    claims: tuple[str, ...]
    says: str


@dataclass(frozen=True)
class Panel:
    """What one limit predicts for a view.

    Attributes:
        says: the prediction in words.
        figures: drawn from `numbers` and nothing else.
        assumptions: sentences.
        verified: by which experiments.
        code: Python lines that compute `numbers`, under the same names.
        numbers: what was drawn.
        table: rows of a table beside the figures, its head first.
        aside: why another panel is the one that holds for this view, or "": the figures are grey.
        solved: controls whose values are not those that were solved, with what was.
    """

    says: str
    figures: tuple[Chart | Globe, ...]
    assumptions: tuple[str, ...]
    verified: tuple[Verified, ...]
    code: str
    numbers: Mapping[str, object]
    table: tuple[tuple[str, ...], ...] = ()
    aside: str = ""
    solved: Mapping[str, int] = field(default_factory=dict)
