"""The solver: passes side by side, then means over populations and extrapolation in the cells.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Float

from translimit.core import (
    Key,
    MemoryLimitError,
    Outcome,
    Progress,
    available_memory,
    calls_at_once,
    named_key,
    side_by_side,
)
from translimit.limits.dmft.compressed import setup as compressed
from translimit.limits.dmft.compressed.passes import compressed_pass, first_kernel
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.methods import (
    CausalSampling,
    LinearAlgebra,
    Method,
    Passes,
    PopulationSampling,
)
from translimit.limits.dmft.passes import Trace, causal_pass, first_ntk
from translimit.limits.dmft.plan import RESPONSES
from translimit.limits.dmft.remarks import (
    warn_of_a_tied_start,
    warn_of_heavy_tails,
    warn_of_instability,
    warn_of_the_floor,
)
from translimit.limits.dmft.resume import checkpoints_of
from translimit.limits.dmft.setup import depths_of, numbers_of, plan_of, solve_bytes
from translimit.limits.dmft.solution import TrainingSolution
from translimit.limits.dmft.strides import (
    alone,
    at_common_times,
    common_times,
    evaluations,
    extrapolated,
    require_smooth,
    with_steps_of,
)
from translimit.limits.dmft.summaries import (
    failure,
    largest_kurtosis,
    largest_number,
    richardson,
    stderr_of_mean,
)

#: Fields up to which the tangent kernel of token outputs at the start is always computed.
_LARGEST_START = 512
#: How much larger a tolerance of compression is that a pass is compared with.
COARSER = 10


def solve_training(
    equations: TrainingEquations, method: Passes, key: Key | None, progress: Progress | None
) -> TrainingSolution:
    """One causal pass for each population, and at each number of cells.

    Args:
        equations: the mathematics.
        method: how it is discretised and sampled.
        key: of the populations; None where nothing is sampled.
        progress: told the fraction that is done.

    Raises:
        MemoryLimitError: the passes do not fit into the memory that is free.

    Warns:
        EdgeOfStabilityWarning, HeavyTailWarning, SamplingFloorWarning: see `remarks`.
    """
    depths, strides = depths_of(equations, method), method.strides or (1,)
    if method.strides:
        require_smooth(equations, method.strides)
    populations = method.populations if isinstance(method, CausalSampling) else 1
    passes = populations * len(strides) * len(depths)
    at_once = _at_once(equations, method, passes)
    start = jax.random.key(0) if key is None else key
    keys = [named_key(start, "population", number) for number in range(populations)]
    wanted = [(own, stride, layers) for own in keys for stride in strides for layers in depths]
    calls = [
        pass_of(equations, method, layers, own, number, stride=stride)
        for number, (own, stride, layers) in enumerate(wanted)
    ]
    if isinstance(method, CausalSampling) and method.check_tol:
        coarser = replace(method, tol=min(COARSER * method.tol, 0.5))
        own = pass_of(
            equations, coarser, depths[0], keys[0], passes, stride=strides[0], shaped_as=method
        )
        calls.append(own)
    found = side_by_side(calls, at_once, progress)
    coarse = found[passes] if len(found) > passes else None
    of_population, D = len(strides) * len(depths), len(depths)
    by_stride = [
        [found[i + j : i + j + D] for j in range(0, of_population, D)]
        for i in range(0, passes, of_population)
    ]
    starts: list[np.ndarray] = []
    if equations.folded and not equations.tied and _start_fits(equations):
        starts = [start_kernel(equations, method, depths[0], own) for own in keys]
    if method.strides:
        solution = _of_single_updates(equations, method, by_stride, starts, coarse)
    else:
        solution = assemble(equations, method, [row[0] for row in by_stride], starts, coarse)
    longest = strides[-1]  # a step so long has to be stable too
    warn_of_instability(longest * solution.edge_ratio, endless=equations.loss.endless)
    if equations.tied and not equations.centred:
        warn_of_a_tied_start(found[0].f[0])
    warn_of_heavy_tails(largest_kurtosis(solution))
    floor = method.floor if isinstance(method, CausalSampling) else None
    warn_of_the_floor(float(np.max(solution.stderr)), floor)
    return solution


def _of_single_updates(
    equations: TrainingEquations,
    method: Passes,
    by_stride: list[list[list[Trace]]],
    starts: list[Float[np.ndarray, "rows rows"]],
    coarse: Trace | None,
) -> TrainingSolution:
    """The solution at the times that all strides share, extrapolated to single updates.

    Args:
        equations: the mathematics.
        method: that the passes were made with.
        by_stride: traces of every population, at every stride, at every number of layers.
        starts: as for `assemble`.
        coarse: the first population's finest pass at the first stride and a larger tolerance.
    """
    strides, sampled = method.strides, isinstance(method, CausalSampling)

    def at(count: int) -> list[list[Trace]]:
        return [
            [
                extrapolated(list(own), strides, count, equations.fields, sampled=sampled)
                for own in zip(*population, strict=True)
            ]
            for population in by_stride
        ]

    traces, fewer = at(len(strides)), at(len(strides) - 1)
    if coarse is not None:
        ratio = math.lcm(*strides) // strides[0]
        change = coarse.f - by_stride[0][0][0].f
        coarse = coarse._replace(f=traces[0][0].f + change[::ratio])
    times = common_times(equations.steps, strides)
    solution = assemble(at_common_times(equations, strides), method, traces, starts, coarse)
    found = [
        richardson(np.stack([[x.f for x in row] for row in one]))[0] for one in (traces, fewer)
    ]
    error = np.abs(found[0].mean(axis=0) - found[1].mean(axis=0))
    error = error.reshape(solution.predictions.shape)
    return replace(
        solution,
        ts=times.astype(float),
        kernel_ts=times[solution.kernel_ts.astype(int)].astype(float),
        stride_error=error,
        discretisation=max(solution.discretisation, largest_number(error)),
    )


def start_kernel(
    equations: TrainingEquations, method: Method, layers: int, key: Key
) -> Float[np.ndarray, "rows rows"]:
    """Tangent kernel of one output at the start, with the same units.

    With several outputs gradients carry the errors. At the start outputs have independent
    readouts and nothing else of their own: the kernel is this one for each of them, and zero
    between two.
    """
    one = equations.of_one_output()
    if isinstance(method, CausalSampling):
        a = equations.architecture
        heads, neurons = method.counts(a, equations.fields, equations.steps)
        more = replace(method, heads=None, neurons=None).counts(a, one.fields, 1)
        method = replace(method, heads=max(heads, more[0]), neurons=max(neurons, more[1]))
        shape = compressed.shape_of(one, method, layers)
        return first_kernel(shape, compressed.numbers_of(one, method, shape), key)
    assert isinstance(method, LinearAlgebra)
    plan = plan_of(one, layers)
    return first_ntk(plan, numbers_of(one, method, plan), key)


def assemble(
    equations: TrainingEquations,
    method: Method,
    traces: list[list[Trace]],
    starts: list[Float[np.ndarray, "rows rows"]],
    coarse: Trace | None,
) -> TrainingSolution:
    """Means over populations, extrapolated in the cells.

    Args:
        equations: the mathematics.
        method: that the passes were made with.
        traces: of every population, at every number of layers, the finest first.
        starts: kernels of one output at the start, by population, where outputs are several.
        coarse: the first population's finest pass at a larger tolerance of compression.
    """
    finest = [row[0] for row in traces]
    f, gap = richardson(np.stack([[trace.f for trace in row] for row in traces]))
    mean = f.mean(axis=0)
    ntk = np.mean([trace.ntk for trace in finest], axis=0)
    if starts:  # only the start has a kernel of one output
        ntk = np.full_like(ntk, np.nan)
        ntk[0] = np.mean(starts, axis=0)
    sharpness = equations.sharpness(ntk, mean)
    a = equations.architecture
    names = ("attention",) * a.attention + ("MLP",) * (a.mlp is not None)
    failures = [failure(trace, names) for trace in finest]
    failed = next((words for words in failures if words), "")
    shape = (equations.steps, *equations.targets.shape)
    of_rows = (equations.steps, *equations.targets.rows)
    row_losses = equations.row_losses(f)
    row_loss = equations.row_losses(mean[None])
    cell_error = np.abs(gap.mean(axis=0)).reshape(shape)
    compression = np.zeros_like(mean) if coarse is None else np.abs(coarse.f - finest[0].f)
    sampled = isinstance(method, CausalSampling)
    stride = compressed.stride_of(equations.fields, equations.steps) if sampled else 1
    kernels = {
        name: np.mean([x.kernels[name] for x in finest], axis=0) for name in _averaged(finest)
    }
    return TrainingSolution(
        ts=np.arange(equations.steps, dtype=np.float64),
        predictions=mean.reshape(shape),
        stderr=stderr_of_mean(f).reshape(shape),
        cell_error=cell_error,
        stride_error=np.zeros_like(cell_error),
        loss=equations.total_loss(row_loss)[0],
        loss_stderr=stderr_of_mean(equations.total_loss(row_losses)),
        row_loss=row_loss[0].reshape(of_rows),
        row_loss_stderr=stderr_of_mean(row_losses).reshape(of_rows),
        ntk=ntk,
        sharpness=sharpness,
        edge_ratio=equations.edge_ratio(sharpness),
        key_gradient=np.mean([trace.key_gradient for trace in finest], axis=0),
        score_gain=np.mean([trace.score_gain for trace in finest], axis=0),
        targets=equations.targets.given,
        outcome=Outcome.non_finite if failed else Outcome.successful,
        failed_at=failed,
        discretisation=largest_number(cell_error),
        samples=len(traces),
        _scores=np.concatenate([trace.scores for trace in finest], axis=2),
        compression_error=compression.reshape(shape),
        ranks=np.max([trace.ranks for trace in finest], axis=0),
        kernel_ts=np.arange(0.0, equations.steps, stride),
        _kernels=finest[0].kernels | kernels,
        _kernel_stderr=stderr_of_mean(np.stack([trace.kernels["residual"] for trace in finest])),
        _tokens=equations.tokens,
        _attention=equations.architecture.attention,
        _causal=equations.architecture.causal,
        _trained=equations.trained.reshape(equations.targets.rows),
        _loss=equations.loss,
        _test_stderr=test_stderr(equations, row_losses),
    )


def _averaged(finest: list[Trace]) -> list[str]:
    """Names of kernels that are means over populations; directions are those of the first one."""
    names = list(finest[0].kernels)
    return [name for name in names if len(finest) == 1 or name not in RESPONSES]


def test_stderr(
    equations: TrainingEquations, row_losses: Float[np.ndarray, "populations steps rows"]
) -> Float[np.ndarray, " steps"] | None:
    """Standard error of the mean over rows of a test; None without."""
    tested = equations.targets.counted & ~equations.trained
    return stderr_of_mean(row_losses[..., tested].mean(axis=-1)) if tested.any() else None


def _start_fits(equations: TrainingEquations) -> bool:
    """Whether the start of every row by itself is small beside the solve."""
    fields = equations.of_one_output().fields
    return fields <= max(_LARGEST_START, equations.fields * equations.steps)


def _at_once(equations: TrainingEquations, method: Method, passes: int) -> int:
    """How many passes run side by side, or an error where they would not fit."""
    one = replace(method, at_once=1) if isinstance(method, CausalSampling) else method
    need = solve_bytes(equations, one)
    there = available_memory()
    asked = method.at_once if isinstance(method, CausalSampling) else 1
    at_once = min(passes, asked or calls_at_once(passes, need, there))
    need *= at_once
    if need > there:
        raise MemoryLimitError(
            "steps" if isinstance(method, LinearAlgebra) else "heads",
            f"histories need {need / 2**30:.2f} GiB, and {there / 2**30:.2f} GiB are free",
            "take fewer inputs, tokens, steps, heads, neurons or passes at_once, or "
            "precision='float32'",
        )
    return at_once


def pass_of(
    equations: TrainingEquations,
    method: Method,
    layers: int,
    key: Key,
    number: int = 0,
    *,
    kept: int | None = None,
    stride: int = 1,
    shaped_as: CausalSampling | None = None,
    losses_of: int | None = None,
) -> Callable[[Progress], Trace]:
    """One pass, to be called with a function of its progress.

    Args:
        equations: the mathematics.
        method: how it is discretised and sampled.
        layers: of the pass, or cells.
        key: of the population.
        number: of the pass among those that are stored.
        kept: heads whose scores are kept; as the method asks by default.
        stride: updates that a step is long.
        shaped_as: the method whose room the pass has, and so its program; its own by default.
        losses_of: so many evaluations of a sampled pass, for their losses: no kernels are kept.
    """
    strides = () if isinstance(method, PopulationSampling) else method.strides
    steps = losses_of or evaluations(equations.steps, strides, stride)
    longer = equations if stride == 1 else with_steps_of(equations, stride)

    def sampled(report: Progress) -> Trace:
        assert isinstance(method, CausalSampling)
        shape = compressed.shape_of(equations, shaped_as or method, layers, compressed.START)
        if losses_of:
            shape = compressed.without_kernels(shape)
        elif method.strides:
            shape = compressed.at_common_times(shape, equations.steps, method.strides)
        heads = compressed.heads_kept(equations, method, layers) if kept is None else kept
        numbers = compressed.numbers_of(longer, method, shape)
        stored = checkpoints_of(
            method.folder,
            method.every,
            number,
            key=key,
            plan=shape,
            numbers=numbers,
            steps=steps,
            kept=heads,
        )
        return compressed_pass(shape, numbers, steps, key, heads, report, stored, stride)

    def exact(report: Progress) -> Trace:
        assert isinstance(method, LinearAlgebra)
        own = alone(longer, stride, steps)
        plan = plan_of(own, layers)
        numbers = numbers_of(own, method, plan)
        stored = checkpoints_of(
            method.folder,
            method.every,
            number,
            key=key,
            plan=plan,
            numbers=numbers,
            steps=steps,
        )
        return causal_pass(plan, numbers, steps, key, 1, report, stored)

    return sampled if isinstance(method, CausalSampling) else exact
