"""The shape of a compressed pass: its sites, and room for their directions."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from translimit.limits.dmft.compressed.directions import columns_for, places_for
from translimit.limits.dmft.compressed.sites import AbstractSampledSite, AbstractSite
from translimit.limits.dmft.losses import AbstractLoss

#: How much larger the first part of a basis is.
BASIS_PARTS = 4


@dataclass(frozen=True)
class Room:
    """Places of a sub-block's stacks, or ranks that fill them.

    Attributes:
        h: directions of what it reads.
        p: of its gradients.
        x: of what it writes.
        g: of the gradients that it receives.
        basis: of its population, sampled; else sources.
    """

    h: int
    p: int
    x: int
    g: int
    basis: int

    @classmethod
    def of(cls, ranks: list[int]) -> Room:
        """From ranks in the order of the attributes."""
        return cls(**{one.name: int(n) for one, n in zip(fields(cls), ranks, strict=True)})

    def plus(self, rows: int, families: int) -> Room:
        """With what one time step can add; `families` of both matrices of the sub-block."""
        return Room(
            h=self.h + rows,
            p=self.p + rows,
            x=self.x + rows,
            g=self.g + rows,
            basis=self.basis + 2 * families * rows,
        )

    def holds(self, needed: Room) -> bool:
        """Whether there is room for so much of every kind."""
        return all(getattr(self, one.name) >= getattr(needed, one.name) for one in fields(self))

    def of_parts(self, least: Room) -> Room:
        """In whole parts of stacks."""
        names = [one.name for one in fields(self)]
        return Room(**{n: places_for(getattr(self, n), getattr(least, n)) for n in names})


def least_room(part: int) -> Room:
    """Sizes of the first parts of stacks; a basis holds several families."""
    return Room(part, part, part, part, BASIS_PARTS * part)


@dataclass(frozen=True)
class Shape:
    """The shape of a compressed pass; everything that compiles into the program.

    Attributes:
        inputs: P.
        tokens: S.
        rows: rows of outputs.
        outputs: of each row.
        columns: white sources of the embedding.
        loss: what a row pays.
        layers: blocks, or cells of the depth ODE.
        sites: the sub-blocks of a block.
        rooms: of each of them.
        least: places of the first part of a stack of directions.
        entering: numbers of rows that work on new directions is compiled for.
        sources: room for the columns of coefficient rows.
        kept: evaluations whose fields are kept for kernels.
        stride: evaluations from one of them to the next.
        norm: whether sub-blocks normalise their input.
        fresh: whether sub-blocks add fresh sources to the stream.
        final_norm: whether the readout reads the normalised stream.
        folded: whether gradients carry the error, needed with several outputs of an input.
        centred: whether outputs at the start are subtracted.
        tied: whether the readout is the embedding of the first columns.
        momentum: whether there is any.
        omits: whether a regression is left out, on purpose.
    """

    inputs: int
    tokens: int
    rows: int
    outputs: int
    columns: int
    loss: AbstractLoss
    layers: int
    sites: tuple[AbstractSite, ...]
    rooms: tuple[Room, ...]
    least: int
    entering: tuple[int, ...]
    sources: int
    kept: int
    stride: int
    norm: bool
    fresh: bool
    final_norm: bool
    folded: bool
    centred: bool
    tied: bool
    momentum: bool
    omits: bool

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return self.inputs * self.tokens

    @property
    def least_basis(self) -> int:
        """Of a basis, which holds several families and both matrices."""
        return least_room(self.least).basis

    @property
    def first(self) -> int:
        """Sources of the embedding and of the readout, which come before those of blocks."""
        return self.columns + (0 if self.tied else self.outputs)

    def apart(self, index: int) -> bool:
        """Whether a sub-block keeps initial images by themselves, as `matrix.through` needs."""
        return self.omits and self.sites[index].slow

    def evenly(self, rows: int) -> Shape:
        """The shape with all stacks of one size that holds so many rows, and room for the rest."""
        m, places, rooms = self.fields, places_for(rows, self.least), []
        for site in self.sites:
            each = site.families + site.written
            basis = each * (places + m)
            if isinstance(site, AbstractSampledSite):  # beyond half of the width it is refused
                basis = min(2 * each * places, site.width // 2 + 2 * each * m)
            basis = places_for(basis, self.least_basis)
            rooms.append(Room(places, places, places, places, basis))
        fresh = 2 * places * self.layers * len(self.sites) * self.fresh
        return self.in_room(tuple(rooms), columns_for(self.first + fresh))

    def in_room(self, rooms: tuple[Room, ...], sources: int) -> Shape:
        """The shape with other room; itself where it is the same."""
        if rooms == self.rooms and sources == self.sources:
            return self
        sites = tuple(
            site if isinstance(site, AbstractSampledSite) else replace(site, columns=room.basis)
            for site, room in zip(self.sites, rooms, strict=True)
        )
        return replace(self, rooms=rooms, sources=sources, sites=sites)
