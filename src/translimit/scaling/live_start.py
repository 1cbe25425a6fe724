"""Starts from which training can begin: not all matrices may start at zero."""

from __future__ import annotations

from collections.abc import Collection

from translimit.describe import Role
from translimit.scaling.errors import DegenerateInitError


def require_live_start(zero: Collection[Role]) -> None:
    """Refuse a start from which no gradient leads away.

    A zero readout and a zero query are fine; a product of two zero matrices is a saddle.

    Args:
        zero: the roles that start at zero.

    Raises:
        DegenerateInitError: query and key, value and attention output, or both MLP matrices.
    """
    pairs = [
        (Role.QUERY, Role.KEY),
        (Role.VALUE, Role.ATTENTION_OUT),
        (Role.MLP_IN, Role.MLP_OUT),
    ]
    for pair in pairs:
        if set(pair) <= set(zero):
            raise DegenerateInitError(
                "zero",
                f"{pair[0]} and {pair[1]} both start at zero: neither has a gradient",
                "draw one of them",
            )
