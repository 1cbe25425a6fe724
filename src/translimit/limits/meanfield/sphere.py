r"""Tokens on the unit sphere: attention with a normalised residual stream.

x_i' = P_{x_i} Gamma(x_i), with P_x y = y - <x, y> x and |x_i| = 1: the limit of
x <- N(x + Gamma / L) with N(x) = x / |x|.

SA divides by the sum of exponentials, USA by the number of tokens (`SphereAttention`).
USA runs faster than SA by Z / n, which is about I_0(beta) on the circle: shift = log I_0(beta)
brings both to one time scale, shift = beta keeps every exponent at most zero for Q = K = I.

LayerNorm without gain maps to the sphere of radius dim^(1/2) orthogonal to (1, ..., 1): rescale
to unit norm and multiply beta by dim.

Reference: Geshkovski, Letrouit, Polyanskiy and Rigollet, arXiv 2312.10794; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

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
    following_inputs,
    reference,
    require_weights,
)
from translimit.integrate import (
    STAGES,
    AbstractFlowSolution,
    AbstractODEMethod,
    AdaptiveODE,
    FixedODE,
    ODEResult,
    ProjectedSolver,
    integrate_ode,
    listening,
)
from translimit.limits.meanfield.horizon import require_horizon
from translimit.limits.meanfield.sphere_attention import SphereAttention
from translimit.observe import cluster_counts, collapse_time, mean_overlap

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class SphereSolution(AbstractFlowSolution):
    """Tokens on the sphere along depth.

    Attributes:
        ts: the times kept [times].
        tokens: the tokens at these times [times, tokens, dim], of norm one.
        weights: weights of the tokens [tokens], or None for equal ones.
        norm_drift: largest | |x| - 1 | before any renormalisation up to these times [times], an
            indicator of the error of the steps.
        steps_taken: steps taken by the integrator.
        outcome: how the solve ended; rows after its end are NaN.
    """

    ts: Times
    tokens: Float[AnyArray, "kept tokens dim"]
    weights: Float[AnyArray, " tokens"] | None
    norm_drift: Float[AnyArray, " times"]
    steps_taken: Int[AnyArray, ""]
    outcome: Outcome
    reference: ClassVar[str] = reference("geshkovski2023")

    def collapse_time(self, threshold: float | int = 0.5) -> float:
        """When the mean overlap first reaches a threshold; infinite where it does not.

        Args:
            threshold: of the mean overlap of different tokens, unweighted, in (-1, 1].
        """
        return collapse_time(self.ts, mean_overlap(self.tokens), threshold)

    def clusters(self, delta: float | int) -> Int[np.ndarray, " kept"]:
        """The number of clusters at every time kept: components of the graph "angle < delta".

        Args:
            delta: angle in (0, pi]; `observe.cluster_angle(beta)` is the usual one.
        """
        return cluster_counts(self.tokens, float(delta))

    def _dataset(self) -> xarray.Dataset:
        """Tokens and the drift of their norms."""
        import xarray

        tokens = {"long_name": "tokens on the sphere", "units": "1"}
        drift = {"long_name": "drift of the norm", "units": "1"}
        return xarray.Dataset(
            {
                "tokens": (("time", "token", "component"), np.asarray(self.tokens), tokens),
                "norm_drift": ("time", np.asarray(self.norm_drift), drift),
            },
            coords={
                "time": ("time", np.asarray(self.ts), {"long_name": "depth", "units": "depth"})
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Angles against depth on the circle; on other spheres the first two components."""
        from translimit.figures import plot_angles, plot_trajectories

        data = self._drawn()
        return (
            plot_angles(data, ax) if data.sizes["component"] == 2 else plot_trajectories(data, ax)
        )


