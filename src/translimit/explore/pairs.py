"""Two tokens that start orthogonal, layer by layer: networks of random heads beside their limits.

What the map of regimes claims, seen at its point: heads without a mean effect beside the frozen and
the diffusive limit, heads with one beside the ballistic limit and the modified equation.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from translimit.core import solve
from translimit.describe import ShiftedHeads, WideHeads, diffusive_step
from translimit.explore.networks import beside
from translimit.explore.overlaps import SETTLED, unit_collapse
from translimit.figures import COLOURS, Chart, ChartAxis, Line, Mark
from translimit.limits.homogenized import BallisticFlow, ModifiedFlow, SimplexClosure

#: Dimension of the heads with a mean effect, whose mean maps are the identity.
DIM = 8
#: Equally spaced depths of a limit.
PLACES = 101
#: Paper time from which two tokens attracted by a mean effect are one, to rounding.
ONE = 20.0
#: The largest step at which the modified equation, an expansion in it, is drawn.
LARGEST_STEP = 1.0


def with_mean(score_std: float) -> ShiftedHeads:
    """Heads with the identity as mean map and noise of the same size."""
    same = np.eye(DIM)
    return ShiftedHeads(mean_v=same, mean_a=same, beta=score_std, sigma_v=DIM**-0.5)


@lru_cache(maxsize=128)
def diffusive_pair(
    dim: int, heads: int, layers: int, step: float, score_std: float
) -> Float[np.ndarray, " places"]:
    """Mean overlap in the diffusive limit at equally spaced depths, the first 0, the last `layers`.

    Args:
        dim: width of the stream, at least 2.
        heads: of a layer.
        layers: depth.
        step: residual step.
        score_std: deviation of the score of two unit tokens.
    """
    law = WideHeads(dim=dim, score_std=score_std)
    end = layers * float(diffusive_step(law, step=step, heads=heads))
    t1 = min(end, SETTLED * float(unit_collapse(dim, score_std, 2).layers))
    overlap = np.asarray(solve(SimplexClosure(law=law, tokens=2, t1=t1)).overlap)
    return _flat_after(overlap, t1, end)


@lru_cache(maxsize=128)
def mean_effect_pair(
    layers: int, step: float, score_std: float
) -> tuple[Float[np.ndarray, " places"], Float[np.ndarray, " places"]]:
    """Overlaps in the ballistic limit and in the modified equation, at equally spaced depths.

    The modified equation is an expansion in the step: NaN for steps above 1.

    Args:
        layers: depth.
        step: residual step.
        score_std: deviation of the score of two unit tokens.
    """
    law, start, end = with_mean(score_std), np.eye(2, DIM), layers * step
    t1 = min(end, ONE)
    ballistic = solve(BallisticFlow(law=law, initial=start, t1=t1)).mean_overlaps
    first = _flat_after(np.asarray(ballistic), t1, end)
    if step > LARGEST_STEP:
        return first, np.full(PLACES, np.nan)
    modified = solve(ModifiedFlow(law=law, initial=start, t1=t1, step=step)).mean_overlaps
    return first, _flat_after(np.asarray(modified), t1, end)


def _flat_after(
    curve: Float[np.ndarray, " places"], t1: float, end: float
) -> Float[np.ndarray, " places"]:
    """A curve over [0, t1] at equally spaced times of [0, end], constant after t1."""
    return np.interp(np.linspace(0.0, end, PLACES), np.linspace(0.0, t1, len(curve)), curve)


def pair_chart(
    title: str,
    layers: int,
    curves: dict[str, Float[np.ndarray, " _"]],
    networks: Float[np.ndarray, "networks levels"],
) -> Chart:
    """Limits as lines and networks as points along depth.

    Args:
        title: of the chart.
        layers: depth.
        curves: limits by name, at equally spaced depths; those with NaN are left out.
        networks: their overlaps, layer by layer; none, and no points are drawn.
    """
    curves = {name: one for name, one in curves.items() if np.isfinite(one).all()}
    low = min(0.0, *(float(one.min()) for one in curves.values()))
    top = max(float(one.max()) for one in curves.values())
    if len(networks):
        top = max(top, float(networks.mean(axis=0).max()))
    marks: list[Mark] = [
        Line(np.linspace(0, layers, len(curve)), curve, colour, name, dash)
        for (name, curve), colour, dash in zip(curves.items(), COLOURS, ("", "7 4"), strict=False)
    ]
    marks += beside(networks, layers)
    drawn = f"{len(networks)} networks" if len(networks) else "no networks"
    ends = ", ".join(f"{name} {curve[-1]:.3g}" for name, curve in curves.items())
    return Chart(
        alt=f"{title}: overlap of two tokens after layer {layers}: {ends}; {drawn} beside.",
        title=title,
        x=ChartAxis("layer", 0, layers),
        y=ChartAxis("overlap of two tokens", low, min(1.0, 1.2 * top + 1e-3)),
        marks=tuple(marks),
    )
