r"""Trade-offs of dimension, tokens and temperature in the time of collapse.

The mean time at which the mean overlap of a network crosses one half: without scores it grows with
the logarithm of the tokens, and a smaller dimension delays it; strong scores turn the logarithm
into a power. Networks from orthonormal tokens against the first passage of the closure.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Within
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.depths import (
    PATIENCE,
    THRESHOLD,
    layer_stretch,
    watched_threshold,
)

#: Without scores: tokens, the large dimension and the small one (of the fewest tokens).
TOKENS, DIM, SMALL = (4, 16, 64), 256, 16
#: With scores: dimension, tokens, deviations; infinite ones attend to one key.
SCORED_DIM, FEW, MANY = 512, 8, 32
STDS = (4.0, math.inf)
#: Diffusive time of a layer.
STEP, SCORED_STEP = 0.02, 0.05


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        replicas: networks without scores, of 16 and 64 tokens; four times as many of 4.
        small: networks in the small dimension.
        scored: networks with scores, of every case.
    """

    replicas: Annotated[int, Within(16)] = 300
    small: Annotated[int, Within(16)] = 4000
    scored: Annotated[int, Within(16)] = 1000


@dataclass(frozen=True)
class Times(ex.Arrays):
    """Times of collapse of networks, and their prediction for layers of that step."""

    times: Annotated[Float[np.ndarray, " replica"], common.TAU]
    predicted: Annotated[float, "mean of the first passage, by layers"]


