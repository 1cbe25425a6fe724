r"""Without scores: random Moebius maps move the tokens; what is conserved, and what follows.

Exact samples of the limit (a Brownian motion on a hyperboloid) give moments of overlaps and times
of collapse, beside closures; cross-ratios are followed along chains, with and without scores.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Two, Within
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.depths import (
    THRESHOLD,
    first_order_time,
    own_noise_spread,
    watched_threshold,
)

#: Tokens, dimension and time of the moments; tokens in as many dimensions of the collapse.
TOKENS, DIM, T1 = 8, 16, 3.0
CLOSE, PATIENCE, STEP = 16, 16.0, 0.02
#: Diffusive time of a layer where cross-ratios are followed, falling by 4; deviation of the scores.
RATIO_STEPS, STD = (0.04, 0.01, 0.0025), 2.0
MOMENTS = ("mean", "variance", "one-token-shared", "none-shared")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        samples: exact samples of the moments.
        collapses: exact samples of the time of collapse.
        replicas: chains whose cross-ratios are followed.
    """

    samples: Two = 6000
    collapses: Two = 4000
    replicas: Annotated[int, Within(16)] = 400


@dataclass(frozen=True)
class Sampled(ex.Arrays):
    """Moments of exact samples without scores, and of the closures."""

    moments: Float[np.ndarray, "sample moment"]
    second: Float[np.ndarray, " moment"]
    linear: Float[np.ndarray, " moment"]


@dataclass(frozen=True)
class Collapse(ex.Arrays):
    """Times at which the mean overlap of exact samples crosses one half, and what is predicted."""

    times: Annotated[Float[np.ndarray, " sample"], common.TAU]
    mean: Annotated[float, "mean of the first passage"]
    spread: float
    first: Annotated[float, "integral of one over the drift"]
    large: Annotated[float, "for d to infinity"]


@dataclass(frozen=True)
class Ratios(ex.Arrays):
    """Change of the log of a cross-ratio over a unit of time, with and without scores."""

    step: Annotated[Float[np.ndarray, " step"], "diffusive time of a layer"]
    plain: Float[np.ndarray, "step replica"]
    scores: Float[np.ndarray, "step replica"]


def compute_sampled(config: Config, at: ex.Alone, keys: ex.Keys) -> Sampled:
    """Exact samples of the limit without scores."""
    del at
    room = limits.homogenized
    R = room.moebius.sample_overlaps(
        np.eye(TOKENS), [T1], dim=DIM, replicas=config.samples, key=keys.own
    )[:, 0]
    law = describe.WideHeads(dim=DIM, score_std=0.0)
    problem = room.SimplexClosure(law=law, tokens=TOKENS, t1=T1)
    second = core.solve(problem, save=[T1])
    linear = core.solve(problem, room.LinearNoise(), save=[T1])
    return Sampled(
        moments=common.overlap_products(R),
        second=np.array([second.overlap[-1], *second.second_moments[-1]]),
        linear=np.array([linear.overlap[-1], *linear.second_moments[-1]]),
    )


def compute_collapse(config: Config, at: ex.Alone, keys: ex.Keys) -> Collapse:
    """Exact samples, watched at steps of time until all have crossed."""
    del at
    room, law = limits.homogenized, describe.WideHeads(dim=CLOSE, score_std=0.0)
    ts = np.arange(1, round(PATIENCE / STEP) + 1) * STEP
    overlap = room.moebius.sample_overlaps(
        np.eye(CLOSE),
        ts,
        dim=CLOSE,
        replicas=config.collapses,
        key=keys.own,
        max_step=STEP,
        means=True,
    )
    crossed = overlap > THRESHOLD
    times = np.where(crossed.any(axis=1), ts[crossed.argmax(axis=1)], np.nan)
    level = watched_threshold(law, CLOSE, STEP)
    depth = {
        kind: room.collapse_depth(
            law, tokens=CLOSE, step=1.0, heads=1, threshold=level, dimension=kind
        )
        for kind in room.Dimension
    }
    exact = depth[room.Dimension.EXACT]
    return Collapse(
        times=times,
        mean=float(exact.layers),
        spread=float(exact.spread),
        first=first_order_time(law, CLOSE, level),
        large=float(depth[room.Dimension.LARGE].layers),
    )


