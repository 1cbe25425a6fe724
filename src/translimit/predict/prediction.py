"""What a prediction holds: numbers with their errors, assumptions and warnings, as frozen data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from translimit.core import with_error
from translimit.describe import PreNormArchitecture
from translimit.limits.homogenized import Regime

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


@dataclass(frozen=True)
class Prediction:
    """What the limits say about an architecture at initialisation.

    Attributes:
        architecture: what was read.
        tokens: how many enter.
        covered: the block types that the numbers take into account.
        ignored: what they leave out.
        mapping: the numbers that decide, with what each assumes.
        curves: the architecture's own mask first, then the other.
        regime: the regime, from the steps of attention.
        variants: other scalings.
        inapplicable: pairs of a limit and the reason why it does not apply.
        assumptions: sentences.
        warnings: what lies outside of what was verified.
    """

    architecture: PreNormArchitecture
    tokens: int
    covered: tuple[str, ...]
    ignored: tuple[str, ...]
    mapping: tuple[Quantity, ...]
    curves: tuple[OverlapCurve, OverlapCurve]
    regime: StepSizes
    variants: tuple[Variant, ...]
    inapplicable: tuple[tuple[str, str], ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def headline(self) -> str:
        """What is covered and what is ignored, in one line."""
        ignored = ", ".join(self.ignored) if self.ignored else "nothing that acts at initialisation"
        return f"covers: {', '.join(self.covered)}; ignores: {ignored}"

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        plain = {
            "headline": self.headline,
            "architecture": self.architecture.to_json(),
            "tokens": self.tokens,
            "covered": self.covered,
            "ignored": self.ignored,
            "mapping": [asdict(one) for one in self.mapping],
            "curves": [asdict(one) for one in self.curves],
            "regime": asdict(self.regime) | {"regime": self.regime.regime.name.lower()},
            "variants": [asdict(one) for one in self.variants],
            "inapplicable": [{"limit": limit, "why": why} for limit, why in self.inapplicable],
            "assumptions": self.assumptions,
            "warnings": self.warnings,
        }
        return _lists(plain)

    def __str__(self) -> str:
        from translimit.predict.text import as_text

        return as_text(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Mean overlap by layer, with and without the mask; bands of two standard errors."""
        from matplotlib.figure import Figure

        ax = Figure(figsize=(6.0, 4.2), layout="constrained").add_subplot() if ax is None else ax
        lowest = 0.0
        for curve, style, colour in zip(self.curves, "-:", ("#0072B2", "#D55E00"), strict=True):
            mean, error = np.array(curve.overlap), np.array(curve.error)
            own = " (its own)" if curve is self.curves[0] else ""
            label = ("causal" if curve.causal else "without mask") + own
            ax.plot(curve.layers, mean, style, color=colour, label=label)
            low, high = mean - 2 * error, np.minimum(mean + 2 * error, 1.0)
            lowest = min(lowest, float(low.min()))
            ax.fill_between(curve.layers, low, high, color=colour, alpha=0.15, linewidth=0)
        threshold = self.curves[0].collapse.threshold
        ax.axhline(threshold, color="0.5", linestyle="--", linewidth=0.8, label="threshold")
        ax.set_ylim(lowest, 1.02)
        ax.set_xlim(0, self.architecture.layers)
        ax.set_xlabel("layer")
        ax.set_ylabel("mean overlap of two tokens")
        ax.set_title(f"{self.architecture.family}, {self.tokens} tokens", fontsize="medium")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(visible=True, alpha=0.25, linewidth=0.6)
        ax.legend(frameon=False, fontsize="small")
        return ax


def _lists(value: Any) -> Any:
    """Tuples as lists, as JSON writes them."""
    if isinstance(value, dict):
        return {key: _lists(one) for key, one in value.items()}
    return [_lists(one) for one in value] if isinstance(value, tuple | list) else value