class SphereFlow(AbstractProblem[SphereSolution]):
    """Self-attention on the sphere, normalised (SA) or not (USA).

    Cost: O(tokens^2 dim) time per evaluation of the field, memory O(tokens dim). Runs in the
    precision of `initial`.

    Args:
        initial: tokens [tokens, dim], scaled to norm one here; none may be zero.
        t1: final depth, positive.
        beta: inverse temperature, not negative.
        Q: query map [head_dim, dim]; the identity by default.
        K: key map [head_dim, dim]; the identity by default.
        V: value map [dim, dim]; the identity by default.
        normalised: divide by the sum of exponentials (SA) or by the number of tokens (USA).
        shift: subtracted from the exponents of USA, which changes the unit of its time by
            e^{-shift}; 0 by default. SA does not depend on it and refuses it.
        weights: non-negative, summing to one [tokens]; equal weights by default.

    Raises:
        ArgumentError: shapes that do not match, NaN or infinite entries, a token of norm zero,
            beta negative, weights that are negative or do not sum to one, t1 not positive.
        ArgumentTypeError: a shift for SA, a `normalised` that is not a bool.

    Examples:
        Two orthogonal tokens draw together:

        >>> import numpy as np
        >>> from translimit import solve
        >>> solution = solve(SphereFlow(initial=np.eye(2), t1=5.0, beta=1.0), save=[0.0, 5.0])
        >>> [round(float(x @ y), 3) for x, y in solution.tokens]
        [0.0, 1.0]

    Reference: arXiv 2312.10794, SA and USA.
    """

    initial: Float[AnyArray, "tokens dim"]
    t1: Number
    attention: SphereAttention
    weights: Float[AnyArray, " tokens"] | None
    state: ClassVar[str] = "the tokens [tokens, dim], of norm one"

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
        self.initial = SPHERE.require(initial, "initial", normalize=True)
        tokens, dim = self.initial.shape
        self.t1 = require_horizon(t1)
        self.attention = SphereAttention(dim, beta, Q, K, V, normalised, shift)
        self.weights = require_weights(weights, tokens)

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Any ODE method; its solver is projected after every step."""
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

    def velocity(
        self, tokens: Float[Array, "tokens dim"], log_weights: Float[Array, " tokens"]
    ) -> Float[Array, "tokens dim"]:
        """P_x Gamma(x) at x = N(token) [tokens, dim], constant along every ray: nothing is checked.

        Args:
            tokens: tokens, not zero; their norms do not matter.
            log_weights: logarithms of the weights.
        """
        points = SPHERE.project(tokens)
        gamma = self.attention.velocity(points, log_weights)
        return gamma - jnp.sum(gamma * points, axis=-1, keepdims=True) * points

    def _bytes(self, method: AbstractODEMethod, times: int) -> float:
        """Bytes of the tokens that are kept, before and after projection, and of the stages."""
        return (2.2 * times + STAGES) * self.initial.size * self.initial.dtype.itemsize

    def run(
        self,
        method: AbstractODEMethod,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> SphereSolution:
        """Integrate all tokens simultaneously, renormalising them after every step."""
        # Only the mathematics goes to the compiled part as parameters; tokens decide its precision.
        with listening(progress) as handle:
            result = following_inputs(
                _integrate, (self.initial, self.weights), (self, ts, method, handle, keep)
            )
        tokens, norm_drift, observed = result.states
        return SphereSolution(
            ts=ts,
            tokens=tokens,
            weights=self.weights,
            norm_drift=norm_drift,
            steps_taken=result.steps_taken,
            outcome=result.outcome,
            observed=observed,
            states_kept=keep.states,
        )


@eqx.filter_jit
def _integrate(
    data: tuple[Array, Array | None],
    parameters: tuple[SphereFlow, Array, AbstractODEMethod, Array | None, Keep],
) -> ODEResult[tuple[Array, Array, dict[str, Array]]]:
    initial, weights = data
    flow, ts, method, handle, keep = parameters
    log_weights = log_of_weights(weights, initial)

    def field(t: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        return flow.velocity(state[0], log_weights), jnp.zeros_like(state[1])

    def kept(t: Array, state: tuple[Array, Array]) -> tuple[Array, Array, dict[str, Array]]:
        # Interpolated states lie off the sphere by the error of the interpolation.
        return keep.kept(state[0]), state[1], keep.observed(t, SPHERE.project(state[0]))

    result = integrate_ode(
        field,
        (initial, jnp.zeros((), initial.dtype)),
        t1=jnp.asarray(flow.t1, dtype=initial.dtype),
        ts=jnp.asarray(ts, dtype=initial.dtype),
        method=eqx.tree_at(
            lambda m: m.solver, method, ProjectedSolver(method.solver, SPHERE.project_measured)
        ),
        # The sphere is compact: nothing can grow.
        size=lambda state: jnp.ones((), initial.dtype),
        kept=kept,
        bounded=True,
        progress=handle,
    )
    tokens, norm_drift, observed = result.states
    tokens = keep.stacked(SPHERE.project(tokens) if keep.states else tokens)
    return eqx.tree_at(lambda r: r.states, result, (tokens, norm_drift, observed))
