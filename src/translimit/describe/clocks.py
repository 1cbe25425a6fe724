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

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Real

from translimit.core import AnyArray, ArrayInput, Number
from translimit.describe.heads import AbstractHeads, as_number


class Clocks(eqx.Module):
    """One moment, or an array of moments, on all four clocks."""

    layers: Real[AnyArray, "*moments"]
    paper_time: Real[AnyArray, "*moments"]
    diffusive_time: Real[AnyArray, "*moments"]
    slow_time: Real[AnyArray, "*moments"]

    @classmethod
    def of_layers(
        cls, layers: ArrayInput, law: AbstractHeads, *, step: Number, heads: Number
    ) -> Clocks:
        """The clocks after so many layers of a chain."""
        count = np.asarray(layers)
        diffusive = count * diffusive_step(law, step=step, heads=heads)
        clocks = (count, count * step, diffusive, diffusive / law.dim)
        return cls(*(one if isinstance(one, jax.Array) else np.asarray(one) for one in clocks))


def diffusive_step(law: AbstractHeads, *, step: Number, heads: Number) -> Number:
    """Unit diffusive time of one layer, dim sigma_v^2 step^2 / heads for Gaussian heads."""
    return as_number(law.variance_proxy * law.dim / (law.dim - 1) * step**2 / heads)
