r"""One time step of a compressed pass: forward, readout with its loss, backward, update.

A residual coordinate is exactly linear in white sources and carried as coefficient rows: inner
products are sums over columns. The embedding and the readout are used in one direction only; what
they have learned is one accumulator each,

    h^1 = e + eta_0 gamma_0 K^lr sum over the past of omega Delta g^1,
    w = w(0) + eta_0 gamma_0 sum over the past of omega Delta phi,

and a tied readout is the embedding itself, which receives both.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.core import AnyArray, Key
from translimit.limits.dmft.compressed.blocks import (
    Seen,
    backward_block,
    forward_block,
    over_tokens,
)
from translimit.limits.dmft.compressed.shape import Shape
from translimit.limits.dmft.compressed.state import Record, State, UnitState
from translimit.limits.dmft.compressed.step import Rows, Step, normalised, through_norm
from translimit.limits.dmft.histories import Index, put_columns, put_rows
from translimit.limits.dmft.plan import Numbers


class Readout(NamedTuple):
    """What the readout gives.

    Attributes:
        f: outputs that the loss sees [rows, outputs].
        error: weighted, Delta = -w dl/df.
        drive: what multiplies gradients in the update.
        g: coefficient rows of the gradient at the last stream [fields, sources].
        features: what outputs are read from [rows, sources].
        start: outputs at the start, where they are subtracted.
    """

    f: Array
    error: Array
    drive: Array
    g: Array
    features: Array
    start: Array


class Told(NamedTuple):
    """What the sub-blocks of a layer report."""

    scores: Array
    gain: Array
    key_gradient: Array
    finite: Array
    dropped: Array
    ranks: Array


def advance(
    shape: Shape,
    numbers: Numbers,
    state: State,
    t: Int[AnyArray, ""],
    key: Key,
    heads_kept: int,
    error: Float[Array, "rows outputs"] | None = None,
) -> tuple[State, Record]:
    """One time step, which takes the state over; with `error`, an update by it instead of the
    loss's.

    Two branches, by d and by 0, and one more step of each give the tangent kernel K(t) d at any
    time as the difference of their outputs over eta_0, up to O(|d|). The tolerance may stay what
    it is: what is left out of a field keeps its regression.

    Each half of a layer is one program, compiled once for all layers: their stacks are arrays of
    their own, so that nothing is copied to be read or written. A single layer is one program with
    the rest of the step.
    """
    step = _in_one if shape.layers == 1 else _by_layers
    return step(shape, numbers, state, t, key, heads_kept, _given(shape, error))


class Given(NamedTuple):
    """An error in the place of the loss's: `error` where `used`. One program serves both."""

    error: Array
    used: Array


def _given(shape: Shape, error: Float[Array, "rows outputs"] | None) -> Given:
    """What is given, or what stands in its place."""
    if error is None:
        error = jnp.zeros((shape.rows, shape.outputs), jnp.float64)
        return Given(error, jnp.asarray(False))
    return Given(error, jnp.asarray(True))


def _by_layers(
    shape: Shape,
    numbers: Numbers,
    state: State,
    t: Int[AnyArray, ""],
    key: Key,
    heads_kept: int,
    given: Given,
) -> tuple[State, Record]:
    """One time step, program by program."""
    units, columns, rest = list(state.layers), state.columns, replace(state, layers=())
    h = _start(shape, numbers, rest, t, key)
    stream, seen = [h], []
    for layer in range(shape.layers):
        h, units[layer], columns, one = _forward(
            shape, numbers, units[layer], columns, h, t, key, layer, heads_kept
        )
        stream.append(h)
        seen.append(one)
    out = _read(shape, numbers, rest, h, t, key, given)
    g, ntk = out.g, jnp.zeros((shape.inputs, shape.inputs))
    gradient, told = [g], []
    for layer in reversed(range(shape.layers)):
        g, units[layer], columns, ntk, one = _backward(
            shape, numbers, units[layer], columns, seen[layer], g, out.drive, ntk, t, key, layer
        )
        gradient.append(g)
        told.append(one)
    fields = (tuple(stream), tuple(reversed(gradient)))
    done = _finish(shape, numbers, rest, columns, *fields, ntk, out, tuple(reversed(told)), t, key)
    return replace(done[0], layers=tuple(units)), done[1]


