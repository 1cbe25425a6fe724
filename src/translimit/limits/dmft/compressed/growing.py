"""More room for the directions of a compressed pass, in few sizes: each is compiled anew.

While a pass is small all of its stacks have one size and grow together. What is empty of them is
not read, so that this costs memory alone, and all passes of a problem, whatever their learning rate
and their seed, meet a handful of shapes. A large pass runs much longer than it compiles, and its
memory counts: there a stack grows when it is full, and those along with it that nearly are.
"""

from __future__ import annotations

from dataclasses import fields

from translimit.limits.dmft.compressed.cost import pass_bytes
from translimit.limits.dmft.compressed.directions import columns_for, places_for
from translimit.limits.dmft.compressed.shape import Room, Shape, least_room

#: Bytes of a pass up to which its stacks have one size.
SMALL = 2**30
#: The part of a stack that is needed from which on it grows along with another one.
ALONG = 0.8


def roomier(shape: Shape, ranks: list[Room], columns: int) -> Shape:
    """The shape with room for one more time step; itself where there is.

    Args:
        shape: of the pass.
        ranks: of its stacks, of every sub-block.
        columns: of the stream that are used.
    """
    m = shape.fields
    needed = [
        used.plus(m, site.families + site.written)
        for used, site in zip(ranks, shape.sites, strict=True)
    ]
    sources = columns + 2 * m * shape.layers * len(shape.sites) * shape.fresh
    pairs = list(zip(shape.rooms, needed, strict=True))
    if sources <= shape.sources and all(room.holds(need) for room, need in pairs):
        return shape
    even = shape.evenly(max(max(need.h, need.p, need.x, need.g) for need in needed))
    if pass_bytes(even) <= SMALL:
        return even
    rooms = tuple(_grown(room, need, least_room(shape.least)) for room, need in pairs)
    if sources > ALONG * shape.sources:
        sources = columns_for(sources + columns // 2)
    return shape.in_room(rooms, max(sources, shape.sources))


def start(shape: Shape, rows: int) -> Shape:
    """The shape with all stacks of one size for so many rows; itself where that is not small."""
    even = shape.evenly(rows)
    return even if pass_bytes(even) <= SMALL else shape


def _grown(room: Room, needed: Room, least: Room) -> Room:
    """A room with a part of a stack more where it is full, or nearly."""
    sizes = {}
    for one in fields(room):
        have, need, part = (getattr(of, one.name) for of in (room, needed, least))
        full = need > ALONG * have
        sizes[one.name] = places_for(max(need, have + 1), part) if full else have
    return Room(**sizes)
