r"""A quantity along depth with its error, each source of it told apart.

The value is that of infinite width. A single network of the stack's own sizes differs from it by

- sampling: heads and routers were sampled; the standard error of independent copies, and the bias
  of few samples;
- width: the mean over networks of a finite width differs, by the order n / D_eff of what the scores
  do, 1 / D_eff = 1 / D + 1 / (H_kv d_v) + 1 / d_m;
- spread: networks differ from one another.

The error is their root sum of squares: one standard error of a single network.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from translimit.core import ArgumentError, Json

#: Where a source of error is not known.
NOT_TOLD = ()


@dataclass(frozen=True)
class Curve:
    """A quantity by level (0, ..., L), by layer (1, ..., L), or one of the whole stack.

    Attributes:
        says: what it is, in words.
        by: "level", "layer" or "stack".
        value: in infinite width.
        sampling: standard error of the sampling, with its bias.
        width: how far the mean over networks of this width may lie from it.
        spread: standard deviation over networks; empty where it is not told.
        networks: the mean over simulated networks; empty where none were.
    """

    says: str
    by: str
    value: tuple[float, ...]
    sampling: tuple[float, ...]
    width: tuple[float, ...]
    spread: tuple[float, ...] = NOT_TOLD
    networks: tuple[float, ...] = NOT_TOLD

    def __post_init__(self) -> None:
        for name in ("sampling", "width", "spread", "networks"):
            own = getattr(self, name)
            if len(own) != len(self.value) and (own or name in ("sampling", "width")):
                raise ArgumentError(name, f"has {len(own)} numbers", f"pass {len(self.value)}")

    @property
    def error(self) -> tuple[float, ...]:
        """One standard error of a single network, of all sources that are told."""
        known = [np.array(one) for one in (self.sampling, self.width, self.spread) if one]
        return floats(np.sqrt(sum(one**2 for one in known)))

    def to_json(self) -> dict[str, Json]:
        """Plain data; `null` for what is not told."""
        told = {name: list(getattr(self, name)) or None for name in ("spread", "networks")}
        return {
            "says": self.says,
            "by": self.by,
            "value": list(self.value),
            "error": list(self.error),
            "sampling": list(self.sampling),
            "width": list(self.width),
            **told,
        }


def floats(values: np.ndarray) -> tuple[float, ...]:
    """Numbers of an array as a tuple.

    Args:
        values: the array [levels].
    """
    return tuple(float(value) for value in values)


def crossing(curve: np.ndarray, threshold: float) -> float | None:
    """The level at which a curve first reaches the threshold, linear between levels.

    Args:
        curve: by level.
        threshold: that it may reach.

    >>> crossing(np.array([0.1, 0.3, 0.7]), 0.5)
    1.5
    """
    above = np.flatnonzero(curve >= threshold)
    if above.size == 0:
        return None
    level = int(above[0])
    if level == 0:
        return 0.0
    low, high = curve[level - 1], curve[level]
    return float(level - 1 + (threshold - low) / (high - low))
