r"""Finite-time blow-up told apart from mere growth, from a trajectory that has grown large.

Let S(y) > 0 be a size of the state (a trace, a squared norm), g = d log S / dt its growth rate
along the flow and q = g' / g^2. Then

- exponential growth has q = 0;
- S = C (t* - t)^(-p) has g = p / (t* - t), hence q = 1 / p, and the remaining time is 1 / (q g).

Both derivatives are exact (forward-mode along the vector field), so a trajectory stopped at a
large but finite size tells whether and when it would have ceased to exist. Growth that merely
accelerates for a while can have such a q too (one exponential overtaking another): so the flow is
followed until the size has grown by another factor of 10^4, in the time g dt that makes the way
there equally long for both, and a singularity has to be predicted there again. A flow too stiff to
be followed that far is judged by the first look.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

#: The state of an equation: a pytree of arrays.
Y = TypeVar("Y", bound=PyTree[Array])

#: Smallest q that counts as a singularity: powers p up to 10; a double exponential stopped at
#: size 1e12 has q = 1 / log(1e12) = 0.036 and does not.
SINGULAR_EXPONENT = 0.1

#: By this factor a size grows between the two looks, in at most so many steps of Heun's method,
#: each with this error relative to the state.
_FURTHER, _MOST_STEPS, _STEP_ERROR = 1e4, 4_000, 1e-3

#: A state whose size grows at a rate of this over the elapsed time is at a singularity for all
#: that float64 can resolve; slow power laws get there long before they get large.
RESOLVED_RATE = 1e10


def growth_rate(
    field: Callable[[Array, Y], Y], size: Callable[[Y], Array], t: Float[Array, ""], y: Y
) -> Float[Array, ""]:
    """The rate g = d log S / dt along the flow of `field`; costs one evaluation of the field."""
    return jax.jvp(lambda y: jnp.log(size(y)), (y,), (field(t, y),))[1]


def singularity_time(
    field: Callable[[Array, Y], Y],
    size: Callable[[Y], Array],
    t: Float[Array, ""],
    y: Y,
    wanted: bool | Bool[Array, ""] = True,
) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Whether the flow of `field` through (t, y) blows up in finite time, and when.

    Args:
        field: the vector field, field(t, y) with the structure of y.
        size: a positive scalar of the state.
        t: the time of the state.
        y: a state that has already grown large.
        wanted: whether the answer will be used: the flow is not followed for nothing.

    Returns:
        Whether q exceeds `SINGULAR_EXPONENT` here and further on, and t + 1 / (q g), or infinity
        where it does not.
    """
    rate, exponent = _rate_and_exponent(field, size, t, y)
    singular = (rate > 0) & (exponent > SINGULAR_EXPONENT)
    singular &= _remains_singular(field, size, *jax.lax.stop_gradient((t, y)), singular & wanted)
    remaining = 1.0 / jnp.where(singular, exponent * rate, 1.0)
    return singular, jnp.where(singular, t + remaining, jnp.inf)


def _rate_and_exponent(
    field: Callable[[Array, Y], Y], size: Callable[[Y], Array], t: Array, y: Y
) -> tuple[Array, Array]:
    """The rate g and q = g' / g^2."""
    rate, acceleration = jax.jvp(
        lambda t, y: growth_rate(field, size, t, y), (t, y), (jnp.ones_like(t), field(t, y))
    )
    return rate, acceleration / jnp.where(rate > 0, rate, 1.0) ** 2


def _remains_singular(
    field: Callable[[Array, Y], Y],
    size: Callable[[Y], Array],
    t: Array,
    y: Y,
    wanted: Bool[Array, ""],
) -> Bool[Array, ""]:
    """Whether q is that of a singularity when the size has grown by another factor `_FURTHER`."""
    start, unravel = ravel_pytree(y)
    target = jnp.log(size(y)) + math.log(_FURTHER)

    def slope(t: Array, y: Array) -> tuple[Array, Array]:
        rate = growth_rate(field, size, t, unravel(y))
        inverse = 1.0 / jnp.where(rate > 0, rate, jnp.inf)
        return inverse, inverse * ravel_pytree(field(t, unravel(y)))[0]

    def going(now: tuple[Array, Array, Array, Array]) -> Array:
        t, y, _, steps = now
        short = jnp.log(size(unravel(y))) < target
        return (
            wanted & short & (steps < _MOST_STEPS) & (growth_rate(field, size, t, unravel(y)) > 0)
        )

    def step(now: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        t, y, h, steps = now
        dt, dy = slope(t, y)
        dt_end, dy_end = slope(t + h * dt, y + h * dy)
        ahead = y + h / 2 * (dy + dy_end)
        error = h / 2 * jnp.linalg.norm(dy_end - dy) / jnp.linalg.norm(ahead) / _STEP_ERROR
        error = jnp.where(jnp.isfinite(error), error, jnp.inf)
        accepted = error <= 1.0
        t, y = (
            jnp.where(accepted, new, old)
            for new, old in ((t + h / 2 * (dt + dt_end), t), (ahead, y))
        )
        return t, y, h * jnp.clip(0.9 / jnp.sqrt(error), 0.2, 2.0), steps + 1

    first = (t, start, jnp.full_like(t, 0.01), jnp.zeros((), int))
    t, last, _, steps = jax.lax.while_loop(going, step, first)
    rate, exponent = _rate_and_exponent(field, size, t, unravel(last))
    return ((rate > 0) & (exponent > SINGULAR_EXPONENT)) | (steps >= _MOST_STEPS)
