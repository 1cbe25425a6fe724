"""Products of powers of the ratios m_d, m_N and m_L, with exact exponents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from translimit.describe import Size
from translimit.scaling.errors import UnsupportedModuleError

#: Ratios by the letters of a text such as "d-1/2 L-1".
_LETTERS = ("d", "N", "L")


@dataclass(frozen=True)
class Monomial:
    """m_d^d m_N^N m_L^L.

    Attributes:
        d: exponent of the width's ratio.
        N: exponent of the head dimension's.
        L: exponent of the depth's.

    >>> str(Monomial.of("d-1/2 L-1") / Monomial.of("L-1/2"))
    'm_d^(-1/2) m_L^(-1/2)'
    """

    d: Fraction = Fraction(0)
    N: Fraction = Fraction(0)
    L: Fraction = Fraction(0)

    @classmethod
    def of(cls, text: str) -> Monomial:
        """From letters with their exponents: "d-1 L1/2"; "" is 1."""
        found: dict[str, Fraction] = {letter: Fraction(0) for letter in _LETTERS}
        for part in text.split():
            found[part[0]] += Fraction(part[1:] or 1)
        return cls(found["d"], found["N"], found["L"])

    def __mul__(self, other: Monomial) -> Monomial:
        return Monomial(self.d + other.d, self.N + other.N, self.L + other.L)

    def __truediv__(self, other: Monomial) -> Monomial:
        return self * other**-1

    def __pow__(self, power: int | Fraction) -> Monomial:
        return Monomial(self.d * power, self.N * power, self.L * power)

    def __str__(self) -> str:
        told = [(f"m_{letter}", getattr(self, letter)) for letter in _LETTERS]
        parts = [name if power == 1 else f"{name}^{_power(power)}" for name, power in told if power]
        return " ".join(parts) or "1"

    def at(self, base: Size, target: Size) -> float:
        """Its value between two sizes.

        Raises:
            UnsupportedModuleError: heads that together take another share of the width.
        """
        if base.attention_ratio != target.attention_ratio:
            raise UnsupportedModuleError(
                "target",
                f"has heads {target.attention_ratio:g} times as wide as the stream, and the base "
                f"{base.attention_ratio:g} times, of which recipes have no power",
                "compare sizes with the same head_dim x heads / width, or ask `scaling.rules`",
            )
        ratios = (
            target.width / base.width,
            target.head_dim / base.head_dim,
            target.layers / base.layers,
        )
        powers = zip(ratios, (self.d, self.N, self.L), strict=True)
        return math.prod(ratio ** float(power) for ratio, power in powers)


def _power(power: Fraction) -> str:
    return str(power) if power.denominator == 1 else f"({power})"
