"""Converters of the fields of a variant: what was passed becomes an array, or an error by name.

They are for `equinox.field(converter=...)`: the generated constructor then takes whatever converts.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from translimit.core import (
    FINITE,
    POSITIVE,
    AnyArray,
    ArrayInput,
    Bounds,
    Floats,
    as_float,
    require_count,
    require_flag,
    require_number,
)


def floats(name: str) -> Callable[[ArrayInput], Floats]:
    """Finite numbers of any shape, in their own precision."""

    def convert(value: ArrayInput) -> Floats:
        return as_float(value, name)

    return convert


def number(name: str, bounds: Bounds = FINITE) -> Callable[[ArrayInput], Float[AnyArray, ""]]:
    """One number, as an array of shape []; a traced one is armed."""

    def convert(value: ArrayInput) -> Float[AnyArray, ""]:
        found = require_number(value, name, bounds)
        return found if isinstance(found, jax.Array) else np.asarray(found)

    return convert


def positive(name: str) -> Callable[[ArrayInput], Float[AnyArray, ""]]:
    """One positive number."""
    return number(name, POSITIVE)


def count(name: str) -> Callable[[int], int]:
    """An integer of at least 1."""

    def convert(value: int) -> int:
        return require_count(value, name)

    return convert


def flag(name: str) -> Callable[[bool], bool]:
    """True or False."""

    def convert(value: bool) -> bool:
        return require_flag(value, name)

    return convert
