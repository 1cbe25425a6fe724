r"""What a sub-block knows of its two matrices: their sides, what enters, and what is learned.

Directions of h and p belong to the input matrix, those of x and g to the output matrix. Innovations
of h and g are drawn on the population, those of x and p are fresh columns of the stream (none in
the depth ODE, where fresh sources leave the stream).

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.core import Key
from translimit.limits.dmft.compressed.directions import (
    Stack,
    add_products,
    added,
    combine,
    overlaps,
    put,
    scaled,
)
from translimit.limits.dmft.compressed.matrix import Innovation, Kept, New, Passed, Side, through
from translimit.limits.dmft.compressed.population import (
    matched,
    plain,
    unit_columns,
    with_fields,
    with_innovations,
)
from translimit.limits.dmft.compressed.sites import AbstractSampledSite
from translimit.limits.dmft.compressed.state import RANKS, Images, UnitState
from translimit.limits.dmft.compressed.step import Step
from translimit.limits.dmft.histories import Index, put_rows

_BASIS = RANKS.index("basis")
#: A kind of directions.
Kind = Literal["h", "p", "x", "g"]
#: The other side of the same matrix.
OTHER: dict[Kind, Kind] = {"h": "p", "p": "h", "x": "g", "g": "x"}
#: The response that a kind of new directions meets.
RESPONSE: dict[Kind, str] = {"h": "R_h", "p": "R_p", "x": "R_v", "g": "R_g"}


def side_of(step: Step, index: int, unit: UnitState, kind: Kind) -> Side:
    """What is known of a matrix from the side of a kind."""
    own: Images = getattr(unit, kind)
    scale = step.shape.sites[index].scale if kind in ("p", "x") else 1.0
    return Side(own.directions, own.images, unit.ranks[RANKS.index(kind)], scale)


def sent(
    step: Step,
    layer: Index,
    index: int,
    unit: UnitState,
    columns: Int[Array, ""],
    kind: Kind,
    fields: Float[Array, "fields width"],
) -> tuple[Passed, UnitState, Int[Array, ""]]:
    """Fields of a kind through their matrix; the sub-block, and columns of the stream, after it.

    Args:
        step: the time step.
        layer: whose.
        index: of the sub-block.
        unit: what it knows.
        columns: of the stream that are used.
        kind: of the fields.
        fields: themselves.
    """
    shape, to_stream = step.shape, kind in ("p", "x")
    direction = "forward" if kind in ("h", "x") else "backward"
    own, other = (side_of(step, index, unit, one) for one in (kind, OTHER[kind]))
    if to_stream:
        innovation = _on_stream(step, columns)
    else:
        innovation = _on_population(step, index, direction, other)

    def store(kept: Kept, new: New) -> Kept:
        images = _with_directions(step, index, unit, kind, kept.images, new)
        basis, rank = _with_basis(step, index, kept, new, to_stream=to_stream)
        initial = kept.initial
        if kind == "h" and shape.apart(index):
            initial = put(initial, new.images, own.rank, new.entered)
        return Kept(images, basis, rank, initial)

    passed = through(
        fields,
        own,
        other,
        tol=step.numbers.tol,
        keep=step.kept(RESPONSE[kind]),
        key=step.key_of(direction, layer, index),
        innovation=innovation,
        kept=Kept(getattr(unit, kind), unit.basis, unit.ranks[_BASIS], unit.initial),
        sizes=shape.entering,
        store=store,
        initial=unit.initial if kind == "p" and shape.apart(index) else None,
    )
    images, basis, rank, initial = passed.kept
    ranks = unit.ranks.at[RANKS.index(kind)].add(passed.entered).at[_BASIS].set(rank)
    unit = replace(unit, basis=basis, initial=initial, ranks=ranks, **{kind: images})
    more = passed.entered if to_stream and shape.fresh else 0
    return passed, unit, columns + more


def learned(
    step: Step,
    own: Images,
    coefficients: Float[Array, "fields places"],
    drive: Float[Array, " fields"],
    fields: Float[Array, "fields image"],
    rank: Int[Array, ""],
) -> Images:
    """Images after one update, c sum_a Delta_a coefficients_a fields_a, with its momentum."""
    weighted = step.numbers.c * drive[:, None] * coefficients
    if not step.shape.momentum:
        return replace(own, images=add_products(own.images, weighted, fields, rank))
    velocity = scaled(own.velocity, step.numbers.momentum, rank)
    velocity = add_products(velocity, weighted, fields, rank)
    return replace(own, velocity=velocity, images=added(own.images, velocity, rank))


def _on_population(
    step: Step, index: int, direction: Literal["forward", "backward"], known: Side
) -> Innovation:
    """Innovations of keys, queries and values, or of what comes back to the heads."""
    site, fields = step.shape.sites[index], step.shape.fields
    families = site.families if direction == "forward" else site.written

    def innovation(key: Key, there: Kept, basis: Array, kept: Array, count: Array) -> Array:
        if not isinstance(site, AbstractSampledSite):
            return unit_columns(families, site.width, kept, count, there.rank)
        # In the eigenvectors of a rest, so that its root is the symmetric one: every field has
        # normal numbers of its own, whatever directions they are turned into.
        keys = jax.random.split(key, (families, fields))
        drawn = jax.vmap(jax.vmap(lambda own: jax.random.normal(own, (site.width,), jnp.float32)))(
            keys
        )
        drawn, turn = drawn.astype(site.dtype), basis * kept
        if site.matched:
            return matched(drawn, turn, there.basis, there.rank)
        return plain(drawn, turn, known)

    return innovation


def _on_stream(step: Step, columns: Int[Array, ""]) -> Innovation:
    """Fresh columns of the stream."""
    width = step.shape.sources

    def innovation(key: Key, there: Kept, basis: Array, kept: Array, count: Array) -> Array:
        if not step.shape.fresh:
            return jnp.zeros((len(kept), width))
        return unit_columns(1, width, kept, count, columns)

    return innovation


def _with_directions(
    step: Step, index: int, unit: UnitState, kind: Kind, own: Images, new: New
) -> Images:
    """Images with new directions of their kind.

    Where keys learn at a rate of their own, new gradients are orthogonal to those of the past in
    the metric of all families, and not in the one that weighs them by their rates: under momentum
    what was learned has a velocity of them.
    """
    site, rank = step.shape.sites[index], unit.ranks[RANKS.index(kind)]
    velocity = own.velocity
    if kind == "p" and site.slow and step.shape.momentum:
        known = unit.ranks[RANKS.index("h")]
        seen = site.scale * overlaps(new.directions, unit.h.velocity, known)
        moving = combine(seen, unit.h.directions, known)
        velocity = put(velocity, moving, rank, new.entered)
    return Images(
        directions=put(own.directions, new.directions, rank, new.entered),
        images=put(own.images, new.images, rank, new.entered),
        velocity=velocity,
        regression=put_rows(own.regression, new.regression, rank),
    )


def _with_basis(
    step: Step, index: int, kept: Kept, new: New, *, to_stream: bool
) -> tuple[Stack, Int[Array, ""]]:
    """The basis with innovations or new directions of own fields; or the columns that they use."""
    site = step.shape.sites[index]
    if not isinstance(site, AbstractSampledSite):
        families = 0 if to_stream else new.white.shape[1] // site.width
        return kept.basis, kept.rank + families * new.entered
    if not site.matched:
        return kept.basis, kept.rank
    enter, rows = (with_fields, new.directions) if to_stream else (with_innovations, new.white)
    return enter(kept.basis, kept.rank, rows, new.entered)