def compute_ratios(config: Config, at: ex.Alone, keys: ex.Keys) -> Ratios:
    """Cross-ratios of four tokens in dimension 8 along chains, in double precision."""
    del at
    tokens, dim, found = 4, 8, []
    for std in (0.0, STD):
        law, rows = describe.WideHeads(dim=dim, score_std=std), []
        for step in RATIO_STEPS:
            chain = models.RandomHeadChain(
                law=law, step=step**0.5, heads=1, layers=round(1.0 / step)
            )
            key = core.named_key(keys.own, f"{std:g}/{step:g}")
            paths = chain.simulate_overlaps(np.eye(tokens), replicas=config.replicas, key=key)
            ratio = limits.homogenized.moebius.cross_ratio(paths.separations[:, -1], 0, 1, 2, 3)
            rows.append(np.log(np.asarray(ratio)))
        found.append(np.array(rows))
    return Ratios(np.array(RATIO_STEPS), *found)


SAMPLED = ex.Part(
    "sampled",
    Sampled,
    compute_sampled,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(5.0 + 3e-4 * c.samples),
)
COLLAPSE = ex.Part(
    "collapse",
    Collapse,
    compute_collapse,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(5.0 + 3e-3 * c.collapses),
)
RATIOS = ex.Part(
    "cross-ratios", Ratios, compute_ratios, grid=ex.alone, cost=lambda c, at: ex.Cost(8.0)
)


SECOND = ex.Claims(
    "moment-{moment}",
    lambda found, moment: (
        f"Without scores, $d = {DIM}$, $\\tau = {T1:g}$: the {moment} of overlaps in exact samples "
        "is that of the replica diffusion."
    ),
    estimate=lambda found, moment: common.estimate(
        found(SAMPLED).moments[:, MOMENTS.index(moment)], 2e-4
    ),
    prediction=lambda found, moment: float(found(SAMPLED).second[MOMENTS.index(moment)]),
    tol=lambda c, moment: 0.003 if moment == "mean" else 0.002,
    over=lambda c: MOMENTS,
    rivals=(
        ex.Rival(
            "noise linear in the state",
            lambda found, moment: float(found(SAMPLED).linear[MOMENTS.index(moment)]),
        ),
        ex.Rival(
            "times 1.1",
            lambda found, moment: 1.1 * float(found(SAMPLED).second[MOMENTS.index(moment)]),
        ),
        ex.Rival("independent noise", 0.0, when=lambda c, moment: moment.endswith("shared")),
    ),
    decided_by="standard",
)


def _depth(found: ex.Found[Config]) -> Estimate:
    one = found(COLLAPSE)
    return common.estimate(one.times / one.mean)


def _spread(found: ex.Found[Config]) -> Estimate:
    """Deviation of the times over the predicted one, by a bootstrap."""
    one = found(COLLAPSE)
    draws = np.random.default_rng(0).choice(one.times, (400, one.times.size))
    spread = float(np.std(one.times, ddof=1)) / one.spread
    return Estimate(spread, float(np.std(draws.std(axis=1))) / one.spread, one.times.size)


DEPTH = ex.claim(
    "collapse-mean",
    f"Without scores, $d = n = {CLOSE}$: networks collapse on average at the first passage of the "
    "replica diffusion (ratio; exact samples, the threshold moved for their steps).",
    _depth,
    1.0,
    tol=0.03,
    rivals=(
        ex.Rival(
            "as printed, for d to infinity",
            lambda found, at: found(COLLAPSE).large / found(COLLAPSE).mean,
            printed=True,
        ),
        ex.Rival(
            "first order, the exact drift at the mean",
            lambda found, at: found(COLLAPSE).first / found(COLLAPSE).mean,
        ),
        ex.Rival("times 1.1", 1.1),
    ),
    printed="$\\tau^* = \\int d\\gamma / (s_{ij} - \\gamma s_{ii})$, by the printed equation",
)
SPREAD = ex.claim(
    "collapse-spread",
    "The deviation of single networks from that mean is the predicted one (ratio).",
    _spread,
    1.0,
    tol=0.05,
    rivals=(
        ex.Rival("times 1.2", 1.2),
        ex.Rival(
            "every overlap with a noise of its own",
            lambda found, at: own_noise_spread(CLOSE, CLOSE),
        ),
        ex.Rival("proportional to 1/d", CLOSE**-0.5),
    ),
)


