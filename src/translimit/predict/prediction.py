"""What a prediction holds: numbers with their errors, assumptions and warnings, as frozen data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from translimit.core import Json, with_error
from translimit.describe import PreNormArchitecture
from translimit.limits.homogenized import Regime
from translimit.predict.records import OverlapCurve, Quantity, StepSizes, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Columns of the text for a terminal.
WIDTH = 96
_CURVES_TITLE = "Mean overlap of two tokens by layer, ± one standard error of a single network"


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

    def to_json(self) -> dict[str, Json]:
        """Everything as plain data."""
        return {
            "headline": self.headline,
            "architecture": self.architecture.to_json(),
            "tokens": self.tokens,
            "covered": list(self.covered),
            "ignored": list(self.ignored),
            "mapping": [_plain(one) for one in self.mapping],
            "curves": [_plain(one) for one in self.curves],
            "regime": _plain(self.regime),
            "variants": [_plain(one) for one in self.variants],
            "inapplicable": [{"limit": limit, "why": why} for limit, why in self.inapplicable],
            "assumptions": list(self.assumptions),
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        """The answer: what is covered first, then numbers with errors, then what they rest on."""
        architecture = self.architecture
        sizes = (
            f"{architecture.family}: {architecture.layers} layers, width {architecture.dim}, "
            f"{architecture.heads} heads of {architecture.head_dim}, {self.tokens} tokens, "
            "at initialisation"
        )
        parts = [self.headline, sizes]
        if self.warnings:
            parts += ["", "Warnings", *_listed(self.warnings)]
        parts += ["", "What decides", *_mapping_rows(self.mapping)]
        parts += ["", _CURVES_TITLE]
        parts += _curve_rows(self.curves)
        parts += ["", "Collapse depth"]
        parts += [f"  {_mask(curve):13}  {curve.collapse}" for curve in self.curves]
        step = self.regime
        parts += ["", "Regime", *_listed([f"{step.regime.name.lower()}: {step.says}"])]
        parts += [f"  steps Gamma / r^2: {step.first_step:.3g} first, {step.last_step:.3g} last"]
        parts += ["", "Other scalings"]
        parts += _listed(f"{one.name} ({one.formula}): {one.says}" for one in self.variants)
        parts += ["", "Limits that do not apply"]
        parts += _listed(f"{limit}: {why}" for limit, why in self.inapplicable)
        parts += ["", "What the numbers assume", *_listed(self.assumptions)]
        return "\n".join(parts)

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


def _mapping_rows(mapping: Sequence[Quantity]) -> list[str]:
    rows = []
    for one in mapping:
        rows.append(f"  {one.symbol:28} {one.value:10.4g}   {one.name}")
        rows.append(f"  {'':28} {'':10}   assumes: {one.assumes}")
        rows.append(f"  {'':28} {'':10}   verified: {one.verified}")
    return rows


def _curve_rows(curves: tuple[OverlapCurve, OverlapCurve]) -> list[str]:
    rows = [f"  {'layer':>5}" + "".join(f"   {_mask(curve):>15}" for curve in curves)]
    for layer in curves[0].layers:
        cells = [with_error(curve.overlap[layer], curve.error[layer], ".3f") for curve in curves]
        rows.append(f"  {layer:>5}" + "".join(f"   {cell:>15}" for cell in cells))
    return rows


def _mask(curve: OverlapCurve) -> str:
    return "causal" if curve.causal else "without mask"


def _listed(sentences: Iterable[str]) -> list[str]:
    return [
        textwrap.fill(one, WIDTH, initial_indent="  - ", subsequent_indent="    ")
        for one in sentences
    ]


def _plain(record: Quantity | OverlapCurve | StepSizes | Variant) -> dict[str, Json]:
    """A record as plain data: tuples as lists, a regime by its name."""

    def plain(value: object) -> Json:
        if isinstance(value, Regime):
            return value.name.lower()
        return cast("Json", list(value) if isinstance(value, tuple) else value)

    return {name: plain(value) for name, value in asdict(record).items()}
