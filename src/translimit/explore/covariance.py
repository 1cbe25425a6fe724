"""Bands of the covariance SDE of the shaped Transformer, and the probability of explosion.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import jax
import numpy as np

from translimit.core import solve, with_error
from translimit.explore.networks import TOO_LARGE, beside, shaped_correlations
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Band, Chart, ChartAxis, Line
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    StructurePreserving,
    explosion_probability,
)

#: Tokens of the SDE, the correlation with which they start, and paths.
TOKENS, CORRELATION, PATHS = 4, 0.2, 128
#: Times that are drawn; a path takes at least one step from each to the next.
TIMES = 41
CODE = """\
import jax, math, numpy as np
from translimit import solve
from translimit.explore.networks import shaped_correlations
from translimit.limits.shaped import (
    Block, CovarianceSDE, StructurePreserving, explosion_probability
)

gamma = {step!r} / math.hypot(1.0, {step!r})  # the branch over the stream is the step
block = Block(gamma=gamma, tau0={score_temperature!r}, heads={heads})
start = {correlation} + (1 - {correlation}) * np.eye({tokens})
sde = CovarianceSDE(block=block, initial=start, t1={layers} / {dim})  # depth over width
method, times = StructurePreserving(paths={paths}), np.linspace(0.0, {layers} / {dim}, {times})
solution = solve(sde, method, key=jax.random.key(0), save=times)
cov, blow_up_time = solution.cov, solution.blow_up_time
two_tokens = explosion_probability(block, 2 - 2 * {correlation})  # at any depth, closed form
# Networks of these sizes, layer by layer: in law those of models.ShapedTransformer
networks = shaped_correlations(
    {tokens}, {correlation}, {head_dim}, {heads}, {layers}, gamma, {score_temperature!r}
)
"""


def shape(view: View) -> Hashable:
    """What decides which compiled program is used: the heads."""
    return view.heads


def panel(view: View) -> Panel:
    """What depth and width do to the covariance of the tokens when they grow together."""
    t1 = view.layers / view.width
    gamma = view.step / math.hypot(1.0, view.step)
    width = view.width
    block = Block(gamma=gamma, tau0=view.score_temperature, heads=view.heads)
    start = CORRELATION + (1 - CORRELATION) * np.eye(TOKENS)
    sde = CovarianceSDE(block=block, initial=start, t1=t1)
    solution = solve(
        sde,
        StructurePreserving(paths=PATHS),
        key=jax.random.key(0),
        save=np.linspace(0.0, t1, TIMES),
    )
    networks = shaped_correlations(
        TOKENS,
        CORRELATION,
        width // view.heads,
        view.heads,
        view.layers,
        gamma,
        float(view.score_temperature),
    )
    two_tokens = explosion_probability(block, 2 - 2 * CORRELATION)
    exploded = solution.blow_up_probability()
    blow_up = np.asarray(solution.blow_up_time)
    correlations = np.asarray(solution.correlation)[:, :, 0, 1]

    share = with_error(exploded.value, exploded.stderr, ".0%")
    says = (
        f"At depth over width L/D = {t1:.3g}: {share} of the paths of {TOKENS} tokens have "
        f"exploded; two tokens explode at some depth with probability {two_tokens:.3g}."
    )
    if not len(networks):
        says += f" {TOO_LARGE}"
    return Panel(
        says=says,
        figures=(
            _bands(
                "Median, middle half and middle 80 % of the correlation of two tokens against "
                f"depth over width, up to {t1:.3g}.",
                np.asarray(solution.ts),
                correlations,
                networks,
            ),
            _explosions(
                f"Part of the paths that exploded against depth over width, up to "
                f"{exploded.value:.3g}; for two tokens at any depth {two_tokens:.3g}.",
                blow_up,
                two_tokens,
                t1,
            ),
        ),
        assumptions=(
            "Shaped attention: x ← λ x + γ (I + P − 1/n) x W_V with λ² + γ² = 1 and γ/λ the step; "
            f"temperature τ₀ = {view.score_temperature:g} times (D d_k)^½. "
            "It is not a standard block.",
            "Depth and width grow together at fixed L/D; every key/query dimension is large.",
            f"{TOKENS} tokens of unit variance and correlation {CORRELATION}, whatever the slider "
            "of tokens says; no feed-forward block.",
            "The networks have these heads, layers and width; their error bars are two standard "
            "errors of the mean, which the median of the paths need not be.",
            f"{PATHS} paths: a probability near one half has a standard error of 4 %.",
        ),
        verified=(
            Verified(
                "noci2023/sde-and-networks",
                ("*-log_trace", "*-correlation"),
                "networks with weights on synthetic tokens, digits and text",
            ),
            Verified(
                "noci2023/weak-error",
                ("attention-rate", "attention-mean", "attention-limit"),
                "the rate at which networks approach the SDE",
            ),
            Verified(
                "noci2023/explosion",
                ("paths-*",),
                "explosion against the closed form",
            ),
        ),
        code=CODE.format(
            step=view.step,
            score_temperature=view.score_temperature,
            heads=view.heads,
            correlation=CORRELATION,
            tokens=TOKENS,
            layers=view.layers,
            dim=view.width,
            head_dim=width // view.heads,
            paths=PATHS,
            times=TIMES,
        ),
        numbers={
            "cov": np.asarray(solution.cov),
            "blow_up_time": blow_up,
            "two_tokens": two_tokens,
            "networks": networks,
        },
    )


def _bands(alt: str, ts: np.ndarray, correlations: np.ndarray, networks: np.ndarray) -> Chart:
    alive = np.isfinite(correlations).any(axis=0)
    cuts = np.full((5, len(ts)), np.nan)
    cuts[:, alive] = np.nanquantile(correlations[:, alive], [0.1, 0.25, 0.5, 0.75, 0.9], axis=0)
    return Chart(
        alt=alt,
        title="correlation of two tokens",
        x=ChartAxis("depth over width L/D", 0.0, float(ts[-1])),
        y=ChartAxis("correlation", -1.0, 1.0),
        marks=(
            Band(ts, cuts[0], cuts[4], COLOURS[0], "10 to 90 %", 0.2),
            Band(ts, cuts[1], cuts[3], COLOURS[0], "25 to 75 %", 0.35),
            Line(ts, cuts[2], INK, f"median of {len(correlations)} paths"),
            *beside(networks, float(ts[-1])),
        ),
    )


def _explosions(alt: str, blow_up: np.ndarray, two_tokens: float, t1: float) -> Chart:
    times = np.sort(blow_up[np.isfinite(blow_up)])
    part = np.arange(len(times) + 1) / len(blow_up)
    x = np.repeat(np.concatenate([[0.0], times, [t1]]), 2)[1:-1]
    return Chart(
        alt=alt,
        title="explosion",
        x=ChartAxis("depth over width L/D", 0.0, t1),
        y=ChartAxis("probability", 0.0, 1.0),
        marks=(
            Line([0, t1], [two_tokens] * 2, INK, "two tokens, at any depth", "7 4", 1.6),
            Line(x, np.repeat(part, 2), COLOURS[1], f"{TOKENS} tokens, part of the paths"),
        ),
    )
