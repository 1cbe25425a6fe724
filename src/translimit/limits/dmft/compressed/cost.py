"""Memory and time of a compressed pass, told before it starts from the ranks that are expected.

Memory goes by the ranks of fields that are smooth in training time and move far: at four fields
(attention and MLP, 5,000 evaluations, tol = 1e-4) the largest is 56 where 64 are expected, at 64
fields (copy task, 16 long steps, tol = 1e-3) 938 where 768 are. Time goes by usual ones, which are
smaller: gradients of keys, queries and values have the most directions, which grow like a small
power of the number of steps, until these are many, and of the time of training, as was seen at 4,
16 and 64 fields. A step reads all directions and images, and one that enters costs as much as
several fields that read them. Seconds are those of one core of a busy machine, about: fitted to
passes of at most 600 steps and then raised by a quarter, as newer measurements asked for.
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
#: Fields from which on each has fewer, as more of them are alike; and the power.
_MANY, _BY_FIELDS = 64, -0.4
#: The part of them that a kind of field has, where it has the most of it: what sub-blocks read,
#: their gradients, what they write, and the gradients that they receive.
SHARES = {"h": 0.35, "p": 1.0, "x": 0.6, "g": 0.6}
#: What the compiler adds.
_MARGIN = 1.3
#: Directions of gradients that a field has on the mean over a solve: at one step and one unit of
#: training time, and the powers of both by which they grow; the most steps, and the least and the
#: most of what the time does.
_USUALLY, _BY_STEPS, _BY_TIME, _STEPS, _TIMES = 2.25, 0.2, 0.3, 30, (0.5, 2.5)
#: Directions of the other kinds, relative to those.
_OF_READ, _OF_WRITTEN, _OF_RECEIVED = 0.4, 0.7, 0.4
#: How often a step reads directions and images of gradients or of what is written, and others.
_OWN, _OTHERS = 4, 3
#: Seconds of one reading, and of each field that goes with it, in float32 on one core.
_READ, _FIELD = 1.0e-9, 0.09e-9
#: Fields that read all, in the place of a direction that enters.
_ENTERING = 10.8
#: Seconds of the many small things of a step, for each sub-block of a layer.
_SMALL = 1.5e-3
#: What double precision costs more.
_DOUBLE = 2.1


def expected_rank(fields: int, steps: int, tol: float = _USUAL) -> int:
    """Directions of one kind of field that a solve is expected to keep."""
    each = _EACH * _finer(tol) * _alike(fields)
    return math.ceil(fields * min(steps, max(1.0, each)))


def _finer(tol: float) -> float:
    """How many directions a tolerance asks for, over those at the usual one."""
    return max(0.25, 1 + _BY_DECADE * math.log10(_USUAL / tol))


def _alike(fields: int) -> float:
    """How many directions a field has, over those where fields are few."""
    return max(1.0, fields / _MANY) ** _BY_FIELDS


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


def usual_rank(fields: int, steps: int, tol: float, time: float) -> float:
    """Directions of gradients on the mean over a solve.

    Args:
        fields: inputs times tokens.
        steps: evaluations.
        tol: tolerance.
        time: of training, the learning rate times the steps.
    """
    most = expected_rank(fields, steps, tol)
    further = min(max(time**_BY_TIME, _TIMES[0]), _TIMES[1])
    each = _USUALLY * _finer(tol) * min(steps, _STEPS) ** _BY_STEPS * further * _alike(fields)
    return min(fields * each, fields * (steps + 1) / 2, most)


def pass_seconds(shape: Shape, steps: int, tol: float, time: float) -> float:
    """Processor seconds of a pass on one core, without compilation; on today's processors about.

    Args:
        shape: of the pass.
        steps: evaluations.
        tol: tolerance.
        time: of training, the learning rate times the steps.
    """
    m, total, small = shape.fields, 0.0, 0.0
    rank = usual_rank(m, steps, tol, time)
    before = rank * (_OTHERS * _OF_READ + _OWN)
    behind = rank * (_OWN * _OF_WRITTEN + _OTHERS * _OF_RECEIVED)
    columns = shape.first + shape.layers * len(shape.sites) * rank * (1 + _OF_WRITTEN)
    for site in shape.sites:
        sampled = isinstance(site, AbstractSampledSite)
        slower = _DOUBLE if not sampled or site.dtype == "float64" else 1.0
        reads = slower * (site.families * before + site.written * behind) * site.width
        total += (reads + _DOUBLE * (before + behind) * columns) * (_READ + _FIELD * m)
        small += _SMALL
    return shape.layers * ((steps + _ENTERING * rank / m) * total + steps * small)
