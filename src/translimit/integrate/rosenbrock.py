r"""One linearly implicit step: Rodas5, a Rosenbrock method of order five for stiff systems.

For y' = f(s, y) with the Jacobian J of f at (s, y), the stages solve linear systems of one matrix,

    (1 / (h g) - J) k_i = f(s + c_i h, y + sum_j a_ij k_j) + sum_j C_ij k_j / h + d_i h df/ds(s, y),

and y + sum_i b_i k_i is the new state, the last k_i its error estimate, of order four. No iteration
is needed, and the method is L-stable: a fast contraction to a slow curve does not limit the step.

Reference: Hairer and Wanner, Solving Ordinary Differential Equations II, section IV.7; coefficients
of Di Marzo, RODAS5(4), Universität Basel 1993, in the form without products by J.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_STAGES = 8
_GAMMA = 0.19
_LAST = (-14.09640773051259, 6.925207756232704, -41.47510893210728)
_LAST = (*_LAST, 2.343771018586405, 24.13215229196062)


def _lower(*rows: tuple[float, ...]) -> np.ndarray:
    """A strictly lower triangular table from its rows, the first of them empty."""
    table = np.zeros((_STAGES, _STAGES))
    for i, row in enumerate(rows, start=1):
        table[i, :i] = row
    return table


#: Weights of the earlier stages in the point of each stage, a_ij.
_POINTS = _lower(
    (2.0,),
    (3.040894194418781, 1.041747909077569),
    (2.576417536461461, 1.622083060776640, -0.9089668560264532),
    (2.760842080225597, 1.446624659844071, -0.3036980084553738, 0.2877498600325443),
    _LAST,
    (*_LAST, 1.0),
    (*_LAST, 1.0, 1.0),
)
#: Weights of the earlier stages on the right-hand side of each stage, C_ij.
_COUPLINGS = _lower(
    (-10.31323885133993,),
    (-21.04823117650003, -7.234992135176716),
    (32.22751541853323, -4.943732386540191, 19.44922031041879),
    (-20.69865579590063, -8.816374604402768, 1.260436877740897, -0.7495647613787146),
    (
        -46.22004352711257,
        -17.49534862857472,
        -289.6389582892057,
        93.60855400400906,
        318.3822534212147,
    ),
    (
        34.20013733472935,
        -14.15535402717690,
        57.82335640988400,
        25.83362985412365,
        1.408950972071624,
        -6.551835421242162,
    ),
    (
        42.57076742291101,
        -13.80770672017997,
        93.98938432427124,
        18.77919633714503,
        -31.58359187223370,
        -6.685968952921985,
        -5.810979938412932,
    ),
)
_NODES = np.array([0.0, 0.38, 0.3878509998321533, 0.483971893787384, 0.457047700881958, 1, 1, 1])
_TIME_WEIGHTS = np.zeros(_STAGES)
_TIME_WEIGHTS[:3] = _GAMMA, -0.1823079225333714636, -0.319231832186874912
_TIME_WEIGHTS[3:5] = 0.3449828624725343, -0.377417564392089818
_WEIGHTS = np.array([*_LAST, 1.0, 1.0, 1.0])


def rosenbrock_step(
    slope: Callable[[Array, Array], Array],
    step: Float[Array, ""] | float,
    time_slope: Callable[[Array], Array],
    state: Float[Array, " size"],
) -> tuple[Float[Array, " size"], Float[Array, " size"], Float[Array, " size"]]:
    """The change of the state over one step, its error estimate, and the slope at its start.

    Cost: `size` tangents of the slope for the Jacobian, one inverse [size, size] and eight slopes.

    Args:
        slope: f as a function of the node c in [0, 1], at s + c h, and of the state [size].
        step: h.
        time_slope: df/ds at the start of the step as a function of f there.
        state: the state at the start [size].
    """
    start = jnp.zeros((), state.dtype)

    def pushed(direction: Array) -> tuple[Array, Array]:
        return jax.jvp(lambda y: slope(start, y), (state,), (direction,))

    identity = jnp.eye(state.size, dtype=state.dtype)
    # The slope itself comes with every tangent; all are equal.
    value, columns = jax.vmap(pushed, out_axes=(None, 1))(identity)
    # One inverse, and products for the eight stages: they vectorise over systems side by side.
    inverse = jnp.linalg.inv(identity / (_GAMMA * step) - columns)
    drifting = step * time_slope(value)

    def stage(i: Array, stages: Array) -> Array:
        point = state + _combine(jnp.asarray(_POINTS)[i], stages)
        right = slope(jnp.asarray(_NODES)[i], point) + jnp.asarray(_TIME_WEIGHTS)[i] * drifting
        right = right + _combine(jnp.asarray(_COUPLINGS)[i], stages) / step
        return stages.at[i].set(jnp.sum(inverse * right, axis=1))

    # A loop over the stages, because a chain of them is fused by XLA and computed over again.
    stages = jax.lax.fori_loop(0, _STAGES, stage, jnp.zeros((_STAGES, state.size), state.dtype))
    return _combine(_WEIGHTS, stages), stages[-1], value


def _combine(weights: Array | np.ndarray, stages: Array) -> Array:
    return sum((weights[j] * stages[j] for j in range(1, _STAGES)), weights[0] * stages[0])
