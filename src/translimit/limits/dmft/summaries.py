"""From passes to a solution: extrapolation in cells, errors over populations, what went wrong."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from translimit.core import Floats
from translimit.limits.dmft.passes import Trace
from translimit.limits.dmft.solution import TrainingSolution


def richardson(
    values: Float[np.ndarray, "populations depths ..."],
) -> tuple[Float[np.ndarray, "populations ..."], Float[np.ndarray, "populations ..."]]:
    """Extrapolation in the cells of [populations, depths, ...], and the size of its last step."""
    if values.shape[1] == 1:
        return values[:, 0], np.zeros_like(values[:, 0])
    fine, middle, coarse = values[:, 0], values[:, 1], values[:, 2]
    once, once_coarse = 2 * fine - middle, 2 * middle - coarse
    twice = (4 * once - once_coarse) / 3
    return twice, twice - once


def stderr_of_mean(
    samples: Float[np.ndarray, "samples ..."],
) -> np.ndarray:
    """Standard error of the mean over the first axis; 0 for one sample, which is exact."""
    if len(samples) == 1:
        return np.zeros_like(samples[0])
    return samples.std(axis=0, ddof=1) / math.sqrt(len(samples))


def largest_number(errors: Floats) -> float:
    """The largest error that is a number; NaN without one."""
    known = errors[np.isfinite(errors)]
    return float(known.max()) if known.size else math.nan


def failure(trace: Trace, names: tuple[str, ...]) -> str:
    """Where the first kernel that is not finite appeared, in words."""
    good = trace.finite.all(axis=(1, 2, 3)) & np.isfinite(trace.f).all(axis=(1, 2))
    if good.all():
        return ""
    t = int(np.argmin(good))
    sides = trace.finite[t]  # [layers, units, 2]; backward runs after forward, layers downwards
    for side, layers in ((0, range(len(sides))), (1, reversed(range(len(sides))))):
        for layer in layers:
            for index, name in enumerate(names):
                if not sides[layer, index, side]:
                    direction = ("forward", "backward")[side]
                    return f"evaluation {t}, layer {layer}, {name}, {direction}"
    return f"evaluation {t}, readout"


def largest_kurtosis(solution: TrainingSolution) -> Float[np.ndarray, "steps layers"]:
    """Largest excess kurtosis of scores [steps, layers]; nothing where heads do not vary."""
    scores = solution._scores
    if not scores.size or scores.shape[2] < 100:
        return np.zeros((0, 0))
    laws = [solution.score_law(layer).excess_kurtosis for layer in range(solution.layers)]
    return np.stack([law.max(axis=(1, 2, 3)) for law in laws], axis=1)
