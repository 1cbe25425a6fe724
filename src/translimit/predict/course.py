"""What a stack does from its first level to its last, in five numbers.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Course:
    """What a stack does in infinite width.

    Attributes:
        overlap: after the last layer, of tokens that differ where they enter.
        rms: of an entry of the stream after the last layer.
        growth: that rms over the one of what enters; 0 where nothing enters.
        entropy: of attention weights over its largest, in the layer where it is least.
        gradient: rms of the gradient after the first layer over that at the top.
    """

    overlap: float
    rms: float
    growth: float
    entropy: float
    gradient: float

    def __str__(self) -> str:
        return (
            f"overlap {self.overlap:.3g}, stream grows {self.growth:.3g} times, gradient "
            f"{self.gradient:.3g} times that at the top, entropy {self.entropy:.3g}"
        )


def course_of(values: Mapping[str, Sequence[float] | np.ndarray]) -> Course:
    """The five numbers of quantities along depth.

    Args:
        values: by the names of `measure`, by level or by layer, with the gradient of the stream.
    """
    overlap = values.get("overlap_distinct", values["overlap"])
    rms, gradient = values["rms"], values["gradient"]
    return Course(
        overlap=float(overlap[-1]),
        rms=float(rms[-1]),
        growth=float(rms[-1] / rms[0]) if rms[0] > 0 else 0.0,
        entropy=float(min(values["entropy"])),
        gradient=float(gradient[1] / gradient[-1]),
    )
