"""Ordinary differential equations through diffrax: save times, growth events, progress.

Two methods: `AdaptiveODE` (error-controlled steps, the default everywhere) and `FixedODE` (equal
steps, for order studies and for ensembles under vmap, where adaptive steps wait for the slowest
member).
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Generic, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from translimit.core import (
    POSITIVE,
    AbstractMethod,
    NotEstimated,
    Outcome,
    Progress,
    is_traced,
    require_count,
    require_real,
)
from translimit.integrate.jumps import restarting_at
from translimit.integrate.singularity import RESOLVED_RATE, Y, growth_rate, singularity_time

#: What the solution of an ordinary differential equation tells of the error of its steps.
STEPS_NOT_ESTIMATED = NotEstimated(
    "tolerances bound the error of each step, not that of the solution: to see it, solve again "
    "with rtol and atol a hundredth of what they are (FixedODE: twice the steps), and compare"
)

#: What is kept of a state: a pytree of arrays.
K = TypeVar("K", bound=PyTree[Array])

#: States that a step holds besides those that are kept: stages, and what the controller compares.
STAGES = 24


class AbstractODEMethod(AbstractMethod):
    """How an ordinary differential equation is stepped."""

    solver: eqx.AbstractVar[diffrax.AbstractSolver]
    growth_limit: eqx.AbstractVar[float]

    @abc.abstractmethod
    def controller(
        self, ts: Float[Array, " times"], scale: Float[Array, ""]
    ) -> diffrax.AbstractStepSizeController:
        """The step size controller; `scale` is the size of the initial state."""

    @abc.abstractmethod
    def first_step(self, t1: Float[Array, ""]) -> Float[Array, ""] | None:
        """The first step, None where the controller chooses it."""

    @abc.abstractmethod
    def step_limit(self, saves: int) -> int:
        """The largest number of steps."""


class AdaptiveODE(AbstractODEMethod):
    """Error-controlled steps.

    Attributes:
        rtol: relative tolerance of one step.
        atol: absolute tolerance of one step, relative to the size of the initial state (an
            absolute tolerance without a scale would be meaningless).
        max_steps: step limit; beyond it the outcome is `max_steps_reached`.
        growth_limit: the factor by which the size of the state (a trace, a squared norm) may grow
            before the solve stops and asks whether this is a finite-time blow-up.
        step_to_saves: step to every save time exactly, which costs at least one step for each; or
            interpolate between steps by the solver's dense output, which is cheaper where steps
            are dear, and of lower order than the steps.
        solver: any explicit diffrax solver; Dopri8 by default, which at these tolerances needs
            the fewest evaluations.
    """

    rtol: float = 1e-8
    atol: float = 1e-10
    max_steps: int = eqx.field(static=True, default=100_000)
    growth_limit: float = 1e12
    step_to_saves: bool = eqx.field(static=True, default=True)
    solver: diffrax.AbstractSolver = eqx.field(default_factory=diffrax.Dopri8)
    random: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_count(self.max_steps, "max_steps")
        _require_positive(self, "rtol", "atol", "growth_limit")

    def controller(
        self, ts: Float[Array, " times"], scale: Float[Array, ""]
    ) -> diffrax.AbstractStepSizeController:
        """PID control, clipped to the save times where they are stepped to."""
        # A field that is not finite rejects every step: it ends where no shorter one is a float.
        least = float(jnp.finfo(ts.dtype).tiny)
        pid = diffrax.PIDController(
            rtol=self.rtol, atol=self.atol * scale, dtmin=least, force_dtmin=False
        )
        return diffrax.ClipStepSizeController(pid, step_ts=ts) if self.step_to_saves else pid

    def first_step(self, t1: Float[Array, ""]) -> Float[Array, ""] | None:
        """Chosen by the controller."""
        return None

    def step_limit(self, saves: int) -> int:
        """`max_steps`."""
        return self.max_steps


class FixedODE(AbstractODEMethod):
    """Equal steps of size t1 / steps.

    Save times that are no multiples of the step are interpolated by the solver's dense output.

    Attributes:
        steps: number of steps on [0, t1].
        growth_limit: as in `AdaptiveODE`.
        solver: any fixed-step diffrax solver; the fourth-order-accurate Tsit5 by default, Euler
            for the finite-depth network itself.
    """

    steps: int = eqx.field(static=True, kw_only=True)
    growth_limit: float = 1e12
    solver: diffrax.AbstractSolver = eqx.field(default_factory=diffrax.Tsit5)
    random: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_count(self.steps, "steps")
        _require_positive(self, "growth_limit")

    def controller(
        self, ts: Float[Array, " times"], scale: Float[Array, ""]
    ) -> diffrax.AbstractStepSizeController:
        """Constant steps."""
        return diffrax.ConstantStepSize()

    def first_step(self, t1: Float[Array, ""]) -> Float[Array, ""] | None:
        """t1 / steps."""
        return t1 / self.steps

    def step_limit(self, saves: int) -> int:
        """The number of steps, and one for rounding."""
        return self.steps + 1


class ODEResult(eqx.Module, Generic[K]):
    """What was kept at the save times, and how the integration ended.

    Attributes:
        states: the states, or what was kept of them: a pytree with a leading axis over save times;
            NaN where the solve had stopped.
        outcome: `successful`, `blow_up`, `divergence`, `max_steps_reached`, `not_converged` or
            `non_finite`.
        blow_up_time: infinity unless the outcome is `blow_up`.
        steps_taken: how many steps were taken.
    """

    states: K
    outcome: Outcome
    blow_up_time: Float[Array, ""]
    steps_taken: Int[Array, ""]


def integrate_ode(
    field: Callable[[Array, Y], Y],
    initial: Y,
    *,
    t1: Float[Array, ""],
    ts: Float[Array, " times"],
    method: AbstractODEMethod,
    size: Callable[[Y], Array],
    kept: Callable[[Array, Y], K] | None = None,
    failed: Callable[[Y], Array] | None = None,
    bounded: bool = False,
    progress: Int[Array, ""] | None = None,
    jumps: Float[Array, " jumps"] | None = None,
) -> ODEResult[K]:
    """Integrate y' = field(t, y) from y(0) = initial to t1, keeping the states at ts.

    Args:
        field: the vector field.
        initial: the initial state, a pytree of arrays.
        t1: the final time.
        ts: the times to keep, increasing within [0, t1].
        method: how to step.
        size: a positive scalar of the state; growth by `method.growth_limit`, or at a rate beyond
            the resolution of time, ends the solve and is classified by `singularity_time`.
        kept: what is kept of a state, as a function of the time and the state, evaluated inside the
            solver; the state itself by default.
        failed: whether a state carries the mark of a field that was not found; ends the solve as
            `not_converged`.
        bounded: |field| is known to be at most a multiple of the state's size, so that a solution
            cannot cease to exist: its growth is divergence, and nothing is spent on telling.
        progress: a handle of `listening`, or None.
        jumps: increasing times at which the field jumps, right-continuous; steps stop there.

    Returns:
        States, outcome, blow-up time and step count; traceable.
    """
    limit = method.growth_limit * size(initial)

    def singular_or_large(t: Array, y: Y, args: None, **kwargs: object) -> Array:
        ends = size(y) > limit
        if not bounded:
            ends = ends | (growth_rate(field, size, t, y) * t > RESOLVED_RATE)
        return ends if failed is None else ends | failed(y)

    scale = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(initial)))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: field(jnp.asarray(t), y)),
        method.solver,
        t0=jnp.zeros_like(t1),
        t1=t1,
        dt0=method.first_step(t1),
        y0=initial,
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=ts, fn=lambda t, y, args: y if kept is None else kept(t, y)),
                diffrax.SubSaveAt(t1=True),
            ],
        ),
        stepsize_controller=restarting_at(
            method.controller(ts, jnp.where(scale > 0, scale, 1.0)), jumps
        ),
        max_steps=method.step_limit(ts.shape[0]) + (0 if jumps is None else jumps.shape[0]),
        event=diffrax.Event(singular_or_large),
        throw=False,
        progress_meter=diffrax.NoProgressMeter() if progress is None else _Meter(progress),
    )
    # With two subs diffrax returns pairs: at the save times, and at the end.
    (states, last), (kept_ts, last_ts) = solution.ys, solution.ts  # pyright: ignore[reportGeneralTypeIssues]
    # diffrax pads the times after the end of a solve with infinity.
    reached = jnp.isfinite(kept_ts)
    states = jax.tree.map(
        lambda leaf: jnp.where(reached.reshape((-1,) + (1,) * (leaf.ndim - 1)), leaf, jnp.nan),
        states,
    )
    final = jax.tree.map(lambda leaf: leaf[-1], last)
    stopped = solution.result == diffrax.RESULTS.event_occurred
    # Away from an event the classification is not wanted, and must not produce NaN gradients.
    safe = jax.tree.map(lambda end: jnp.where(stopped, end, jnp.ones_like(end)), final)
    if bounded:
        singular, time = jnp.asarray(False), jnp.asarray(jnp.inf, t1.dtype)
    else:
        singular, time = singularity_time(
            field, size, jax.lax.stop_gradient(last_ts[-1]), safe, stopped
        )
    finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(final)]).all()
    outcome = Outcome.where(finite, Outcome.successful, Outcome.non_finite)
    outcome = Outcome.where(
        (solution.result != diffrax.RESULTS.successful) & ~stopped, Outcome.non_finite, outcome
    )
    outcome = Outcome.where(
        solution.result == diffrax.RESULTS.max_steps_reached, Outcome.max_steps_reached, outcome
    )
    outcome = Outcome.where(
        stopped, Outcome.where(singular, Outcome.blow_up, Outcome.divergence), outcome
    )
    blow_up_time = jnp.where(stopped, time, jnp.inf)
    if failed is not None:
        outcome = Outcome.where(failed(final), Outcome.not_converged, outcome)
        blow_up_time = jnp.where(failed(final), jnp.inf, blow_up_time)
    return ODEResult(states, outcome, blow_up_time, solution.stats["num_steps"])


_LISTENERS: dict[int, Progress] = {}
_HANDLES = itertools.count()


@contextmanager
def listening(progress: Progress | None) -> Iterator[Int[Array, ""] | None]:
    """A handle by which a compiled solve reports its progress to a host function.

    The function itself is looked up on the host, so that a new one needs no new compilation.
    """
    if progress is None:
        yield None
        return
    handle = next(_HANDLES)
    _LISTENERS[handle] = progress
    try:
        yield jnp.asarray(handle)
        jax.effects_barrier()
    finally:
        del _LISTENERS[handle]


def _report(handle: Int[ArrayLike, ...], fraction: Float[ArrayLike, ...]) -> ArrayLike:
    listener = _LISTENERS.get(int(np.max(handle)))
    if listener is not None:
        listener(float(np.min(fraction)))  # the slowest member of a batch
    return handle


def _ignore(handle: ArrayLike) -> None:
    del handle


class _Meter(diffrax.AbstractProgressMeter):
    """Reports every step to the listener behind a handle."""

    handle: Array

    def init(self) -> Array:
        return self.handle

    def step(self, state: Array, progress: Float[ArrayLike, ""]) -> Array:
        # Threading the handle through the callback keeps the calls, and their order.
        return jax.pure_callback(_report, state, state, progress, vmap_method="expand_dims")

    def close(self, state: Array) -> None:
        # An effect on the last state, without which the pure callbacks would be optimised away.
        jax.debug.callback(_ignore, state)


def _require_positive(method: AbstractMethod, *names: str) -> None:
    for name in names:
        value = getattr(method, name)
        if not is_traced(value):
            require_real(value, name, POSITIVE)
