"""Numbers for readers: an estimate carries as many digits as its standard error allows.

The error keeps one significant digit, or two when the first is a 1 (so that rounding changes it
by less than a third), and the value stops at the same decimal: `0.7142 ± 0.0003`. Very large and
very small numbers are written with a power of ten. Minus signs are U+2212, groups of three digits
are separated by a narrow no-break space, and no line ends within a power of ten.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal

from translimit.core.estimates import ONE_SEED

MINUS = "\N{MINUS SIGN}"
NO_BREAK = "\N{NO-BREAK SPACE}"
THIN = "\N{NARROW NO-BREAK SPACE}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

#: Decimal exponents of the larger of value and error that are written without a power of ten.
PLAIN_EXPONENTS = range(-4, 6)


def format_number(value: float | int, digits: int = 6) -> str:
    """A number with at most `digits` significant digits and no trailing zeros.

    Args:
        value: any number, infinite and NaN included; integers below a million keep all digits.
        digits: significant digits of a number that is no integer.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if isinstance(value, int) and abs(value) < 10**PLAIN_EXPONENTS.stop:
        return _typeset(str(value))
    if value == 0:
        return "0"
    exact = Decimal(repr(float(value)))
    rounded = _round(exact, exact.adjusted() - digits + 1)
    exponent = rounded.adjusted()
    if exponent in PLAIN_EXPONENTS:
        return _typeset(_trim(f"{rounded:f}"))
    mantissa = rounded.scaleb(-exponent)
    return f"{_typeset(_trim(f'{mantissa:f}'))}{_power(exponent)}"


def format_estimate(value: float | int, stderr: float | int) -> str:
    """An estimate and its standard error, digits matched: `0.7142 ± 0.0003`.

    A standard error of zero (a deterministic quantity) leaves the value alone, and so does a value
    that is not finite; that of one sample is told in words (see `with_error`).

    Args:
        value: the estimate.
        stderr: its standard error, at least 0.
    """
    if stderr == 0 or not math.isfinite(value):
        return format_number(value)
    if not math.isfinite(stderr):
        return f"{format_number(value)} ({'no error' if math.isnan(stderr) else ONE_SEED})"
    exact, error = Decimal(repr(float(value))), Decimal(repr(float(stderr)))
    place = _last_place(error)
    exponent = max(_round(x, place).adjusted() for x in (exact, error) if x != 0)
    if place <= 0 and exponent in PLAIN_EXPONENTS:
        return f"{_fixed(exact, place)} ± {_fixed(error, place)}"
    exact, error = exact.scaleb(-exponent), error.scaleb(-exponent)
    place -= exponent
    return f"({_fixed(exact, place)} ± {_fixed(error, place)}){_power(exponent)}"


def format_duration(seconds: float | int) -> str:
    """A duration in the unit a reader would choose: `0.8 s`, `41 s`, `3 min 20 s`, `2 h 5 min`."""
    if not math.isfinite(seconds):
        return format_number(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_count(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: `1 case`, `12 cases`."""
    noun = singular if number == 1 else plural or f"{singular}s"
    return f"{format_number(number)} {noun}"


def _last_place(error: Decimal) -> int:
    """The decimal exponent of the last digit of an error that is shown."""
    place = error.adjusted()
    return place - 1 if error.scaleb(-place) < Decimal("1.95") else place


def _round(number: Decimal, place: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(place), rounding=ROUND_HALF_EVEN)


def _fixed(number: Decimal, place: int) -> str:
    rounded = _round(number, place)
    return _typeset(f"{abs(rounded) if rounded == 0 else rounded:f}")


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _power(exponent: int) -> str:
    """` × 10⁻⁵`, to follow a number."""
    return f"{NO_BREAK}×{NO_BREAK}10{str(exponent).translate(SUPERSCRIPTS)}"


def _typeset(text: str) -> str:
    """ASCII digits with a true minus sign, and thin spaces in integer parts of five and more."""
    sign, digits = (MINUS, text[1:]) if text.startswith("-") else ("", text)
    whole, point, rest = digits.partition(".")
    if len(whole) > 4:
        whole = f"{int(whole):,}".replace(",", THIN)
    return f"{sign}{whole}{point}{rest}"
