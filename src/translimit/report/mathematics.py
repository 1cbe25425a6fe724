r"""Prose with `$...$` formulas as HTML: text is escaped, formulas become MathML.

A formula that cannot be read is shown as its source: one of them refuses no report. `\$` is a
dollar sign, and so is a dollar without a partner. The MathML tree is serialised here, element by
element from a list of what a formula may hold, because a formula is data like any other: nothing in
it can open a tag, set a style or name an address.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from translimit.core import ArgumentError, printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from markupsafe import Markup

#: A formula: from a dollar to the next one, neither escaped by a backslash.
FORMULA = re.compile(r"(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL)

#: Attributes of MathML that only shape a formula; all others are dropped.
SHAPING = frozenset(
    {
        *("accent", "accentunder", "columnalign", "columnlines", "columnspacing", "depth"),
        *("display", "displaystyle", "fence", "form", "height", "largeop", "linethickness"),
        *("lspace", "mathvariant", "maxsize", "minsize", "movablelimits", "rowalign", "rowlines"),
        *("rowspacing", "rspace", "scriptlevel", "separator", "stretchy", "symmetric"),
        *("voffset", "width"),
    }
)

#: Binary operators that latex2mathml marks as identifiers, which would set them without spaces (it
#: marks ∞ as an operator, with spaces).
OPERATORS = frozenset("±∓×÷∘⊗⊕⊙∗⋆")

#: Operators that TeX sets without space on either side.
CLOSE = frozenset("/|‖∥")

#: Operators that may be the sign of a number.
SIGNS = frozenset("+\N{MINUS SIGN}±∓")


def typeset(text: str) -> Markup:
    """Prose with `$...$` formulas as safe HTML with MathML; what cannot be read as its source."""
    from markupsafe import Markup, escape

    pieces = []
    for index, piece in enumerate(FORMULA.split(text)):
        if not index % 2:
            pieces.append(str(escape(piece.replace(r"\$", "$"))))
            continue
        try:
            pieces.append(_formula(piece))
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
            _formula(formula)


def plain(text: str) -> str:
    """Prose with its formulas as their source, for places that hold no markup."""
    return FORMULA.sub(r"\1", text).replace(r"\$", "$")


def _formula(source: str) -> str:
    """MathML of one formula."""
    import latex2mathml.converter

    try:
        tree = latex2mathml.converter.convert_to_element(_with_powers(source))
    except Exception as error:  # its own errors share no base class, and others leak through
        problem = f"cannot read ${source}$ ({type(error).__name__})"
        raise ArgumentError("formula", problem, "mend the LaTeX between the dollars") from error
    return _serialise(tree, source)


def _with_powers(source: str) -> str:
    """A formula with numbers such as 1e+06, as Python writes them, as powers of ten."""

    def power(match: re.Match[str]) -> str:
        exponent = f"10^{{{int(match[2])}}}"
        return exponent if match[1] == "1" else rf"{match[1]} \times {exponent}"

    return re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-]\d{2,})", power, source)


def _serialise(element: Element, source: str, before: Element | None = None) -> str:
    """An element as text; `before` is its left neighbour, which decides what a sign is."""
    tag, text = element.tag, html.unescape(element.text or "")
    if not re.fullmatch("m[a-z]+|annotation|semantics", tag):
        raise ArgumentError("formula", f"${source}$ gives <{tag}>", "use plain LaTeX mathematics")
    if text.startswith("\\") and len(text) > 1 and tag != "mtext":
        problem = f"unknown command {text} in ${source}$"
        raise ArgumentError("formula", problem, "use a command that latex2mathml knows")
    kept = {name: value for name, value in element.attrib.items() if name in SHAPING}
    if tag == "mi" and text in OPERATORS:
        tag = "mo"
    elif tag == "mo" and text == "∞":
        tag = "mi"
    elif tag == "mo" and text in CLOSE:
        kept |= {"lspace": "0", "rspace": "0"}
    if tag == "mo" and text in SIGNS and _opens(before):
        kept["form"] = "prefix"
    attributes = "".join(
        f' {name}="{html.escape(html.unescape(value))}"' for name, value in kept.items()
    )
    neighbours = zip((None, *element), element, strict=False)
    children = "".join(_serialise(child, source, left) for left, child in neighbours)
    return f"<{tag}{attributes}>{html.escape(text)}{children}</{tag}>"


def _opens(before: Element | None) -> bool:
    """Whether a sign after this element belongs to what follows: `[-1, 1]`, `a = -b`."""
    return before is None or (
        before.tag == "mo" and html.unescape(before.text or "") not in (*")]}|‖∥!′∞",)
    )
