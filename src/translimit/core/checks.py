"""Checks of one number, one count or one flag: refused by name, with what may be passed.

None of them takes a bool for a number, of whatever library; NaN lies in no interval. A *real* is a
setting, and becomes a Python float. A *number* belongs to the mathematics: it keeps its precision
and may be traced, where `equinox.error_if` arms it.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from translimit.core.errors import ArgumentError, ArgumentTypeError, brief

if TYPE_CHECKING:
    from translimit.core.types import Number

#: Sizes and counts are stored in 32 bits.
LARGEST_COUNT = 2**31 - 1


@dataclass(frozen=True)
class Bounds:
    """An interval of numbers; an end at infinity is allowed where it is closed.

    Attributes:
        low: lower end.
        high: upper end.
        ends: which of them belong to it, as mathematics writes it.
    """

    low: float | int = -math.inf
    high: float | int = math.inf
    ends: Literal["[]", "[)", "(]", "()"] = "[]"

    def hold(self, value: Any) -> Any:
        """Whether a number lies inside; of an array, entry by entry."""
        above = value >= self.low if self.ends[0] == "[" else value > self.low
        below = value <= self.high if self.ends[1] == "]" else value < self.high
        return above & below

    def __str__(self) -> str:
        """In words that continue "pass"."""
        if math.isfinite(self.high):
            if math.isfinite(self.low):
                return f"a number in {self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}"
            return f"a number {'of at most' if self.ends[1] == ']' else 'below'} {self.high:g}"
        endless = " (inf included)" if self.ends[1] == "]" else ""
        if not math.isfinite(self.low):
            return f"a {'' if endless else 'finite '}number{endless}"
        if self.ends[0] == "[":
            return f"a number of at least {self.low:g}{endless}"
        return f"a {'positive number' if self.low == 0 else f'number above {self.low:g}'}{endless}"


def at_least(low: float | int) -> Bounds:
    """All finite numbers from `low` on."""
    return Bounds(low, math.inf, "[)")


FINITE = Bounds(ends="()")
POSITIVE = Bounds(0.0, math.inf, "()")
NOT_NEGATIVE = at_least(0.0)


def require_flag(value: Any, name: str) -> bool:
    """True or False, NumPy's included.

    Raises:
        ArgumentTypeError: anything else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ArgumentTypeError(name, f"got {brief(value)}", "pass True or False")
    return bool(value)


def require_count(value: Any, name: str, least: int = 1, most: int = LARGEST_COUNT) -> int:
    """An integer from `least` to `most`, NumPy's included.

    Raises:
        ArgumentTypeError: not an integer.
        ArgumentError: out of these bounds.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(name, f"got {brief(value)}", "pass an integer")
    count = int(value)
    if count < least:
        raise ArgumentError(name, f"got {count}", f"pass at least {least}")
    if count > most:
        raise ArgumentError(name, f"got {count}", f"pass at most {most}")
    return count


def require_real(value: Any, name: str, bounds: Bounds = FINITE) -> float:
    """One number of Python or NumPy, or an array of shape [], as a float.

    Raises:
        ArgumentTypeError: no number, or a traced one.
        ArgumentError: NaN, or outside the bounds.
    """
    if is_flag(value) or not (isinstance(value, numbers.Real) or _is_scalar_array(value)):
        raise ArgumentTypeError(name, f"got {brief(value)}", f"pass {bounds}")
    try:
        number = float(value)
    except OverflowError:  # of an integer
        number = math.copysign(math.inf, value)
    except TypeError as error:
        raise ArgumentTypeError(
            name, "is traced (jit, vmap or grad)", "pass a concrete number"
        ) from error
    if not bounds.hold(number):
        raise ArgumentError(name, f"got {brief(value)}", f"pass {bounds}")
    return number


def require_number(value: Any, name: str, bounds: Bounds = NOT_NEGATIVE) -> Number:
    """One number in its own precision; a traced one is armed with `error_if`.

    Returns:
        A NumPy float64, or an array of shape [] of another precision, or of JAX.

    Raises:
        ArgumentTypeError: not numeric, or a bool.
        ArgumentError: not a scalar, NaN, infinite, or outside the bounds.
    """
    import equinox as eqx  # not before a number is checked: settings are checked without JAX
    import jax

    from translimit.core.precision import as_float, is_traced

    if is_flag(value):
        raise ArgumentTypeError(name, f"got {brief(value)}", f"pass {bounds}")
    array: Any = as_float(value, name)
    if array.ndim != 0:
        raise ArgumentError(name, f"has shape {array.shape}", "pass one number")
    if is_traced(array):
        right = bounds.hold(array) & (abs(array) < math.inf)
        return eqx.error_if(array, ~right, f"{name}: pass {bounds}")
    if not bool(bounds.hold(array)):
        raise ArgumentError(name, f"got {float(array):g}", f"pass {bounds}")
    host = not isinstance(array, jax.Array)
    return array[()] if host and array.dtype == np.float64 else array


def is_flag(value: Any) -> bool:
    """Whether a value is a bool of Python, NumPy, JAX or PyTorch, or an array of them."""
    dtype = str(getattr(value, "dtype", ""))
    return isinstance(value, bool) or dtype in ("bool", "torch.bool")


def _is_scalar_array(value: Any) -> bool:
    """Whether a value is an array of shape [] that holds a real number."""
    if getattr(value, "shape", None) != () or not hasattr(value, "dtype"):
        return False
    return not str(value.dtype).startswith(("complex", "object", "<U", "|S", "key", "datetime"))
