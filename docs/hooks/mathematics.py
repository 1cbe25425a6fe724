"""Formulas without a script: $...$ and $$...$$ outside code become MathML when the docs are built.

A formula is taken out of the Markdown before it is rendered (which would read its underscores as
emphasis) and put back as MathML into the HTML. A formula that latex2mathml does not fully
understand stops the build. MathML and the font of formulas are those of reports.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).parents[2] / "src"
TEMPLATES = SOURCE / "translimit" / "report" / "templates"
FONT = ("mathematics.woff", "mathematics.LICENSE.txt")

#: Code, which is left alone, or an escaped dollar, or a formula.
_PARTS = re.compile(
    r"""
    (?P<code>
        ^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[ \t]*$
        | (?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)
    )
    | (?P<escaped>\\\$)
    | \$\$(?P<block>.+?)\$\$
    | \$(?P<inline>[^$\s](?:[^$]*?[^$\s])?)\$
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


#: The word that stands for a formula, with what must not be parted from it at the end of a line.
_MARKS = re.compile(r"(?P<before>[(\[]*)FORMULA(?P<number>\d+)ALUMROF(?P<after>[.,;:!?)\]]*)")


def extract(markdown: str) -> tuple[str, list[str]]:
    """The Markdown with a mark for each formula, and the formulas as MathML."""
    formulas: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match["code"] is not None:
            return match["code"]
        if match["escaped"] is not None:
            return "$"
        display = match["block"] is not None
        formulas.append(mathml(match["block"] if display else match["inline"], display=display))
        return mark(len(formulas) - 1)

    return _PARTS.sub(replace, markdown), formulas


def mark(number: int) -> str:
    """The word that stands for a formula while Markdown is rendered."""
    return f"FORMULA{number}ALUMROF"


def mathml(latex: str, *, display: bool) -> str:
    """One formula as MathML.

    Raises:
        PluginError: latex2mathml cannot read it, or leaves a command of it as text.
    """
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))
    from translimit.core import ArgumentError
    from translimit.report import mathml

    try:
        markup = mathml.mathml(latex.strip(), block=display)
    except ArgumentError as error:
        raise PluginError(f"the formula {latex!r} cannot be read: {error}") from error
    if latex.count("{") != latex.count("}"):  # which latex2mathml would pass over
        raise PluginError(f"the formula {latex!r} has unbalanced braces")
    if "\\" in markup:
        raise PluginError(f"the formula {latex!r} has a command that latex2mathml does not know")
    return markup


def on_files(files: Files, *, config: MkDocsConfig, **_: Any) -> Files:
    """Put the font and its licence beside the style sheet (an event of MkDocs)."""
    for name in FONT:
        target = f"assets/{name}"
        files.append(File.generated(config, target, abs_src_path=str(TEMPLATES / name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Take the formulas out of a page (an event of MkDocs)."""
    markdown, page.meta["formulas"] = extract(markdown)
    return markdown


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Put the formulas back into a page (an event of MkDocs)."""
    formulas = page.meta.pop("formulas", ())
    return _MARKS.sub(lambda match: _placed(match, formulas[int(match["number"])]), html)


def _placed(match: re.Match[str], markup: str) -> str:
    """A formula in its line, with the punctuation around it, or on a line that scrolls."""
    before, after = match["before"], match["after"]
    if 'display="block"' in markup:
        return f'{before}<span class="formula">{markup}</span>{after}'
    kept = before + markup + after
    return f'<span class="kept">{kept}</span>' if before or after else kept
