r"""The best learning rate, predicted by the limit: one solve for each rate of a grid.

The edge of stability at the start is a poor guide: the tangent kernel grows while features move,
and the best rate lies anywhere between a tenth and most of it. So the limit is solved at rates in
steps of a factor 1.25, from a twentieth of the edge to twice it, with the same random numbers at
all rates, and the best is found by the robust rule of `rate_rules`.

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from translimit.core import (
    ArgumentError,
    ArrayInput,
    Bounds,
    Key,
    MemoryLimitError,
    Progress,
    as_float64,
    available_memory,
    calls_at_once,
    named_key,
    require_count,
    require_real,
    side_by_side,
)
from translimit.limits.dmft.best_rate_solution import BestRate
from translimit.limits.dmft.branches import Branches, longer
from translimit.limits.dmft.compressed.passes import SmallPopulationError
from translimit.limits.dmft.edge import of_all_passes, require_method, sharpness_at
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.methods import CausalSampling, LinearAlgebra, Method
from translimit.limits.dmft.passes import Trace
from translimit.limits.dmft.setup import depths_of, solve_bytes
from translimit.limits.dmft.solver import pass_of
from translimit.limits.dmft.summaries import failure, richardson
from translimit.limits.dmft.training import TrainingDynamics

#: Heads and neurons of a population of the robust rule, where moment matching needs no more.
SMALL = 600
#: Populations over those that a solve is expected to need: at rates near and beyond the edge more
#: directions differ (1.13 times as many were seen, copying words).
MORE = 1.25
#: The grid, in units of the rate at the edge of stability.
LOWEST, LARGEST = 0.05, 2.0


def best_rate(
    problem: TrainingDynamics,
    steps: int | None = None,
    *,
    method: Method | None = None,
    rates: ArrayInput | Sequence[float] | None = None,
    factor: float = 1.25,
    key: Key | None = None,
    progress: Progress | None = None,
) -> BestRate:
    """The learning rate at which the loss after training is lowest, with its error.

    Costs one solve for each rate; a pass is compiled once for all of them. A rate at which the
    directions of training need larger populations is refused alone: `too_small` of the result
    names it and the size that it needs.

    Args:
        problem: the training; its `eta0` is not looked at.
        steps: evaluations; those of the problem by default. More need weights and a schedule
            that do not change.
        method: how the limit is solved; by default exact, or four small populations: larger ones
            do not see what finite networks see, and the rule would be the plain minimum.
        rates: the grid in the convention of the problem, increasing in equal steps of its
            logarithm; by default from a twentieth of the edge of stability to twice it.
        factor: between two rates of that.
        key: of the populations, as in `solve`; the same at all rates.
        progress: told the fraction that is done.

    Returns:
        The rate with its error, losses by rate, where training diverges, what was refused.

    Raises:
        ArgumentError: a grid that is none, fewer than two evaluations, more than a schedule has;
            populations that are too small at all rates.
        ArgumentTypeError: another method than linear algebra or causal sampling; no key for the
            second, a key for the first.
        MemoryLimitError: a pass does not fit into the memory that is free.

    Examples:
        >>> import math
        >>> from translimit.limits.dmft import Architecture, TrainingDynamics
        >>> problem = TrainingDynamics(
        ...     architecture=Architecture(head_dim=math.inf),
        ...     inputs=[[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, 0.5]]],
        ...     targets=[1.0, -1.0],
        ...     steps=6,
        ...     eta0=1.0,
        ... )
        >>> found = best_rate(problem)
        >>> bool(0.05 * found.edge < found.rate < found.divergence[1])
        True
    """
    count = require_count(problem.steps if steps is None else steps, "steps", 2)
    equations = of_steps(problem.equations, count)
    used = small_populations(problem, count) if method is None else method
    used = require_method(problem, used, key)
    unit = problem.eta0 / problem.rate
    start_edge = edge_at_start(equations, used, key)
    if rates is None:
        ratio = require_real(factor, "factor", Bounds(1.0, 4.0, "()"))
        points = math.ceil(math.log(LARGEST / LOWEST) / math.log(ratio)) + 1
        grid = LOWEST * start_edge * unit * ratio ** np.arange(points)
    else:
        grid = require_grid(rates)
    found = final_losses(equations, used, key, grid / unit, progress)

    def by_rate(words: dict[int, str]) -> dict[float, str]:
        return {float(grid[index]): why for index, why in words.items()}

    return BestRate(
        rates=grid,
        losses=found.losses,
        start=found.start,
        steps=count,
        edge=start_edge * unit,
        refused=by_rate(found.refused),
        sampled=isinstance(used, CausalSampling),
        too_small=by_rate(found.too_small),
    )


def small_populations(problem: TrainingDynamics, steps: int) -> Method:
    """The method of the robust rule: exact where that is possible, else four small populations."""
    if LinearAlgebra in problem.methods:
        return LinearAlgebra()
    heads, neurons = CausalSampling().least_counts(problem.architecture, problem.fields, steps)
    return CausalSampling(
        heads=max(SMALL, math.ceil(MORE * heads)),
        neurons=max(SMALL, math.ceil(MORE * neurons)),
        populations=4,
        heads_kept=1,
    )


def require_grid(rates: ArrayInput | Sequence[float]) -> np.ndarray:
    """Increasing positive rates in equal steps of their logarithm.

    Raises:
        ArgumentError: others.
    """
    grid = np.asarray(as_float64(rates, "rates"))
    fits = grid.ndim == 1 and len(grid) > 2 and bool(np.all(grid > 0))
    if fits:
        ratios = grid[1:] / grid[:-1]
        fits = bool(np.all(ratios > 1)) and bool(np.allclose(ratios, ratios[0], rtol=1e-2))
    if not fits:
        raise ArgumentError(
            "rates",
            f"got {np.array2string(grid, threshold=6, precision=3)}",
            "pass at least three positive numbers in equal steps of their logarithm, as of "
            "np.geomspace",
        )
    return grid


def of_steps(equations: TrainingEquations, steps: int) -> TrainingEquations:
    """The same training with another number of evaluations.

    Raises:
        ArgumentError: more than weights or a schedule that change have.
    """
    have = equations.steps
    weights, schedule = equations.weights[:steps], equations.schedule[:steps]
    if steps > have:
        if np.any(equations.weights != weights[0]) or np.any(schedule != schedule[0]):
            raise ArgumentError(
                "steps",
                f"got {steps}, and weights or schedule of the problem change over its {have}",
                f"pass at most {have}, or a problem of {steps} steps",
            )
        weights = np.broadcast_to(weights[:1], (steps, weights.shape[1]))
        schedule = np.broadcast_to(schedule[:1], (steps,))
    return replace(equations, weights=weights.copy(), schedule=schedule.copy())


def edge_at_start(equations: TrainingEquations, method: Method, key: Key | None) -> float:
    """2 (1 + momentum) / Lambda(0) in units of the limit, from a random readout.

    A readout that starts at zero has a kernel at the start that tells nothing.
    """
    random = equations if equations.readout_std > 0 else replace(equations, readout_std=1.0)
    one = replace(method, populations=2) if isinstance(method, CausalSampling) else method

    def look(stopped: Branches) -> float:
        return sharpness_at(stopped, random, 12, 1e-3).value

    found = of_all_passes(random, one, key, (0,), look, None)
    value = np.mean([cells[0][0] for cells in found])
    return float(2 * (1 + equations.momentum) / value)


class FinalLosses(NamedTuple):
    """Losses after training, at all rates.

    Attributes:
        losses: infinite where a pass failed, NaN where a population was too small.
        start: the loss before training.
        refused: places of rates where a pass ceased to be finite, and where it did.
        too_small: places of rates where a population was too small, and for what.
    """

    losses: Float[np.ndarray, "populations rates"]
    start: float
    refused: dict[int, str]
    too_small: dict[int, str]


def final_losses(
    equations: TrainingEquations,
    method: Method,
    key: Key | None,
    rates: np.ndarray,
    progress: Progress | None,
) -> FinalLosses:
    """Losses after training at all rates.

    Raises:
        ArgumentError: populations are too small at all rates.
        MemoryLimitError: a pass does not fit into the memory that is free.
    """
    depths = depths_of(equations, method)
    sampled = isinstance(method, CausalSampling)
    populations = method.populations if sampled else 1
    need, there = solve_bytes(equations, method), available_memory()
    if need > there:
        raise MemoryLimitError(
            "steps",
            f"histories need {need / 2**30:.2f} GiB, and {there / 2**30:.2f} GiB are free",
            "take fewer inputs, tokens, steps, heads or neurons",
        )
    start = jax.random.key(0) if key is None else key
    keys = [named_key(start, "population", number) for number in range(populations)]

    # The edge of stability was seen with one evaluation more: the same programs serve here.
    passed, steps = (longer(equations), equations.steps) if sampled else (equations, None)

    def call_of(
        rate: float, own: Key, layers: int
    ) -> Callable[[Callable[[float], object]], Trace | SmallPopulationError]:
        at_rate = replace(passed, rate=float(rate))
        whole = pass_of(at_rate, alone, layers, own, kept=1, losses_of=steps)

        def call(report: Callable[[float], object]) -> Trace | SmallPopulationError:
            try:
                with np.errstate(over="ignore", invalid="ignore"):  # some are beyond the edge
                    found = whole(report)
            except SmallPopulationError as error:
                report(1.0)
                return error
            return found._replace(kernels={}, scores=found.scores[:0])

        return call

    alone = replace(method, folder=None)
    calls = [call_of(rate, own, depth) for rate in rates for own in keys for depth in depths]
    passes = side_by_side(calls, calls_at_once(len(calls), need, there), progress)
    each = populations * len(depths)
    by_rate = [passes[i : i + each] for i in range(0, len(passes), each)]
    return _collected(equations, by_rate, populations)


def _collected(
    equations: TrainingEquations,
    by_rate: list[list[Trace | SmallPopulationError]],
    populations: int,
) -> FinalLosses:
    """What passes found, those of every rate together."""
    a, start = equations.architecture, math.nan
    names = ("attention",) * a.attention + ("MLP",) * (a.mlp is not None)
    losses = np.full((populations, len(by_rate)), math.nan)
    refused, too_small = {}, {}
    for index, passes in enumerate(by_rate):
        traces = [one for one in passes if not isinstance(one, SmallPopulationError)]
        if len(traces) < len(passes):
            why = next(one for one in passes if isinstance(one, SmallPopulationError))
            too_small[index] = str(why)
            if len(too_small) == len(by_rate):
                raise why
            continue
        if words := next((found for one in traces if (found := failure(one, names))), ""):
            refused[index] = words
        f = np.stack([trace.f for trace in traces])
        outputs, _ = richardson(f.reshape(populations, -1, *f.shape[1:]))
        with np.errstate(over="ignore", invalid="ignore"):
            totals = equations.total_loss(equations.row_losses(outputs))
        losses[:, index] = np.where(np.isfinite(totals[:, -1]), totals[:, -1], math.inf)
        start = float(np.mean(totals[:, 0])) if math.isnan(start) else start
    return FinalLosses(losses, start, refused, too_small)
