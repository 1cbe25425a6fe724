r"""Finite-time blow-up told apart from mere growth, from one point of a trajectory.

Let S(y) > 0 be a size of the state (a trace, a squared norm), g = d log S / dt its growth rate
along the flow and q = g' / g^2. Then

- exponential growth has q = 0;
- S = C (t* - t)^(-p) has g = p / (t* - t), hence q = 1 / p, and the remaining time is 1 / (q g).

Both derivatives are exact (forward-mode along the vector field), so a trajectory stopped at a
large but finite size tells whether and when it would have ceased to exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

#: Smallest q that counts as a singularity: powers p up to 10; a double exponential stopped at
#: size 1e12 has q = 1 / log(1e12) = 0.036 and does not.
SINGULAR_EXPONENT = 0.1


#: A state whose size grows at a rate of this over the elapsed time is at a singularity for all
#: that float64 can resolve; slow power laws get there long before they get large.
RESOLVED_RATE = 1e10


def growth_rate(
    field: Callable[[Any, Any], Any], size: Callable[[Any], Array], t: Array, y: Any
) -> Float[Array, ""]:
    """The rate g = d log S / dt along the flow of `field`; costs one evaluation of the field."""
    return jax.jvp(lambda y: jnp.log(size(y)), (y,), (field(t, y),))[1]


def singularity_time(
    field: Callable[[Any, Any], Any], size: Callable[[Any], Array], t: Array, y: Any
) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Whether the flow of `field` through (t, y) blows up in finite time, and when.

    Args:
        field: the vector field, field(t, y) with the structure of y.
        size: a positive scalar of the state.
        t: the time of the state.
        y: a state that has already grown large.

    Returns:
        Whether q exceeds `SINGULAR_EXPONENT`, and t + 1 / (q g), or infinity where it does not.
    """
    rate, acceleration = jax.jvp(
        lambda t, y: growth_rate(field, size, t, y), (t, y), (jnp.ones_like(t), field(t, y))
    )
    growing = rate > 0
    exponent = acceleration / jnp.where(growing, rate, 1.0) ** 2
    singular = growing & (exponent > SINGULAR_EXPONENT)
    remaining = 1.0 / jnp.where(singular, exponent * rate, 1.0)
    return singular, jnp.where(singular, t + remaining, jnp.inf)