def _change(found: ex.Found[Config], kind: str) -> Estimate:
    """Root mean square change of the log of a cross-ratio at the smallest step."""
    squares = getattr(found(RATIOS), kind)[-1] ** 2
    mean = common.estimate(squares)
    root = mean.value**0.5
    return Estimate(root, mean.stderr / (2 * root), mean.count)


CONSERVED = ex.claim(
    "cross-ratios-conserved",
    "Without scores cross-ratios of separations stay: their log moves by at most 0.01 (root mean "
    f"square) in a unit of time at the step {RATIO_STEPS[-1]:g}.",
    lambda found: _change(found, "plain"),
    0.01,
    tol=0.0,
    one_sided=True,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "heads with scores", estimate=lambda found, at: _change(found, "scores")
        ),
        ex.Rival("twice the bound", 0.02),
    ),
)
RATE = ex.claim(
    "cross-ratios-rate",
    "Their change falls as the root of the step (exponent): it is the chain's own error.",
    lambda found: core.fit_rate(found(RATIOS).step, found(RATIOS).plain).estimate(),
    0.5,
    tol=0.1,
    rivals=(
        ex.Rival("not conserved", 0.0),
        ex.Rival("a quarter", 0.25),
        ex.Rival("the step itself", 1.0),
    ),
)


def _moment_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    one, depth = found(SAMPLED), found(COLLAPSE)
    mean, error = common.mean_and_stderr(one.moments)
    for place, name in enumerate(MOMENTS):
        unit = float(one.second[place])
        numbers = (float(column[place]) / unit for column in (one.linear, mean, error))
        yield ("moments", name, place, 1.0, *numbers, None)
    share = np.linspace(0.0, 1.0, 60)
    for level, time in zip(share.tolist(), np.quantile(depth.times, share).tolist(), strict=True):
        yield ("collapse", "all", level, depth.mean, depth.large, None, None, time)


FIGURE = ex.Figure(
    name="moments",
    title="Without scores: moments of overlaps, and times of collapse",
    caption=f"Left: mean overlap, variance and covariances (one token shared, none) of {TOKENS} "
    f"tokens in dimension {DIM} at $\\tau = {T1:g}$, relative to the replica diffusion: exact "
    "samples (points, bars of one standard error) and noise linear in the state. Right: quantiles "
    f"of the time at which the mean overlap of {CLOSE} tokens in as many dimensions crosses one "
    "half, its predicted mean, and that of the printed equation.",
    columns=("panel", "moment", "place", "predicted", "other", "measured", "stderr", "time"),
    rows=_moment_rows,
    x="place",
    layers=(
        figures.panel(
            "moments of overlaps",
            figures.line("predicted", label="replica diffusion"),
            figures.line("other", label="linear noise", dash="6 3"),
            figures.points("measured", "stderr", label="exact samples"),
            where={"panel": "moments"},
            ticks="moment",
            xlabel="moment of the overlaps",
            ylabel="over the replica diffusion",
        ),
        figures.panel(
            "time of collapse",
            figures.line("time", label="exact samples"),
            figures.line("predicted", label="predicted mean", dash="6 3"),
            figures.line("other", label="as printed", dash="2 3"),
            where={"panel": "collapse"},
            xlabel="share of networks",
            ylabel=common.TAU,
        ),
    ),
    size=(9.5, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/moebius",
    title="Without scores: Moebius maps, moments of overlaps and times of collapse",
    question="Without scores, when do tokens collapse, in closed form?",
    summary="Without scores all tokens are moved by one random Moebius map: cross-ratios of "
    "separations are conserved, and overlaps at any time are sampled exactly. Their moments are "
    "those of the replica diffusion, and collapse is its first passage, in mean and spread.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(samples=60_000, collapses=20_000, replicas=1000),
        "paper": Config(samples=1_000_000, collapses=100_000, replicas=4000),
    },
    parts=(SAMPLED, COLLAPSE, RATIOS),
    claims=(SECOND, DEPTH, SPREAD, CONSERVED, RATE),
    figures=(FIGURE,),
    finding=ex.Finding("Networks collapse at {0} of the predicted mean time", ("collapse-mean",)),
)
