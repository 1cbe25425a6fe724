"""A whole compressed pass: time steps, more room where ranks need it, checkpoints, its trace."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    ArgumentError,
    Key,
    MemoryLimitError,
    Progress,
    available_memory,
    drop_programs,
)
from translimit.limits.dmft.compressed.cost import expected_rank, pass_bytes
from translimit.limits.dmft.compressed.growing import roomier
from translimit.limits.dmft.compressed.heads import Heads
from translimit.limits.dmft.compressed.one_step import advance, kernel
from translimit.limits.dmft.compressed.shape import Room, Shape
from translimit.limits.dmft.compressed.sites import AbstractSampledSite
from translimit.limits.dmft.compressed.state import (
    Record,
    State,
    in_more_room,
    in_parts,
    in_whole_stacks,
    initial_state,
    kept_bytes,
    room_of,
)
from translimit.limits.dmft.passes import Trace
from translimit.limits.dmft.plan import Numbers
from translimit.limits.dmft.resume import Checkpoints

#: Held while a program is compiled: of passes that run side by side only one compiles it.
_COMPILING = threading.Lock()
#: Shapes that have been compiled in this process.
_COMPILED: set[object] = set()


class SmallPopulationError(ArgumentError):
    """A population has under twice as many coordinates as directions."""


def compressed_pass(
    shape: Shape,
    numbers: Numbers,
    steps: int,
    key: Key,
    heads_kept: int,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    clock: int = 1,
) -> Trace:
    """All time steps, in 64 bits; stops at the first kernel that is not finite.

    Args:
        shape: of the pass.
        numbers: its data and constants.
        steps: evaluations.
        key: of the population.
        heads_kept: heads whose scores are kept.
        progress: told the fraction that is done.
        checkpoints: where the pass goes on from, and is stored.
        clock: updates that a step is long. Innovations, weights of rows and what is kept for
            kernels go by updates.

    Raises:
        SmallPopulationError: a population has under twice as many coordinates as directions.
        MemoryLimitError: the directions do not fit into the memory that is free.
    """
    if checkpoints is not None and (whole := checkpoints.finished(_empty_trace())):
        if progress is not None:
            progress(1.0)
        return whole
    with jax.enable_x64(True):
        numbers = jax.tree.map(partial(jnp.asarray, dtype=jnp.float64), numbers)
        gain = float(numbers.score_gain)
        state, records = initial_state(shape, gain), []
        if checkpoints is not None:
            empty = Record(*[np.zeros(0)] * len(Record._fields))
            done, whole, past = checkpoints.load(in_whole_stacks(state), empty)
            if done:
                whole = jax.tree.map(jnp.asarray, whole)
                shape = _in_its_room(shape, whole)
                state = in_parts(whole, shape)
                records = [jax.tree.map(lambda x, t=t: x[t], past) for t in range(done)]
        for t in range(len(records), steps):
            last = records[-1] if records else None
            shape, state = with_room(shape, state, last, t, steps, gain)
            with one_compiles(shape, heads_kept):
                state, record = advance(
                    shape, numbers, state, np.asarray(clock * t), key, heads_kept
                )
            records.append(jax.tree.map(np.asarray, record))
            if progress is not None:
                progress((t + 1) / steps)
            if not (records[-1].finite.all() and np.isfinite(records[-1].f).all()):
                break
            if checkpoints is not None and t + 1 < steps:
                past = Record(*map(np.stack, zip(*records, strict=True)))
                checkpoints.save(t + 1, in_whole_stacks(state), past)
        ranks, _ = _used(shape, records[-1])
        require_population(shape, ranks, len(records), len(records))
        kernels = _kernels(shape, state, records, steps, clock)
    trace = _trace(records, steps, kernels)
    if checkpoints is not None:
        checkpoints.finish(steps, trace)
    return trace


@contextlib.contextmanager
def one_compiles(shape: Shape, heads_kept: int) -> Iterator[None]:
    """A time step of a shape: the first of those side by side compiles it, the others wait."""
    told = (shape, heads_kept)
    with contextlib.nullcontext() if told in _COMPILED else _COMPILING:
        # Ranks decide shapes, which are few for one problem; a process may solve many.
        if told not in _COMPILED and drop_programs():
            _COMPILED.clear()
        yield
    _COMPILED.add(told)


def with_room(
    shape: Shape, state: State, last: Record | None, t: int, steps: int, gain: float
) -> tuple[Shape, State]:
    """The state with room for one more time step, and its shape.

    Args:
        shape: of the state.
        state: before time t.
        last: what the step before reported; None at the start.
        t: of the step that follows.
        steps: of the whole pass.
        gain: factor of the scores at the start.

    Raises:
        SmallPopulationError: a population has under twice as many coordinates as directions.
        MemoryLimitError: the directions do not fit into the memory that is free.
    """
    ranks, columns = _used(shape, last)
    require_population(shape, ranks, t, steps)
    more = roomier(shape, ranks, columns)
    if more == shape:
        return shape, state
    _require_memory(more, kept_bytes(state, more))
    return more, in_more_room(state, shape, more, gain)


def first_kernel(shape: Shape, numbers: Numbers, key: Key) -> Float[np.ndarray, "rows rows"]:
    """The tangent kernel of the first evaluation alone."""
    with jax.enable_x64(True), _COMPILING:
        numbers = jax.tree.map(partial(jnp.asarray, dtype=jnp.float64), numbers)
        state = initial_state(shape, float(numbers.score_gain))
        return np.asarray(kernel(shape, numbers, state, jnp.asarray(0), key))


def require_population(shape: Shape, ranks: list[Room], t: int, steps: int) -> None:
    """Whether populations are twice as large as what is orthogonal in them.

    Raises:
        SmallPopulationError: with the size that the whole solve is expected to need.
    """
    growth = expected_rank(shape.fields, steps) / expected_rank(shape.fields, max(t, 1))
    for site, used in zip(shape.sites, ranks, strict=True):
        if not (isinstance(site, AbstractSampledSite) and site.matched):
            continue
        if 2 * used.basis <= site.width:
            continue
        dim = site.head_dim if isinstance(site, Heads) else 1
        needed = int(np.ceil(2.2 * used.basis * max(growth, 1.0) / dim))
        name = "heads" if isinstance(site, Heads) else "neurons"
        raise SmallPopulationError(
            name,
            f"got {site.samples}, where {used.basis} directions after {t} of {steps} evaluations "
            f"need twice as many coordinates",
            f"take about {needed}, a larger tol, or moment_matching=False",
        )


def _used(shape: Shape, last: Record | None) -> tuple[list[Room], int]:
    """Largest ranks over layers, and columns, after a time step."""
    if last is None:
        return [Room(0, 0, 0, 0, 0) for _ in shape.sites], shape.first
    largest = np.asarray(last.ranks).max(axis=0)
    return [Room.of(row.tolist()) for row in largest], int(last.columns)


def _in_its_room(shape: Shape, state: State) -> Shape:
    """The shape with the room that a state has."""
    units = enumerate(state.layers[0])
    rooms = tuple(room_of(shape, index, unit) for index, unit in units)
    return shape.in_room(rooms, state.embedding.shape[1])


def _require_memory(shape: Shape, kept: int) -> None:
    """Whether there is memory for more room, beside what is kept of the old as it is."""
    need, there = pass_bytes(shape) - kept, available_memory()
    if need > there:
        raise MemoryLimitError(
            "heads",
            f"directions need {need / 2**30:.2f} GiB, and {there / 2**30:.2f} GiB are free",
            "take a larger tol, fewer inputs, tokens, heads, neurons or passes at_once, or "
            "precision='float32'",
        )


def _kernels(
    shape: Shape, state: State, records: list[Record], steps: int, clock: int
) -> dict[str, Float[np.ndarray, ...]]:
    """Kernels of residual states and gradients by layer, and what was regressed."""
    updates = clock * (steps - 1) + 1
    columns, size = int(records[-1].columns), -(-updates // shape.stride) * shape.fields

    def grams(stack: Float[Array, "states kept sources"]) -> Float[np.ndarray, "states rows rows"]:
        found = [own @ own.T for own in np.asarray(stack)[:, :size, :columns]]
        return np.stack([(gram + gram.T) / 2 for gram in found])

    motion = np.full((shape.layers + 1, 1, steps * shape.fields), np.nan)
    moved = np.stack([record.motion for record in records], axis=1)
    motion[:, 0, : len(records) * shape.fields] = moved.reshape(shape.layers + 1, -1)
    kernels = {
        "residual": grams(state.stream),
        "gradient": grams(state.gradient),
        "motion": motion,
    }
    for name, own in (("R_h", "h"), ("R_p", "p"), ("R_v", "x"), ("R_g", "g")):
        back = {"h": "p", "p": "h", "x": "g", "g": "x"}[own]
        ranks = [
            {one: int(records[-1].ranks[:, index, place].max()) for place, one in enumerate("hpxg")}
            for index in range(len(shape.sites))
        ]
        rows = max(one[own] for one in ranks), max(one[back] for one in ranks)
        stacked = np.zeros((shape.layers, len(shape.sites), *rows))
        for layer, units in enumerate(state.layers):
            for index, unit in enumerate(units):
                a, b = ranks[index][own], ranks[index][back]
                met = np.asarray(getattr(unit, own).regression)
                stacked[layer, index, :a, :b] = met[:a, :b]
        kernels[name] = stacked
    return kernels


def _trace(records: list[Record], steps: int, kernels: dict[str, np.ndarray]) -> Trace:
    """The trace of a pass, NaN where it stopped before."""
    missing = steps - len(records)
    rows = {name: np.stack([getattr(r, name) for r in records]) for name in Record._fields}
    filled = {
        name: np.concatenate([x, np.full((missing, *x.shape[1:]), _absent(x), x.dtype)])
        for name, x in rows.items()
    }
    return Trace(
        **{name: filled[name] for name in Trace._fields if name != "kernels"}, kernels=kernels
    )


def _empty_trace() -> Trace:
    """A trace of the right structure."""
    names = ("residual", "gradient", "motion", "R_h", "R_p", "R_v", "R_g")
    nothing = np.zeros(0)
    return Trace(
        **{name: nothing for name in Trace._fields if name != "kernels"},
        kernels=dict.fromkeys(names, nothing),
    )


def _absent(x: np.ndarray) -> float | bool | int:
    if x.dtype == bool:
        return False
    return -1 if x.dtype.kind == "i" else np.nan
