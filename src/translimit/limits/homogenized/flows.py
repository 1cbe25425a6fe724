r"""Heads with a mean effect: the ballistic limit, and the modified equation of second order.

    ballistic          X' = b(X)
    modified           X' = b(X) - (step / 2) nabla_b b + a term of the chain's retraction

with the drifts of `drifts`. `ModifiedSDE` adds the noise of the heads.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from translimit.core import (
    POSITIVE,
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
    Retraction,
    Times,
    following_inputs,
    require_number,
    require_retraction,
)
from translimit.describe import AbstractHeads
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
from translimit.limits.homogenized.drifts import (
    ballistic_drift,
    modified_drift,
    require_finite_sum,
)
from translimit.limits.homogenized.token_paths import REFERENCE
from translimit.observe import cluster_counts, collapse_time, mean_overlap

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class FlowSolution(AbstractFlowSolution):
    """Tokens along a deterministic limit.

    Attributes:
        ts: the times kept, paper time t = layer * step [times].
        tokens: unit tokens [times, tokens, dim].
        outcome: how the solve ended.
    """

    ts: Times
    tokens: Float[AnyArray, "kept tokens dim"]
    outcome: Outcome

    reference: ClassVar[str] = REFERENCE

    @property
    def overlaps(self) -> Float[AnyArray, "kept tokens tokens"]:
        """R_ij = <x_i, x_j> [times, tokens, tokens]."""
        return self.tokens @ self.tokens.swapaxes(-1, -2)

    @property
    def mean_overlaps(self) -> Float[AnyArray, " kept"]:
        """Mean of the off-diagonal overlaps [times]; NaN for one token."""
        return mean_overlap(self.tokens)

    def collapse_time(self, threshold: float | int = 0.5) -> float:
        """When the mean overlap first reaches a threshold; infinite where it does not.

        Args:
            threshold: of the mean overlap of different tokens, in (-1, 1].
        """
        return collapse_time(self.ts, self.mean_overlaps, threshold)

    def clusters(self, delta: float | int) -> Int[np.ndarray, " kept"]:
        """The number of clusters at every time kept: components of the graph "angle < delta".

        Args:
            delta: angle in (0, pi]; `observe.cluster_angle(beta)` is the usual one.
        """
        return cluster_counts(self.tokens, float(delta))

    def _dataset(self) -> xarray.Dataset:
        """Tokens along paper time."""
        import xarray

        about = {"long_name": "tokens on the sphere", "units": "1"}
        time = {"long_name": r"paper time $t = \ell \eta$", "units": "paper time"}
        return xarray.Dataset(
            {"tokens": (("time", "token", "component"), np.asarray(self.tokens), about)},
            coords={"time": ("time", np.asarray(self.ts), time)},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Angles on the circle, else the first two components."""
        from translimit.figures import plot_angles, plot_trajectories

        data = self.to_xarray()
        return (plot_angles if data.sizes["component"] == 2 else plot_trajectories)(data, ax)


class AbstractFlow(AbstractProblem[FlowSolution]):
    """A deterministic equation of unit tokens, in the precision of `initial`."""

    state: ClassVar[str] = "unit tokens [tokens, dim]"

    law: eqx.AbstractVar[AbstractHeads]
    initial: eqx.AbstractVar[Float[AnyArray, "tokens dim"]]

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """Any ODE method; its solver is projected after every step."""
        return (AdaptiveODE, FixedODE)

    def default_method(self) -> AdaptiveODE:
        """Tolerances for float64 tokens."""
        return AdaptiveODE(rtol=1e-9, atol=1e-11)

    @abc.abstractmethod
    def field(self, tokens: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
        """The right-hand side, for unit tokens."""

    def _bytes(self, method: AbstractODEMethod, times: int) -> float:
        """Bytes of the tokens that are kept, projected inside the solver, and of the stages."""
        return (1.2 * times + STAGES) * self.initial.size * self.initial.dtype.itemsize

    def run(
        self,
        method: AbstractODEMethod,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> FlowSolution:
        """Integrate, renormalising after every step."""
        with listening(progress) as handle:
            parameters = self, ts, method, keep, handle
            result = following_inputs(_integrate, self.initial, parameters)
        tokens, observed = result.states
        return FlowSolution(
            ts=ts,
            tokens=self.initial[None][:0] if tokens is None else tokens,
            outcome=result.outcome,
            observed=observed,
            states_kept=keep.states,
        )


@final
class BallisticFlow(AbstractFlow):
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
    initial: Float[AnyArray, "tokens dim"]
    t1: Number

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

    def field(self, tokens: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
        """b(X)."""
        return ballistic_drift(self.law, tokens)


@final
class ModifiedFlow(AbstractFlow):
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

    Reference: arXiv 2604.01978, with the erratum of `drifts`.
    """

    law: AbstractHeads
    initial: Float[AnyArray, "tokens dim"]
    t1: Number
    step: Number
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

    def field(self, tokens: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
        """The modified drift."""
        return modified_drift(self.law, tokens, self.step, self.retraction)


@eqx.filter_jit
def _integrate(
    initial: Float[Array, "tokens dim"],
    parameters: tuple[AbstractFlow, Times, AbstractODEMethod, Keep, Int[Array, ""] | None],
) -> ODEResult[tuple[Array | None, dict[str, Array]]]:
    problem, ts, method, keep, handle = parameters
    solver: diffrax.AbstractSolver = ProjectedSolver(method.solver, SPHERE.project_measured)

    def kept(t: Array, state: tuple[Array, Array]) -> tuple[Array | None, dict[str, Array]]:
        tokens = SPHERE.project(state[0])
        return tokens if keep.states else None, keep.observed(t, tokens)

    return integrate_ode(
        lambda t, state: (problem.field(SPHERE.project(state[0])), jnp.zeros_like(state[1])),
        (initial, jnp.zeros((), initial.dtype)),
        t1=jnp.asarray(problem.t1, dtype=initial.dtype),
        ts=jnp.asarray(ts, dtype=initial.dtype),
        method=eqx.tree_at(lambda m: m.solver, method, solver),
        size=lambda state: jnp.ones((), initial.dtype),
        kept=kept,
        progress=handle,
    )
