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

import jax
import numpy as np

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
from translimit.limits.dmft.branches import Branches
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

    Costs one solve for each rate; a pass is compiled once for all of them.

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
        ArgumentError: a grid that is none, fewer than two evaluations, more than a schedule has.
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
    losses, first, refused = final_losses(equations, used, key, grid / unit, progress)
    return BestRate(
        rates=grid,
        losses=losses,
        start=first,
        steps=count,
        edge=start_edge * unit,
        refused={float(grid[index]): words for index, words in refused.items()},
        sampled=isinstance(used, CausalSampling),
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


def final_losses(
    equations: TrainingEquations,
    method: Method,
    key: Key | None,
    rates: np.ndarray,
    progress: Progress | None,
) -> tuple[np.ndarray, float, dict[int, str]]:
    """Losses after training [populations, rates], the loss before, and where passes failed.

    Raises:
        MemoryLimitError: a pass does not fit into the memory that is free.
    """
    depths = depths_of(equations, method)
    populations = method.populations if isinstance(method, CausalSampling) else 1
    need, there = solve_bytes(equations, method), available_memory()
    if need > there:
        raise MemoryLimitError(
            "steps",
            f"histories need {need / 2**30:.2f} GiB, and {there / 2**30:.2f} GiB are free",
            "take fewer inputs, tokens, steps, heads or neurons",
        )
    start = jax.random.key(0) if key is None else key
    keys = [named_key(start, "population", number) for number in range(populations)]

    def call_of(rate: float, own: Key, layers: int) -> Callable[[Callable[[float], object]], Trace]:
        whole = pass_of(replace(equations, rate=float(rate)), alone, layers, own, kept=1)

        def call(report: Callable[[float], object]) -> Trace:
            with np.errstate(over="ignore", invalid="ignore"):  # some rates are beyond the edge
                found = whole(report)
            return found._replace(kernels={}, scores=found.scores[:0])

        return call

    alone = replace(method, folder=None)
    calls = [call_of(rate, own, depth) for rate in rates for own in keys for depth in depths]
    traces = side_by_side(calls, calls_at_once(len(calls), need, there), progress)
    a = equations.architecture
    names = ("attention",) * a.attention + ("MLP",) * (a.mlp is not None)
    f = np.stack([trace.f for trace in traces])
    f = f.reshape(len(rates) * populations, len(depths), *f.shape[1:])
    outputs, _ = richardson(f)
    with np.errstate(over="ignore", invalid="ignore"):
        totals = equations.total_loss(equations.row_losses(outputs))
    totals = totals.reshape(len(rates), populations, -1)
    refused = {}
    for index in range(len(rates)):
        own = traces[index * populations * len(depths) : (index + 1) * populations * len(depths)]
        words = next((found for one in own if (found := failure(one, names))), "")
        if words:
            refused[index] = words
    last = np.where(np.isfinite(totals[..., -1]), totals[..., -1], math.inf)
    return last.T, float(np.mean(totals[0, :, 0])), refused
