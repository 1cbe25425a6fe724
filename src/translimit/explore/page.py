"""Pieces of the page as HTML: a panel, a message, the style."""

from __future__ import annotations

import html
from collections.abc import Iterable

from translimit.explore.drawing import svg
from translimit.explore.panel import Panel
from translimit.explore.registry import PANELS
from translimit.explore.view import SLIDERS, View

STYLE = """<style>
.tl {max-width: 100%; overflow-wrap: anywhere}
.tl .charts {display: flex; flex-wrap: wrap; gap: 0.5rem 1.5rem}
.tl figure.chart {flex: 1 1 300px; max-width: 560px; min-width: 0; margin: 0}
.tl figure.chart:only-child {max-width: 700px}
.tl figure.chart > svg {width: 100%; height: auto; display: block}
.tl figure.chart figcaption {font-weight: 600; margin: 0.4rem 0 0.2rem}
.dark .tl figure.chart > svg, .dark .tl .legend svg {filter: brightness(1.4)}
.tl .legend {display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; font-size: 0.85rem}
.tl .legend span {display: inline-flex; align-items: center; gap: 0.4rem}
.tl .legend svg {flex: none}
.tl .says {font-size: 1.05rem; font-weight: 600; margin: 0.4rem 0}
.tl h3 {font-size: 1rem; font-weight: 600; margin: 1rem 0 0.2rem}
.tl ul {margin: 0; padding-left: 1.2rem; list-style: disc}
.tl li {margin: 0.15rem 0}
.tl pre {overflow-x: auto; max-width: 100%; padding: 0.7rem; font-size: 0.8rem; margin: 0;
  border: 1px solid currentColor; border-radius: 6px; overflow-wrap: normal}
.tl .wide {overflow-x: auto; max-width: 100%}
.tl table {border-collapse: collapse; font-size: 0.9rem; margin-top: 0.6rem}
.tl td, .tl th {text-align: left; padding: 0.2rem 0.8rem 0.2rem 0; vertical-align: top;
  font-weight: normal; border-bottom: 1px solid rgb(128 128 128 / 0.35)}
.tl th {font-weight: 600}
.tl .error {border-left: 4px solid #D55E00; padding: 0.5rem 0.8rem}
.tl .note {opacity: 0.8; font-size: 0.9rem}
.tl a {text-decoration: underline}
.tl-sliders {display: grid; gap: 0.2rem 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 155px), 1fr))}
@media (min-width: 700px) {.tl-sliders {grid-template-columns: repeat(3, 1fr)}}
</style>"""


def sliders_of(name: str) -> str:
    """A style that shows the sliders to which a panel answers, and hides the others."""
    reads = PANELS[name].reads
    hidden = [one for one in SLIDERS if one not in reads]
    hidden += [] if name in ("rates", "all") else ["optimizer"]
    return f"<style>{''.join(f'.tl-sliders .tl-{one} {{display: none}}' for one in hidden)}</style>"


def panel_html(name: str, panel: Panel) -> str:
    """The figures of a panel with what it says, and its table."""
    kind = PANELS[name]
    charts = "".join(svg(chart) for chart in panel.figures)
    table = _table(panel.table) if panel.table else ""
    return (
        f'{sliders_of(name)}<section class="tl" id="panel" data-panel="{name}" aria-live="polite">'
        f'<p class="note">{html.escape(kind.question)}</p>'
        f'<p class="says" id="says">{html.escape(panel.says)}</p>'
        f'<div class="charts" id="charts">{charts}</div>{table}</section>'
    )


def details_html(view: View, panel: Panel) -> str:
    """What a panel assumes, how far it was verified, the Python lines, and the link."""
    verified = [
        f"<code>{html.escape(one.experiment)}</code>: {html.escape(one.says)} "
        f"(claims {', '.join(f'<code>{html.escape(claim)}</code>' for claim in one.claims)})"
        for one in panel.verified
    ]
    held = ""
    if verified:
        held = (
            f"<h3>How far it was verified</h3>{_list(verified)}"
            '<p class="note">Each is run by <code>translimit run NAME</code>, which gives verdicts '
            "for these claims at finite sizes.</p>"
        )
    link = f"?{view.to_query()}" if view.to_query() else "?"
    return (
        '<section class="tl" id="details">'
        f"<h3>What it assumes</h3>{_list(map(html.escape, panel.assumptions))}{held}"
        f'<h3>The same in Python</h3><pre tabindex="0" id="code">{html.escape(panel.code)}</pre>'
        f'<h3>This view again</h3><p><a id="link" href="{html.escape(link, quote=True)}">'
        "link to this view</a> (the address of the page carries the sliders)</p></section>"
    )


def message_html(error: object, name: str) -> str:
    """A refusal in words, in place of a panel."""
    return (
        f'{sliders_of(name)}<section class="tl" id="panel">'
        f'<p class="error" id="message" role="alert">'
        f"{html.escape(str(error))}</p></section>"
    )


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    head, *body = rows
    cells = "".join(f"<th scope='col'>{html.escape(one)}</th>" for one in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{html.escape(one)}</td>' for one in row)}</tr>" for row in body
    )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def notice_html(text: str) -> str:
    """A sentence above the sliders."""
    return (
        f'<div class="tl"><p class="error" id="notice" role="alert">{html.escape(text)}</p></div>'
    )
