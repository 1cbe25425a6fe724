"""How a training limit is solved: linear algebra where nothing is random, else sampling.

Every method makes causal passes over training time: no fixed point, no damping.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal

import equinox as eqx

from translimit.core import (
    POSITIVE,
    AbstractMethod,
    ArgumentError,
    Bounds,
    require_count,
    require_flag,
    require_real,
)
from translimit.limits.dmft.architecture import Architecture
from translimit.limits.dmft.compressed.cost import expected_rank
from translimit.limits.dmft.plan import RESPONSES
from translimit.limits.dmft.strides import require_strides

#: Least tolerance of populations in float32.
LEAST_TOL = 1e-9
#: Coordinates for each direction of the largest rank: a basis holds at most 6.3 times as many with
#: heads (few steps; 4.0 times after many), 3.5 times with neurons, and twice as many are needed.
_OF_HEADS, _OF_NEURONS = 13, 8


def _as_text(folder: str | Path | None) -> str | None:
    return None if folder is None else str(folder)


class LinearAlgebra(AbstractMethod):
    """Exact up to rounding: heads of infinite dimension, linear MLPs, no blocks at all.

    Attributes:
        cells: Euler cells of the depth ODE, a multiple of 4; only where layers is infinite.
        extrapolate: two Richardson steps in the cells from passes with cells, cells / 2 and
            cells / 4; else the finest pass as it is.
        omit: responses to switch off, of "R_v", "R_p", "R_h", "R_g": wrong on purpose, to see
            what each does.
        folder: where checkpoints are kept; a solve that was stopped goes on from there and ends
            in the same bits. None keeps none.
        every: evaluations between two checkpoints.

    Raises:
        ArgumentError: cells that are no multiple of 4, unknown responses.
    """

    cells: int = eqx.field(static=True, default=32)
    extrapolate: bool = eqx.field(static=True, default=True)
    omit: tuple[str, ...] = eqx.field(static=True, default=())
    strides: tuple[int, ...] = eqx.field(static=True, default=())
    folder: str | None = eqx.field(static=True, default=None, converter=_as_text)
    every: int = eqx.field(static=True, default=10)
    random: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_passes(self)


class CausalSampling(AbstractMethod):
    """Heads and neurons sampled, histories compressed; the stream by algebra.

    The past is kept as orthonormal directions of every field, of which there are far fewer than
    fields and steps, and what the matrices make of them: cost is linear in the steps. The error
    of a pass is O(samples^(-1/2)) with a small constant, its bias O(1 / samples); standard
    errors come from independent populations. Compression leaves out white noise of relative
    variance `tol`; `compression_error` of the solution says what ten times as much would change.

    Attributes:
        heads: sampled heads (groups of them, where queries share keys) of each attention
            sub-block and population; by default 1000, or as many as twice the directions that are
            expected need.
        neurons: sampled neurons of each MLP; by default 4000, or as many as these need.
        tol: variance of a direction, relative to the mean of its fields, below which it is
            left out; in (0, 1), with populations in float32 at least 1e-9.
        check_tol: one more pass of the first population at ten times `tol`.
        populations: independent repetitions, at least 2.
        at_once: how many passes are computed side by side, each with memory of its own. By
            default as many as JAX's CPU client has threads, while together they need at most half
            of the free memory. The bits are the same whatever it is.
        moment_matching: innovations with exact second moments; needs twice as many coordinates
            (heads * head_dim, or neurons) as directions.
        precision: of the populations; the stream is always in float64.
        heads_kept: heads of each population whose scores are kept.
        floor: standard error of predictions above which a warning is given.
        cells: Euler cells of the depth ODE, a multiple of 4; only where layers is infinite.
        extrapolate: Richardson steps in the cells, as in `LinearAlgebra`.
        omit: responses to switch off, as in `LinearAlgebra`.
        strides: lengths of steps that are extrapolated, as in `LinearAlgebra`; (2, 4, 8) cost
            seven eighths of single updates here, (4, 8, 16) less than half.
        folder: where checkpoints are kept, as in `LinearAlgebra`.
        every: evaluations between two checkpoints.

    Raises:
        ArgumentError: counts out of range, unknown names.
        ArgumentTypeError: counts that are not integers.
    """

    heads: int | None = eqx.field(static=True, default=None)
    neurons: int | None = eqx.field(static=True, default=None)
    tol: float = eqx.field(static=True, default=1e-4)
    check_tol: bool = eqx.field(static=True, default=True)
    populations: int = eqx.field(static=True, default=4)
    at_once: int | None = eqx.field(static=True, default=None)
    moment_matching: bool = eqx.field(static=True, default=True)
    precision: Literal["float64", "float32"] = eqx.field(static=True, default="float64")
    heads_kept: int = eqx.field(static=True, default=2000)
    floor: float | None = eqx.field(static=True, default=None)
    cells: int = eqx.field(static=True, default=16)
    extrapolate: bool = eqx.field(static=True, default=True)
    omit: tuple[str, ...] = eqx.field(static=True, default=())
    strides: tuple[int, ...] = eqx.field(static=True, default=())
    folder: str | None = eqx.field(static=True, default=None, converter=_as_text)
    every: int = eqx.field(static=True, default=10)
    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        require_passes(self)
        for name in ("heads", "neurons", "at_once"):
            if getattr(self, name) is not None:
                require_count(getattr(self, name), name, 1)
        require_count(self.populations, "populations", 2)
        require_count(self.heads_kept, "heads_kept", 1)
        if self.precision not in ("float64", "float32"):
            raise ArgumentError(
                "precision", f"got {self.precision!r}", 'pass "float64" or "float32"'
            )
        require_real(self.tol, "tol", Bounds(0.0, 1.0, "()"))
        require_flag(self.check_tol, "check_tol")
        if self.precision == "float32" and self.tol < LEAST_TOL:
            raise ArgumentError(
                "tol",
                f"got {self.tol:g}, below what populations in float32 resolve",
                f"pass at least {LEAST_TOL:g}, or precision='float64'",
            )
        if self.floor is not None:
            require_real(self.floor, "floor", POSITIVE)

    def counts(self, architecture: Architecture, fields: int, steps: int) -> tuple[int, int]:
        """Heads and neurons that are used."""
        heads, neurons = self.least_counts(architecture, fields, steps)
        return self.heads or max(1000, heads), self.neurons or max(4000, neurons)

    def least_counts(self, architecture: Architecture, fields: int, steps: int) -> tuple[int, int]:
        """Heads and neurons that hold the directions that are expected."""
        N = 1 if math.isinf(architecture.head_dim) else int(architecture.head_dim)
        rank = expected_rank(fields, steps, self.tol)
        shared = (architecture.queries_per_key + 1) / 2
        return math.ceil(_OF_HEADS * rank * shared / N), _OF_NEURONS * rank


class PopulationSampling(AbstractMethod):
    """Coordinates of the stream sampled too, beside heads and neurons.

    It is the method of updates that work entry by entry (`Adam`, `AdamW`, `Sign`) and of an
    activation on the stream, and solves all else at finite head dimension and depth, at a higher
    price than `CausalSampling`. A pass has M coordinates, M head coordinates and M neurons in every
    layer, and matrices between them that learn entry by entry: O(fields M^2) time a step and
    matrix, and 8 M^2 bytes a matrix for what it learns and for each moment of the optimiser.
    Predictions are means over populations of 2 F_2M - F_M.

    Attributes:
        units: M, a multiple of head_dim; 2 M in the larger passes. By default 256, or twice as many
            as a pass may draw innovations on any population.
        populations: independent pairs of passes, at least 2.
        moment_matching: innovations with exact second moments; without it a pass is a network of
            that width, in law.
        tolerance: a direction of a field with less variance than this, relative to the mean, gets
            no innovation of its own.
        heads_kept: heads of each larger pass whose scores are kept.
        floor: standard error of predictions above which a warning is given.
        omit: responses to switch off, as in `LinearAlgebra`.

    Raises:
        ArgumentError: counts out of range, unknown names.
        ArgumentTypeError: counts that are not integers.
    """

    units: int | None = eqx.field(static=True, default=None)
    populations: int = eqx.field(static=True, default=4)
    moment_matching: bool = eqx.field(static=True, default=True)
    tolerance: float = eqx.field(static=True, default=1e-6)
    heads_kept: int = eqx.field(static=True, default=2000)
    floor: float | None = eqx.field(static=True, default=None)
    omit: tuple[str, ...] = eqx.field(static=True, default=())
    random: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __check_init__(self):
        if self.units is not None:
            require_count(self.units, "units", 2)
        require_count(self.populations, "populations", 2)
        require_count(self.heads_kept, "heads_kept", 1)
        require_real(self.tolerance, "tolerance", Bounds(0.0, 0.1, "(]"))
        if self.floor is not None:
            require_real(self.floor, "floor", POSITIVE)
        require_responses(self.omit)


#: What solves a training problem on a linear stream.
Passes = LinearAlgebra | CausalSampling
#: What solves a training problem.
Method = LinearAlgebra | CausalSampling | PopulationSampling


def require_passes(method: Passes) -> None:
    """The checks that the methods on a linear stream share."""
    if require_count(method.cells, "cells", 4) % 4:
        raise ArgumentError("cells", f"got {method.cells}", "pass a multiple of 4")
    require_count(method.every, "every", 1)
    require_strides(method.strides)
    require_responses(method.omit)


def require_responses(omit: tuple[str, ...]) -> None:
    """Refuse responses that there are not."""
    unknown = sorted(set(omit) - set(RESPONSES))
    if unknown:
        raise ArgumentError("omit", f"got {', '.join(unknown)}", f"known: {', '.join(RESPONSES)}")
