"""Where the public names of the package live, read from the stubs of its rooms."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def public_places(name: str) -> list[str]:
    """The full names of what the rooms export under a name, loading nothing.

    Args:
        name: as somebody typed it.

    Examples:
        >>> public_places("GaussianFlow")
        ['translimit.limits.meanfield.GaussianFlow']
    """
    exported = re.compile(rf"\bas {re.escape(name)}$", re.MULTILINE)
    stubs = sorted(PACKAGE.rglob("__init__.pyi"), key=lambda stub: (len(stub.parts), stub))
    found = [stub.parent for stub in stubs if exported.search(stub.read_text(encoding="utf-8"))]
    rooms = [".".join(folder.relative_to(PACKAGE.parent).parts) for folder in found]
    # A room that exports what an inner one does is the place to import from.
    outer = [room for room in rooms if not any(room.startswith(f"{one}.") for one in rooms)]
    return [f"{room}.{name}" for room in outer]


def not_here(module: str, name: str) -> str:
    """What is said of a name that a package lacks: where it lives, if anywhere.

    Args:
        module: the package, by its full name.
        name: as somebody typed it.
    """
    found = public_places(name)
    told = f"; it is {' or '.join(found)}" if found else ""
    return f"module {module!r} has no attribute {name!r}{told}"
