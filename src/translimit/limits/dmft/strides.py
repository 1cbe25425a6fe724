r"""Time steps that are several updates long, extrapolated to single ones.

With steps k times as long and k times fewer, errors are smooth in k: outputs at the times that all
solves share are extrapolated by a polynomial in k to k = 1. Under momentum the heavy ball keeps its
time, mu_k = mu^k, and eta_k = k eta_0 (1 - mu_k) / (1 - mu) keeps what a unit of time moves. It
needs k eta_0 Lambda < 1 at the largest step, the same rows at all steps, and a smooth schedule.

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, require_count
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.passes import Trace

#: What of a trace is extrapolated; scores over heads and ranks are those of the shortest steps.
_NUMBERS = ("f", "ntk", "key_gradient", "score_gain")
_KERNELS = ("residual", "gradient", "motion")


def require_strides(strides: tuple[int, ...]) -> None:
    """At least two increasing lengths of a step, or none.

    Raises:
        ArgumentError: others.
    """
    if not strides:
        return
    for one in strides:
        require_count(one, "strides", 1)
    if len(strides) < 2 or any(b <= a for a, b in itertools.pairwise(strides)):
        raise ArgumentError(
            "strides", f"got {strides}", "pass at least two increasing integers, as (2, 4, 8)"
        )


def require_smooth(equations: TrainingEquations, strides: tuple[int, ...]) -> None:
    """Whether longer steps make sense of a problem.

    Raises:
        ArgumentError: rows that change from step to step, fewer than two common times.
    """
    if np.any(equations.weights != equations.weights[0]):
        raise ArgumentError(
            "strides",
            f"got {strides}, and weights of rows change from step to step",
            "leave it out, or train on all rows at every step",
        )
    if math.lcm(*strides) >= equations.steps:
        raise ArgumentError(
            "strides",
            f"got {strides}, whose first common time is update {math.lcm(*strides)} of "
            f"{equations.steps - 1}",
            "pass smaller ones, or more steps",
        )


def common_times(steps: int, strides: tuple[int, ...]) -> np.ndarray:
    """Evaluations that solves at all strides share."""
    return np.arange(0, steps, math.lcm(*strides))


def at_common_times(equations: TrainingEquations, strides: tuple[int, ...]) -> TrainingEquations:
    """What is reported at the common times: the equations there, at the rate of single updates."""
    times = common_times(equations.steps, strides)
    schedule, weights = equations.schedule[times], equations.weights[times]
    return replace(equations, schedule=schedule, weights=weights)


def with_steps_of(equations: TrainingEquations, stride: int) -> TrainingEquations:
    """The same training with longer steps; weights and schedule still have an entry an update.

    The factor of a step is the mean of those of its updates.
    """
    mu = equations.momentum
    behind = np.repeat(equations.schedule[-1:], stride - 1)
    schedule = np.convolve(
        np.concatenate([equations.schedule, behind]), np.full(stride, 1 / stride), "valid"
    )
    rate = stride * equations.rate * (1 - mu**stride) / (1 - mu)
    return replace(equations, rate=rate, momentum=mu**stride, schedule=schedule)


def evaluations(steps: int, strides: tuple[int, ...], stride: int) -> int:
    """Evaluations of the solve at one stride, up to the last common time."""
    last = common_times(steps, strides)[-1] if strides else steps - 1
    return int(last) // stride + 1


def alone(equations: TrainingEquations, stride: int, steps: int) -> TrainingEquations:
    """The equations with the first evaluations of longer steps alone."""
    kept = slice(0, stride * (steps - 1) + 1, stride)
    return replace(equations, weights=equations.weights[kept], schedule=equations.schedule[kept])


def coefficients(strides: tuple[int, ...]) -> Float[np.ndarray, " strides"]:
    """Of the values at the strides in the polynomial through them, at stride 1."""
    k = np.array(strides, float)
    return np.array(
        [np.prod((1 - np.delete(k, i)) / (k[i] - np.delete(k, i))) for i in range(len(k))]
    )


def extrapolated(
    traces: list[Trace], strides: tuple[int, ...], count: int, fields: int, *, sampled: bool
) -> Trace:
    """The trace at stride 1 and common times, from one at each stride.

    Args:
        traces: in the order of the strides, up to the last common time.
        strides: of them.
        count: how many of them are used, the shortest.
        fields: inputs times tokens.
        sampled: whether kernels are those of common times already.
    """
    last = math.lcm(*strides)
    common = [
        _at(trace, last // stride, fields, sampled=sampled)
        for trace, stride in zip(traces, strides, strict=True)
    ]
    factors, common = coefficients(strides[:count]), common[:count]
    numbers = {n: _sum(factors, [getattr(one, n) for one in common]) for n in _NUMBERS}
    kernels = {n: _sum(factors, [one.kernels[n] for one in common]) for n in common[0].kernels}
    finite = np.all([one.finite for one in common], axis=0)
    return common[0]._replace(**numbers, finite=finite, kernels=kernels)


def _sum(factors: Float[np.ndarray, " strides"], values: list[np.ndarray]) -> np.ndarray:
    return np.tensordot(factors, np.stack(values), axes=1)


def _at(trace: Trace, every: int, fields: int, *, sampled: bool) -> Trace:
    """A trace at every so many of its evaluations; without responses, which belong to steps."""
    rows = {name: getattr(trace, name)[::every] for name in Trace._fields if name != "kernels"}
    kernels, steps = {}, len(trace.f)
    for name in set(_KERNELS) & set(trace.kernels):
        kernel = trace.kernels[name]
        if name == "motion":
            each = kernel.reshape(len(kernel), 1, steps, fields)[:, :, ::every]
            kernels[name] = each.reshape(len(kernel), 1, -1)
        elif sampled:
            kernels[name] = kernel
        else:
            each = kernel.reshape(len(kernel), steps, fields, steps, fields)
            size = len(rows["f"]) * fields
            kernels[name] = each[:, ::every, :, ::every].reshape(len(kernel), size, size)
    return Trace(**rows, kernels=kernels)
