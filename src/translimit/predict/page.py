"""A prediction in words and tables, for a terminal and for a notebook."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from translimit.core import with_error

if TYPE_CHECKING:
    from translimit.limits.signal import Label
    from translimit.predict.answer import Answer
    from translimit.predict.curves import Curve

#: Columns of the text for a terminal.
WIDTH = 96
#: Columns of the table by level: name of the curve, heading, format.
COLUMNS = (
    ("overlap", "overlap", ".3f"),
    ("effective_rank", "eff. rank", ".2f"),
    ("rms", "rms", ".3g"),
    ("attention_share", "attention", ".3f"),
    ("units_share", "units", ".3f"),
    ("entropy", "entropy", ".3f"),
    ("gradient", "gradient", ".3g"),
)
#: Above the second table, where networks were simulated.
SIMULATED = "Simulated networks of this width: mean ± deviation from network to network"
#: Layers of a deep stack that the text shows at most; the JSON holds all.
ROWS = 26


def as_text(prediction: Answer) -> str:
    """The answer for a terminal.

    Args:
        prediction: the answer.
    """
    reading = prediction.reading
    parts = [
        prediction.headline,
        f"{reading.title}, at initialisation",
        prediction.source,
    ]
    if prediction.warnings:
        parts += ["", "Warnings", *_listed(prediction.warnings)]
    parts += ["", "What to look out for", *_listed(_label(one) for one in prediction.labels)]
    parts += _listed([str(prediction.collapse)])
    if prediction.loss is not None:
        parts += ["", "Loss before training", *_listed(prediction.loss.says)]
    parts += ["", "What decides"]
    for one in prediction.quantities:
        value = " to ".join(f"{number:.4g}" for number in one.value)
        parts.append(f"  {one.name:16} {one.symbol:16} {value:>18}   {one.says}")
    of = "a single network" if prediction.curves["overlap"].spread else "a mean over networks"
    parts += ["", f"By level and layer, ± one standard error of {of}"]
    parts += list(_table(prediction, _cell))
    if prediction.curves["overlap"].networks:
        parts += ["", SIMULATED]
        parts += list(_table(prediction, _simulated))
    if "gradient" in prediction.curves:
        parts += ["", "Gradients of weights by layer (norm; independent unit gradients at the top)"]
        parts += list(_weights(prediction, "gradient_"))
        parts += ["", "The same over the deviation of the weights and the root of their number"]
        parts += list(_weights(prediction, "normalised_gradient_"))
        parts += _listed(_tables(prediction))
    if prediction.distinct:
        parts += ["", *_listed([_moved(prediction)])]
    if prediction.depth:
        parts += ["", "What depth does", *_listed(prediction.depth)]
    if prediction.variants:
        parts += ["", "Other choices (infinite width)", *_variants(prediction)]
    if prediction.fix is not None:
        parts += ["", "Scales that keep the signal", *_listed(prediction.fix.says)]
    parts += ["", "Limits that do not apply"]
    parts += _listed(f"{limit}: {why}" for limit, why in prediction.inapplicable)
    parts += ["", "What the numbers assume", *_listed(prediction.assumptions)]
    return "\n".join(parts)


def as_html(prediction: Answer) -> str:
    """The answer for a notebook.

    Args:
        prediction: the answer.
    """
    reading = prediction.reading
    told = (
        f"<p><b>{html.escape(prediction.headline)}</b></p>"
        f"<p>{html.escape(reading.title)}; {html.escape(prediction.source)}</p>"
    )
    if prediction.warnings:
        told += f"<p>Warnings</p>{_items(prediction.warnings)}"
    told += f"{_items(_label(one) for one in prediction.labels)}{_rows(prediction, _cell)}"
    if prediction.curves["overlap"].networks:
        told += f"<p>{SIMULATED}</p>{_rows(prediction, _simulated)}"
    return told


def _items(sentences: Iterable[str]) -> str:
    """A list, as HTML."""
    return f"<ul>{''.join(f'<li>{html.escape(one)}</li>' for one in sentences)}</ul>"


def _rows(prediction: Answer, told: Callable[[Curve, int, str], str]) -> str:
    """The table by level, as HTML."""
    head, *rows = _cells(prediction, told)
    headings = "".join(f"<th>{one}</th>" for one in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(one)}</td>' for one in row)}</tr>" for row in rows
    )
    return f"<table><tr>{headings}</tr>{body}</table>"


def _table(prediction: Answer, told: Callable[[Curve, int, str], str]) -> Iterator[str]:
    """The same as lines of text."""
    for level, *row in _cells(prediction, told):
        yield f"  {level:>5}" + "".join(f" {one:>17}" for one in row)


def _cells(prediction: Answer, told: Callable[[Curve, int, str], str]) -> Iterator[list[str]]:
    """The table by level: its headings, then a row for each level shown."""
    names = [one for one in COLUMNS if one[0] in prediction.curves]
    yield ["level", *(heading for _, heading, _ in names)]
    for level in _shown(len(prediction.reading.stack.layers) + 1):
        cells = (told(prediction.curves[name], level, form) for name, _, form in names)
        yield [str(level), *cells]


def _weights(prediction: Answer, kind: str) -> Iterator[str]:
    curves = prediction.curves.items()
    names = [name for name, one in curves if name.startswith(kind) and one.by == "layer"]
    heads = [name.removeprefix(kind).replace("attention_", "") for name in names]
    widths = [max(12, len(head)) for head in heads]
    told = zip(heads, widths, strict=True)
    yield f"  {'layer':>5}" + "".join(f" {head:>{width}}" for head, width in told)
    for layer in _shown(len(prediction.reading.stack.layers)):
        cells = (prediction.curves[name].value[layer] for name in names)
        told = ("-" if math.isnan(cell) else f"{cell:.3g}" for cell in cells)
        row = zip(told, widths, strict=True)
        yield f"  {layer + 1:>5}" + "".join(f" {cell:>{width}}" for cell, width in row)


def _tables(prediction: Answer) -> Iterator[str]:
    """Gradients of the tables below the first layer and, under the loss, of the readout."""
    told = [("independent unit gradients", prediction.curves)]
    if prediction.loss is not None:
        told.append(("the loss", prediction.loss.curves))
    for what, curves in told:
        numbers = [
            f"{name.removeprefix('gradient_')} {one.value[0]:.3g}"
            for name, one in curves.items()
            if name.startswith("gradient_") and one.by == "stack"
        ]
        if numbers:
            yield f"norm of the gradient under {what}: {', '.join(numbers)}"


def _variants(prediction: Answer) -> Iterator[str]:
    heads = ("overlap", "rms", "entropy", "gradient")
    yield f"  {'':38}" + "".join(f" {head:>10}" for head in heads)
    for one in prediction.variants:
        of = one.course
        numbers = (of.overlap, of.rms, of.entropy, of.gradient)
        yield f"  {one.name:38}" + "".join(f" {number:>10.3g}" for number in numbers)
    yield from _listed(
        [
            "overlap and rms after the last layer, entropy where it is least, rms gradient after "
            "layer 1 over that at the top"
        ]
    )


def _label(one: Label) -> str:
    """A label in a sentence: whether it holds, the number, and the threshold."""
    word = one.name if one.holds else f"no {one.name}"
    return f"{word}: {one.says} (threshold {one.threshold:.3g})"


def _moved(prediction: Answer) -> str:
    own, other = prediction.curves["overlap"], prediction.distinct["overlap"]
    return (
        f"repeated tokens move the overlap after the last layer from "
        f"{with_error(other.value[-1], other.error[-1], '.3f')} (all tokens different) to "
        f"{with_error(own.value[-1], own.error[-1], '.3f')}"
    )


def _cell(curve: Curve, level: int, form: str) -> str:
    """The number of a level; those of layers stand where their layer ends."""
    return _number(curve, curve.value, curve.error, level, form)


def _simulated(curve: Curve, level: int, form: str) -> str:
    """The same of simulated networks, with their deviation."""
    return _number(curve, curve.networks, curve.spread, level, form)


def _number(
    curve: Curve, values: tuple[float, ...], errors: tuple[float, ...], level: int, form: str
) -> str:
    place = level if curve.by == "level" else level - 1
    if place < 0 or not values:
        return ""
    return with_error(values[place], errors[place], form, ".1g" if "g" in form else form)


def _shown(count: int) -> list[int]:
    """All places, or some of them evenly, with both ends."""
    if count <= ROWS:
        return list(range(count))
    step = (count - 1) / (ROWS - 1)
    return sorted({round(place * step) for place in range(ROWS)})


def _listed(sentences: Iterable[str]) -> list[str]:
    return [
        textwrap.fill(one, WIDTH, initial_indent="  - ", subsequent_indent="    ")
        for one in sentences
    ]
