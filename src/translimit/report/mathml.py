r"""Formulas of LaTeX as MathML, with the spaces of TeX.

latex2mathml reads them. Its tree is serialised here, element by element from a list of what a
formula may hold, because a formula is data like any other: nothing in it can open a tag, set a
style or name an address. Browsers take spaces from the kind of an element; where latex2mathml tells
another kind than TeX it is set right.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from translimit.core import ArgumentError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

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

#: Operators that latex2mathml marks as identifiers, which would set them without spaces (it marks ∞
#: as an operator, with spaces).
OPERATORS = frozenset("±∓×÷∘⊗⊕⊙∗⋆~;⪰⪯")

#: Operators that TeX sets without space on either side.
CLOSE = frozenset("/|‖∥∂∇")

#: Operators that may be the sign of a number.
SIGNS = frozenset("+\N{MINUS SIGN}±∓")

OPENING, CLOSING = frozenset("([{⟨⌈⌊|‖∥"), frozenset(")]}⟩⌉⌋|‖∥!′″∞")

#: The space that TeX puts between the name of a function and what is no bracket.
THIN = '<mspace width="0.167em"></mspace>'

#: Elements whose children stand in a row, and those whose first child is what the others belong to.
ROWS = frozenset({"math", "mrow", "mstyle", "mtd", "msqrt"})
SCRIPTED = frozenset({"msub", "msup", "msubsup", "munder", "mover", "munderover"})


def mathml(source: str, *, block: bool = False) -> str:
    """MathML of one formula.

    Args:
        source: LaTeX, without dollars.
        block: whether it stands on a line of its own.

    Raises:
        ArgumentError: it cannot be read, or uses a command that is not known.
    """
    import latex2mathml.converter

    display = "block" if block else "inline"
    try:
        tree = latex2mathml.converter.convert_to_element(_with_powers(source), display=display)
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
    tag, text = element.tag, _text(element)
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
    elif tag == "mo" and (text in CLOSE or _function(element)):
        kept |= {"lspace": "0", "rspace": "0"}
    if tag == "mo" and text in SIGNS and _opens(before):
        kept["form"] = "prefix"
    attributes = "".join(
        f' {name}="{html.escape(html.unescape(value))}"' for name, value in kept.items()
    )
    text = "∼" if text == "~" else text
    return f"<{tag}{attributes}>{html.escape(text)}{_children(element, source)}</{tag}>"


def _children(element: Element, source: str) -> str:
    told = []
    for left, child in zip((None, *element), element, strict=False):
        if left is not None and element.tag in ROWS and _parted(left, child):
            told.append(THIN)
        told.append(_serialise(child, source, left))
    return "".join(told)


def _text(element: Element) -> str:
    return html.unescape(element.text or "")


def _opens(before: Element | None) -> bool:
    """Whether a sign after this element belongs to what follows: `[-1, 1]`, `a = -b`."""
    return (
        before is None
        or _text(before) in OPENING - CLOSING
        or (before.tag == "mo" and _text(before) not in CLOSING)
    )


def _parted(left: Element, right: Element) -> bool:
    """Whether TeX parts two neighbours by a thin space: one of them names a function."""
    if _function(left):
        return _function(right) or _ordinary(_edge(right, 0), OPENING)
    return _function(right) and _ordinary(_edge(left, -1), OPENING - CLOSING)


def _function(element: Element) -> bool:
    """Whether an element is the upright name of a function, with its scripts: `log`, `max`."""
    if element.tag in SCRIPTED:
        return _function(element[0])
    if element.tag == "mrow":  # a letter each: rank in the upright face
        return len(element) > 1 and all(
            one.tag == "mi" and one.get("mathvariant") == "normal" for one in element
        )
    return element.tag in ("mi", "mo") and len(_text(element)) > 1 and _text(element).isalpha()


def _edge(element: Element, place: int) -> Element:
    """The first or the last element of a row."""
    while element.tag in ROWS and len(element):
        element = element[place]
    return element


def _ordinary(element: Element, brackets: frozenset[str]) -> bool:
    """Whether an element is neither an operator, nor a space or words, nor one of some brackets."""
    if element.tag == "mo":
        return _text(element) in CLOSING - brackets or _text(element) in "∂∇∞"
    return element.tag not in ("mspace", "mtext") and _text(element) not in brackets
