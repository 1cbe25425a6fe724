r"""Autonomous systems followed over many decades of time, many members at once.

In s = log(1 + t / tau) the system y' = f(y) reads dy/ds = (t + tau) f(y): an algebraic approach
to a limit takes a fixed number of steps a decade, and the start t = 0 is s = 0 exactly. tau is the
member's own time scale |y| / |f(y)| at the start.

What contracts at a fixed rate is stiff there, by a factor t. Steps are explicit (Tsit5) at first;
members that have not ended after `EXPLICIT_STEPS` of them go on by linearly implicit ones (Rodas5),
which are L-stable and cost O(unknowns^3). Systems of more than `MOST_IMPLICIT` unknowns stay
explicit; stiff ones then reach the step limit, and say so. Both step in local coordinates around
the current state, which keep what the system keeps (`AbstractLocalSystem`).

Every member of an ensemble has its own step size. Adaptive steps under `vmap` wait for the slowest
member; here a fixed number of lanes is compiled once, members that end leave their lane, and
waiting ones take it. The members' states stay on the device, the host only looks at who has ended.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from translimit.core import (
    POSITIVE,
    AbstractMethod,
    Outcome,
    Progress,
    require_count,
    require_real,
)
from translimit.integrate.explicit_step import explicit_step
from translimit.integrate.rosenbrock import rosenbrock_step
from translimit.integrate.singularity import RESOLVED_RATE, singularity_time

#: A state of one member, and coordinates around it.
State = Float[Array, "*state"]
Coordinates = Float[Array, "*coordinates"]
#: A positive scalar of a state (a trace, a squared norm).
Size = Callable[[Array], Array]

#: Explicit steps before a member counts as slow: a system that is not stiff rarely needs more.
EXPLICIT_STEPS = 400
#: Unknowns up to which steps can be implicit; one of so many takes a few milliseconds.
MOST_IMPLICIT = 128

_RUNNING, _SLOW, _DONE, _SINGULAR, _STEPS, _STALLED = range(6)
#: Iterations between two looks of the host.
_STRIDE = 16
#: When at most 1 / _NARROWER of the lanes are busy for so many looks, fewer are compiled: by then
#: the wide program has wasted as much time as the compilation takes. Implicit steps, which are few
#: and dear, have so many fewer from the start.
_NARROWER, _PATIENCE = 4, 1024


class LogTimeODE(AbstractMethod):
    """Error-controlled steps in logarithmic time: Tsit5, and Rodas5 for what turns out slow.

    Attributes:
        rtol: tolerance of one step, relative to the largest entry of a row of the state.
        atol: absolute tolerance of one step, relative to the size of the initial state. What has
            decayed below it is followed no further.
        max_steps: attempted steps of one member; beyond it its outcome is `max_steps_reached`.
        growth_limit: factor by which the size of a state may grow before its member ends and is
            classified as blow-up or divergence.
        lanes: how many members are computed side by side, a quarter of it in implicit steps; fewer
            wait less for the slowest, more spread the cost of an iteration further.
    """

    rtol: float = 1e-8
    atol: float = 1e-14
    max_steps: int = 20_000
    growth_limit: float = 1e12
    lanes: int = eqx.field(static=True, default=64)
    random: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        for name in ("max_steps", "lanes"):
            require_count(getattr(self, name), name)
        for name in ("rtol", "atol", "growth_limit"):
            require_real(getattr(self, name), name, POSITIVE)


class AbstractLocalSystem(eqx.Module):
    """A system y' = f(y) in coordinates z around a given state, made anew for every step.

    What every state with coordinates has in common with the given one (a rank, a kernel) is kept
    by every step exactly, and errors are relative to what the coordinates multiply.
    """

    @abc.abstractmethod
    def origin(self, y: State) -> Coordinates:
        """Zeros in the shape of the coordinates of y, at most as many as y has entries."""

    @abc.abstractmethod
    def state(self, y: State, z: Coordinates) -> State:
        """The state with the coordinates z around y; affine in z, and y where z is zero."""

    @abc.abstractmethod
    def velocity(self, parameters: PyTree, y: State, z: Coordinates) -> Coordinates:
        """z', by which the state with the coordinates z around y follows the system."""

    def field(self, parameters: PyTree, y: State) -> State:
        """f(y)."""
        return self.along(y, self.velocity(parameters, y, self.origin(y)))

    def along(self, y: State, dz: Coordinates) -> State:
        """The change of the state by a change of its coordinates."""
        return jax.jvp(functools.partial(self.state, y), (self.origin(y),), (dz,))[1]


class LogTimeResult(eqx.Module):
    """What became of the members.

    Attributes:
        states: [members, times, ...]; NaN where a member had ended.
        last: the last state of each member [members, ...].
        last_time: its time [members].
        outcome: one `Outcome` each.
        blow_up_time: infinity unless the outcome is `blow_up` [members].
        steps_taken: attempted steps [members].
    """

    states: Float[np.ndarray, "members times ..."]
    last: Float[np.ndarray, "members ..."]
    last_time: Float[np.ndarray, " members"]
    outcome: Outcome
    blow_up_time: Float[np.ndarray, " members"]
    steps_taken: Int[np.ndarray, " members"]


