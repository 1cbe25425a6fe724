r"""Particles: the Transformer PDE with an empirical initial measure.

x_i' = Gamma_{mu_t}(x_i) with mu_t = sum_j w_j delta_{x_j(t)}: exact for a finite cloud, and a Monte
Carlo method for the PDE when the cloud samples a law (error of smooth observables n^(-1/2)).

A finite cloud never blows up under softmax attention: max |x_i(t)| <= exp(||V|| t) max |x_i(0)|.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from translimit.attention import (
    AbstractAttention,
    AbstractIterativeAttention,
    Layered,
    attention_at,
    in_units,
    jump_times,
    log_of_weights,
    require_positions,
    require_scores,
    require_tokens,
    scores_fit,
    velocity_and_outcome,
)
from translimit.core import (
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
    cut_leading,
    following_inputs,
    is_traced,
    reference,
    require_weights,
    unit_of,
)
from translimit.integrate import (
    STAGES,
    AbstractFlowSolution,
    AbstractODEMethod,
    AdaptiveODE,
    FixedODE,
    ODEResult,
    integrate_ode,
    listening,
)
from translimit.limits.meanfield.horizon import require_horizon
from translimit.limits.meanfield.units import squares_fit

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class ParticleSolution(AbstractFlowSolution):
    """The tokens along depth.

    Attributes:
        ts: the times kept [times].
        tokens: the cloud at these times [times, tokens, dim].
        weights: weights of the tokens [tokens], or None for equal ones.
        blow_up_time: infinity where the attention is `bounded` (softmax, L2, Sinkhorn, sigmoid): a
            finite cloud then never blows up.
        steps_taken: steps taken by the integrator.
        outcome: how the solve ended; rows after its end are NaN. `non_finite` where the scores, or
            the squares of traced tokens, leave the range of the precision.
    """

    ts: Times
    tokens: Float[AnyArray, "kept tokens dim"]
    weights: Float[AnyArray, " tokens"] | None
    blow_up_time: Number
    steps_taken: Int[AnyArray, ""]
    outcome: Outcome
    reference: ClassVar[str] = reference("castin2025")

    @property
    def mean(self) -> Float[AnyArray, "kept dim"]:
        """Weighted mean of the tokens [times, dim]."""
        if self.weights is None:
            return self.tokens.mean(axis=-2)
        xp = np if isinstance(self.tokens, np.ndarray) else jnp
        return xp.einsum("n,...nd->...d", self.weights, self.tokens)

    @property
    def cov(self) -> Float[AnyArray, "kept dim dim"]:
        """Weighted covariance of the cloud [times, dim, dim] (divided by n, not n - 1)."""
        xp = np if isinstance(self.tokens, np.ndarray) else jnp
        centred = self.tokens - self.mean[..., None, :]
        if self.weights is None:
            return xp.einsum("...ni,...nj->...ij", centred, centred) / centred.shape[-2]
        return xp.einsum("n,...ni,...nj->...ij", self.weights, centred, centred)

    def _dataset(self) -> xarray.Dataset:
        """The tokens."""
        import xarray

        return xarray.Dataset(
            {
                "tokens": (
                    ("time", "token", "component"),
                    np.asarray(self.tokens),
                    {"long_name": "tokens", "units": "1"},
                )
            },
            coords={
                "time": ("time", np.asarray(self.ts), {"long_name": "depth", "units": "depth"})
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Trajectories of the tokens in the first two components, from start (open) to end."""
        from translimit.figures import plot_trajectories

        return plot_trajectories(self._drawn(), ax)


