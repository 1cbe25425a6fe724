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
from translimit.diagnose.verdicts import LEAST_SEQUENCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from translimit.diagnose.diagnosed import Diagnosed
    from translimit.diagnose.statistics import Compared

#: What a terminal shows, with a short name.
SHOWN = {
    "overlap": "overlap",
    "effective_rank": "rank",
    "mean_square": "square",
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
    head = "".join(f"<p>{html.escape(line)}</p>" for line in _head(diagnosis))
    items = "".join(f"<li>{html.escape(one)}</li>" for one in _said(diagnosis))
    notes = "".join(f"<li>{html.escape(one)}</li>" for one in remarks(diagnosis))
    return f"{head}<ul>{items}</ul>{_html_table(diagnosis, tuple(SHOWN))}<ul>{notes}</ul>"


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
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Diagnosis</title>'
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem}"
        "table{border-collapse:collapse;font-size:12px}td,th{padding:2px 7px;text-align:right}"
        "tr:nth-child(even){background:#f4f4f4}img{max-width:100%}"
        "table,pre{display:block;overflow-x:auto}pre{font-size:12px}</style></head><body>"
        f"<h1>Diagnosis</h1>{as_html(diagnosis)}"
        f"{_picture(plot_diagnosis(diagnosis), 'observables over layers')}{more}"
        f"<h2>All observables</h2>{_html_table(diagnosis, NAMES)}</body></html>\n"
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
        "loss": _plain([loss])[0],
        "loss_error": _plain([error])[0],
        "observables": {str(name): _plain(data[name].values) for name in data.data_vars},
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


def _table(diagnosis: Diagnosed) -> list[str]:
    massive = bool((diagnosis.compared["largest_share"].value > 0.5).any())
    names = {_FOR_MASSIVE.get(k, k) if massive else k: v for k, v in SHOWN.items()}
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


def _html_table(diagnosis: Diagnosed, names: Sequence[str]) -> str:
    layers = range(len(diagnosis.compared["overlap"].value))
    head = "".join(f"<th>{'entry' if layer == 0 else layer}</th>" for layer in layers)
    rows = [f"<tr><th></th>{head}</tr>"]
    for name in names:
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


def _plain(values: object) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values, float).reshape(-1)]
