"""Which step a token of the sphere makes with an update."""

from __future__ import annotations

import enum

from translimit.core.errors import ArgumentTypeError, brief


class Retraction(enum.Enum):
    """Which step a token x of norm one makes with an update u; N(y) = y / |y|.

    Attributes:
        AMBIENT: N(x + u), the chain as printed. Where u is not tangent it adds -<x, u> P_x u to
            the second order.
        TANGENT: N(x + P_x u), P_x = I - x x^T.
    """

    AMBIENT = "ambient"
    TANGENT = "tangent"


def require_retraction(value: object) -> Retraction:
    """A member of `Retraction`.

    Raises:
        ArgumentTypeError: not a member.
    """
    if not isinstance(value, Retraction):
        raise ArgumentTypeError(
            "retraction", f"got {brief(value)}", "pass Retraction.AMBIENT or Retraction.TANGENT"
        )
    return value
