"""The parts of a prediction: numbers with their errors, as frozen data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from translimit.core import with_error
from translimit.limits.homogenized import Regime


@dataclass(frozen=True)
class Quantity:
    """One number of the mapping.

    Attributes:
        name: as the documentation calls it.
        symbol: as the formula writes it.
        value: the number.
        assumes: what it assumes.
        verified: how far it was verified.
    """

    name: str
    symbol: str
    value: float
    assumes: str
    verified: str


@dataclass(frozen=True)
class Collapse:
    """The depth at which the mean overlap of different tokens first reaches the threshold.

    Attributes:
        threshold: of the mean overlap of different tokens.
        layer: a real number of layers, between two where the overlap passes the threshold; None
            where it does not within the network.
        error: one standard error for a single network; None with `layer`.
        reached: share of the networks of this width that reach the threshold.
    """

    threshold: float
    layer: float | None
    error: float | None
    reached: float

    def __str__(self) -> str:
        if self.layer is None:
            return f"mean overlap {self.threshold:g} is not reached within the network"
        share = "" if self.reached == 1 else f" ({self.reached:.0%} of networks)"
        layer = with_error(self.layer, math.nan if self.error is None else self.error)
        return f"mean overlap {self.threshold:g} at layer {layer}{share}"


@dataclass(frozen=True)
class OverlapCurve:
    """The mean overlap of the tokens layer by layer, with or without a causal mask.

    Attributes:
        causal: whether attention is masked.
        layers: 0, ..., L.
        overlap: mean over pairs of different tokens, of the recursion of infinite width.
        error: one standard error of a single network's value around it: the spread between
            networks of this width, their mean's distance from the recursion, and the sampling
            error of the recursion, in quadrature.
        networks_mean: mean over networks of this width.
        networks: how many of them.
        square: mean squared norm of the tokens, by layer.
        collapse: when the mean overlap reaches the threshold.
    """

    causal: bool
    layers: tuple[int, ...]
    overlap: tuple[float, ...]
    error: tuple[float, ...]
    networks_mean: tuple[float, ...]
    networks: int
    square: tuple[float, ...]
    collapse: Collapse


@dataclass(frozen=True)
class StepSizes:
    """How large a step of attention is, layer by layer, and the regime that follows.

    Attributes:
        regime: FROZEN, DIFFUSIVE or DISCRETE, with the classifier's convention that a step or a
            total of at most 0.05 is small.
        first_step: unit diffusive time of attention in the first layer, Gamma / r_0^2.
        last_step: in the last layer.
        small_from: the first layer with a step of at most 0.05, or None.
        says: which description applies, in words.
    """

    regime: Regime
    first_step: float
    last_step: float
    small_from: int | None
    says: str


@dataclass(frozen=True)
class Variant:
    """What another scaling of the same architecture would give.

    Attributes:
        name: what is changed.
        formula: the rule.
        overlap: after the last layer, in the limit; None where only the formula is given.
        collapse_layer: when the threshold is reached; None where it is not, or not computed.
        says: in words.
    """

    name: str
    formula: str
    overlap: float | None
    collapse_layer: float | None
    says: str
