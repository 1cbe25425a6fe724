"""Norms of tokens: their kinds, and one norm with its constant gain.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from translimit.core import POSITIVE, ArgumentTypeError, at_least, brief, require_real


class Norm(enum.Enum):
    """What normalises a token before a block."""

    LAYER = "layer norm"
    RMS = "root mean square norm"


@dataclass(frozen=True)
class Normalisation:
    """A norm of every token, with a constant gain.

    Attributes:
        kind: of the norm.
        norm_eps: added to the mean square under the root.
        gain: what the normalised token is multiplied with.

    Raises:
        ArgumentError: a negative norm_eps, a gain that is not positive.
        ArgumentTypeError: a kind that is no `Norm`.
    """

    kind: Norm = Norm.RMS
    norm_eps: float = 0.0
    gain: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.kind, Norm):
            raise ArgumentTypeError("kind", f"got {brief(self.kind)}", "pass a member of Norm")
        require_real(self.norm_eps, "norm_eps", at_least(0.0))
        require_real(self.gain, "gain", POSITIVE)
