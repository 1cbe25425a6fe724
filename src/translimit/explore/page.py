"""Pieces of the page as HTML: a panel, a message, the style."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from translimit.explore.controls import CHOICES, SLIDERS, TEXTS
from translimit.explore.drawing import svg
from translimit.explore.globe import Globe, globe_html
from translimit.explore.panel import Panel
from translimit.explore.registry import PANELS
from translimit.explore.view import View
from translimit.figures import Chart

#: What the head of the page holds besides marimo's own, in this order.
HEAD = ("page.css", "play.js", "globe.js")


def head() -> str:
    """The style and the scripts of the page, for its head."""
    folder = Path(__file__).parent
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in HEAD}
    return "".join(
        f"<style>{text}</style>" if name.endswith(".css") else f"<script>{text}</script>"
        for name, text in texts.items()
    )


def sliders_of(name: str) -> str:
    """A style that shows the controls to which a panel answers, and hides the others."""
    reads = PANELS[name].reads
    hidden = [f".tl-{one}" for one in (*SLIDERS, *CHOICES, *TEXTS, "seed") if one not in reads]
    hidden += [f".tl-{one} tl-play" for one in SLIDERS if one != PANELS[name].plays]
    return f"<style>{''.join(f'.tl-sliders {one} {{display: none}}' for one in hidden)}</style>"


def slider_html(name: str, slider: object) -> str:
    """A slider with its button to play, where a panel plays it.

    Args:
        name: of the slider.
        slider: what marimo shows.
    """
    played = any(kind.plays == name for kind in PANELS.values())
    label = html.escape(SLIDERS[name].label, quote=True)
    play = f'<tl-play data-slider="{name}" data-label="{label}"></tl-play>' if played else ""
    return f'<div class="tl-{name}">{slider}{play}</div>'


def panel_html(name: str, panel: Panel, answers: str = "") -> str:
    """The figures of a panel with what it says, and its table.

    Args:
        name: of the panel.
        panel: what it holds.
        answers: the query of the view that it answers.
    """
    kind = PANELS[name]
    charts = "".join(map(figure_html, panel.figures))
    table = _table(panel.table) if panel.table else ""
    grey = " aside" if panel.aside else ""
    return (
        f'{sliders_of(name)}{_solved(panel)}<section class="tl" id="panel" data-panel="{name}" '
        f'data-answers="{html.escape(answers, quote=True)}" aria-live="polite">'
        f'<p class="note">{html.escape(kind.question)}</p>'
        f"{_aside(panel, answers)}"
        f'<p class="says{grey}" id="says">{html.escape(panel.says)}</p>'
        f'<div class="charts{grey}" id="charts">{charts}</div>{table}</section>'
    )


def _aside(panel: Panel, answers: str) -> str:
    """Why the panel is grey, with a link to the one that holds."""
    if not panel.aside:
        return ""
    query = urlencode({**dict(parse_qsl(answers)), "panel": "stack"})
    link = f'<a href="?{html.escape(query, quote=True)}">Open it with these sliders.</a>'
    return f'<p class="error" id="aside">{html.escape(panel.aside)} {link}</p>'


def _solved(panel: Panel) -> str:
    """A style that says beside a slider what was solved in place of its value."""
    rules = (
        f'.tl-sliders .tl-{name}::after {{content: "solved: {value}"}}'
        for name, value in panel.solved.items()
    )
    return f"<style>{''.join(rules)}</style>" if panel.solved else ""


def figure_html(figure: Chart | Globe) -> str:
    """A figure as an element of the page."""
    return globe_html(figure) if isinstance(figure, Globe) else svg(figure)


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
        f"<h3>What it assumes</h3>{_list(map(_prose, panel.assumptions))}{held}"
        f'<h3>The same in Python</h3><pre tabindex="0" id="code">{html.escape(panel.code)}</pre>'
        f'<h3>This view again</h3><p><a id="link" href="{html.escape(link, quote=True)}">'
        "link to this view</a> (the address of the page carries the sliders)</p></section>"
    )


def stale_html(shown: str) -> str:
    """An answer to other sliders, which stands while the new one is computed.

    Args:
        shown: the panel as it was shown.
    """
    return (
        '<div class="tl-stale" aria-busy="true"><p role="status">Computing … what stands below '
        f"answers the sliders as they were before.</p>{shown}</div>"
    )


def message_html(error: object, name: str) -> str:
    """A refusal in words, in place of a panel."""
    return (
        f'{sliders_of(name)}<section class="tl" id="panel">'
        f'<p class="error" id="message" role="alert">'
        f"{html.escape(str(error))}</p></section>"
    )


def _prose(text: str) -> str:
    """Words with commands between backticks, as HTML."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))


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
