r"""What a compressed pass keeps of its past, and what a time step reports.

Of every sub-block: directions of what it reads (h), of its gradients (p), of what it writes (x) and
of the gradients that it receives (g), each with the images of its matrix. h and p are the two sides
of the input matrix (keys, queries and values together), x and g those of the output matrix.

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from translimit.core import AnyArray
from translimit.limits.dmft.compressed.shape import Shape
from translimit.limits.dmft.compressed.sites import AbstractSampledSite

#: Places of the ranks of a sub-block, as in `Room`.
RANKS: tuple[str, ...] = ("h", "p", "x", "g", "basis")


class Images(eqx.Module):
    """Directions of one kind of field, and what the matrix makes of them.

    Attributes:
        directions: orthonormal.
        images: initial and learned.
        velocity: of the images, under momentum.
        regression: of images on the directions of the other side, when they entered.
    """

    directions: Float[Array, "layers places width"]
    images: Float[Array, "layers places image"]
    velocity: Float[Array, "layers moving image"]
    regression: Float[Array, "layers places back"]


class UnitState(eqx.Module):
    """A sub-block.

    Attributes:
        h, p, x, g: its directions.
        initial: images of h without what they have learned, where they are kept.
        basis: of its population.
        ranks: of the stacks [layers, 5].
        gain: factor of the scores.
        gain_velocity: of that.
    """

    h: Images
    p: Images
    x: Images
    g: Images
    initial: Float[Array, "layers known stacked"]
    basis: Float[Array, "layers places width"]
    ranks: Int[Array, "layers ranks"]
    gain: Float[Array, " layers"]
    gain_velocity: Float[Array, " layers"]


class State(eqx.Module):
    """A compressed pass.

    Attributes:
        units: the sub-blocks.
        columns: sources that are used.
        embedding: sum over the past of omega Delta g at the embedding [fields, sources].
        embedding_velocity: of that.
        readout: sum over the past of omega Delta phi [outputs, sources].
        readout_velocity: of that.
        start: outputs at the start, where they are subtracted.
        stream: coefficient rows of the stream before every layer and after the last, of the
            evaluations that are kept.
        gradient: of the gradients there.
    """

    units: tuple[UnitState, ...]
    columns: Int[Array, ""]
    embedding: Float[Array, "fields sources"]
    embedding_velocity: Float[Array, "fields sources"]
    readout: Float[Array, "outputs sources"]
    readout_velocity: Float[Array, "outputs sources"]
    start: Float[Array, "rows outputs"]
    stream: Float[Array, "states kept sources"]
    gradient: Float[Array, "states kept sources"]


class Record(NamedTuple):
    """What one time step reports besides its state.

    Attributes:
        f: outputs, less those at the start where they are centred.
        ntk: neural tangent kernel; NaN where gradients carry the errors.
        scores: attention scores of every layer [layers, heads, inputs, tokens, tokens].
        key_gradient: mean of ((p^K)^2 + (p^Q)^2) / 2 in every layer [layers].
        score_gain: factor of the scores in every layer.
        finite: whether kernels of sub-blocks are finite, forward and backward [layers, units, 2].
        motion: mean squares of what each block adds to the stream, and of what all of them add.
        ranks: of the stacks [layers, units, 5].
        columns: sources that are used.
        dropped: largest variance that is left out of a field, relative to its own.
    """

    f: Float[AnyArray, "rows outputs"]
    ntk: Float[AnyArray, "rows rows"]
    scores: Float[AnyArray, "layers heads inputs tokens tokens"]
    key_gradient: Float[AnyArray, " layers"]
    score_gain: Float[AnyArray, " layers"]
    finite: Bool[AnyArray, "layers units 2"]
    motion: Float[AnyArray, "states fields"]
    ranks: Int[AnyArray, "layers units ranks"]
    columns: Int[AnyArray, ""]
    dropped: Float[AnyArray, ""]


def initial_state(shape: Shape, score_gain: float) -> State:
    """Nothing known of any matrix."""
    L, D, m = shape.layers, shape.sources, shape.fields

    def images(places: int, width: int, image: int, back: int, of: str, to: str) -> Images:
        moving = places if shape.momentum else 0
        return Images(
            directions=jnp.zeros((L, places, width), of),
            images=jnp.zeros((L, places, image), to),
            velocity=jnp.zeros((L, moving, image), to),
            regression=jnp.zeros((L, places, back)),
        )

    units = []
    for index, (site, room) in enumerate(zip(shape.sites, shape.rooms, strict=True)):
        sampled = isinstance(site, AbstractSampledSite)
        own = site.dtype if sampled else "float64"
        W, wide, X = site.width, site.families * site.width, site.written * site.width
        units.append(
            UnitState(
                h=images(room.h, D, wide, room.p, "float64", own),
                p=images(room.p, wide, D, room.h, own, "float64"),
                x=images(room.x, X, D, room.g, own, "float64"),
                g=images(room.g, D, X, room.x, "float64", own),
                initial=jnp.zeros((L, room.h if shape.apart(index) else 0, wide), own),
                basis=jnp.zeros((L, room.basis if sampled and site.matched else 0, W), own),
                ranks=jnp.zeros((L, len(RANKS)), jnp.int64),
                gain=jnp.full(L, score_gain, jnp.float64),
                gain_velocity=jnp.zeros(L),
            )
        )
    return State(
        units=tuple(units),
        columns=jnp.asarray(shape.first, jnp.int64),
        embedding=jnp.zeros((m, D)),
        embedding_velocity=jnp.zeros((m, D)),
        readout=jnp.zeros((shape.outputs, D)),
        readout_velocity=jnp.zeros((shape.outputs, D)),
        start=jnp.zeros((shape.rows, shape.outputs)),
        stream=jnp.zeros((L + 1, shape.kept * m, D)),
        gradient=jnp.zeros((L + 1, shape.kept * m, D)),
    )


def in_more_room(state: State, old: Shape, new: Shape, score_gain: float) -> State:
    """The state of one shape in the room of another; sources of a family stay side by side."""
    empty = jax.eval_shape(lambda: initial_state(new, score_gain))
    units = tuple(
        jax.tree.map(_padded, _wider(unit, a.width, b.width), there)
        for a, b, unit, there in zip(old.sites, new.sites, state.units, empty.units, strict=True)
    )
    others = [f.name for f in dataclasses.fields(State) if f.name != "units"]
    padded = {name: _padded(getattr(state, name), getattr(empty, name)) for name in others}
    return State(units=units, **padded)


def at_rest(state: State) -> State:
    """The state without velocity."""
    units = tuple(
        dataclasses.replace(
            unit,
            gain_velocity=jnp.zeros_like(unit.gain_velocity),
            **{name: _at_rest(getattr(unit, name)) for name in ("h", "p", "x", "g")},
        )
        for unit in state.units
    )
    return dataclasses.replace(
        state,
        units=units,
        embedding_velocity=jnp.zeros_like(state.embedding_velocity),
        readout_velocity=jnp.zeros_like(state.readout_velocity),
    )


def _at_rest(images: Images) -> Images:
    """The images without velocity."""
    return dataclasses.replace(images, velocity=jnp.zeros_like(images.velocity))


def _padded(x: Array, like: jax.ShapeDtypeStruct) -> Array:
    """Zeros behind, on every axis."""
    if x.shape == like.shape:
        return x
    return jnp.pad(x, [(0, b - a) for a, b in zip(x.shape, like.shape, strict=True)])


def _wider(unit: UnitState, old: int, new: int) -> UnitState:
    """Rows of linear sites with more room for each family."""
    if old == new:
        return unit

    def wider(x: Array) -> Array:
        families = x.shape[2] // old
        parts = x.reshape(*x.shape[:2], families, old)
        wide = jnp.pad(parts, [(0, 0)] * 3 + [(0, new - old)])
        return wide.reshape(*x.shape[:2], families * new)

    def places(u: UnitState) -> tuple[Any, ...]:
        seen = (u.h.images, u.h.velocity, u.p.directions, u.x.directions)
        return (*seen, u.g.images, u.g.velocity, u.initial, u.basis)

    return eqx.tree_at(places, unit, tuple(map(wider, places(unit))))
