"""What a factory can do wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from translimit.core import ArgumentError, TranslimitError

Made = TypeVar("Made")


class FactoryError(ArgumentError):
    """A factory is missing, raises, or returns something that cannot be checked."""


def guarded(part: str, call: Callable[[], Made]) -> Made:
    """The result of somebody's function; what it raises becomes a `FactoryError`.

    Args:
        part: of the factory, as the message calls it.
        call: the call of the function.

    Raises:
        FactoryError: the function raised something that is not an error of ours.
    """
    try:
        return call()
    except TranslimitError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise FactoryError(
            part, f"raised {type(error).__name__}: {said}", "call it by hand to see where"
        ) from error
