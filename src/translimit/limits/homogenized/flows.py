r"""Heads with a mean effect: the ballistic limit, the modified equations, and noise beside a drift.

With B-bar_i = E V m(x_i) and b_i = P_{x_i} B-bar_i:

    ballistic          X' = b(X)
    modified           X' = b - (step / 2) nabla_b b - step <x_i, B-bar_i> b_i    (printed chain)
                       X' = b - (step / 2) nabla_b b                              (tangent chain)

where (nabla_b b)_i = P_{x_i} (Db(X)[b(X)])_i. `ModifiedSDE` adds the noise of the heads.

!!! warning "Erratum"
    The paper prints the second form for the chain N(x + u). As u = step B-bar is not tangent,
    N(x + u) = x + P_x u - |P_x u|^2 x / 2 - <x, u> P_x u + O(|u|^3), and the last term is of
    second order: with the printed form the error against the chain stays of order one in the
    step, with the corrected one it is of order two.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from translimit.attention import head_output
from translimit.core import (
    POSITIVE,
    SPHERE,
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    ArgumentTypeError,
    ArrayInput,
    Outcome,
    Retraction,
    brief,
    following_inputs,
    require_number,
    require_retraction,
)
from translimit.describe import AbstractHeads, AbstractIsotropicHeads, FiniteHeads, ShiftedHeads
from translimit.integrate import (
    STAGES,
    AbstractODEMethod,
    AdaptiveODE,
    FixedODE,
    ProjectedSolver,
    integrate_ode,
    listening,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

REFERENCE = "Koubbi et al., arXiv 2604.01978"


def mean_update(
    law: AbstractHeads, tokens: Float[Array, "tokens dim"]
) -> Float[Array, "tokens dim"]:
    """B-bar(x_i) = E V m(x_i) of all tokens, for a law whose mean is a finite sum.

    Raises:
        ArgumentTypeError: a law with random scores; stand `FiniteHeads.drawn_from` in for it.
    """
    if isinstance(law, AbstractIsotropicHeads):
        return jnp.zeros_like(tokens)
    if isinstance(law, ShiftedHeads) and law.fixed_scores:
        return head_output(law.mean_v, law.mean_a, law.beta, tokens, causal=False)
    if isinstance(law, FiniteHeads):
        updates = jax.lax.map(
            lambda head: head_output(head[0], head[1], law.beta, tokens, causal=False),
            (law.V, law.A),
        )
        return jnp.mean(updates, axis=0)
    raise ArgumentTypeError(
        "law",
        f"is {type(law).__name__} with random scores, whose mean is no finite sum",
        "pass FiniteHeads.drawn_from(law, samples, key=key), common random numbers for every "
        "evaluation",
    )


def drift(law: AbstractHeads, tokens: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
    """b_i = P_{x_i} B-bar(x_i)."""
    return SPHERE.tangent(tokens, mean_update(law, tokens))


def modified_drift(
    law: AbstractHeads, tokens: Float[Array, "tokens dim"], step: Any, retraction: Retraction
) -> Float[Array, "tokens dim"]:
    """B to second order in the step, for the chain with this retraction."""
    b, along = jax.jvp(lambda x: drift(law, x), (tokens,), (drift(law, tokens),))
    second = -0.5 * step * SPHERE.tangent(tokens, along)
    if retraction is Retraction.AMBIENT:
        outward = jnp.sum(tokens * mean_update(law, tokens), axis=-1, keepdims=True)
        second = second - step * outward * b
    return b + second


def noise_drift(
    law: AbstractHeads, tokens: Float[Array, "tokens dim"], step: Any, heads: Any
) -> Float[Array, "tokens dim"]:
    r"""c_i = -(step / heads) E <x_i, xi(x_i)> P_{x_i} xi(x_i) of the ambient chain, paper time.

    xi = V m - B-bar. It vanishes where V fluctuates by independent entries and nothing else does,
    and for tangent chains.

    !!! warning "Erratum"
        The paper's stochastic equation leaves this drift out; it is of the order of the Ito
        correction where mean_v does not vanish and A is random.

    Raises:
        ArgumentTypeError: a law with random scores and a mean; stand `FiniteHeads.drawn_from` in.
    """
    mean = mean_update(law, tokens)
    if not isinstance(law, FiniteHeads):
        return jnp.zeros_like(tokens)

    def one(head: tuple[Array, Array]) -> Array:
        xi = head_output(head[0], head[1], law.beta, tokens, causal=False) - mean
        return jnp.sum(tokens * xi, axis=-1, keepdims=True) * SPHERE.tangent(tokens, xi)

    return -step / heads * jnp.mean(jax.lax.map(one, (law.V, law.A)), axis=0)


def sample_noise(
    law: AbstractHeads,
    tokens: Float[Array, "tokens dim"],
    *,
    samples: int,
    key: PRNGKeyArray,
    mean: Float[Array, "tokens dim"] | None = None,
) -> Float[Array, "tokens dim"]:
    """A vector with the covariance of xi = V m - B-bar, common to all tokens.

    Given `samples` fresh heads it is Gaussian with their covariance, which is unbiased for the true
    one. For the noise over a span of paper time multiply by (span step / heads)^{1/2} and project.

    Args:
        law: of the heads.
        tokens: of norm one.
        samples: heads to draw; at least 2 where the mean is not given.
        key: of the draws.
        mean: B-bar, where it is known (`mean_update`); the mean of the samples by default.
    """
    keys = jax.vmap(lambda head: jax.random.fold_in(key, head))(jnp.arange(samples))

    def one(head_key: PRNGKeyArray) -> Array:
        V, A = law.sample(head_key, tokens.dtype)
        return head_output(V, A, law.beta, tokens, causal=False, hard=law.hard)

    updates = jax.lax.map(one, keys)
    weights = jax.random.normal(jax.random.fold_in(key, samples), (samples,), tokens.dtype)
    freedom = samples - 1 if mean is None else samples
    mean = jnp.mean(updates, axis=0) if mean is None else mean
    return jnp.tensordot(weights, updates - mean, 1) / freedom**0.5


class FlowSolution(AbstractSolution):
    """Tokens along a deterministic limit.

    Attributes:
        ts: the times kept, paper time t = layer * step [times].
        tokens: unit tokens [times, tokens, dim].
        outcome: how the solve ended.
    """

    ts: Any
    tokens: Any
    outcome: Outcome

    @property
    def overlaps(self) -> Any:
        """R_ij = <x_i, x_j> [times, tokens, tokens]."""
        return self.tokens @ self.tokens.swapaxes(-1, -2)

    def to_xarray(self) -> xarray.Dataset:
        """Tokens along paper time."""
        import xarray

        about = {"long_name": "tokens on the sphere", "units": "1", "reference": REFERENCE}
        time = {"long_name": r"paper time $t = \ell \eta$", "units": "paper time"}
        return xarray.Dataset(
            {"tokens": (("time", "token", "component"), np.asarray(self.tokens), about)},
            coords={"time": ("time", np.asarray(self.ts), time)},
            attrs={"outcome": Outcome[self.outcome] or "successful"},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Angles on the circle, else the first two components."""
        from translimit.figures import plot_angles, plot_trajectories

        data = self.to_xarray()
        return (plot_angles if data.sizes["component"] == 2 else plot_trajectories)(data, ax)


