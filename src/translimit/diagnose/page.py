"""A diagnosis in words: for a terminal, a notebook, a page of its own, and as plain data."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from translimit.core import JsonObject, with_error
from translimit.diagnose.drawing import plot_diagnosis
from translimit.diagnose.layer_figures import NAMES
from translimit.diagnose.plain import plain_number, plain_numbers
from translimit.diagnose.verdicts import LEAST_SEQUENCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from translimit.diagnose.diagnosed import Diagnosed
    from translimit.diagnose.statistics import Compared

#: What a terminal shows, with a short name.
SHOWN = {
    "overlap": "overlap",
    "effective_rank": "effective rank",
    "mean_square": "mean square",
    "ratio_a": "attention",
    "ratio_f": "MLP",
    "entropy": "entropy",
    "score_spread": "scores",
    "head_var": "head var",
    "head_eff": "heads",
    "sink": "sink",
}


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a page beyond the diagnosis itself.

    Attributes:
        title: its heading.
        text: in fixed width.
        figure: above it, or None.
    """

    title: str
    text: str
    figure: Figure | None = None


#: Of the page, for both schemes and for narrow screens; the picture keeps its paper.
STYLE = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:0}"
    "main{max-width:72rem;margin:auto;padding:1rem}h1{font-size:1.6rem}"
    "img{max-width:100%;background:#fff;border-radius:4px}"
    "table,pre{display:block;overflow-x:auto;font-size:12px}table{border-collapse:collapse}"
    "td,th{padding:2px 7px;text-align:right;white-space:nowrap}"
    "tr:nth-child(even){background:color-mix(in srgb,currentColor 7%,transparent)}"
    "summary{cursor:pointer;margin-top:1rem}"
)
_FOR_MASSIVE = {"ratio_a": "ratio_a_median", "ratio_f": "ratio_f_median"}


def as_text(diagnosis: Diagnosed) -> str:
    """The answer for a terminal.

    Args:
        diagnosis: what was found.
    """
    lines = [*_head(diagnosis), *_table(diagnosis), ""]
    lines += [f"- {one}" for one in _said(diagnosis)]
    return "\n".join([*lines, *(f"note: {one}" for one in remarks(diagnosis))])


def as_html(diagnosis: Diagnosed) -> str:
    """The answer for a notebook.

    Args:
        diagnosis: what was found.
    """
    return f"{_html_head(diagnosis)}{_html_table(diagnosis)}{_html_notes(diagnosis)}"


def as_page(diagnosis: Diagnosed, sections: Sequence[Section] = ()) -> str:
    """A page that needs nothing else: verdicts, figure, all figures with their null.

    Args:
        diagnosis: what was found.
        sections: what else was asked for.
    """
    more = "".join(
        f"<h2>{html.escape(one.title)}</h2>"
        + ("" if one.figure is None else _picture(one.figure, one.title))
        + f"<pre>{html.escape(one.text)}</pre>"
        for one in sections
    )
    name = html.escape(diagnosis.source.split(" (")[0])
    figure = _picture(plot_diagnosis(diagnosis), "observables over layers")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main><h1>{name}</h1>{_html_head(diagnosis)}{figure}"
        f"{_html_table(diagnosis)}{_html_notes(diagnosis)}{more}"
        "<details><summary>All observables, with errors, null and z</summary>"
        f"{_whole_table(diagnosis)}</details></main></body></html>\n"
    )


def _picture(figure: Figure, words: str) -> str:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110)
    picture = base64.b64encode(held.getvalue()).decode()
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{picture}">'


def as_json(diagnosis: Diagnosed) -> JsonObject:
    """Everything as plain data; undefined figures are null.

    Args:
        diagnosis: what was found.
    """
    data = diagnosis.observables
    loss, error = diagnosis.loss
    return {
        "source": diagnosis.source,
        "inputs": diagnosis.inputs,
        "null": diagnosis.null,
        "null_entry": diagnosis.null_entry,
        "sequences": len(diagnosis.measured),
        "tokens": diagnosis.measured.tokens.tolist(),
        "draws": len(diagnosis.nulls),
        "predicted_sequences": diagnosis.predicted_sequences,
        "loss": plain_number(loss),
        "loss_error": plain_number(error),
        "observables": {str(name): plain_numbers(data[name].values) for name in data.data_vars},
        "along_depth": diagnosis.along_depth.to_json(),
        "verdicts": [one.to_json() for one in diagnosis.verdicts],
        "notes": remarks(diagnosis),
    }


