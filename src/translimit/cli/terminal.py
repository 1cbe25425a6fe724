"""What reaches a terminal: text of runs and configurations, shown as it is and never obeyed.

Letters that the terminal's encoding has not are written in ASCII, as close as it goes: a command
never ends because a terminal is not UTF-8.
"""

from __future__ import annotations

import codecs
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from translimit.core import printable

if TYPE_CHECKING:
    from rich.text import Text

#: Close enough in ASCII, where decomposing a letter does not give one.
_STAND_INS = {
    "±": "+-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "×": "x", "·": "*", "−": "-", "–": "-",
    "—": "-", "→": "->", "←": "<-", "∞": "inf", "√": "sqrt ", "‘": "'", "’": "'", "“": '"',
    "”": '"', "…": "...", "•": "*", "■": "#", "█": "#", "━": "-", "─": "-", "│": "|", "┃": "|",
    "╸": "-", "╺": "-", "✓": "v", "✗": "x",
}  # fmt: skip
#: The name of our way with letters that an encoding has not.
_ERRORS = "translimit.stand-ins"


def plain(text: object, style: str = "") -> Text:
    """A cell of a table that shows its text as it is: brackets are no markup.

    Args:
        text: whatever is to be shown.
        style: of rich.
    """
    from rich.text import Text

    shown = printable(text)
    if not _is_unicode(sys.stdout):
        # Before the table is laid out: a stand-in may be longer than its letter.
        shown = shown.encode(sys.stdout.encoding, _ERRORS).decode(sys.stdout.encoding)
    return Text(shown, style=style)


def say(text: object, *, error: bool = False) -> None:
    """Print lines of text on standard output, or on standard error.

    Args:
        text: the lines.
        error: on standard error.
    """
    print(printable(text), file=sys.stderr if error else sys.stdout)


def write_json(document: str) -> None:
    """Write a JSON document on standard output, in ASCII where that is no UTF-8.

    Args:
        document: JSON, in which letters beyond ASCII stand in strings only.
    """
    if not _is_unicode(sys.stdout):
        units = re.compile("[^\x00-\x7f]")
        document = units.sub(lambda found: _units(found[0]), document)
    sys.stdout.write(document)


def use_stand_ins() -> None:
    """Let standard output and error write what their encoding has not in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None and not _is_unicode(stream):
            reconfigure(errors=_ERRORS)


def _is_unicode(stream: Any) -> bool:
    return (stream.encoding or "utf-8").lower().replace("-", "").startswith("utf")


def _units(letter: str) -> str:
    """A letter as JSON escapes of its UTF-16 units."""
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_closest(letter) for letter in letters), error.end


def _closest(letter: str) -> str:
    """ASCII for a letter: its stand-in, what it decomposes to, or a question mark."""
    if letter in _STAND_INS:
        return _STAND_INS[letter]
    apart = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return apart or "?"


codecs.register_error(_ERRORS, _stand_in)
