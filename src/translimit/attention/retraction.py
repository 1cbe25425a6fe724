"""Steps on the unit sphere."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.describe import Retraction

#: Below this norm x + u has no direction.
DEGENERATE = 1e-12


def tangent(
    x: Float[Array, "*batch dim"], u: Float[Array, "*batch dim"]
) -> Float[Array, "*batch dim"]:
    """P_x u = u - <x, u> x for x of norm one."""
    return u - jnp.sum(x * u, axis=-1, keepdims=True) * x


def retract(
    x: Float[Array, "*batch dim"], u: Float[Array, "*batch dim"], retraction: Retraction
) -> Float[Array, "*batch dim"]:
    """N(x + u) or N(x + P_x u), by the retraction; NaN where the sum has no direction."""
    moved = x + (u if retraction is Retraction.AMBIENT else tangent(x, u))
    norm = jnp.linalg.norm(moved, axis=-1, keepdims=True)
    return jnp.where(norm < DEGENERATE, jnp.nan, moved / jnp.where(norm > 0, norm, 1.0))
