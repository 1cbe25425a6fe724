"""A prediction as a person meets it: printed, in a notebook, drawn, and as plain data.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

from translimit.core import Json, format_count, small_picture
from translimit.predict.answer import Answer, Collapse
from translimit.predict.page import as_html, as_text
from translimit.predict.words import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.limits.signal import Label


@dataclass(frozen=True, repr=False)
class Prediction(Answer):
    """What the limits say about an architecture at initialisation; `Answer` tells its fields.

    Printed it is a page of text, in a notebook a table; `plot` draws it, `to_json` holds all of it.
    """

    def to_json(self) -> dict[str, Json]:
        """Everything as plain data: every curve with its value and its error."""
        reading = self.reading
        return {
            "headline": self.headline,
            "family": reading.family,
            "layers": len(reading.stack.layers),
            "dim": reading.stack.dim,
            "vocabulary": reading.vocabulary,
            "tied": reading.tied,
            "context": reading.context,
            "tokens": self.tokens,
            "source": self.source,
            "networks": self.networks,
            "covered": list(self.covered),
            "ignored": list(reading.ignored),
            "quantities": [_plain(one) for one in self.quantities],
            "curves": {name: one.to_json() for name, one in self.curves.items()},
            "distinct": {name: one.to_json() for name, one in self.distinct.items()},
            "shared_gradient": None if self.shared is None else self.shared.to_json(),
            "loss": None if self.loss is None else self.loss.to_json(),
            "labels": [_plain(one) for one in self.labels],
            "depth": list(self.depth),
            "collapse": _plain(self.collapse),
            "variants": [one.to_json() for one in self.variants],
            "fix": None if self.fix is None else self.fix.to_json(),
            "inapplicable": [{"limit": limit, "why": why} for limit, why in self.inapplicable],
            "assumptions": list(self.assumptions),
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        """A line: what it is of, and the depth; printed it is the whole answer."""
        tokens = format_count(self.tokens, "token")
        return f"Prediction({self.reading.title}, {tokens}; {self.collapse})"

    def __str__(self) -> str:
        """The answer: what is covered, what to look out for, numbers with errors, remarks."""
        return as_text(self)

    def _repr_html_(self) -> str:
        """The answer as a notebook shows it: labels, a table by level, and the page of panels."""
        return as_html(self) + small_picture(self.plot(), "panels of the prediction")

    def plot(self) -> Figure:
        """A page of panels: overlap, rank, stream, entropy, gradients, other choices."""
        from translimit.predict.panels import page  # figures are loaded when they are drawn

        return page(self)


def _plain(record: Quantity | Label | Collapse) -> Json:
    """A record as plain data, with tuples as lists."""
    return {
        name: cast("Json", list(value) if isinstance(value, tuple) else value)
        for name, value in asdict(record).items()
    }
