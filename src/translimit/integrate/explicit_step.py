"""One explicit Runge-Kutta step with an error estimate, as a loop over its stages.

Reference: Tsitouras, Comput. Math. Appl. 62, 2011 (Tsit5).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_TABLEAU = diffrax.Tsit5.tableau
_NODES = np.asarray(_TABLEAU.c)
#: Weights of the slopes in each stage [stages, stages + 1]; zero for those still to come.
_ROWS = np.stack([np.pad(row, (0, len(_NODES) + 1 - len(row))) for row in _TABLEAU.a_lower])


def explicit_step(
    slope: Callable[[Array, Array], Array], h: Array, origin: Array
) -> tuple[Array, Array, Array]:
    """The new coordinates by Tsit5, their error, and their first slope.

    Args:
        slope: of the coordinates, from the part of the step and the point.
        h: the step.
        origin: the coordinates.
    """

    def stage(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        point = origin + h * _combine(jnp.asarray(_ROWS)[i], carry[0])
        return carry[0].at[i + 1].set(slope(jnp.asarray(_NODES)[i], point)), point

    # A loop over the stages, because a chain of them is fused by XLA and computed over again.
    slopes = jnp.zeros((len(_NODES) + 1, origin.size), origin.dtype)
    slopes = slopes.at[0].set(slope(jnp.zeros(()), origin))
    # The last stage is the new state.
    slopes, point = jax.lax.fori_loop(0, len(_NODES), stage, (slopes, origin))
    return point, h * _combine(_TABLEAU.b_error, slopes), slopes[0]


def _combine(weights: Array | np.ndarray, slopes: Array) -> Array:
    return functools.reduce(jnp.add, [weights[j] * slopes[j] for j in range(len(slopes))])