class _Member(eqx.Module):
    """The state of one member, in s; with a leading axis, of all of them."""

    s: Array
    y: Array
    step: Array
    saved: Array
    index: Array  # of the next time to keep
    steps: Array
    status: Array
    tau: Array
    scale: Array  # norm of the initial state
    limit: Array  # size at which the member ends


def integrate_log_time(
    system: AbstractLocalSystem,
    size: Size,
    parameters: PyTree,
    initial: Float[np.ndarray, "members ..."],
    *,
    ts: Float[np.ndarray, " times"],
    method: LogTimeODE,
    progress: Progress | None = None,
) -> LogTimeResult:
    """Follow every member from t = 0, keeping the states at ts.

    Call it in 64-bit mode, with concrete arrays: the host takes part.

    Args:
        system: of one member; it holds no arrays but what all members share.
        size: a positive scalar of a state (a trace, a squared norm); a module-level function, since
            the compiled program is found again by its identity.
        parameters: a pytree whose array leaves have a leading axis over members.
        initial: initial states [members, ...].
        ts: times to keep, increasing, the last one the end.
        method: how to step.
        progress: a function of the fraction of members that have ended.
    """
    members = initial.shape[0]
    # Whole sets of lanes, so that ensembles of different sizes share their compiled programs.
    fill = np.minimum(np.arange(-(-members // method.lanes) * method.lanes), members - 1)
    parameters = jax.tree.map(lambda leaf: leaf[fill], parameters)
    grid = jnp.asarray(ts)
    state = _start(system, size, parameters, jnp.asarray(initial[fill]), grid, method)
    status = np.asarray(state.status)[:members]
    narrower = max(1, method.lanes // _NARROWER)
    for going, lanes in ((_RUNNING, method.lanes), (_SLOW, narrower)):
        quiet = 0
        while (active := np.flatnonzero(status == going)).size:
            # A few slow members at the end deserve a narrower program, once they have proved slow.
            quiet = quiet + 1 if active.size <= lanes // _NARROWER else 0
            if quiet > _PATIENCE:
                lanes, quiet = max(1, lanes // _NARROWER), 0
            if progress is not None:
                progress(float(np.mean((status != _RUNNING) & (status != _SLOW))))
            # A short queue fills the lanes with copies, which write the same values.
            lane = jnp.asarray(np.resize(active[:lanes], lanes))
            state = _advance(system, size, parameters, state, lane, grid, method, going)
            status = np.asarray(state.status)[:members]
    if progress is not None:
        progress(1.0)
    result = _finish(system, size, parameters, state)
    return jax.tree.map(lambda leaf: leaf[:members], result)


@eqx.filter_jit
def _start(
    system: AbstractLocalSystem,
    size: Size,
    parameters: PyTree,
    initial: Array,
    ts: Array,
    method: LogTimeODE,
) -> _Member:
    def one(parameters: PyTree, y: Array) -> _Member:
        rate = system.field(parameters, y)
        norm, speed = jnp.linalg.norm(y.ravel()), jnp.linalg.norm(rate.ravel())
        # A state at rest has no time scale of its own: any will do.
        moving = (speed > 0) & (norm > 0)
        tau = jnp.where(moving, norm / jnp.where(moving, speed, 1.0), 1.0)
        saved = jnp.full((ts.shape[0], *y.shape), jnp.nan)
        first = ts[0] == 0.0
        return _Member(
            s=jnp.zeros(()),
            y=y,
            step=jnp.full((), 0.01),
            saved=saved.at[0].set(jnp.where(first, y, jnp.nan)),
            index=jnp.where(first, 1, 0),
            steps=jnp.zeros((), int),
            status=jnp.where(first & (ts.shape[0] == 1), _DONE, _RUNNING),
            tau=tau,
            scale=jnp.where(norm > 0, norm, 1.0),
            limit=method.growth_limit * jnp.where(norm > 0, size(y), 1.0),
        )

    return jax.vmap(one)(parameters, initial)


@eqx.filter_jit
def _advance(
    system: AbstractLocalSystem,
    size: Size,
    parameters: PyTree,
    state: _Member,
    lane: Array,
    ts: Array,
    method: LogTimeODE,
    going: int,
) -> _Member:
    """The members in the lanes, `_STRIDE` attempted steps further, of those with this status."""
    mine = jax.tree.map(lambda leaf: leaf[lane], parameters)
    step = jax.vmap(functools.partial(_step, system, size, ts, method, going))
    moved = jax.lax.fori_loop(
        0, _STRIDE, lambda _, own: step(mine, own), jax.tree.map(lambda leaf: leaf[lane], state)
    )
    return jax.tree.map(lambda leaf, new: leaf.at[lane].set(new), state, moved)


def _step(
    system: AbstractLocalSystem,
    size: Size,
    ts: Array,
    method: LogTimeODE,
    going: int,
    parameters: PyTree,
    member: _Member,
) -> _Member:
    """One attempted step of one member that is `going`; others stay as they are."""
    s, y, tau = member.s, member.y, member.tau
    running = member.status == going
    time = tau * jnp.expm1(s)

    target = jnp.log1p(ts[jnp.minimum(member.index, ts.shape[0] - 1)] / tau)
    reaches = s + member.step >= target
    h = jnp.where(reaches, target - s, member.step)

    origin = system.origin(y)

    def slope(node: Array, z: Array) -> Array:
        """dz/ds at s + node h, raveled."""
        velocity = system.velocity(parameters, y, z.reshape(origin.shape))
        return tau * jnp.exp(s + node * h) * velocity.ravel()

    z, error, first = (_implicit if going == _SLOW else explicit_step)(slope, h, origin.ravel())
    point = system.state(y, z.reshape(origin.shape))
    error, first = (system.along(y, each.reshape(origin.shape)) for each in (error, first))

    # d log size / dt times t.
    magnitude, change = jax.jvp(size, (y,), (first,))
    growth = change / jnp.where(magnitude > 0, magnitude, 1.0) * time / (time + tau)
    singular = (magnitude > member.limit) | (growth > RESOLVED_RATE)

    # Every row has a size of its own: those that decay keep their digits.
    size_of_rows = jnp.max(jnp.maximum(jnp.abs(y), jnp.abs(point)), axis=-1, keepdims=True)
    bound = method.atol * member.scale + method.rtol * size_of_rows
    ratio = jnp.sqrt(jnp.mean((error / bound) ** 2))
    ratio = jnp.where(jnp.isfinite(ratio), ratio, jnp.inf)
    accepted = (ratio <= 1.0) & running & ~singular
    factor = jnp.clip(0.9 * jnp.maximum(ratio, 1e-10) ** -0.2, 0.2, 8.0)
    # A step cut short by a time to keep does not forget the longer one that would have done.
    proposed = jnp.where(reaches & (ratio <= 1.0), jnp.maximum(h * factor, member.step), h * factor)

    kept = accepted & reaches
    here = (jnp.arange(ts.shape[0]) == member.index) & kept
    index = member.index + kept
    steps = member.steps + running
    stalled = s + proposed <= s
    slow = (steps >= EXPLICIT_STEPS) & (origin.size <= MOST_IMPLICIT)
    status = jnp.where(
        running,
        jnp.select(
            [singular, index >= ts.shape[0], steps >= method.max_steps, stalled, slow],
            [_SINGULAR, _DONE, _STEPS, _STALLED, _SLOW],
            going,
        ),
        member.status,
    )
    return _Member(
        s=jnp.where(accepted, jnp.where(reaches, target, s + h), s),
        y=jnp.where(accepted, point, y),
        step=jnp.where(running, proposed, member.step),
        saved=jnp.where(here.reshape((-1,) + (1,) * y.ndim), point, member.saved),
        index=index,
        steps=steps,
        status=status,
        tau=tau,
        scale=member.scale,
        limit=member.limit,
    )


def _implicit(
    slope: Callable[[Array, Array], Array], h: Array, origin: Array
) -> tuple[Array, Array, Array]:
    """The new coordinates by Rodas5, their error, and their first slope."""
    # dz/ds depends on s through the factor t + tau = tau e^s, so that its derivative is itself.
    return rosenbrock_step(slope, h, lambda value: value, origin)


@eqx.filter_jit
def _classify(
    system: AbstractLocalSystem, size: Size, parameters: PyTree, t: Array, y: Array
) -> tuple[Array, Array]:
    def one(parameters: PyTree, t: Array, y: Array) -> tuple[Array, Array]:
        return singularity_time(lambda t, y: system.field(parameters, y), size, t, y)

    return jax.vmap(one)(parameters, t, y)


def _finish(
    system: AbstractLocalSystem, size: Size, parameters: PyTree, state: _Member
) -> LogTimeResult:
    status = np.asarray(state.status)
    time = np.asarray(state.tau) * np.expm1(np.asarray(state.s))
    blow_up_time = np.full(status.shape, np.inf)
    singular = np.zeros(status.shape, bool)
    stopped = status == _SINGULAR
    if stopped.any():
        found, when = _classify(system, size, parameters, jnp.asarray(time), state.y)
        singular = stopped & np.asarray(found)
        blow_up_time = np.where(singular, np.asarray(when), np.inf)
    kinds = (
        Outcome.successful,
        Outcome.blow_up,
        Outcome.divergence,
        Outcome.max_steps_reached,
        Outcome.non_finite,
    )
    codes = np.select([singular, stopped], [1, 2], np.choose(status, [0, 0, 0, 0, 3, 4]))
    outcome = jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves])[codes], *kinds
    )
    return LogTimeResult(
        states=np.asarray(state.saved),
        last=np.asarray(state.y),
        last_time=time,
        outcome=outcome,
        blow_up_time=blow_up_time,
        steps_taken=np.asarray(state.steps),
    )
