r"""Prose with `$...$` formulas as HTML: text is escaped, formulas become MathML.

A formula that cannot be read is shown as its source: one of them refuses no report. `\$` is a
dollar sign, and so is a dollar without a partner.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from translimit.core import ArgumentError, printable
from translimit.report.mathml import mathml

if TYPE_CHECKING:
    from markupsafe import Markup

#: A formula: from a dollar to the next one, neither escaped by a backslash.
FORMULA = re.compile(r"(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL)


def typeset(text: str) -> Markup:
    """Prose with `$...$` formulas as safe HTML with MathML; what cannot be read as its source."""
    from markupsafe import Markup, escape

    pieces = []
    for index, piece in enumerate(FORMULA.split(text)):
        if not index % 2:
            pieces.append(str(escape(piece.replace(r"\$", "$"))))
            continue
        try:
            pieces.append(mathml(piece))
        except ArgumentError as error:
            title = html.escape(printable(error))
            pieces.append(f'<code title="{title}">{html.escape(f"${printable(piece)}$")}</code>')
    return Markup("".join(pieces))  # every piece is escaped above or serialised below


def require_readable(*texts: str) -> None:
    """Check that every formula of the texts can be set.

    Raises:
        ArgumentError: the first formula that cannot be read, or uses a command that is not known.
    """
    for text in texts:
        for formula in FORMULA.split(text)[1::2]:
            mathml(formula)


def plain(text: str) -> str:
    """Prose with its formulas as their source, for places that hold no markup."""
    return FORMULA.sub(r"\1", text).replace(r"\$", "$")