class ParticleFlow(AbstractProblem[ParticleSolution]):
    """The Transformer PDE started from a cloud of tokens.

    Cost: O(tokens^2 dim) time per evaluation of the field, memory O(tokens dim) and not
    O(tokens^2). Runs in the precision of `initial`.

    Args:
        attention: any variant, or `Layered` ones that change along depth.
        initial: tokens [tokens, dim]; NumPy in gives NumPy out, JAX in gives JAX out.
        t1: final depth, positive.
        weights: non-negative, summing to one [tokens]; equal weights by default.
        positions: positions in the sequence [tokens], in increasing order, ties allowed; required
            when the attention is causal.

    Raises:
        ArgumentError: shapes that do not match, NaN or infinite tokens, tokens whose scores are
            beyond their precision, weights that are negative or do not sum to one, positions that
            are not sorted, t1 not positive.
        ArgumentTypeError: positions missing where the attention is causal, or given where not.

    Reference: arXiv 2501.18322, the interacting particle system of the Transformer PDE.
    """

    attention: AbstractAttention | Layered
    initial: Float[AnyArray, "tokens dim"]
    t1: Number
    weights: Float[AnyArray, " tokens"] | None
    positions: Float[AnyArray, " tokens"] | None
    state: ClassVar[str] = "the tokens [tokens, dim]"

    def __init__(
        self,
        *,
        attention: AbstractAttention | Layered,
        initial: ArrayInput,
        t1: ArrayInput,
        weights: ArrayInput | None = None,
        positions: ArrayInput | None = None,
    ):
        self.attention = attention
        self.initial = require_tokens(as_float(initial, "initial"), "initial", attention.dim)
        count = self.initial.shape[0]
        self.t1 = require_horizon(t1)
        self.weights = require_weights(weights, count)
        self.positions = require_positions(positions, (count,), attention.causal, "positions")
        require_scores(attention, self.initial, "initial")

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Any ODE method."""
        return (AdaptiveODE, FixedODE)

    def default_method(self) -> AbstractMethod:
        """Adaptive steps of Tsit5 with interpolated save times, an evaluation being dear.

        The relative tolerance is 1e-7, for float32 clouds 1e-5, what they can resolve.
        """
        single = np.dtype(self.initial.dtype) != np.dtype(np.float64)
        return AdaptiveODE(
            rtol=1e-5 if single else 1e-7,
            atol=1e-6 if single else 1e-9,
            step_to_saves=False,
            solver=diffrax.Tsit5(),
        )

    def _bytes(self, method: AbstractODEMethod, times: int) -> float:
        """Bytes of the tokens that are kept, and of the stages of a step.

        A field that iterates needs more, because failed times are crossed out.
        """
        iterates = isinstance(attention_at(self.attention, 0.0), AbstractIterativeAttention)
        kept = (1.6 if iterates else 1.1) * times
        return (kept + STAGES) * self.initial.size * self.initial.dtype.itemsize

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
        attention, initial = self.attention, self.initial
        # Squares of the tokens, by which steps and growth are judged, must be ordinary numbers.
        length = 1.0 if is_traced(attention, initial) else float(unit_of(np.asarray(initial)))
        if length != 1.0:
            attention, initial = in_units(attention, length, 1.0), initial / length
        with listening(progress) as handle:
            result = following_inputs(
                _integrate,
                (initial, self.weights, self.positions),
                (attention, self.t1, ts, method, handle, keep, length),
            )
        tokens, observed = result.states
        return ParticleSolution(
            ts=ts,
            tokens=tokens if length == 1.0 else tokens * length,
            weights=self.weights,
            blow_up_time=result.blow_up_time,
            steps_taken=result.steps_taken,
            outcome=result.outcome,
            observed=observed,
            states_kept=keep.states,
        )


_Y = TypeVar("_Y", bound=PyTree[Array])
#: Of a state: its tokens, its mark of failure, its largest entry, and what is observed.
_Kept = tuple[Array, Array | None, Array | None, dict[str, Array]]
#: A field that was found by a failed iteration moves the second component of the state off zero by
#: this times the step: exactly noticed, and too little for the control of the step size to see.
FAILURE_MARK = 1e-18


@eqx.filter_jit
def _integrate(
    data: tuple[Array, Array | None, Array | None],
    parameters: tuple[
        AbstractAttention | Layered, Array, Array, AbstractODEMethod, Array | None, Keep, Array
    ],
) -> ODEResult[tuple[Array, dict[str, Array]]]:
    initial, weights, positions = data
    attention, t1, ts, method, handle, keep, length = parameters
    initial = cut_leading(initial)
    log_weights = log_of_weights(weights, initial)

    def field(t: Array, state: tuple[Array, Array | None]) -> tuple[Array, Array | None]:
        tokens = state[0]
        velocity, outcome = velocity_and_outcome(
            attention_at(attention, t), tokens, tokens, log_weights, positions, positions
        )
        if outcome is None:
            return velocity, None
        mark = jnp.where(outcome == Outcome.successful, 0.0, FAILURE_MARK)
        return velocity, mark.astype(tokens.dtype)

    def size(state: tuple[Array, Array | None]) -> Array:
        return jnp.sum(state[0] ** 2)

    def kept(t: Array, state: tuple[Array, Array | None]) -> _Kept:
        tokens, mark = state
        # Where the states are kept their largest entry is read off them.
        largest = None if keep.states else _largest_entry(tokens[None])[0]
        return keep.kept(tokens), mark, largest, keep.observed(t, tokens * length)

    def failed(state: tuple[Array, Array | None]) -> Array:
        return jnp.asarray(False) if state[1] is None else state[1] != 0

    iterative = isinstance(attention_at(attention, 0.0), AbstractIterativeAttention)
    # Concrete tokens were measured before; traced ones are here, and are NaN where they do not fit.
    starts = scores_fit(attention, initial) & squares_fit(initial)
    initial = jnp.where(starts, initial, jnp.nan)
    start = (initial, jnp.zeros((), initial.dtype) if iterative else None)
    result = integrate_ode(
        field,
        start,
        t1=jnp.asarray(t1, dtype=initial.dtype),
        ts=jnp.asarray(ts, dtype=initial.dtype),
        method=method,
        size=size,
        kept=kept,
        failed=failed if iterative else None,
        bounded=attention_at(attention, 0.0).bounded,
        progress=handle,
        jumps=jump_times(attention),
    )
    tokens, marks, largest, observed = result.states
    if marks is not None:
        tokens, observed = _crossed_out((tokens, observed), marks != 0)
    tokens = keep.stacked(tokens)
    if largest is None:
        largest = _largest_entry(tokens)
    else:
        largest = jnp.max(jnp.nan_to_num(largest), keepdims=True)
    stays = scores_fit(attention, largest)  # as those do that grow on the way
    lost = ~starts | (~stays & (result.outcome == Outcome.successful))
    outcome = Outcome.where(lost, Outcome.non_finite, result.outcome)
    blow_up_time = jnp.where(lost, jnp.inf, result.blow_up_time)
    return eqx.tree_at(
        lambda r: (r.states, r.outcome, r.blow_up_time),
        result,
        ((tokens, observed), outcome, blow_up_time),
    )


def _crossed_out(kept: _Y, failed: Bool[Array, " times"]) -> _Y:
    """What was kept, NaN at the times at which the field had not been found."""
    return jax.tree.map(
        lambda leaf: jnp.where(failed.reshape((-1,) + (1,) * (leaf.ndim - 1)), jnp.nan, leaf), kept
    )


def _largest_entry(states: Float[Array, "times tokens dim"]) -> Float[Array, " one"]:
    """The largest entry that is a number, time by time: a copy of all states may not fit."""
    states = jax.lax.stop_gradient(states)

    def larger(i: Array, found: Array) -> Array:
        entries = jnp.abs(states[i])
        return jnp.maximum(found, jnp.max(jnp.where(jnp.isnan(entries), 0.0, entries)))

    return jax.lax.fori_loop(0, len(states), larger, jnp.zeros((), states.dtype))[None]
