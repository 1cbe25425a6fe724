"""A diagnosis: figures beside the null, and how they are drawn and told.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from translimit.core import JsonObject, small_picture
from translimit.diagnose.diagnosed import Diagnosed
from translimit.diagnose.drawing import plot_diagnosis
from translimit.diagnose.page import Section, as_html, as_json, as_page, as_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Diagnosis(Diagnosed):
    """A checkpoint beside its null; its fields and figures are those of `Diagnosed`."""

    def plot(self) -> Figure:
        """Small multiples over layers: trained with errors, the null's band, the prediction."""
        return plot_diagnosis(self)

    def to_json(self) -> JsonObject:
        """Everything as plain data."""
        return as_json(self)

    def page(self, sections: Sequence[Section] = ()) -> str:
        """A self-contained page: verdicts, figures, tables.

        Args:
            sections: what else was asked for.
        """
        return as_page(self, sections)

    def _repr_html_(self) -> str:
        return as_html(self) + small_picture(self.plot(), "observables over layers")

    def __str__(self) -> str:
        return as_text(self)
