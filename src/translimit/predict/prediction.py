"""What a prediction holds: curves with their errors, labels, other choices, remarks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

from translimit.core import Json, with_error
from translimit.describe import StackReading
from translimit.predict.curves import Curve
from translimit.predict.loss import Loss
from translimit.predict.variants import Variant
from translimit.predict.words import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.limits.signal import Label
    from translimit.predict.fixes import Fix


@dataclass(frozen=True)
class Collapse:
    """The depth at which the mean overlap first reaches the threshold.

    Attributes:
        threshold: of the mean overlap of two tokens.
        level: a real number of layers, between two where the overlap passes the threshold; None
            where it does not within the network.
        error: one standard error for a single network; None with `level`.
        reached: the chance that a network of this width reaches it in its last layer.
    """

    threshold: float
    level: float | None
    error: float | None
    reached: float

    def __str__(self) -> str:
        if self.level is None:
            return f"mean overlap {self.threshold:g} is not reached within the network"
        share = "" if self.reached > 0.995 else f" (in {self.reached:.0%} of networks)"
        level = with_error(self.level, math.nan if self.error is None else self.error)
        return f"mean overlap {self.threshold:g} at layer {level}{share}"


@dataclass(frozen=True)
class Prediction:
    """What the limits say about an architecture at initialisation.

    Attributes:
        reading: what was read.
        tokens: how many enter.
        source: what enters, in words.
        networks: how many were simulated.
        covered: the terms that the numbers take into account.
        quantities: the numbers that decide.
        curves: of the tokens that enter, by name.
        distinct: the same for tokens that all differ; empty where those that enter do.
        shared: the gradient where all tokens share one at the top.
        loss: of the language model, or None without a readout or without words to come.
        labels: what to look out for, with the numbers behind.
        depth: what depth does, in words: exponents and powers.
        collapse: when the overlap reaches the threshold.
        variants: other choices.
        fix: other scales that keep the signal, or None where they were not asked for.
        inapplicable: pairs of a limit and the reason why it does not apply.
        assumptions: sentences.
        warnings: what lies outside of what was verified.
    """

    reading: StackReading
    tokens: int
    source: str
    networks: int
    covered: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    curves: Mapping[str, Curve]
    distinct: Mapping[str, Curve]
    shared: Curve
    loss: Loss | None
    labels: tuple[Label, ...]
    depth: tuple[str, ...]
    collapse: Collapse
    variants: tuple[Variant, ...]
    fix: Fix | None
    inapplicable: tuple[tuple[str, str], ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def headline(self) -> str:
        """What is covered and what is ignored, in one line."""
        ignored = self.reading.ignored
        told = ", ".join(ignored) if ignored else "nothing that acts at initialisation"
        return f"covers: {', '.join(self.covered)}; ignores: {told}"

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
            "shared_gradient": self.shared.to_json(),
            "loss": None if self.loss is None else self.loss.to_json(),
            "labels": [_plain(one) for one in self.labels],
            "depth": list(self.depth),
            "collapse": _plain(self.collapse),
            "variants": [_plain(one) for one in self.variants],
            "fix": None if self.fix is None else self.fix.to_json(),
            "inapplicable": [{"limit": limit, "why": why} for limit, why in self.inapplicable],
            "assumptions": list(self.assumptions),
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        """The answer: what is covered, what to look out for, numbers with errors, remarks."""
        from translimit.predict.page import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        """The answer as a notebook shows it: labels, and a table by level."""
        from translimit.predict.page import as_html

        return as_html(self)

    def plot(self) -> Figure:
        """A page of panels: overlap, rank, stream, entropy, gradients, other choices."""
        from translimit.predict.panels import page

        return page(self)


def _plain(record: Quantity | Label | Collapse | Variant) -> Json:
    """A record as plain data, with tuples as lists."""
    return {
        name: cast("Json", list(value) if isinstance(value, tuple) else value)
        for name, value in asdict(record).items()
    }
