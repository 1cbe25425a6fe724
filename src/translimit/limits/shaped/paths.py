"""Paths of the covariance SDE, chunk by chunk: the compiled program and who runs it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt32

from translimit.core import (
    AnyArray,
    Floats,
    Keep,
    Key,
    Number,
    Progress,
    Times,
    available_threads,
    device_count,
    in_float64,
    is_traced,
    map_shards,
    part_of,
    rounded_up,
    side_by_side,
)
from translimit.limits.shaped.block import Block, ShapedMLP
from translimit.limits.shaped.methods import AbstractCovarianceMethod, attention_rate
from translimit.limits.shaped.noise import StepNoise, summed

#: Paths computed together; adaptive ones wait for the slowest of their chunk.
_CHUNK, _ADAPTIVE_CHUNK = 4096, 256
#: Entries of m x m matrices that a chunk may hold: what an accelerator needs to be busy, and what
#: stays in the cache of a core.
_CHUNK_ENTRIES, _CHUNK_ENTRIES_OF_A_CORE = 2**18, 2**12
#: Programs that this process has compiled for paths on its cores.
_compiled: set[Hashable] = set()
#: A remainder of an interval below this fraction of a step is rounding.
_ROUNDING = 1e-9


#: State, time, steps, blow-up time and stopping time of a path.
_Carry = tuple[Array, Array, Array, Array, Array]


class Paths(eqx.Module):
    """What paths have at the times kept.

    Attributes:
        cov: covariances [paths, times, tokens, tokens]; NaN after a blow-up, frozen after a stop.
        log_det: log det of them [paths, times].
        blow_up_time: of every path, infinity where there is none [paths].
        stopping_time: of every path, infinity where there is none [paths].
        steps_taken: steps taken by each path [paths].
        observed: what was observed of the covariances, by name [paths, times, ...].
    """

    cov: Float[AnyArray, "*paths kept tokens tokens"]
    log_det: Float[AnyArray, "*paths times"]
    blow_up_time: Float[AnyArray, "*paths"]
    stopping_time: Float[AnyArray, "*paths"]
    steps_taken: UInt32[AnyArray, "*paths"]
    observed: dict[str, Floats] = eqx.field(default_factory=dict)

    def times_unit(self, unit: float) -> Paths:
        """The paths of `unit` times these covariances."""
        if unit == 1.0:
            return self
        log_det = self.log_det + self.cov.shape[-1] * math.log(unit)
        return dataclasses.replace(self, cov=self.cov * unit, log_det=log_det)


class Ensemble(eqx.Module):
    """Paths from one covariance; path i has the key of its index, whatever the chunks.

    Attributes:
        block: of the equation.
        initial: covariance at time 0 [tokens, tokens].
        stop_trace: trace at which a path is stopped.
        method: whose steps are taken.
        key: of all paths.
        unit: in which covariances are measured here; observables see them in that of the caller.
    """

    block: Block | ShapedMLP
    initial: Float[AnyArray, "tokens tokens"]
    stop_trace: Float[AnyArray, ""]
    method: AbstractCovarianceMethod
    key: Key
    unit: float = 1.0

    def paths(
        self,
        count: int,
        ts: Times,
        max_step: Number,
        parts: int = 1,
        keep: Keep | None = None,
        progress: Progress | None = None,
    ) -> Paths:
        """The first `count` paths.

        Args:
            count: how many.
            ts: the times kept.
            max_step: the largest step.
            parts: steps whose noise one step takes: with two, steps of 2 h are on the noise of
                those of h.
            keep: what is kept at the times: the covariances by default.
            progress: told the share of the work that is done.
        """
        keep = Keep() if keep is None else keep
        traced = is_traced(self, ts, max_step)
        most = self.method.paths
        chunks = 1 if traced else math.ceil(most / self._largest_chunk())
        # One size for every count and step, and so one compiled program.
        method = dataclasses.replace(self.method, max_step=None, paths=1)
        size = rounded_up(count if traced else math.ceil(most / chunks))

        def compute(chunk: int) -> Paths:
            indices = np.arange(chunk * size, (chunk + 1) * size)
            shared = (self.block, self.initial, ts, self.stop_trace, method)
            numbers = np.float64(max_step) if not traced else max_step, np.uint32(parts)
            return in_float64(_paths, *shared, *numbers, self.key, keep, self.unit, indices)

        shapes = len(self.initial), len(ts), size
        observables = tuple(id(function) for function in jax.tree.leaves(keep))
        program = jax.tree.structure((self.block, method, keep)), observables, *shapes
        results = _side_by_side(compute, math.ceil(count / size), program, progress)
        xp = jnp if traced else np
        return jax.tree.map(lambda *each: xp.concatenate(each)[:count], *results)

    def _largest_chunk(self) -> int:
        """Paths that are computed together at most."""
        on_cores = jax.default_backend() == "cpu"
        entries = _CHUNK_ENTRIES_OF_A_CORE if on_cores else _CHUNK_ENTRIES
        largest = _CHUNK if self.method.adaptive is None else _ADAPTIVE_CHUNK
        return max(1, min(largest, entries // len(self.initial) ** 2)) * device_count()


def _side_by_side(
    compute: Callable[[int], Paths],
    chunks: int,
    program: Hashable,
    progress: Progress | None,
) -> list[Paths]:
    """`compute` of every chunk: the first alone where it compiles, then as threads allow."""
    alone = 0 if program in _compiled else 1

    def call(chunk: int, report: Progress) -> Paths:
        result = compute(chunk)
        report(1.0)
        return result

    calls = [functools.partial(call, chunk) for chunk in range(chunks)]
    first = side_by_side(calls[:alone], 1, part_of(progress, 0.0, alone / chunks))
    _compiled.add(program)
    # The mesh of several devices is known to this thread only, and so is a trace.
    at_once = 1 if device_count() > 1 or chunks == 1 else available_threads()
    return first + side_by_side(calls[alone:], at_once, part_of(progress, alone / chunks, 1.0))


@eqx.filter_jit
def _paths(
    block: Block | ShapedMLP,
    initial: Array,
    ts: Array,
    stop_trace: Array,
    method: AbstractCovarianceMethod,
    step: Array,
    parts: Array,
    key: Key,
    keep: Keep,
    unit: Array,
    indices: Array,
) -> Paths:
    shared = (block, initial, ts, stop_trace, method, step, parts, key, keep, unit)
    return map_shards(_paths_of, (indices,), (0,), shared)


def _paths_of(indices: Array, shared: tuple[PyTree, ...]) -> Paths:
    """The paths of these indices."""
    block, initial, ts, stop_trace, method, step, parts, key, keep, unit = shared
    start = method.start(initial)
    blow_up_trace = method.growth_limit * method.trace(start)
    intervals = jnp.diff(ts, prepend=0.0)
    ceiling = jnp.maximum(jnp.ceil(intervals / step * (1 - _ROUNDING)), 1.0)

    def path(index: Array) -> Paths:
        own = jax.random.fold_in(key, index)

        def to_next(
            carry: _Carry, interval: tuple[Array, Array, Array]
        ) -> tuple[_Carry, tuple[Array, Array, dict[str, Array]]]:
            duration, longest, t = interval
            before = carry[1]

            def running(loop: tuple[Array, _Carry]) -> Array:
                elapsed, (_, _, _, blown, stopped) = loop
                alive = jnp.isinf(blown) & jnp.isinf(stopped)
                return alive & (duration - elapsed > _ROUNDING * longest)

            def advance(loop: tuple[Array, _Carry]) -> tuple[Array, _Carry]:
                elapsed, (state, _, count, blown, stopped) = loop
                # Paths that are over step beside the others of their chunk, for nothing.
                left = duration - elapsed
                h = jnp.where(left > 0, jnp.minimum(longest, left), longest)
                if method.adaptive is not None:
                    h = jnp.minimum(h, parts * method.adaptive**2 / attention_rate(block, state))

                def draw(part: Array) -> StepNoise:
                    part_key = jax.random.fold_in(own, count * parts + part)
                    return method.noise(block, state, h / parts, part_key)

                noise = summed(draw, parts, method.degrees(block, h))
                state = method.advance(block, state, h, noise)
                elapsed = elapsed + h
                now, trace = before + elapsed, method.trace(state)
                exploded = ~(trace <= blow_up_trace) & ~(trace > stop_trace)
                blown = jnp.where(exploded, now, blown)
                stopped = jnp.where(trace > stop_trace, now, stopped)
                # A path that is over costs the others of its chunk nothing.
                state = jnp.where(exploded, start, state)
                return elapsed, (state, now, count + 1, blown, stopped)

            _, carry = jax.lax.while_loop(running, advance, (jnp.zeros_like(duration), carry))
            state, _, count, blown, stopped = carry
            cov, log_det = method.read(state)
            lost = jnp.isfinite(blown)
            kept = jax.tree.map(
                lambda leaf: jnp.where(lost, jnp.nan, leaf),
                (keep.kept(cov), log_det, keep.observed(t, cov * unit)),
            )
            return (state, before + duration, count, blown, stopped), kept

        never = jnp.asarray(jnp.inf, initial.dtype)
        carry = (start, jnp.zeros_like(never), jnp.asarray(0, jnp.uint32), never, never)
        (_, _, count, blown, stopped), (cov, log_det, observed) = jax.lax.scan(
            to_next, carry, (intervals, intervals / ceiling, ts)
        )
        return Paths(keep.stacked(cov), log_det, blown, stopped, count, dict(observed))

    return jax.vmap(path)(indices)