class BallisticFlow(AbstractProblem):
    """X' = b(X), the limit of small steps at a fixed paper time.

    Runs in the precision of `initial`.

    Args:
        law: heads whose mean is a finite sum: `ShiftedHeads` with sigma_a = 0, or `FiniteHeads`.
        initial: unit tokens [tokens, dim].
        t1: final paper time, positive.
        normalize: scale the tokens to norm one instead of refusing other norms.

    Raises:
        ArgumentError: tokens of another dimension or norm, t1 not positive.
        ArgumentTypeError: a law with random scores.

    Reference: arXiv 2604.01978.
    """

    law: AbstractHeads
    initial: Any
    t1: Any

    def __init__(
        self,
        *,
        law: AbstractHeads,
        initial: ArrayInput,
        t1: ArrayInput,
        normalize: bool = False,
    ):
        self.law = require_finite_sum(law)
        self.initial = SPHERE.require(initial, "initial", law.dim, normalize=normalize)
        self.t1 = require_number(t1, "t1", POSITIVE)

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Any ODE method; its solver is projected after every step."""
        return (AdaptiveODE, FixedODE)

    def default_method(self) -> AdaptiveODE:
        """Tolerances for float64 tokens."""
        return AdaptiveODE(rtol=1e-9, atol=1e-11)

    def field(self, tokens: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
        """b(X)."""
        return drift(self.law, tokens)

    def _bytes(self, method: AbstractODEMethod, times: int) -> float:
        """Bytes of the tokens that are kept, before and after projection, and of the stages."""
        return (2.2 * times + STAGES) * self.initial.size * self.initial.dtype.itemsize

    def run(
        self,
        method: AbstractODEMethod,
        *,
        ts: ArrayInput,
        key: PRNGKeyArray | None,
        progress: Callable[[float], object] | None,
    ) -> FlowSolution:
        """Integrate, renormalising after every step."""
        return _flow(self, method, ts, progress)


class ModifiedFlow(AbstractProblem):
    """The modified equation: the chain with step `step` to second order, at times of layers.

    Runs in the precision of `initial`.

    Args:
        law: as in `BallisticFlow`.
        initial: unit tokens [tokens, dim].
        t1: final paper time, positive.
        step: residual step of the chain, positive.
        retraction: of the chain. TANGENT is also the form that the paper prints for every chain.
        normalize: scale the tokens to norm one instead of refusing other norms.

    Raises:
        ArgumentError: tokens of another dimension or norm, t1 or step not positive.
        ArgumentTypeError: a law with random scores.

    Reference: arXiv 2604.01978, with the erratum of the module's docstring.
    """

    law: AbstractHeads
    initial: Any
    t1: Any
    step: Any
    retraction: Retraction = eqx.field(static=True)

    def __init__(
        self,
        *,
        law: AbstractHeads,
        initial: ArrayInput,
        t1: ArrayInput,
        step: ArrayInput,
        retraction: Retraction = Retraction.AMBIENT,
        normalize: bool = False,
    ):
        self.law = require_finite_sum(law)
        self.initial = SPHERE.require(initial, "initial", law.dim, normalize=normalize)
        self.t1 = require_number(t1, "t1", POSITIVE)
        self.step = require_number(step, "step", POSITIVE)
        self.retraction = require_retraction(retraction)

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Any ODE method; its solver is projected after every step."""
        return (AdaptiveODE, FixedODE)

    def default_method(self) -> AdaptiveODE:
        """Tolerances for float64 tokens."""
        return AdaptiveODE(rtol=1e-9, atol=1e-11)

    def field(self, tokens: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
        """The modified drift."""
        return modified_drift(self.law, tokens, self.step, self.retraction)

    def _bytes(self, method: AbstractODEMethod, times: int) -> float:
        """Bytes of the tokens that are kept, before and after projection, and of the stages."""
        return (2.2 * times + STAGES) * self.initial.size * self.initial.dtype.itemsize

    def run(
        self,
        method: AbstractODEMethod,
        *,
        ts: ArrayInput,
        key: PRNGKeyArray | None,
        progress: Callable[[float], object] | None,
    ) -> FlowSolution:
        """Integrate, renormalising after every step."""
        return _flow(self, method, ts, progress)


def require_finite_sum(law: Any) -> AbstractHeads:
    """A law whose mean is a finite sum.

    Raises:
        ArgumentTypeError: no law, or one with random scores and a mean.
    """
    if not isinstance(law, AbstractHeads):
        raise ArgumentTypeError("law", f"got {brief(law)}", "pass a law of heads")
    jax.eval_shape(lambda x: mean_update(law, x), jax.ShapeDtypeStruct((1, law.dim), jnp.float32))
    return law


def _flow(problem: Any, method: Any, ts: Any, progress: Any) -> FlowSolution:
    with listening(progress) as handle:
        result = following_inputs(_integrate, problem.initial, (problem, ts, method, handle))
    return FlowSolution(ts=ts, tokens=result.states, outcome=result.outcome)


@eqx.filter_jit
def _integrate(initial: Any, parameters: Any) -> Any:
    problem, ts, method, handle = parameters
    solver: diffrax.AbstractSolver = ProjectedSolver(method.solver, SPHERE.project_measured)
    result = integrate_ode(
        lambda t, state: (problem.field(SPHERE.project(state[0])), jnp.zeros_like(state[1])),
        (initial, jnp.zeros((), initial.dtype)),
        t1=jnp.asarray(problem.t1, dtype=initial.dtype),
        ts=jnp.asarray(ts, dtype=initial.dtype),
        method=eqx.tree_at(lambda m: m.solver, method, solver),
        size=lambda state: jnp.ones((), initial.dtype),
        progress=handle,
    )
    return eqx.tree_at(lambda r: r.states, result, SPHERE.project(result.states[0]))
