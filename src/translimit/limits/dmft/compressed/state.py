r"""What a compressed pass keeps of its past, and what a time step reports.

Of every sub-block: directions of what it reads (h), of its gradients (p), of what it writes (x) and
of the gradients that it receives (g), each with the images of its matrix. h and p are the two sides
of the input matrix (keys, queries and values together), x and g those of the output matrix.

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from translimit.core import AnyArray
from translimit.limits.dmft.compressed.directions import Stack, empty_stack
from translimit.limits.dmft.compressed.shape import Room, Shape
from translimit.limits.dmft.compressed.sites import AbstractSampledSite

T = TypeVar("T")

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

    directions: Stack
    images: Stack
    velocity: Stack
    regression: Float[Array, "places back"]


class UnitState(eqx.Module):
    """A sub-block of a layer.

    Attributes:
        h, p, x, g: its directions.
        initial: images of h without what they have learned, where they are kept.
        basis: of its population.
        ranks: of the stacks.
        gain: factor of the scores.
        gain_velocity: of that.
    """

    h: Images
    p: Images
    x: Images
    g: Images
    initial: Stack
    basis: Stack
    ranks: Int[Array, " ranks"]
    gain: Float[Array, ""]
    gain_velocity: Float[Array, ""]


class State(eqx.Module):
    """A compressed pass.

    Attributes:
        layers: the sub-blocks of every layer.
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

    layers: tuple[tuple[UnitState, ...], ...]
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
    least = shape.least

    def images(places: int, width: int, image: int, back: int, of: str, to: str) -> Images:
        return Images(
            directions=empty_stack(places, width, least, of),
            images=empty_stack(places, image, least, to),
            velocity=empty_stack(places if shape.momentum else 0, image, least, to),
            regression=jnp.zeros((places, back)),
        )

    def unit_at(index: int) -> UnitState:
        site, room = shape.sites[index], shape.rooms[index]
        sampled = isinstance(site, AbstractSampledSite)
        own = site.dtype if sampled else "float64"
        W, wide, X = site.width, site.families * site.width, site.written * site.width
        known = room.h if shape.apart(index) else 0
        basis = room.basis if sampled and site.matched else 0
        return UnitState(
            h=images(room.h, D, wide, room.p, "float64", own),
            p=images(room.p, wide, D, room.h, own, "float64"),
            x=images(room.x, X, D, room.g, own, "float64"),
            g=images(room.g, D, X, room.x, "float64", own),
            initial=empty_stack(known, wide, least, own),
            basis=empty_stack(basis, W, shape.least_basis, own),
            ranks=jnp.zeros(len(RANKS), jnp.int64),
            gain=jnp.asarray(score_gain, jnp.float64),
            gain_velocity=jnp.zeros(()),
        )

    return State(
        layers=tuple(tuple(map(unit_at, range(len(shape.sites)))) for _ in range(L)),
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

    def _roomier(x: Any, like: Any) -> Any:
        if not isinstance(x, Stack):
            return _padded(x, like)
        pairs = zip(x.parts, like.parts, strict=False)
        more = [jnp.zeros(part.shape, part.dtype) for part in like.parts[len(x.parts) :]]
        return Stack((*[_padded(part, wide) for part, wide in pairs], *more))

    layers = tuple(
        tuple(
            _wider(unit, a.width, b.width)
            for a, b, unit in zip(old.sites, new.sites, units, strict=True)
        )
        for units in state.layers
    )
    state = dataclasses.replace(state, layers=layers)
    return jax.tree.map(_roomier, state, empty, is_leaf=_is_stack)


def kept_bytes(state: State, new: Shape) -> int:
    """Bytes of the parts of stacks that more room leaves as they are: no copy is made of them."""
    empty = jax.eval_shape(lambda: initial_state(new, 0.0))

    def _kept(x: Any, like: Any) -> int:
        if not isinstance(x, Stack):
            return 0
        pairs = zip(x.parts, like.parts, strict=False)
        return sum(part.nbytes for part, wide in pairs if part.shape == wide.shape)

    found = jax.tree.map(_kept, state, empty, is_leaf=_is_stack)
    return sum(jax.tree.leaves(found))


def at_rest(state: State) -> State:
    """The state without velocity."""

    def rested(unit: UnitState) -> UnitState:
        kinds = {name: getattr(unit, name) for name in ("h", "p", "x", "g")}
        still = {
            name: dataclasses.replace(own, velocity=jax.tree.map(jnp.zeros_like, own.velocity))
            for name, own in kinds.items()
        }
        return dataclasses.replace(unit, gain_velocity=jnp.zeros_like(unit.gain_velocity), **still)

    return dataclasses.replace(
        state,
        layers=tuple(tuple(map(rested, units)) for units in state.layers),
        embedding_velocity=jnp.zeros_like(state.embedding_velocity),
        readout_velocity=jnp.zeros_like(state.readout_velocity),
    )


def in_whole_stacks(tree: T) -> T:
    """The tree with stacks in one part: as many arrays whatever room there is."""

    def _whole(x: Any) -> Any:
        if not isinstance(x, Stack):
            return x
        return Stack((jnp.concatenate(x.parts) if x.parts else jnp.zeros((0, 0)),))

    return jax.tree.map(_whole, tree, is_leaf=_is_stack)


def in_parts(state: State, shape: Shape) -> State:
    """The inverse of `in_whole_stacks`: a state of a shape."""
    empty = jax.eval_shape(lambda: initial_state(shape, 0.0))

    def _parted(x: Any, like: Any) -> Any:
        if not isinstance(x, Stack):
            return x
        parts, first = [], 0
        for part in like.parts:
            parts.append(x.parts[0][first : first + len(part)])
            first += len(part)
        return Stack(tuple(parts))

    return jax.tree.map(_parted, state, empty, is_leaf=_is_stack)


def room_of(shape: Shape, index: int, unit: UnitState) -> Room:
    """The room that a sub-block has."""
    basis = unit.basis.places
    if not isinstance(shape.sites[index], AbstractSampledSite):
        basis = unit.x.directions.width
    rooms = {name: getattr(unit, name).directions.places for name in ("h", "p", "x", "g")}
    return Room(**rooms, basis=basis)


def _is_stack(x: Any) -> bool:
    return isinstance(x, Stack)


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
        families = x.shape[1] // old
        parts = x.reshape(len(x), families, old)
        wide = jnp.pad(parts, [(0, 0)] * 2 + [(0, new - old)])
        return wide.reshape(len(x), families * new)

    def _places(u: UnitState) -> tuple[Any, ...]:
        seen = (u.h.images, u.h.velocity, u.p.directions, u.x.directions)
        return (*seen, u.g.images, u.g.velocity, u.initial, u.basis)

    stacks = [Stack(tuple(map(wider, stack.parts))) for stack in _places(unit)]
    return eqx.tree_at(_places, unit, tuple(stacks), is_leaf=_is_stack)
