"""Configurations that check themselves when they are made, by the annotations of their fields.

A field says in its annotation what it may be: `paths: Count`, `step: Annotated[float, Within(1e-6,
1)]`, `starts: Annotated[tuple[str, ...], OneOf(STARTS)]`. What holds for every configuration needs
no annotation: values have their types, numbers are finite, integers fit into 32 bits, and lists are
not empty.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Protocol

from translimit.core import ConfigError, brief, config, nearest

#: The largest integer of a configuration: sizes and counts are stored in 32 bits.
LARGEST = 2**31 - 1


class Rule(Protocol):
    """What a value must satisfy besides its type."""

    def remedy(self, value: object) -> str | None:
        """What to pass instead; None where the value will do."""
        ...


@dataclass(frozen=True)
class Within:
    """Numbers between two bounds; of a list every entry.

    Attributes:
        least: the lower bound.
        most: the upper bound.
        above: whether the lower bound itself is refused.
        below: whether the upper bound itself is refused.
    """

    least: float | int = -math.inf
    most: float | int = math.inf
    above: bool = False
    below: bool = False

    def remedy(self, value: object) -> str | None:
        """See `Rule`."""
        if all(self._holds(one) for one in _entries(value)):
            return None
        bounds = []
        if self.least > -math.inf:
            bounds.append(f"{'more than' if self.above else 'at least'} {self.least:g}")
        if self.most < math.inf:
            bounds.append(f"{'less than' if self.below else 'at most'} {self.most:g}")
        return f"pass {' and '.join(bounds)}"

    def _holds(self, number: Any) -> bool:
        low = number > self.least if self.above else number >= self.least
        high = number < self.most if self.below else number <= self.most
        return low and high


@dataclass(frozen=True)
class MultipleOf:
    """Integers that are multiples of another."""

    unit: int

    def remedy(self, value: object) -> str | None:
        """See `Rule`."""
        if all(isinstance(one, int) and one % self.unit == 0 for one in _entries(value)):
            return None
        return f"pass a multiple of {self.unit}"


class OneOver:
    """Numbers that are one over an integer; of a list every entry."""

    def remedy(self, value: object) -> str | None:
        """See `Rule`."""
        counts = [1.0 / one for one in _entries(value)]
        if all(abs(count - round(count)) < 1e-6 * count for count in counts):
            return None
        return "pass one over an integer"


@dataclass(frozen=True)
class OneOf:
    """Names that are known; of a list every entry."""

    names: tuple[str, ...]

    def remedy(self, value: object) -> str | None:
        """See `Rule`."""
        for one in _entries(value):
            if one not in self.names:
                return nearest(str(one), self.names)
        return None


@dataclass(frozen=True)
class Entries:
    """Lists of so many entries.

    Attributes:
        least: how many at least.
        most: how many at most, or None.
    """

    least: int = 1
    most: int | None = None

    def remedy(self, value: object) -> str | None:
        """See `Rule`."""
        count = len(_entries(value))
        if count >= self.least and (self.most is None or count <= self.most):
            return None
        few = f"pass at least {self.least}"
        return few if self.most is None else f"{few} and at most {self.most}"


class Distinct:
    """Lists without an entry twice."""

    def remedy(self, value: object) -> str | None:
        """See `Rule`."""
        found = _entries(value)
        return None if len(set(found)) == len(found) else "pass each value once"


class Increasing:
    """Lists in which each entry is larger than the one before."""

    def remedy(self, value: object) -> str | None:
        """See `Rule`."""
        ordered = all(a < b for a, b in pairwise(_entries(value)))
        return None if ordered else "pass each larger than the one before"


class Decreasing:
    """Lists in which each entry is smaller than the one before."""

    def remedy(self, value: object) -> str | None:
        """See `Rule`."""
        ordered = all(a > b for a, b in pairwise(_entries(value)))
        return None if ordered else "pass each smaller than the one before"


@dataclass(frozen=True)
class Doubling:
    """Lists in which each entry is twice the one before.

    Attributes:
        least: how many entries at least.
    """

    least: int

    def remedy(self, value: object) -> str | None:
        """See `Rule`."""
        found = _entries(value)
        if len(found) >= self.least and all(b == 2 * a for a, b in pairwise(found)):
            return None
        return f"pass at least {self.least}, each twice the one before"


#: How many there are of something.
Count = Annotated[int, Within(1)]
#: At least two: one sample has no standard error.
Two = Annotated[int, Within(2)]
#: At least four: fewer independent networks or solves carry no interval of a rate.
Four = Annotated[int, Within(4)]
#: Its square and its cube have a place in single precision.
Positive = Annotated[float, Within(1e-12, 1e12)]
#: An exponent of a parameterization.
Exponent = Annotated[float, Within(0.5, 1)]
#: A coefficient of momentum.
Momentum = Annotated[float, Within(0, 1, below=True)]
#: The weight of a branch beside that of the skip connection.
BranchWeight = Annotated[float, Within(0, 1, above=True)]
#: A step of a scheme: one over it is a number of steps that a program can take.
Step = Annotated[float, Within(1e-6, 1)]
#: Steps of which each is a cell or a point of its own.
Steps = Annotated[tuple[Step, ...], OneOver(), Decreasing(), Entries(2)]
Counts = tuple[Count, ...]
#: Numbers of independent samples, by size.
Replicates = tuple[Two, ...]
#: Sizes of which each is a cell or a point of its own.
Sizes = Annotated[Counts, Distinct()]
IncreasingSizes = Annotated[Counts, Increasing()]
Doubled = Annotated[Counts, Doubling(2)]
#: Numbers of which each is a cell or a point of its own.
Positives = Annotated[tuple[Positive, ...], Distinct()]


@dataclass(frozen=True)
class CheckedConfig:
    """The base of configurations: values take their annotated types, and are held to their rules.

    What holds between fields is checked by a subclass in its `__post_init__`, after this one's.

    Raises:
        ConfigError: a field of the wrong type or outside its rules; the error names the field.
    """

    def __post_init__(self) -> None:
        """Check every field."""
        types = config.types_of(type(self))
        for name, hint in _with_rules(type(self)).items():
            value = config.coerced(types[name], getattr(self, name), name)
            object.__setattr__(self, name, value)
            _check(hint, value, value, name)


@functools.cache
def require_one_each(
    name: str, values: Sequence[object], of: str, entries: Sequence[object]
) -> None:
    """Refuse two fields of which one says something of every entry of the other.

    Args:
        name: of the field that says it.
        values: of that field.
        of: the field whose entries are meant.
        entries: of that field.

    Raises:
        ConfigError: their lengths differ.
    """
    if len(values) != len(entries):
        raise ConfigError(
            name, f"got {values} for {of} {entries}", f"pass one count per entry of {of}"
        )


def _with_rules(kind: type[Any]) -> dict[str, Any]:
    """Annotated types of the fields with their rules."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _check(hint: Any, value: Any, whole: Any, name: str, *, may_be_empty: bool = False) -> None:
    """Hold a value of the right type to its rules; `whole` is the field's value, to be shown."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        inner, *rules = arguments
        may_be_empty = any(isinstance(rule, Entries) and rule.least == 0 for rule in rules)
        _check(inner, value, whole, name, may_be_empty=may_be_empty)
        for rule in rules:
            remedy = rule.remedy(value)
            if remedy is not None:
                raise ConfigError(name, f"got {brief(whole)}", remedy)
    elif origin is tuple:
        variadic = len(arguments) == 2 and arguments[1] is Ellipsis
        if variadic and not value and not may_be_empty:
            raise ConfigError(name, f"got {brief(whole)}", "pass at least one entry")
        kinds: Iterable[Any] = arguments[:1] * len(value) if variadic else arguments
        for kind, one in zip(kinds, value, strict=True):
            _check(kind, one, whole, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(name, f"got {brief(whole)}", "pass a finite number")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(name, f"got {brief(whole)}", f"pass at most {LARGEST}")


def _entries(value: Any) -> Sequence[Any]:
    """Of a list its entries, of a number or a name that alone; of what is not given nothing."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)