def remarks(diagnosis: Diagnosed) -> list[str]:
    """What was assumed, and what limits the answer.

    Args:
        diagnosis: what was found.
    """
    said = list(diagnosis.notes)
    tokens = diagnosis.measured.tokens
    if tokens.max() - tokens.min() > 2:
        said.append(
            f"sequences have {tokens.min()} to {tokens.max()} tokens: rank, entropy and sink "
            "compare at equal lengths only"
        )
    fixed = [name for name in NAMES if diagnosis.compared[name].fixed[1:].any()]
    if fixed and diagnosis.nulls:
        said.append(f"fixed by the norm, no z: {', '.join(fixed)}")
    return said


def _head(diagnosis: Diagnosed) -> list[str]:
    loss, error = diagnosis.loss
    told = "" if np.isnan(loss) else f"; loss {with_error(loss, error, '.3f', unit='nats')}"
    lines = [f"{diagnosis.source}: {diagnosis.inputs}{told}"]
    if diagnosis.nulls:
        lines.append(
            f"null: {diagnosis.null}, {len(diagnosis.nulls)} drawn networks, tokens that enter "
            f"{diagnosis.null_entry}; mean of the null after a slash"
        )
    return lines


def _said(diagnosis: Diagnosed) -> list[str]:
    """All sentences; without a fault the first says so."""
    first = [] if diagnosis.faults else [_nothing(diagnosis)]
    return [*first, *(str(one) for one in diagnosis.verdicts)]


def _nothing(diagnosis: Diagnosed) -> str:
    if len(diagnosis.measured) < LEAST_SEQUENCES:
        return f"no verdicts: they need {LEAST_SEQUENCES} sequences"
    return "no fault found"


def _shown(diagnosis: Diagnosed) -> dict[str, str]:
    """What the table shows: medians where one token holds most of the sum of squares."""
    massive = bool((diagnosis.compared["largest_share"].value > 0.5).any())
    return {_FOR_MASSIVE.get(k, k) if massive else k: v for k, v in SHOWN.items()}


def _table(diagnosis: Diagnosed) -> list[str]:
    names = _shown(diagnosis)
    rows = [["layer", *names.values()]]
    for layer in range(len(diagnosis.compared["overlap"].value)):
        cells = [_cell(diagnosis.compared[name], layer) for name in names]
        rows.append(["entry" if layer == 0 else str(layer), *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]


def _cell(one: Compared, layer: int) -> str:
    if np.isnan(one.value[layer]):
        return "-" if layer == 0 else "undefined"
    told = _number(float(one.value[layer]))
    return told if np.isnan(one.null[layer]) else f"{told}/{_number(float(one.null[layer]))}"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def _html_head(diagnosis: Diagnosed) -> str:
    said = "".join(f"<li>{html.escape(one)}</li>" for one in _said(diagnosis))
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in _head(diagnosis))
    return f"<ul>{said}</ul>{lines}"


def _html_notes(diagnosis: Diagnosed) -> str:
    notes = "".join(f"<li>{html.escape(one)}</li>" for one in remarks(diagnosis))
    return f"<ul>{notes}</ul>" if notes else ""


def _html_table(diagnosis: Diagnosed) -> str:
    """The table of the terminal."""
    names, layers = _shown(diagnosis), range(len(diagnosis.compared["overlap"].value))
    head = "".join(f"<th>{html.escape(word)}</th>" for word in ("layer", *names.values()))
    rows = [
        f"<tr><th>{layer or 'entry'}</th>"
        + "".join(f"<td>{_cell(diagnosis.compared[name], layer)}</td>" for name in names)
        + "</tr>"
        for layer in layers
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _whole_table(diagnosis: Diagnosed) -> str:
    layers = range(len(diagnosis.compared["overlap"].value))
    head = "".join(f"<th>{layer or 'entry'}</th>" for layer in layers)
    rows = [f"<tr><th></th>{head}</tr>"]
    for name in NAMES:
        one = diagnosis.compared[name]
        for word, values in (
            ("", one.value),
            ("error", one.error),
            ("null", one.null),
            ("z", one.z),
        ):
            if np.isfinite(values).any():
                cells = "".join(
                    f"<td>{'' if np.isnan(v) else _number(float(v))}</td>" for v in values
                )
                rows.append(f"<tr><th>{html.escape(f'{name} {word}'.strip())}</th>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"
