"""Python's collection of cycles, put off while a command loads its libraries.

Loading makes some hundred thousand objects that all stay, and by default Python looks through them
for cycles again and again: an eighth of the processor seconds of a short command.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

#: Objects that are made before the youngest are looked through, a hundred times the default or so.
MANY = 100_000


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """Look for cycles seldom meanwhile, and as before afterwards."""
    before = gc.get_threshold()
    gc.set_threshold(MANY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
