"""A prediction as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from translimit.core import with_error
from translimit.predict.prediction import OverlapCurve, Prediction

WIDTH = 96


def as_text(prediction: Prediction) -> str:
    """The answer: what is covered first, then numbers with errors, then what they rest on."""
    architecture = prediction.architecture
    sizes = (
        f"{architecture.family}: {architecture.layers} layers, width {architecture.dim}, "
        f"{architecture.heads} heads of {architecture.head_dim}, {prediction.tokens} tokens, "
        "at initialisation"
    )
    parts = [prediction.headline, sizes]
    if prediction.warnings:
        parts += ["", "Warnings", *_listed(prediction.warnings)]
    parts += ["", "What decides", *_mapping(prediction)]
    parts += ["", "Mean overlap of two tokens by layer, ± one standard error of a single network"]
    parts += _table(prediction.curves)
    parts += ["", "Collapse depth"]
    parts += [f"  {_mask(curve):13}  {curve.collapse}" for curve in prediction.curves]
    step = prediction.regime
    parts += ["", "Regime", *_listed([f"{step.regime.name.lower()}: {step.says}"])]
    parts += [f"  steps Gamma / r^2: {step.first_step:.3g} first, {step.last_step:.3g} last"]
    parts += ["", "Other scalings"]
    parts += _listed(f"{one.name} ({one.formula}): {one.says}" for one in prediction.variants)
    parts += ["", "Limits that do not apply"]
    parts += _listed(f"{limit}: {why}" for limit, why in prediction.inapplicable)
    parts += ["", "What the numbers assume", *_listed(prediction.assumptions)]
    return "\n".join(parts)


def _mapping(prediction: Prediction) -> list[str]:
    rows = []
    for one in prediction.mapping:
        rows.append(f"  {one.symbol:28} {one.value:10.4g}   {one.name}")
        rows.append(f"  {'':28} {'':10}   assumes: {one.assumes}")
        rows.append(f"  {'':28} {'':10}   verified: {one.verified}")
    return rows


def _table(curves: tuple[OverlapCurve, OverlapCurve]) -> list[str]:
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
