"""Frequencies of rotary positions, and how long contexts change them.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from translimit.core import (
    NOT_NEGATIVE,
    POSITIVE,
    ArgumentError,
    Record,
    at_least,
    require_count,
    require_real,
)


@dataclass(frozen=True)
class Frequencies(Record):
    """Rotary positions: pairs of entries of queries and keys turn by i theta_p.

    Attributes:
        thetas: the frequencies, one a pair; the other entries of a head stay.
        factor: what turned entries are multiplied with.
    """

    thetas: tuple[float, ...]
    factor: float | int = 1.0

    def __post_init__(self) -> None:
        for theta in self.thetas:
            require_real(theta, "thetas", NOT_NEGATIVE)
        require_real(self.factor, "factor", POSITIVE)

    @property
    def dims(self) -> int:
        """How many entries turn."""
        return 2 * len(self.thetas)

    @classmethod
    def geometric(cls, dims: int, base: float | int = 10_000.0) -> Frequencies:
        """theta_p = base^(-2 p / dims).

        Args:
            dims: how many entries turn, even.
            base: of the series.
        """
        if require_count(dims, "dims", 2) % 2:
            raise ArgumentError("dims", f"got {dims}, which is odd", "pass an even number")
        base = require_real(base, "base", at_least(1.0))
        return cls(tuple(base ** (-2.0 * p / dims) for p in range(dims // 2)))

    def linear(self, factor: float | int) -> Frequencies:
        """All frequencies divided by a factor.

        Args:
            factor: of the longer context.
        """
        factor = require_real(factor, "factor", POSITIVE)
        return replace(self, thetas=tuple(theta / factor for theta in self.thetas))

    def llama3(
        self,
        factor: float | int,
        low: float | int = 1.0,
        high: float | int = 4.0,
        length: int = 8192,
    ) -> Frequencies:
        """Slow frequencies divided by a factor, fast ones kept, a blend between.

        Args:
            factor: of the longer context.
            low: wavelengths above length / low are stretched.
            high: wavelengths below length / high are kept.
            length: of the old context.
        """

        def scaled(theta: float) -> float:
            wavelength = 2 * math.pi / theta
            t = min(max((length / wavelength - low) / (high - low), 0.0), 1.0)
            return (1 - t) * theta / factor + t * theta

        return replace(self, thetas=tuple(map(scaled, self.thetas)))

    def yarn(
        self,
        factor: float | int,
        length: int,
        *,
        base: float | int = 10_000.0,
        fast: float | int = 32.0,
        slow: float | int = 1.0,
        truncate: bool = True,
        attention_factor: float | None = None,
    ) -> Frequencies:
        """YaRN: slow frequencies divided by a factor, and turned entries made larger.

        Args:
            factor: of the longer context.
            length: of the old context.
            base: of the frequencies.
            fast: turns within the old context above which a frequency is kept.
            slow: turns below which it is divided.
            truncate: whether the ends of the blend are rounded to whole pairs.
            attention_factor: of turned entries; 0.1 log(factor) + 1 by default.
        """
        ends = [
            self.dims * math.log(length / (2 * math.pi * turns)) / (2 * math.log(base))
            for turns in (fast, slow)
        ]
        if truncate:
            ends = [math.floor(ends[0]), math.ceil(ends[1])]
        low, high = max(ends[0], 0.0), min(ends[1], self.dims - 1.0)

        def scaled(place: int, theta: float) -> float:
            r = min(max((place - low) / max(high - low, 1e-3), 0.0), 1.0)
            return theta * (1 - r) + theta * r / factor

        grown = 0.1 * math.log(factor) + 1.0 if attention_factor is None else attention_factor
        return Frequencies(tuple(scaled(p, t) for p, t in enumerate(self.thetas)), grown)
