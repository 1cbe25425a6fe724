"""Text that a terminal shows and does not obey.

Control characters (which move the cursor, colour, or rename a window), marks that turn the
direction of reading, and lone surrogates are shown as escapes: a name from a file cannot pretend to
be something else.
"""

from __future__ import annotations

import re

#: Control characters but for the tab and the line break, turns of direction, halves of a pair.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: object) -> str:
    r"""Text without what a terminal would obey.

    Args:
        text: whatever is to be shown.

    Examples:
        >>> print(printable("a\x1b[31mred"))
        a\x1b[31mred
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