def compute_plain(config: Config, case: tuple[int, int], keys: ex.Keys) -> Times:
    """Networks without scores, in single precision."""
    dim, tokens = case
    law, rng = describe.WideHeads(dim=dim, score_std=0.0), common.generator(keys.own)
    replicas = config.small if dim == SMALL else config.replicas * max(1, 16 // tokens)
    times, layers = np.full(replicas, np.nan), round(PATIENCE * math.log(tokens + 1) / STEP)
    chain = common.plain_chain(tokens, dim, STEP, layers, replicas, rng)
    for layer, x in enumerate(chain, 1):
        crossed = np.isnan(times) & (common.mean_overlaps(x) > THRESHOLD)
        times[crossed] = layer * STEP
        if not np.isnan(times).any():
            break
    return _against(times, law, tokens, STEP)


def compute_scored(config: Config, case: tuple[float, int], keys: ex.Keys) -> Times:
    """Networks with scores from Gram matrices, in single precision."""
    std, tokens = case
    law = describe.WideHeads(dim=SCORED_DIM, score_std=std)
    chain = models.RandomHeadChain(law=law, step=SCORED_STEP**0.5, heads=1, layers=2000)
    layers = chain.first_crossing(
        np.eye(tokens, dtype=np.float32), THRESHOLD, replicas=config.scored, key=keys.own
    )
    return _against(np.asarray(layers, np.float64) * SCORED_STEP, law, tokens, SCORED_STEP)


def _against(times: np.ndarray, law: describe.WideHeads, tokens: int, step: float) -> Times:
    level = watched_threshold(law, tokens, step)
    depth = limits.homogenized.collapse_depth(
        law, tokens=tokens, step=1.0, heads=1, threshold=level
    )
    stretch = layer_stretch(law, tokens, THRESHOLD, step)
    return Times(times, stretch * float(depth.layers))


PLAIN = ex.Part(
    "plain/d={dim}-n={tokens}",
    Times,
    compute_plain,
    grid=lambda c: (*((DIM, n) for n in TOKENS), (SMALL, TOKENS[0])),
    cost=lambda c, case: ex.Cost(3.0 + 2e-6 * case[0] * case[1] * c.replicas),
)
SCORED = ex.Part(
    "scores/std={std:g}-n={tokens}",
    Times,
    compute_scored,
    grid=lambda c: [(std, n) for std in STDS for n in (FEW, MANY)],
    cost=lambda c, case: ex.Cost(11.0 + 2e-5 * c.scored * case[1] ** 2),
)
LEAST, MOST, NEAR = (DIM, TOKENS[0]), (DIM, TOKENS[-1]), (SMALL, TOKENS[0])


def _time(found: ex.Found[Config], case: tuple[int, int]) -> Estimate:
    # What layers add beyond the first order in their step.
    return common.estimate(found(PLAIN, case).times, STEP / 4)


def _increase(found: ex.Found[Config]) -> Estimate:
    few, many = _time(found, LEAST), _time(found, MOST)
    return Estimate(many.value - few.value, float(np.hypot(few.floor, many.floor)), many.count)


INTERCEPT = ex.claim(
    "few-tokens",
    f"Without scores, $d = {DIM}$, {TOKENS[0]} tokens collapse when the first passage says.",
    lambda found: _time(found, LEAST),
    lambda found: found(PLAIN, LEAST).predicted,
    tol=0.04,
    rivals=(
        ex.Rival("the logarithm of the tokens", math.log(TOKENS[0])),
        ex.Rival("times 1.1", lambda found, at: 1.1 * found(PLAIN, LEAST).predicted),
        ex.Rival("twice the logarithm", 2.0 * math.log(TOKENS[0] + 1)),
    ),
)
INCREASE = ex.claim(
    "logarithm-of-tokens",
    f"From {TOKENS[0]} to {TOKENS[-1]} tokens the time grows by the predicted amount, nearly the "
    "logarithm of the ratio of $n + 1$.",
    _increase,
    lambda found: found(PLAIN, MOST).predicted - found(PLAIN, LEAST).predicted,
    tol=0.1,
    rivals=(
        ex.Rival("half the logarithm", 0.5 * math.log(65 / 5)),
        ex.Rival("the root of the tokens", math.log(5) * (4.0 - 1.0)),
        ex.Rival("linear in the tokens", math.log(5) * (16.0 - 1.0)),
        ex.Rival("no dependence", 0.0),
        ex.Rival(
            "times 1.1",
            lambda found, at: 1.1 * (found(PLAIN, MOST).predicted - found(PLAIN, LEAST).predicted),
        ),
    ),
)


def _ratio(found: ex.Found[Config]) -> Estimate:
    small, large = _time(found, NEAR), _time(found, LEAST)
    error = float(np.hypot(small.floor, large.floor * small.value / large.value)) / large.value
    return Estimate(small.value / large.value, error, small.count)


DIMENSION = ex.claim(
    "small-dimension-delays",
    f"In dimension {SMALL} collapse takes longer than in {DIM}, by the predicted factor.",
    _ratio,
    lambda found: found(PLAIN, NEAR).predicted / found(PLAIN, LEAST).predicted,
    tol=0.06,
    rivals=(
        ex.Rival("no effect of the dimension", 1.0),
        ex.Rival(
            "twice the effect",
            lambda found, at: 2 * found(PLAIN, NEAR).predicted / found(PLAIN, LEAST).predicted - 1,
        ),
        ex.Rival("proportional to the logarithm of d", math.log(SMALL) / math.log(DIM)),
    ),
)


def _power(found: ex.Found[Config], std: float) -> Estimate:
    """Power of the tokens in the time."""
    few, many = (common.estimate(found(SCORED, (std, n)).times) for n in (FEW, MANY))
    span = math.log(MANY / FEW)
    error = float(np.hypot(few.floor / few.value, many.floor / many.value)) / span
    # What layers add beyond the first order in their step, to both alike.
    return Estimate(math.log(many.value / few.value) / span, error, few.count, SCORED_STEP / 20)


POWERS = ex.Claims(
    "power-of-tokens-std={std:g}",
    lambda found, std: (
        f"With scores of deviation {std:g} the time grows with the tokens as a power, not a "
        f"logarithm: the exponent between {FEW} and {MANY} tokens is the predicted one."
    ),
    estimate=_power,
    prediction=lambda found, std: (
        math.log(found(SCORED, (std, MANY)).predicted / found(SCORED, (std, FEW)).predicted)
        / math.log(MANY / FEW)
    ),
    tol=0.03,
    over=lambda c: STDS,
    rivals=(
        ex.Rival(
            "the logarithm of weak scores",
            math.log(math.log(MANY + 1) / math.log(FEW + 1)) / math.log(MANY / FEW),
        ),
        ex.Rival("linear in the tokens", 1.0),
        ex.Rival("the square root", 0.5),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for (dim, tokens), data in found.each(PLAIN):
        mean, error = common.mean_and_stderr(data.times)
        yield (f"no scores, $d = {dim}$", tokens, float(mean), float(error), data.predicted)
    for (std, tokens), data in found.each(SCORED):
        mean, error = common.mean_and_stderr(data.times)
        name = f"scores of deviation {std:g}, $d = {SCORED_DIM}$"
        yield (name.replace("inf", "$\\infty$"), tokens, float(mean), float(error), data.predicted)


FIGURE = ex.Figure(
    name="times",
    title="The time of collapse over the number of tokens",
    caption="Mean time at which the mean overlap of networks crosses one half (points, bars of one "
    "standard error), and the predicted mean of the first passage (lines): a logarithm of the "
    "tokens without scores, a power with strong ones.",
    columns=("networks", "tokens", "time", "stderr", "predicted"),
    rows=_rows,
    x="tokens",
    by="networks",
    layers=(figures.line("predicted", label=""), figures.points("time", "stderr")),
    xlabel="tokens",
    ylabel=common.TAU,
    log="xy",
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/trade-offs",
    title="Trade-offs of dimension, tokens and temperature",
    question="How do dimension, tokens and temperature trade off against collapse?",
    summary="How long it takes until random attention has drawn all tokens together: the logarithm "
    "of their number without scores, a power of it with strong ones, longer in small dimension. "
    "The paper names these trade-offs; the closure predicts their numbers.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(replicas=2000, small=20_000, scored=4000),
        "paper": Config(replicas=10_000, small=100_000, scored=20_000),
    },
    parts=(SCORED, PLAIN),
    claims=(INTERCEPT, INCREASE, DIMENSION, POWERS),
    figures=(FIGURE,),
    finding=ex.Finding(
        "From 4 to 64 tokens collapse is later by a time of {0}; with scores of deviation 4 "
        "that time goes with the power {1} of the tokens",
        ("logarithm-of-tokens", "power-of-tokens-std=4"),
    ),
)
