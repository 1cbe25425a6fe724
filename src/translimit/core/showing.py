"""How a room loads its public names: on first use, and so that a wrong call is told in full.

A function that lacks an argument, or is given one that it does not know, says so in the words of
its documentation, and so does a data class (see `missing`). A name that the room lacks is told with
the room that has it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable

import lazy_loader

from translimit.core.missing import tell_construction, telling
from translimit.core.public_names import not_here


def room(
    name: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a room, whose names stand in its stub.

    Args:
        name: of the package.
        file: its `__init__.py`.
    """
    load, listed, names = lazy_loader.attach_stub(name, file)
    own = sys.modules[name].__dict__

    def public(attribute: str) -> object:
        """A name of the room, loaded; of one that it lacks the error says where it lives."""
        try:
            found = load(attribute)
        except AttributeError as error:
            if attribute.startswith("_") or attribute in names:
                raise
            raise AttributeError(not_here(name, attribute)) from error
        own[attribute] = _told(found, name)
        return own[attribute]

    for attribute in own.keys() & set(names):  # those that were asked for at once
        own[attribute] = _told(own[attribute], name)
    return public, listed, names


def _told(found: object, name: str) -> object:
    """What a room shows in the place of what a module defines; classes are changed in place."""
    if inspect.isfunction(found):
        shown = found.__dict__.get("_shown")
        if shown is None:
            shown = found.__dict__["_shown"] = telling(found)
            shown.__module__ = name  # where it is found again when it is unpickled
            shown.__dict__["_shown"] = shown
        return shown
    if isinstance(found, type):
        tell_construction(found)
    return found
