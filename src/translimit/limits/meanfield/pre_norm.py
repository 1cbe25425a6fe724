r"""Attention that reads normalised tokens and writes into a residual stream that is not (pre-LN).

    x_i' = Gamma_{N#mu}(N(x_i)),   N(x) = x / |x|

With theta = N(x) and r = |x|: theta' = P_theta Gamma / r and r' = <theta, Gamma>. The directions
follow the flow on the sphere, more and more slowly as the norms grow; with V = I they grow at a
rate of at most one. A token whose norm falls to zero loses its direction: the flow ends there,
and `blow_up_time` says when.

Reference: documentation, "The Transformer PDE".
"""

from __future__ import annotations

from typing import ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention import log_of_weights
from translimit.core import (
    SPHERE,
    AbstractMethod,
    AbstractProblem,
    AnyArray,
    ArrayInput,
    Keep,
    Key,
    Number,
    Outcome,
    Progress,
    Times,
    as_float,
    following_inputs,
    is_traced,
    require_weights,
    unit_of,
)
from translimit.integrate import (
    STAGES,
    AbstractODEMethod,
    AdaptiveODE,
    FixedODE,
    ODEResult,
    integrate_ode,
    listening,
)
from translimit.limits.meanfield.horizon import require_horizon
from translimit.limits.meanfield.particles import ParticleSolution
from translimit.limits.meanfield.sphere_attention import SphereAttention
from translimit.limits.meanfield.units import squares_fit


class PreNormFlow(AbstractProblem[ParticleSolution]):
    """Tokens under attention between their directions, without a projection: pre-LN.

    Args:
        initial: tokens [tokens, dim]; none may be zero.
        t1: final depth, positive.
        beta: inverse temperature, not negative.
        Q: as in `SphereFlow`.
        K: as in `SphereFlow`.
        V: as in `SphereFlow`.
        normalised: as in `SphereFlow`.
        shift: as in `SphereFlow`.
        weights: non-negative, summing to one [tokens]; equal weights by default.

    Raises:
        ArgumentError: as `SphereFlow`.
        ArgumentTypeError: as `SphereFlow`.

    Examples:
        A token alone moves outwards at unit speed:

        >>> from translimit import solve
        >>> flow = PreNormFlow(initial=[[3.0, 4.0]], t1=5.0, beta=1.0)
        >>> solve(flow, save=[5.0]).tokens.round(6)
        array([[[6., 8.]]])
    """

    initial: Float[AnyArray, "tokens dim"]
    t1: Number
    attention: SphereAttention
    weights: Float[AnyArray, " tokens"] | None
    state: ClassVar[str] = "the tokens [tokens, dim], not scaled to norm one"

    def __init__(
        self,
        *,
        initial: ArrayInput,
        t1: ArrayInput,
        beta: ArrayInput,
        Q: ArrayInput | None = None,
        K: ArrayInput | None = None,
        V: ArrayInput | None = None,
        normalised: bool = True,
        shift: ArrayInput | None = None,
        weights: ArrayInput | None = None,
    ):
        self.initial = as_float(initial, "initial")
        tokens, dim = SPHERE.require(self.initial, "initial", normalize=True).shape
        self.t1 = require_horizon(t1)
        self.attention = SphereAttention(dim, beta, Q, K, V, normalised, shift)
        self.weights = require_weights(weights, tokens)

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Any ODE method."""
        return (AdaptiveODE, FixedODE)

    def default_method(self) -> AbstractMethod:
        """Adaptive steps of Tsit5 at rtol 1e-7, for float32 tokens 1e-5."""
        single = np.dtype(self.initial.dtype) != np.dtype(np.float64)
        return AdaptiveODE(
            rtol=1e-5 if single else 1e-7,
            atol=1e-6 if single else 1e-9,
            step_to_saves=False,
            solver=diffrax.Tsit5(),
        )

    def _bytes(self, method: AbstractODEMethod, times: int) -> float:
        """Bytes of the tokens that are kept, and of the stages of a step."""
        return (1.1 * times + STAGES) * self.initial.size * self.initial.dtype.itemsize

    def run(
        self,
        method: AbstractODEMethod,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> ParticleSolution:
        """Integrate all tokens simultaneously."""
        initial, t1, saves = self.initial, self.t1, ts
        # The field sees directions only: tokens and depth have one unit, in which squares exist.
        unit = 1.0 if is_traced(initial, t1, ts) else float(unit_of(np.asarray(initial)))
        if unit != 1.0:
            initial, t1, saves = initial / unit, t1 / unit, np.asarray(ts) / unit
        with listening(progress) as handle:
            result = following_inputs(
                _integrate,
                (initial, self.weights),
                (self.attention, t1, saves, method, handle, keep, unit),
            )
        (tokens, observed), blow_up_time = result.states, result.blow_up_time
        if unit != 1.0:
            tokens, blow_up_time = tokens * unit, blow_up_time * unit
        return ParticleSolution(
            ts=ts,
            tokens=tokens,
            weights=self.weights,
            blow_up_time=blow_up_time,
            steps_taken=result.steps_taken,
            outcome=result.outcome,
            observed=observed,
            states_kept=keep.states,
        )


@eqx.filter_jit
def _integrate(
    data: tuple[Array, Array | None],
    parameters: tuple[SphereAttention, Array, Array, AbstractODEMethod, Array | None, Keep, Array],
) -> ODEResult[tuple[Array, dict[str, Array]]]:
    initial, weights = data
    attention, t1, ts, method, handle, keep, unit = parameters
    log_weights = log_of_weights(weights, initial)
    scale = jnp.mean(jnp.sum(initial**2, axis=-1))

    def field(t: Array, tokens: Array) -> Array:
        return attention.velocity(SPHERE.project(tokens), log_weights)

    def size(tokens: Array) -> Array:
        # Large when a norm is small: the flow ends where a token loses its direction.
        squares = jnp.sum(tokens**2, axis=-1) / scale
        return jnp.mean(squares) + jnp.mean(1.0 / squares)

    def kept(t: Array, tokens: Array) -> tuple[Array, dict[str, Array]]:
        return keep.kept(tokens), keep.observed(t * unit, tokens * unit)

    result = integrate_ode(
        field,
        initial,
        t1=jnp.asarray(t1, dtype=initial.dtype),
        ts=jnp.asarray(ts, dtype=initial.dtype),
        method=method,
        size=size,
        kept=kept,
        progress=handle,
    )
    # Concrete tokens have a unit in which they fit; traced ones are as they come.
    fits = squares_fit(initial)
    outcome = Outcome.where(fits, result.outcome, Outcome.non_finite)
    states = jax.tree.map(lambda leaf: jnp.where(fits, leaf, jnp.nan), result.states)
    blow_up_time = jnp.where(fits, result.blow_up_time, jnp.inf)
    return eqx.tree_at(
        lambda r: (r.states, r.outcome, r.blow_up_time),
        result,
        ((keep.stacked(states[0]), states[1]), outcome, blow_up_time),
    )
