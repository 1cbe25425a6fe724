r"""The four clocks of a chain of random heads, under names that can not be confused.

| clock | name here | one layer advances it by |
|---|---|---|
| layer l | `layers` | 1 |
| paper time t = l eta | `paper_time` | step |
| unit diffusive time tau | `diffusive_time` | `diffusive_step` = dim sigma_v^2 step^2 / heads |
| slow time tau / d | `slow_time` | `diffusive_step` / dim |

For centred heads the only small parameter is the diffusive step: chains at (step, heads) and at
(2 step, 4 heads) have the same limit and the same leading error. For other laws dim sigma_v^2
stands for dim / (dim - 1) times the variance proxy, which is the same for Gaussian heads.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from typing import TypeAlias

import equinox as eqx
import numpy as np
from jaxtyping import Real

from translimit.core import AnyArray, ArrayInput, Number
from translimit.describe.heads import AbstractHeads

#: One moment on a clock, or an array of moments.
Moments: TypeAlias = Real[AnyArray, "*moments"] | np.number | float | int


class Clocks(eqx.Module):
    """One moment, or an array of moments, on all four clocks."""

    layers: Moments
    paper_time: Moments
    diffusive_time: Moments
    slow_time: Moments

    @classmethod
    def of_layers(
        cls, layers: ArrayInput, law: AbstractHeads, *, step: Number, heads: Number
    ) -> Clocks:
        """The clocks after so many layers of a chain."""
        layers = np.asarray(layers)
        diffusive = layers * diffusive_step(law, step=step, heads=heads)
        return cls(layers, layers * step, diffusive, diffusive / law.dim)


def diffusive_step(law: AbstractHeads, *, step: Number, heads: Number) -> Number | np.floating:
    """Unit diffusive time of one layer, dim sigma_v^2 step^2 / heads for Gaussian heads."""
    return law.variance_proxy * law.dim / (law.dim - 1) * step**2 / heads
