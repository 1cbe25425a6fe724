"""Calls that say what a missing argument stands for, or which known one was meant.

Python's own message names the argument and nothing else. Here it also says what to pass, in the
words of the documentation.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from translimit.core.errors import ArgumentTypeError, nearest

P = ParamSpec("P")
R = TypeVar("R")


def _called(
    asked: Callable[..., object],
    made: Callable[..., R],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> R:
    """What a call returns; where its arguments do not fit those of what was asked for, in words."""
    try:
        return made(*args, **kwargs)
    except TypeError as error:
        if isinstance(error, ArgumentTypeError):
            raise
        told = refusal(asked, args, kwargs)
        if told is None:
            raise
    raise told


class Telling(type):
    """The metaclass of records whose construction names missing and unknown arguments."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Construct; see the class.

        Raises:
            ArgumentTypeError: a required argument is missing, or there is no such argument.
        """
        return _called(cls, super().__call__, args, kwargs)


if TYPE_CHECKING:

    class Record:
        """A plain record; see below."""
else:

    class Record(metaclass=Telling):
        """The base of data classes whose missing arguments are named with their meaning."""

        __slots__ = ()


def telling(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose missing and unknown arguments are named as those of the classes are.

    Args:
        function: documented.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return _called(function, function, args, kwargs)

    return call


def tell_construction(cls: type) -> None:
    """Let the constructor of a data class name missing and unknown arguments; others stay.

    Args:
        cls: any class; one that names them is left alone.
    """
    own = vars(cls).get("__init__")
    plain = type(cls) in (type, abc.ABCMeta) and dataclasses.is_dataclass(cls)
    if not plain or own is None or hasattr(own, "_tells"):
        return

    @functools.wraps(own)
    def construct(self: object, *args: object, **kwargs: object) -> None:
        _called(cls, functools.partial(own, self), args, kwargs)

    construct.__dict__["_tells"] = True
    cls.__init__ = construct


def refusal(
    cls: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
) -> ArgumentTypeError | None:
    """What to raise for a call that lacks an argument or has one too many; None for others.

    Args:
        cls: the class, or the function.
        args: of the call, by position.
        kwargs: of the call, by name.
    """
    called = cls.__init__ if isinstance(cls, type) else cls
    known = inspect.signature(called).parameters
    if any(one.kind is one.VAR_POSITIONAL for one in known.values()):
        return None
    any_name = any(one.kind is one.VAR_KEYWORD for one in known.values())
    own = [name for name, one in known.items() if name != "self" and one.kind != one.VAR_KEYWORD]
    unknown = [] if any_name else [name for name in kwargs if name not in own]
    if unknown:
        return ArgumentTypeError(
            unknown[0], f"{name_of(cls)} has no such argument", nearest(unknown[0], own)
        )
    placed = [name for name in own if known[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if len(args) > len(placed):
        said = f"{name_of(cls)} takes {len(placed)} arguments by position, got {len(args)}"
        return ArgumentTypeError("arguments", said, f"pass them by name: {', '.join(own)}")
    required = [name for name in own if known[name].default is inspect.Parameter.empty]
    given = {*own[: len(args)], *kwargs}
    lacking = [name for name in required if name not in given]
    if not lacking:
        return None
    said = described(cls, lacking[0])
    remedy = f"pass {lacking[0]}=..." + (f", {said}" if said else "")
    return ArgumentTypeError(lacking[0], f"{name_of(cls)} needs it, got nothing", remedy)


def name_of(called: Callable[..., object]) -> str:
    """What a class or a function is called."""
    return getattr(called, "__name__", str(called))


def described(cls: Callable[..., object], name: str) -> str:
    """The first sentence on an argument in the documentation; "" where there is none.

    Args:
        cls: the class, whose bases may document the argument, or the function.
        name: of the argument.
    """
    for one in cls.__mro__ if isinstance(cls, type) else (cls,):
        entry = re.search(rf"^ +{re.escape(name)}: (.+(?:\n {{12,}}.+)*)", one.__doc__ or "", re.M)
        if entry:
            return re.split(r"[.;](?:\s|$)", " ".join(entry[1].split()))[0]
    return ""