def kernel(
    shape: Shape, numbers: Numbers, state: State, t: Int[AnyArray, ""], key: Key
) -> Float[AnyArray, "rows rows"]:
    """The tangent kernel of an evaluation alone; what only the update needs is not compiled."""
    if shape.layers > 1:
        return _by_layers(shape, numbers, state, t, key, 1, _given(shape, None))[1].ntk
    return _kernel(shape, numbers, state, t, key)


@partial(jax.jit, static_argnames="shape")
def _kernel(shape: Shape, numbers: Numbers, state: State, t: Array, key: Key) -> AnyArray:
    return _by_layers(shape, numbers, state, t, key, 1, _given(shape, None))[1].ntk


_in_one = jax.jit(_by_layers, static_argnames=("shape", "heads_kept"), donate_argnames="state")


@partial(jax.jit, static_argnames="shape")
def _start(shape: Shape, numbers: Numbers, state: State, t: Array, key: Key) -> Rows:
    """The stream before the first layer."""
    return embedding(Step(shape, numbers, t, key), state)


@partial(jax.jit, static_argnames="shape")
def _read(
    shape: Shape,
    numbers: Numbers,
    state: State,
    h: Rows,
    t: Array,
    key: Key,
    given: Given,
) -> Readout:
    """The readout."""
    return readout(Step(shape, numbers, t, key), state, h, given)


@partial(jax.jit, static_argnames=("shape", "heads_kept"), donate_argnames="units")
def _forward(
    shape: Shape,
    numbers: Numbers,
    units: tuple[UnitState, ...],
    columns: Int[Array, ""],
    h: Rows,
    t: Array,
    key: Key,
    layer: Index,
    heads_kept: int,
) -> tuple[Rows, tuple[UnitState, ...], Int[Array, ""], tuple[Seen, ...]]:
    """A layer forward: the stream behind it, what it knows, columns in use, and what was seen."""
    step, moved, seen = Step(shape, numbers, t, key), [], []
    for index, unit in enumerate(units):
        h, unit, columns, one = forward_block(step, layer, index, unit, columns, h)
        moved.append(unit)
        seen.append(one._replace(scores=one.scores[:heads_kept]))
    return h, tuple(moved), columns, tuple(seen)


@partial(jax.jit, static_argnames="shape", donate_argnames="units")
def _backward(
    shape: Shape,
    numbers: Numbers,
    units: tuple[UnitState, ...],
    columns: Int[Array, ""],
    seen: tuple[Seen, ...],
    g: Rows,
    drive: Float[Array, " fields"],
    ntk: Float[Array, "inputs inputs"],
    t: Array,
    key: Key,
    layer: Index,
) -> tuple[Rows, tuple[UnitState, ...], Int[Array, ""], Float[Array, "inputs inputs"], Told]:
    """A layer backward: the gradient before it, what it knows, columns, kernel, what it tells."""
    step, moved, left = Step(shape, numbers, t, key), [], []
    for index in reversed(range(len(units))):
        g, unit, columns, added, one = backward_block(
            step, layer, index, units[index], columns, seen[index], g, drive
        )
        ntk = ntk + added
        moved.insert(0, unit)
        left.insert(0, one)
    finite = [jnp.stack([a.finite, b.finite]) for a, b in zip(seen, left, strict=True)]
    told = Told(
        scores=seen[0].scores,
        gain=seen[0].gain,
        key_gradient=left[0].key_gradient,
        finite=jnp.stack(finite),
        dropped=jnp.max(jnp.stack([one.dropped for one in (*seen, *left)])),
        ranks=jnp.stack([unit.ranks for unit in moved]),
    )
    return g, tuple(moved), columns, ntk, told


