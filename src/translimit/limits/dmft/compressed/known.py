r"""What a sub-block knows of its two matrices: their sides, what enters, and what is learned.

Directions of h and p belong to the input matrix, those of x and g to the output matrix. Innovations
of h and g are drawn on the population, those of x and p are fresh columns of the stream (none in
the depth ODE, where fresh sources leave the stream).

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.limits.dmft.compressed.directions import (
    add_products,
    added,
    combine,
    overlaps,
    put,
    scaled,
)
from translimit.limits.dmft.compressed.matrix import Innovation, Passed, Side
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
from translimit.limits.dmft.histories import Index

_BASIS = RANKS.index("basis")


class Sides(NamedTuple):
    """The four sides of a sub-block's matrices in one layer."""

    h: Side
    p: Side
    x: Side
    g: Side


def sides(step: Step, index: int, unit: UnitState, layer: Index) -> Sides:
    """What is known of both matrices."""
    scale, ranks = step.shape.sites[index].scale, unit.ranks[layer]

    def side(own: Images, place: int, scale: float) -> Side:
        return Side(own.directions, own.images, ranks[place], scale)

    return Sides(
        h=side(unit.h, 0, 1.0),
        p=side(unit.p, 1, scale),
        x=side(unit.x, 2, scale),
        g=side(unit.g, 3, 1.0),
    )


def on_population(
    step: Step,
    layer: Index,
    index: int,
    unit: UnitState,
    direction: Literal["forward", "backward"],
    known: Side,
) -> Innovation:
    """Innovations of keys, queries and values, or of what comes back to the heads."""
    site, fields = step.shape.sites[index], step.shape.fields
    families = site.families if direction == "forward" else site.written
    key, rank = step.key_of(direction, layer, index), unit.ranks[layer, _BASIS]

    def innovation(basis: Array, kept: Array, count: Array) -> Array:
        if not isinstance(site, AbstractSampledSite):
            return unit_columns(families, site.width, kept, count, rank)
        # In the eigenvectors of a rest, so that its root is the symmetric one: every field has
        # normal numbers of its own, whatever directions they are turned into.
        drawn = jax.random.normal(key, (families, fields, site.width), jnp.float32)
        drawn, turn = drawn.astype(site.dtype), basis * kept
        if site.matched:
            return matched(drawn, turn, unit.basis, rank, layer)
        return plain(drawn, turn, known, layer)

    return innovation


def on_stream(step: Step, columns: Int[Array, ""]) -> Innovation:
    """Fresh columns of the stream."""
    width = step.shape.sources

    def innovation(basis: Array, kept: Array, count: Array) -> Array:
        if not step.shape.fresh:
            return jnp.zeros((len(kept), width))
        return unit_columns(1, width, kept, count, columns)

    return innovation


def with_directions(
    unit: UnitState, name: Literal["h", "p", "x", "g"], passed: Passed, layer: Index
) -> UnitState:
    """The sub-block with new directions of one kind."""
    own, place = getattr(unit, name), RANKS.index(name)
    rank = unit.ranks[layer, place]
    more = Images(
        directions=put(own.directions, passed.new, layer, rank),
        images=put(own.images, passed.images, layer, rank),
        velocity=own.velocity,
        regression=put(own.regression, passed.regression, layer, rank),
    )
    ranks = unit.ranks.at[layer, place].add(passed.entered)
    return replace(unit, ranks=ranks, **{name: more})


def with_white(step: Step, index: int, unit: UnitState, passed: Passed, layer: Index) -> UnitState:
    """The sub-block with innovations in the basis of its population, or their columns used."""
    site, rank = step.shape.sites[index], unit.ranks[layer, _BASIS]
    if not isinstance(site, AbstractSampledSite):
        families = passed.white.shape[1] // site.width
        more = rank + families * passed.entered
        return replace(unit, ranks=unit.ranks.at[layer, _BASIS].set(more))
    if not site.matched:
        return unit
    basis, rank = with_innovations(unit.basis, rank, passed.white, passed.entered, layer)
    return replace(unit, basis=basis, ranks=unit.ranks.at[layer, _BASIS].set(rank))


def with_own_fields(
    step: Step, index: int, unit: UnitState, passed: Passed, layer: Index
) -> UnitState:
    """The sub-block with new directions of its own fields in the basis of its population."""
    site, rank = step.shape.sites[index], unit.ranks[layer, _BASIS]
    if not (isinstance(site, AbstractSampledSite) and site.matched):
        return unit
    basis, rank = with_fields(unit.basis, rank, passed.new, passed.entered, layer)
    return replace(unit, basis=basis, ranks=unit.ranks.at[layer, _BASIS].set(rank))


def with_velocity(
    step: Step, index: int, unit: UnitState, passed: Passed, layer: Index
) -> UnitState:
    """The velocity of new directions of p, where keys learn at a rate of their own.

    New gradients are orthogonal to those of the past in the metric of all families, and not in
    the one that weighs them by their rates: what was learned has an image of them.
    """
    if not step.shape.momentum:
        return unit
    site, rank = step.shape.sites[index], unit.ranks[layer]
    seen = site.scale * overlaps(passed.new, unit.h.velocity, layer, rank[0])
    moving = combine(seen, unit.h.directions, layer, rank[0])
    velocity = put(unit.p.velocity, moving, layer, rank[1] - passed.entered)
    return replace(unit, p=replace(unit.p, velocity=velocity))


def learned(
    step: Step,
    own: Images,
    coefficients: Float[Array, "fields places"],
    drive: Float[Array, " fields"],
    fields: Float[Array, "fields image"],
    layer: Index,
    rank: Int[Array, ""],
) -> Images:
    """Images after one update, c sum_a Delta_a coefficients_a fields_a, with its momentum."""
    weighted = step.numbers.c * drive[:, None] * coefficients
    if not step.shape.momentum:
        return replace(own, images=add_products(own.images, weighted, fields, layer, rank))
    velocity = scaled(own.velocity, step.numbers.momentum, layer, rank)
    velocity = add_products(velocity, weighted, fields, layer, rank)
    return replace(own, velocity=velocity, images=added(own.images, velocity, layer, rank))
