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

from translimit.core import Key
from translimit.limits.dmft.compressed.blocks import (
    Left,
    Seen,
    backward_block,
    forward_block,
    over_tokens,
)
from translimit.limits.dmft.compressed.shape import Shape
from translimit.limits.dmft.compressed.state import Record, State, UnitState
from translimit.limits.dmft.compressed.step import Rows, Step, normalised, through_norm
from translimit.limits.dmft.histories import put_columns, put_rows
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


@partial(jax.jit, static_argnames=("shape", "heads_kept"), donate_argnames="state")
def advance(
    shape: Shape,
    numbers: Numbers,
    state: State,
    t: Int[Array, ""],
    key: Key,
    heads_kept: int,
    error: Float[Array, "rows outputs"] | None = None,
) -> tuple[State, Record]:
    """One time step; with `error`, an update by it in place of that of the loss.

    Two branches, by d and by 0, and one more step of each give the tangent kernel K(t) d at any
    time as the difference of their outputs over eta_0, up to O(|d|). The tolerance may stay what
    it is: what is left out of a field keeps its regression.
    """
    step = Step(shape, numbers, t, key)
    h, before, state, seen = forward_blocks(step, state, embedding(step, state))
    out = readout(step, state, h, error)
    g, above, added, state, left = backward_blocks(step, state, seen, out.g, out.drive)
    record = _record(step, state, seen, left, out, before, heads_kept)
    if shape.folded:  # the gradients of single outputs are not known
        ntk = jnp.full((shape.rows, shape.rows), jnp.nan)
    else:
        own = over_tokens(step, numbers.kx * (g @ g.T))
        ntk = out.features @ out.features.T + added + own
    state = updated(step, state, g, out)
    return _with_fields(step, state, before, jnp.concatenate([g[None], above])), record._replace(
        ntk=ntk
    )


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


def readout(
    step: Step, state: State, h: Rows, given: Float[Array, "rows outputs"] | None
) -> Readout:
    """Outputs f = w . phi / gamma_0, their error (or a given one), and g = gamma_0 n df/dh."""
    shape, numbers, t = step.shape, step.numbers, step.t
    hb, rho = normalised(shape.final_norm, numbers, h)
    features, w = numbers.features @ hb, readout_weights(step, state)
    f = features @ w.T / numbers.gamma0
    start = jnp.where(t == 0, f, state.start) if shape.centred else state.start
    f = f - start
    error = numbers.error_weights[t][:, None] * shape.loss.error(f, numbers.y)
    error = error if given is None else given
    if shape.folded:
        drive, upper = jnp.ones(shape.fields), error @ w
    else:
        drive = jnp.repeat(error[:, 0], shape.tokens)
        upper = jnp.broadcast_to(w, (shape.rows, shape.sources))
    g = numbers.features.T @ upper
    if shape.final_norm:
        g = through_norm(g, hb, rho)
    return Readout(f, error, drive, g, features, start)


def forward_blocks(
    step: Step, state: State, h: Rows
) -> tuple[Rows, Float[Array, "states fields sources"], State, tuple[Seen, ...]]:
    """All layers forward: the stream after the last, that before each, and what was seen."""

    def layer(
        carry: tuple[Array, tuple[UnitState, ...], Array], number: Array
    ) -> tuple[tuple[Array, tuple[UnitState, ...], Array], tuple[Array, tuple[Seen, ...]]]:
        h, units, columns = carry
        before, moved, seen = h, [], []
        for index, unit in enumerate(units):
            h, unit, columns, one = forward_block(step, number, index, unit, columns, h)
            moved.append(unit)
            seen.append(one)
        return (h, tuple(moved), columns), (before, tuple(seen))

    start = (h, state.units, state.columns)
    (h, units, columns), (before, seen) = jax.lax.scan(layer, start, jnp.arange(step.shape.layers))
    state = replace(state, units=units, columns=columns)
    return h, jnp.concatenate([before, h[None]]), state, seen


def backward_blocks(
    step: Step, state: State, seen: tuple[Seen, ...], g: Rows, drive: Float[Array, " fields"]
) -> tuple[
    Rows,
    Float[Array, "layers fields sources"],
    Float[Array, "inputs inputs"],
    State,
    tuple[Left, ...],
]:
    """All layers backward: the gradient at the embedding, those above each layer, what is left."""

    def layer(
        carry: tuple[Array, tuple[UnitState, ...], Array, Array],
        xs: tuple[Array, tuple[Seen, ...]],
    ) -> tuple[tuple[Array, tuple[UnitState, ...], Array, Array], tuple[Array, tuple[Left, ...]]]:
        g, units, columns, ntk = carry
        number, saw = xs
        above, moved, left = g, [], []
        for index in reversed(range(len(units))):
            g, unit, columns, added, one = backward_block(
                step, number, index, units[index], columns, saw[index], g, drive
            )
            ntk = ntk + added
            moved.insert(0, unit)
            left.insert(0, one)
        return (g, tuple(moved), columns, ntk), (above, tuple(left))

    ntk = jnp.zeros((step.shape.inputs, step.shape.inputs))
    start = (g, state.units, state.columns, ntk)
    (g, units, columns, ntk), (above, left) = jax.lax.scan(
        layer, start, (jnp.arange(step.shape.layers), seen), reverse=True
    )
    return g, above, ntk, replace(state, units=units, columns=columns), left


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


def _record(
    step: Step,
    state: State,
    seen: tuple[Seen, ...],
    left: tuple[Left, ...],
    out: Readout,
    stream: Float[Array, "states fields sources"],
    heads_kept: int,
) -> Record:
    """What is reported."""
    finite = [jnp.stack([a.finite, b.finite], axis=-1) for a, b in zip(seen, left, strict=True)]
    moved = jnp.concatenate([stream[1:] - stream[:-1], stream[-1:] - stream[:1]])
    dropped = [one.dropped for one in (*seen, *left)]
    return Record(
        f=out.f,
        ntk=jnp.zeros((step.shape.rows, step.shape.rows)),
        scores=seen[0].scores[:, :heads_kept],
        key_gradient=left[0].key_gradient,
        score_gain=seen[0].gain,
        finite=jnp.stack(finite, axis=1),
        motion=jnp.sum(moved * moved, axis=2),
        ranks=jnp.stack([unit.ranks for unit in state.units], axis=1),
        columns=state.columns,
        dropped=jnp.max(jnp.stack(dropped)),
    )
