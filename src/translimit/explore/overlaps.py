"""Overlap of the tokens along depth and the collapse depth: the simplex closure of random heads.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from translimit.core import ArgumentError, solve, with_error
from translimit.describe import WideHeads, diffusive_step
from translimit.explore.networks import TOO_LARGE, beside, head_overlaps, mean_and_error
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Band, Chart, ChartAxis, Line, Mark
from translimit.limits.homogenized import CollapseDepth, SimplexClosure, collapse_depth

THRESHOLD = 0.5
#: Collapse depths after which all tokens are one, to rounding: a solve ends there.
SETTLED = 20.0
CODE = """\
import numpy as np
from translimit import solve
from translimit.describe import WideHeads, diffusive_step
from translimit.explore.networks import head_overlaps
from translimit.limits.homogenized import SimplexClosure, collapse_depth

law = WideHeads(dim={dim}, score_std={score_std!r})
each = diffusive_step(law, step={step!r}, heads={heads})  # diffusive time of one layer
closure = SimplexClosure(law=law, tokens={tokens}, t1={until!r} * each)
overlap = solve(closure).overlap  # at 101 equally spaced depths, to layer {until:.4g}
depth = collapse_depth(law, tokens={tokens}, step={step!r}, heads={heads}, threshold={threshold})
collapse = np.array([depth.layers, depth.spread, depth.error])
# Networks of these sizes, layer by layer: in law those of models.RandomHeadChain
networks = head_overlaps({tokens}, {dim}, {heads}, {layers}, {step!r}, {score_std!r})
"""


def shape(view: View) -> Hashable:
    """What decides which compiled program is used: the tokens."""
    return view.tokens


def panel(view: View) -> Panel:
    """What random heads with common noise do to tokens that start orthogonal."""
    if view.tokens > view.width:
        raise ArgumentError(
            "tokens",
            f"got {view.tokens}, and at most {view.width} can start orthogonal in this stream",
            "take fewer tokens, or wider heads",
        )
    law = WideHeads(dim=view.width, score_std=view.score_std)
    each = float(diffusive_step(law, step=view.step, heads=view.heads))
    unit = unit_collapse(view.width, view.score_std, view.tokens)
    until = min(float(view.layers), SETTLED * float(unit.layers) / each)
    problem = SimplexClosure(law=law, tokens=view.tokens, t1=until * each)
    overlap = np.asarray(solve(problem).overlap)
    collapse = np.array([unit.layers, unit.spread, unit.error], dtype=float) / each

    sizes = view.tokens, view.width, view.heads, view.layers
    networks = head_overlaps(*sizes, float(view.step), view.score_std)
    drawn = "" if len(networks) else f" {TOO_LARGE}"
    if len(networks):
        mean, error = mean_and_error(networks)
        told = with_error(mean[-1], 2 * error[-1], ".3g", ".1g")
        drawn = f" In {len(networks)} networks of these sizes it is {told}."

    when = f"at layer {with_error(collapse[0], collapse[1], '.3g', '.2g')}"
    beyond = "" if collapse[0] <= view.layers else f", beyond the {view.layers} layers"
    # A small step is what the limit rests on; see `classify`, whose tolerance this is.
    caution = "" if each <= 0.05 else "With steps this large a limit is no guide. "
    return Panel(
        says=f"{caution}The overlap reaches {THRESHOLD} {when}{beyond}. After layer "
        f"{view.layers} it is {overlap[-1]:.3g}.{drawn}",
        figures=(
            _chart(
                f"Mean overlap of {view.tokens} tokens against the layer, from 0 to "
                f"{overlap[-1]:.3g}; collapse {when}{beyond}.",
                view.layers,
                until,
                overlap,
                collapse,
                networks,
            ),
        ),
        assumptions=_assumptions(view, each, unit),
        verified=(
            Verified(
                "koubbi2026/collapse",
                ("depth/*", "spread"),
                "chains of random heads, up to thousands of layers",
            ),
            Verified(
                "koubbi2026/simplex",
                ("drift-at-*", "mean-with*"),
                "the drift at equal overlaps, and the mean along depth",
            ),
        ),
        code=CODE.format(
            dim=view.width,
            score_std=view.score_std,
            step=view.step,
            heads=view.heads,
            tokens=view.tokens,
            layers=view.layers,
            until=until,
            threshold=THRESHOLD,
        ),
        numbers={"overlap": overlap, "collapse": collapse, "networks": networks},
        aside=_aside(view, each),
    )


def _aside(view: View, each: float) -> str:
    """Why the recursion holds for this view, and this limit does not; "" where it does."""
    why = []
    if view.config:
        why.append("the limit is one of attention alone, on a sphere, without mask or hidden units")
    if each > 0.05:
        why.append(f"it needs small steps, and one layer advances its time by {each:.3g}")
    if not why:
        return ""
    return (
        f"Not the depth to quote here: {'; '.join(why)}. The recursion of This architecture holds "
        "for such a stack: norms, mask, hidden units and large steps are in it."
    )


@lru_cache(maxsize=1024)
def unit_collapse(dim: int, score_std: float, tokens: int) -> CollapseDepth:
    """The collapse in diffusive time: at step and heads one, a layer is a unit of it.

    Args:
        dim: width of the stream.
        score_std: deviation of the score of two unit tokens.
        tokens: that start orthogonal.
    """
    law = WideHeads(dim=dim, score_std=score_std)
    return collapse_depth(law, tokens=tokens, step=1.0, heads=1, threshold=THRESHOLD)


def _assumptions(view: View, each: float, depth: CollapseDepth) -> tuple[str, ...]:
    return (
        "Every layer draws new heads, values with independent Gaussian entries at the standard "
        "scaling; scores are Gaussian (key/query dimension large), with standard deviation "
        f"1/(score temperature) = {view.score_std:.3g}.",
        "The networks of these sizes have the same law of heads; their error bars are two standard "
        "errors of the mean.",
        "Tokens stay on the sphere and start orthogonal; the curve is the mean of their overlaps "
        "over networks, with fluctuations to second order in 1/width.",
        f"Small steps: one layer advances the diffusive time by step²/heads = {each:.3g}; the "
        "± is the spread of single networks.",
        *(
            f"Outside of what was checked: {one}."
            for one in depth.warnings
            if "one layer" not in one
        ),
        *([f"Outside of what was checked: {each:.3g} is no small step."] if each > 0.05 else []),
    )


def _chart(
    alt: str,
    layers: int,
    until: float,
    overlap: np.ndarray,
    collapse: np.ndarray,
    networks: np.ndarray,
) -> Chart:
    depth, spread = collapse[:2]
    low = min(0.0, float(overlap.min()))
    marks: list[Mark] = [
        Line([0, layers], [THRESHOLD, THRESHOLD], INK, f"threshold {THRESHOLD}", "2 4", 1.2)
    ]
    if depth <= layers:
        ends = [depth - spread, depth + spread]
        marks.append(Band(ends, [low, low], [1, 1], COLOURS[1], "spread of single networks"))
        marks.append(
            Line([depth, depth], [low, 1], COLOURS[1], f"collapse: layer {depth:.3g}", "7 4")
        )
    places = np.linspace(0, until, len(overlap))
    marks.append(Line(places, overlap, COLOURS[0], "overlap in the limit"))
    if until < layers:
        marks.append(Line([until, layers], [overlap[-1], overlap[-1]], COLOURS[0]))
    marks += beside(networks, layers)
    return Chart(
        alt=alt,
        x=ChartAxis("layer", 0, layers),
        y=ChartAxis("mean overlap of the tokens", low, 1.0),
        marks=tuple(marks),
    )
