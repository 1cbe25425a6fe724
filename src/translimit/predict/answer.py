"""What a prediction holds: curves with their errors, labels, other choices, remarks.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from translimit.core import with_error
from translimit.describe import StackReading
from translimit.predict.curves import Curve, crossing
from translimit.predict.loss import Loss
from translimit.predict.variants import Variant
from translimit.predict.words import Quantity

if TYPE_CHECKING:
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

    @classmethod
    def of(cls, curve: Curve, threshold: float) -> Collapse:
        """When a curve reaches the threshold; its error by the slope where it does.

        Args:
            curve: by level.
            threshold: that it may reach.
        """
        value, error = np.array(curve.value), np.array(curve.error)
        level = crossing(value, threshold)
        gap, last = value[-1] - threshold, error[-1]
        reached = 0.5 * math.erfc(-gap / (last * math.sqrt(2))) if last > 0 else float(gap >= 0)
        if level is None:
            return cls(threshold, None, None, reached)
        above = max(math.ceil(level), 1)
        slope = abs(value[above] - value[above - 1])
        at = np.interp(level, np.arange(len(error)), error)
        return cls(threshold, level, float(at / slope) if slope else math.inf, reached)

    def __str__(self) -> str:
        if self.level is None:
            return f"mean overlap {self.threshold:g} is not reached within the network"
        share = "" if self.reached > 0.995 else f" (in {self.reached:.0%} of networks)"
        level = with_error(self.level, math.nan if self.error is None else self.error)
        return f"mean overlap {self.threshold:g} at layer {level}{share}"


@dataclass(frozen=True)
class Answer:
    """The numbers and words of a prediction, as data; `Prediction` shows them.

    Attributes:
        reading: what was read.
        tokens: how many enter.
        source: what enters, in words.
        networks: how many were simulated.
        covered: the terms that the numbers take into account.
        quantities: the numbers that decide.
        curves: of the tokens that enter, by name.
        distinct: the same for tokens that all differ; empty where those that enter do.
        shared: the gradient where all tokens share one at the top, or None where it is not told.
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
    shared: Curve | None
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
