"""Memory and time of a compressed pass, told before it starts from the ranks that are expected.

Ranks are those of fields that are smooth in training time, and depend on the problem: at four
fields (attention and MLP, 5,000 evaluations, tol = 1e-4) the largest is 56 where 64 are expected,
at 64 fields (copy task, 16 long steps, tol = 1e-3) 938 where 768 are. Seconds are measured on one
core of a busy machine; they hold to a factor of two where ranks do.
"""

from __future__ import annotations

import math

import numpy as np

from translimit.limits.dmft.compressed.heads import Heads
from translimit.limits.dmft.compressed.shape import Shape
from translimit.limits.dmft.compressed.sites import AbstractSampledSite

#: Directions of a kind that fields have each, at most: by how many this grows with a decade of the
#: tolerance, relative to those at the usual one.
_EACH, _BY_DECADE, _USUAL = 16, 0.25, 1e-4
#: What the compiler adds.
_MARGIN = 1.3
#: How often a step reads each number of the stacks of a family, before and behind a site.
_READS_BEFORE, _READS_BEHIND = 13.5, 4.5
#: Seconds of one reading, and of each field that goes with it, on one core.
_READ, _FIELD = 1e-9, 0.25e-9
#: What double precision costs more.
_DOUBLE = 1.7


def expected_rank(fields: int, steps: int, tol: float = _USUAL) -> int:
    """Directions of one kind of field that a solve is expected to keep."""
    finer = max(0.25, 1 + _BY_DECADE * math.log10(_USUAL / tol))
    return math.ceil(fields * min(steps, _EACH * finer))


def pass_bytes(shape: Shape) -> int:
    """Peak bytes of a pass: stacks of directions, kept fields, and what a step works on."""
    L, D, m, S = shape.layers, shape.sources, shape.fields, shape.tokens
    times = 2 + shape.momentum
    total = 8 * D * (2 * (L + 1) * shape.kept * m + 4 * m + 4 * shape.outputs)
    total += 2 * 8 * 2 * (L + 1) * (shape.kept * m) ** 2  # kernels, and means over populations
    for site, room in zip(shape.sites, shape.rooms, strict=True):
        sampled = isinstance(site, AbstractSampledSite)
        size = np.dtype(site.dtype if sampled else "float64").itemsize
        W, F = site.width, site.families
        own = F * (room.h * (times - 1) + room.p)
        own += site.written * (room.x + room.g * (times - 1))
        own += room.basis if sampled and site.matched else 0
        total += size * L * W * own
        stream = room.h + room.p * (times - 1) + room.x * (times - 1) + room.g
        total += 8 * L * (stream * D + 2 * (room.h * room.p + room.x * room.g))
        working = 8 * F * m * W
        if isinstance(site, Heads):
            weights = shape.inputs * S**2 * site.samples * site.group
            working += 6 * weights + 12 * m * W
            total += size * L * (F * m * W + 2 * m * W + 2 * weights)
        total += size * working
    return int(_MARGIN * total)


def pass_seconds(shape: Shape, steps: int, tol: float) -> float:
    """Seconds of a pass on one core, without compilation; on today's processors about."""
    m, total = shape.fields, 0.0
    rank = expected_rank(m, steps, tol) / 2  # the mean over a solve: most enter early
    for site in shape.sites:
        sampled = isinstance(site, AbstractSampledSite)
        slower = _DOUBLE if not sampled or site.dtype == "float64" else 1.0
        often = _READS_BEFORE * site.families + _READS_BEHIND * site.written
        reads = often * rank * site.width + 12 * rank * shape.sources
        total += slower / _DOUBLE * reads * (_READ + _FIELD * m)
    return steps * shape.layers * total
