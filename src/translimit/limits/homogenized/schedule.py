"""Steps of an ensemble of paths between the times that are kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from translimit.core import (
    POSITIVE,
    AbstractMethod,
    AnyArray,
    ArgumentTypeError,
    Key,
    Number,
    Observable,
    Outcome,
    Progress,
    Retraction,
    Times,
    device_count,
    following_inputs,
    is_traced,
    map_shards,
    require_count,
    require_real,
    require_retraction,
    rounded_up,
)

#: One step of a path: parameters, state, size of the step, key.
Advance = Callable[
    [PyTree, Float[Array, "tokens width"], Float[Array, ""], Key], Float[Array, "tokens width"]
]
#: Paths that run together; progress is told after each group.
GROUP = 1024
#: The first step that is tried where none is given.
FIRST_STEP = 0.02


class SphereEuler(AbstractMethod):
    """Euler steps on the sphere, the normalisation supplying the Ito correction; weak order one.

    With so many heads a step the scheme is in law the chain with that many heads and
    step^2 = heads_per_step * diffusive step, so its cost does not depend on the layers and heads of
    the network that it stands for. The mean of the sampled kernel is exact for any such number.

    Attributes:
        max_step: largest step, in the problem's own time; by default 0.02 is halved until the error
            of the steps is below the sampling error of the paths.
        heads_per_step: heads drawn at every step; 1 suffices.
        paths: independent paths, at least 2.
        retraction: AMBIENT by default: in means of overlaps its error is 3 to 15 times smaller.
    """

    max_step: float | None = eqx.field(static=True, default=None)
    heads_per_step: int = eqx.field(static=True, default=1)
    paths: int = eqx.field(static=True, default=256)
    retraction: Retraction = eqx.field(static=True, default=Retraction.AMBIENT)
    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_max_step(self.max_step)
        require_count(self.heads_per_step, "heads_per_step", 1)
        require_count(self.paths, "paths", 2)
        require_retraction(self.retraction)


def require_max_step(max_step: float | None) -> None:
    """A positive step, or none.

    Raises:
        ArgumentError: a step that is not positive.
    """
    if max_step is not None:
        require_real(max_step, "max_step", POSITIVE)


class Schedule(eqx.Module):
    """The steps [steps] and the number of the save time that each one leads to [steps]."""

    sizes: Float[AnyArray, " steps"]
    slots: Int[AnyArray, " steps"]
    saves: int = eqx.field(static=True)

    @property
    def largest(self) -> float:
        """The largest step."""
        return float(np.max(self.sizes, initial=0.0))


def schedule(ts: Times | Sequence[Number], max_step: float) -> Schedule:
    """Equal steps of at most `max_step` between consecutive save times, from time 0.

    Raises:
        ArgumentTypeError: traced times, which can not decide a number of steps.
    """
    if is_traced(ts):
        raise ArgumentTypeError("save", "is traced, or t1 is", "pass concrete times")
    gaps = np.diff(np.asarray(ts, dtype=np.float64), prepend=0.0)
    counts = np.array([math.ceil(gap / max_step - 1e-9) for gap in gaps], dtype=int)
    sizes = np.repeat(gaps / np.maximum(counts, 1), counts)
    return Schedule(sizes, np.repeat(np.arange(len(gaps)), counts), len(gaps))


class Kept(eqx.Module):
    """What was kept of paths.

    Attributes:
        states: [paths, saves, tokens, width], or [paths, 0, tokens, width] where none is kept.
        observed: values of the functions, one after the other, each [paths, saves, ...].
    """

    states: Float[AnyArray, "paths kept tokens width"]
    observed: tuple[Shaped[AnyArray, "paths saves ..."], ...]


def run_paths(
    advance: Advance,
    initial: Float[AnyArray, "tokens width"],
    parameters: PyTree,
    plan: Schedule,
    method: SphereEuler,
    key: Key,
    progress: Progress | None,
    *,
    ts: Times,
    observe: tuple[Observable, ...] = (),
    states: bool = True,
) -> Kept:
    """States of `advance(parameters, state, step, key)` from one start, and functions of them.

    Path p takes the stream `fold_in(key, p)` and step k of it `fold_in(., k)`.

    Args:
        advance: one step.
        initial: the state at time 0.
        parameters: of the steps.
        plan: the steps.
        method: with the number of paths.
        key: of the noise.
        progress: told the share of the paths that is done.
        ts: the save times that the functions are told [saves].
        observe: functions of the time and the state of one path, evaluated at the save times.
        states: whether the states are kept.
    """
    group = rounded_up(min(method.paths, GROUP * device_count()))
    parts = []
    for start in range(0, method.paths, group):
        indices = np.arange(start, start + group)
        shared = (parameters, plan, indices, key, ts, observe, states)
        part = following_inputs(_Paths(advance), initial, shared)
        left = method.paths - start
        parts.append(jax.tree.map(lambda leaf, left=left: leaf[:left], part))
        if progress is not None:
            progress(min(1.0, (start + group) / method.paths))
    kept, observed = jax.tree.map(_joined, *parts)
    return Kept(kept, observed)


def _joined(*parts: AnyArray) -> AnyArray:
    """The paths of all groups."""
    xp = jnp if isinstance(parts[0], jax.Array) else np
    return xp.concatenate(parts)


def outcome_of(finite: Bool[AnyArray, ...] | np.bool_) -> Outcome:
    """Successful, or an update that cancelled a token and left NaN.

    Args:
        finite: whether states are.
    """
    every = finite.all()
    return Outcome.where(every, Outcome.successful, Outcome.degenerate_update)


class _Paths(eqx.Module):
    advance: Advance = eqx.field(static=True)

    def __call__(self, initial: Float[Array, "tokens width"], parameters: PyTree) -> PyTree[Array]:
        return _run(self.advance, initial, *parameters)


@eqx.filter_jit
def _run(
    advance: Advance,
    initial: Float[Array, "tokens width"],
    parameters: PyTree,
    plan: Schedule,
    indices: Int[Array, " paths"],
    key: Key,
    ts: Times,
    observe: tuple[Observable, ...],
    states: bool,
) -> PyTree[Array]:
    shared = (initial, parameters, plan, key, ts, observe, states)
    return map_shards(functools.partial(_paths, advance), (indices,), (0,), shared)


def _paths(advance: Advance, indices: Int[Array, " paths"], shared: PyTree) -> PyTree[Array]:
    """States and observables of the paths of these indices."""
    initial, parameters, plan, key, ts, observe, states = shared
    sizes = jnp.asarray(plan.sizes, initial.dtype)
    numbers = jnp.arange(sizes.shape[0])
    slots = jnp.asarray(plan.slots)
    # Functions are evaluated after the last of the steps that lead to a time.
    last = jnp.concatenate([slots[1:] != slots[:-1], jnp.ones(min(len(slots), 1), bool)])
    kept_states = plan.saves if states else 0

    def seen(t: Array, state: Array) -> tuple[Array, ...]:
        return tuple(jnp.asarray(function(t, state)) for function in observe)

    def path(index: Array) -> tuple[Array, tuple[Array, ...]]:
        path_key = jax.random.fold_in(key, index)

        def one(carry: PyTree[Array], this: tuple[Array, ...]) -> tuple[PyTree[Array], None]:
            state, kept, values = carry
            size, slot, number, is_last = this

            def moved() -> Array:
                return advance(parameters, state, size, jax.random.fold_in(path_key, number))

            # A coarser schedule has steps of size zero, which cost nothing.
            state = jax.lax.cond(size > 0, moved, lambda: state)
            if states:
                kept = kept.at[slot].set(state)
            if observe:
                values = jax.lax.cond(
                    is_last,
                    lambda: tuple(
                        old.at[slot].set(new)
                        for old, new in zip(values, seen(ts[slot], state), strict=True)
                    ),
                    lambda: values,
                )
            return (state, kept, values), None

        kept = jnp.broadcast_to(initial, (kept_states, *initial.shape))
        values = jax.tree.map(
            lambda one: jnp.broadcast_to(one, (plan.saves, *one.shape)), seen(ts[0], initial)
        )
        carry = initial, kept, values
        (_, kept, values), _ = jax.lax.scan(one, carry, (sizes, slots, numbers, last))
        return kept, values

    return jax.vmap(path)(indices)
