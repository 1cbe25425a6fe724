"""Steps of an ensemble of paths between the times that are kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from translimit.core import (
    POSITIVE,
    AbstractMethod,
    ArgumentTypeError,
    Outcome,
    Retraction,
    device_count,
    following_inputs,
    is_traced,
    map_shards,
    require_count,
    require_real,
    require_retraction,
    rounded_up,
)

#: Paths that run together; progress is told after each group.
GROUP = 1024
#: The first step that is tried where none is given.
FIRST_STEP = 0.02


class SphereEuler(AbstractMethod):
    """Euler steps on the sphere, the normalisation supplying the Ito correction; weak order one.

    With `samples` heads a step the scheme is in law the chain with that many heads and
    step^2 = samples * diffusive step, so its cost does not depend on the layers and heads of the
    network that it stands for. The mean of the sampled kernel is exact for every `samples`.

    Attributes:
        step: largest step, in the problem's own time; by default 0.02 is halved until the error
            of the steps is below the sampling error of the paths.
        samples: heads drawn at every step; 1 suffices.
        paths: independent paths, at least 2.
        retraction: AMBIENT by default: in means of overlaps its error is 3 to 15 times smaller.
    """

    step: float | None = eqx.field(static=True, default=None)
    samples: int = eqx.field(static=True, default=1)
    paths: int = eqx.field(static=True, default=256)
    retraction: Retraction = eqx.field(static=True, default=Retraction.AMBIENT)
    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_step(self.step)
        require_count(self.samples, "samples", 1)
        require_count(self.paths, "paths", 2)
        require_retraction(self.retraction)


def require_step(step: float | None) -> None:
    """A positive step, or none.

    Raises:
        ArgumentError: a step that is not positive.
    """
    if step is not None:
        require_real(step, "step", POSITIVE)


class Schedule(eqx.Module):
    """The steps [steps] and the save time that each one leads to [steps]."""

    sizes: Any
    slots: Any
    saves: int = eqx.field(static=True)

    @property
    def largest(self) -> float:
        """The largest step."""
        return float(np.max(self.sizes, initial=0.0))


def schedule(ts: Any, step: float) -> Schedule:
    """Equal steps of at most `step` between consecutive save times, from time 0.

    Raises:
        ArgumentTypeError: traced times, which can not decide a number of steps.
    """
    if is_traced(ts):
        raise ArgumentTypeError("save", "is traced, or t1 is", "pass concrete times")
    gaps = np.diff(np.asarray(ts, dtype=np.float64), prepend=0.0)
    counts = np.array([math.ceil(gap / step - 1e-9) for gap in gaps], dtype=int)
    sizes = np.repeat(gaps / np.maximum(counts, 1), counts)
    return Schedule(sizes, np.repeat(np.arange(len(gaps)), counts), len(gaps))


def run_paths(
    advance: Callable[..., Any],
    initial: Any,
    parameters: Any,
    plan: Schedule,
    method: SphereEuler,
    key: Any,
    progress: Callable[[float], object] | None,
) -> Any:
    """States [paths, saves, ...] of `advance(parameters, state, step, key)` from one start.

    Path p takes the stream `fold_in(key, p)` and step k of it `fold_in(., k)`.
    """
    group = rounded_up(min(method.paths, GROUP * device_count()))
    parts = []
    for start in range(0, method.paths, group):
        indices = np.arange(start, start + group)
        part = following_inputs(_Paths(advance), initial, (parameters, plan, indices, key))
        parts.append(part[: method.paths - start])
        if progress is not None:
            progress(min(1.0, (start + group) / method.paths))
    xp = jnp if isinstance(parts[0], jax.Array) else np
    return xp.concatenate(parts)


def outcome_of(states: Any) -> Outcome:
    """Successful, or an update that cancelled a token and left NaN."""
    finite = jnp.isfinite(states).all() if is_traced(states) else np.isfinite(states).all()
    return Outcome.where(finite, Outcome.successful, Outcome.degenerate_update)


class _Paths(eqx.Module):
    advance: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, initial: Any, parameters: Any) -> Any:
        return _run(self.advance, initial, *parameters)


@eqx.filter_jit
def _run(
    advance: Any, initial: Any, parameters: Any, plan: Schedule, indices: Any, key: Any
) -> Any:
    shared = (initial, parameters, plan, key)
    return map_shards(functools.partial(_paths, advance), (indices,), (0,), shared)


def _paths(advance: Any, indices: Any, shared: Any) -> Any:
    """The paths of these indices."""
    initial, parameters, plan, key = shared
    sizes = jnp.asarray(plan.sizes, initial.dtype)
    numbers = jnp.arange(sizes.shape[0])
    slots = jnp.asarray(plan.slots)

    def path(index: Any) -> Any:
        path_key = jax.random.fold_in(key, index)

        def one(carry: Any, this: Any) -> Any:
            state, kept = carry
            size, slot, number = this

            def moved() -> Any:
                return advance(parameters, state, size, jax.random.fold_in(path_key, number))

            # A coarser schedule has steps of size zero, which cost nothing.
            state = jax.lax.cond(size > 0, moved, lambda: state)
            return (state, kept.at[slot].set(state)), None

        kept = jnp.broadcast_to(initial, (plan.saves, *initial.shape))
        (_, kept), _ = jax.lax.scan(one, (initial, kept), (sizes, slots, numbers))
        return kept

    return jax.vmap(path)(indices)
