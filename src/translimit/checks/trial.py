"""What a factory is asked to make: one network of one size, from one seed, at one base rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from translimit.checks.promises import AXES, AxisName
from translimit.core import (
    POSITIVE,
    ArgumentError,
    nearest,
    require_count,
    require_flag,
    require_real,
)
from translimit.describe import Size

#: Probe batches of a transfer sweep, where the factory names none: the first training ones.
PROBES = 4


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One request to a factory.

    Attributes:
        base: the size at which rates are tuned; rules go from it to `size`.
        size: of the network to make.
        seed: of its start; the same seed asks for the same network.
        rate: learning rate at the base.
        standard: ask for the standard parameterization: the network of `size` with one rate for
            all, which is what rules are compared with in a transfer sweep.
        steps: updates of the run, for a schedule of the factory's own; 0 in a coordinate check.

    Raises:
        ArgumentTypeError: a count that is no integer, a rate that is no number, no flag.
        ArgumentError: a negative count, or a rate that is not positive.
    """

    base: Size
    size: Size
    seed: int
    rate: float
    standard: bool = False
    steps: int = 0

    def __post_init__(self):
        for name in ("seed", "steps"):
            object.__setattr__(self, name, require_count(getattr(self, name), name, 0))
        object.__setattr__(self, "rate", require_real(self.rate, "rate", POSITIVE))
        object.__setattr__(self, "standard", require_flag(self.standard, "standard"))


def require_sizes(axis: str, sizes: Sequence[int], least: int) -> tuple[int, ...]:
    """The sizes of a check or sweep.

    Args:
        axis: which size changes.
        sizes: its values.
        least: how many there must be.

    Raises:
        ArgumentTypeError: a size that is no integer.
        ArgumentError: an unknown axis, fewer sizes than `least`, or sizes that do not increase.
    """
    sizes = tuple(require_count(size, "sizes") for size in sizes)
    if axis not in AXES:
        raise ArgumentError("axis", f"got {axis!r}", nearest(str(axis), AXES))
    if len(sizes) < least or any(a >= b for a, b in pairwise(sizes)):
        raise ArgumentError("sizes", f"got {sizes}", f"pass at least {least} increasing values")
    return sizes


def resized(base: Size, axis: AxisName, size: int) -> Size:
    """A base with one size replaced; key/value heads follow the heads at a fixed group size.

    Where heads together are wider or narrower than the stream, the stream grows with them.

    Raises:
        ArgumentError: heads that the groups of the base do not divide, or a stream of no whole
            width.
    """
    if axis != "layers" and base.dim is not None:
        before = getattr(base, axis)
        if base.dim * size % before:
            raise ArgumentError(
                "sizes",
                f"got {size} instead of {before}, and the stream of {base.dim} grows with it",
                f"pass multiples of {before}",
            )
        base = replace(base, dim=base.dim * size // before)
    if axis != "heads":
        return replace(base, **{axis: size})
    if base.groups * size % base.heads:
        raise ArgumentError(
            "sizes",
            f"got {size}, and groups of {base.heads // base.groups} heads share keys and values",
            f"pass multiples of {base.heads // base.groups}",
        )
    return replace(base, heads=size, kv_heads=base.groups * size // base.heads)