@partial(jax.jit, static_argnames="shape", donate_argnames="state")
def _finish(
    shape: Shape,
    numbers: Numbers,
    state: State,
    columns: Int[Array, ""],
    stream: tuple[Rows, ...],
    gradient: tuple[Rows, ...],
    ntk: Float[Array, "inputs inputs"],
    out: Readout,
    told: tuple[Told, ...],
    t: Array,
    key: Key,
) -> tuple[State, Record]:
    """The update of embedding and readout, fields that are kept, and what is reported."""
    step, g = Step(shape, numbers, t, key), gradient[0]
    if shape.folded:  # the gradients of single outputs are not known
        ntk = jnp.full((shape.rows, shape.rows), jnp.nan)
    else:
        ntk = ntk + out.features @ out.features.T + over_tokens(step, numbers.kx * (g @ g.T))
    before = jnp.stack(stream)
    moved = jnp.concatenate([before[1:] - before[:-1], before[-1:] - before[:1]])
    layers = Told(*map(jnp.stack, zip(*told, strict=True)))
    record = Record(
        f=out.f,
        ntk=ntk,
        scores=layers.scores,
        key_gradient=layers.key_gradient,
        score_gain=layers.gain,
        finite=layers.finite,
        motion=jnp.sum(moved * moved, axis=2),
        ranks=layers.ranks,
        columns=columns,
        dropped=jnp.max(layers.dropped),
    )
    state = replace(updated(step, state, g, out), columns=columns)
    return _with_fields(step, state, before, jnp.stack(gradient)), record


def embedding(step: Step, state: State) -> Rows:
    """h^0: the embedding and what it has learned."""
    shape, numbers = step.shape, step.numbers
    h = put_columns(jnp.zeros((shape.fields, shape.sources)), numbers.start, 0)
    h = h + numbers.rate * numbers.kx @ state.embedding
    if shape.tied:
        h = h + numbers.rate * numbers.start[:, : shape.outputs] @ state.readout
    return h


def readout_weights(step: Step, state: State) -> Float[Array, "outputs sources"]:
    """Coefficient rows of w: its start, and what it has learned."""
    shape, numbers = step.shape, step.numbers
    w = numbers.rate * state.readout
    if shape.tied:
        words = numbers.start[:, : shape.outputs]
        return w + numbers.rate * words.T @ state.embedding + _units(shape, 1.0, 0)
    return w + _units(shape, jnp.sqrt(numbers.readout_var), shape.columns)


def readout(step: Step, state: State, h: Rows, given: Given) -> Readout:
    """Outputs f = w . phi / gamma_0, their error (or a given one), and g = gamma_0 n df/dh."""
    shape, numbers, t = step.shape, step.numbers, step.t
    hb, rho = normalised(shape.final_norm, numbers, h)
    features, w = numbers.features @ hb, readout_weights(step, state)
    f = features @ w.T / numbers.gamma0
    start = jnp.where(t == 0, f, state.start) if shape.centred else state.start
    f = f - start
    error = numbers.error_weights[t][:, None] * shape.loss.error(f, numbers.y)
    error = jnp.where(given.used, given.error, error)
    if shape.folded:
        drive, upper = jnp.ones(shape.fields), error @ w
    else:
        drive = jnp.repeat(error[:, 0], shape.tokens)
        upper = jnp.broadcast_to(w, (shape.rows, shape.sources))
    g = numbers.features.T @ upper
    if shape.final_norm:
        g = through_norm(g, hb, rho)
    return Readout(f, error, drive, g, features, start)


def updated(step: Step, state: State, g: Rows, out: Readout) -> State:
    """The embedding and the readout after the update."""
    momentum = step.numbers.momentum
    embedded = momentum * state.embedding_velocity + out.drive[:, None] * g
    read = momentum * state.readout_velocity + out.error.T @ out.features
    return replace(
        state,
        embedding=state.embedding + embedded,
        embedding_velocity=embedded,
        readout=state.readout + read,
        readout_velocity=read,
        start=out.start,
    )


def _units(shape: Shape, size: float | Array, first: int) -> Float[Array, "outputs sources"]:
    """Rows of one source each."""
    rows = size * jnp.eye(shape.outputs)
    return put_columns(jnp.zeros((shape.outputs, shape.sources)), rows, first)


def _with_fields(
    step: Step,
    state: State,
    stream: Float[Array, "states fields sources"],
    gradient: Float[Array, "states fields sources"],
) -> State:
    """The state with the fields of an evaluation that is kept."""
    t, shape = step.t, step.shape
    place, kept = t // shape.stride * shape.fields, t % shape.stride == 0

    def put(stack: Array, rows: Array) -> Array:
        there = jax.lax.dynamic_slice_in_dim(stack, place, shape.fields, axis=1)
        return put_rows(stack, jnp.where(kept, rows, there), place)

    return replace(state, stream=put(state.stream, stream), gradient=put(state.gradient, gradient))
