r"""Overlaps concentrate about the simplex as the dimension grows: how fast, and with what constant.

From orthonormal tokens d times the mean square deviation of an overlap from the common one tends
to a constant, which the noise of the overlaps, linear in the state, gives in closed equations;
noise is common to all tokens, so that overlaps fluctuate together. The printed bound holds with any
constant and excludes nothing: exponents and the constant are claimed, for networks of growing
dimension without scores, and of one dimension with scores.

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
from translimit.experiments.checked import CheckedConfig, Entries, IncreasingSizes, Two, Within
from translimit.experiments.koubbi2026 import common

#: Tokens, times, diffusive time of a layer; with scores their deviation and the dimension.
TOKENS, TIMES, STEP = 16, (1.0, 2.0), 0.01
STD, DIM = 2.0, 512
#: The dimension that stands for infinity in the equations of the constant.
LARGE = 10**7
#: From this dimension on the constant is read off.
FROM = 128
PRINTED = (
    "$\\sup_t \\max_{ij} |R_{ij} - \\gamma| \\le e^{CT} \\sqrt{(8 T / d) \\log(2 n^2 / \\delta)}$ "
    "with probability $1 - \\delta$, $C$ not specified"
)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dims: dimensions of networks without scores, increasing.
        replicas: of every dimension.
        scored: networks with scores.
    """

    dims: Annotated[IncreasingSizes, Within(2 * TOKENS), Entries(3)] = (64, 128, 256, 512)
    replicas: Two = 1600
    scored: Two = 1000


@dataclass(frozen=True)
class Deviations(ex.Arrays):
    """Deviations of overlaps from the common one for infinite dimension, by network."""

    time: Annotated[Float[np.ndarray, " time"], common.TAU]
    square: Annotated[Float[np.ndarray, "replica time"], "mean square deviation of an overlap"]
    largest: Annotated[Float[np.ndarray, " replica"], "largest deviation up to the first time"]


@dataclass(frozen=True)
class Constants(ex.Arrays):
    """What d times the mean square deviation tends to, with scores and without."""

    score_std: Float[np.ndarray, " score_std"]
    time: Annotated[Float[np.ndarray, " time"], common.TAU]
    limit: Float[np.ndarray, "score_std time"]
    own_noise: Float[np.ndarray, " time"]


def _common(std: float, ts: np.ndarray) -> Float[np.ndarray, " time"]:
    """The common overlap for infinite dimension."""
    room = limits.homogenized
    law = describe.WideHeads(dim=DIM, score_std=std)
    problem = room.SimplexClosure(
        law=law, tokens=TOKENS, t1=max(TIMES), dimension=room.Dimension.LARGE
    )
    return np.asarray(core.solve(problem, save=ts).overlap)


def compute_plain(config: Config, dim: int, keys: ex.Keys) -> Deviations:
    """Networks without scores, in single precision."""
    layers, rng = round(max(TIMES) / STEP), common.generator(keys.own)
    gamma = _common(0.0, np.log1p(STEP) * np.arange(layers + 1))[1:]
    # By blocks: all pairs of all networks at once would not fit.
    found = [
        _follow(dim, layers, min(200, config.replicas - start), gamma, rng)
        for start in range(0, config.replicas, 200)
    ]
    squares, largest = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Deviations(np.array(TIMES), squares, largest)


def _follow(
    dim: int, layers: int, replicas: int, gamma: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    off = 1.0 - np.eye(TOKENS, dtype=np.float32)
    kept = [round(t / STEP) for t in TIMES]
    squares, largest = [], np.zeros(replicas)
    chain = common.plain_chain(TOKENS, dim, STEP, layers, replicas, rng)
    for layer, x in enumerate(chain, 1):
        watched = layer <= kept[0] and layer % 5 == 0
        if not watched and layer not in kept:
            continue
        gaps = (x @ x.swapaxes(1, 2) - np.float32(gamma[layer - 1])) * off
        if watched:
            largest = np.maximum(largest, np.abs(gaps).max(axis=(1, 2)))
        if layer in kept:
            squares.append((gaps.astype(np.float64) ** 2).sum(axis=(1, 2)))
    return np.stack(squares, axis=1) / (TOKENS * (TOKENS - 1)), largest


def compute_scored(config: Config, at: ex.Alone, keys: ex.Keys) -> Deviations:
    """Networks with scores from Gram matrices, in single precision."""
    del at
    ts, step = np.array(TIMES[:1]), 2 * STEP
    law = describe.WideHeads(dim=DIM, score_std=STD)
    chain = models.RandomHeadChain(law=law, step=step**0.5, heads=1, layers=round(TIMES[0] / step))
    paths = chain.simulate_overlaps(
        np.eye(TOKENS, dtype=np.float32), replicas=config.scored, key=keys.own
    )
    gaps = np.asarray(paths.overlaps[:, -1], np.float64) - _common(STD, ts)[0]
    gaps *= 1.0 - np.eye(TOKENS)
    square = (gaps**2).sum(axis=(1, 2)) / (TOKENS * (TOKENS - 1))
    return Deviations(ts, square[:, None], np.abs(gaps).max(axis=(1, 2)))


def compute_constants(config: Config, at: ex.Alone, keys: ex.Keys) -> Constants:
    """Linear noise in a dimension that stands for infinity; and each overlap with noise alone."""
    del config, at, keys
    room = limits.homogenized
    rows = []
    for std in (0.0, STD):
        law = describe.WideHeads(dim=LARGE, score_std=std)
        problem = room.SimplexClosure(law=law, tokens=TOKENS, t1=max(TIMES))
        # Without scores a layer adds log(1 + step) to log(m / (1 - m)), instead of the step.
        clock = np.log1p(STEP) / STEP if std == 0.0 else 1.0
        save = clock * np.array(TIMES)
        moments = core.solve(problem, room.LinearNoise(), save=save).second_moments
        rows.append(LARGE * np.asarray(moments)[:, 0])
    return Constants(np.array([0.0, STD]), np.array(TIMES), np.array(rows), _own_noise())


def _own_noise() -> Float[np.ndarray, " time"]:
    """The constant without scores if no two overlaps shared noise: parts of growth alone.

    m / (1 - m) = e^tau / (n - 1), and the parts grow as C_k' = 2 l_k C_k + v with l_0 = (1 - 1/n)
    (1 - gamma) - m, l_1 = l_2 = -m and v = 2 m (1 - gamma^2) (1 - gamma).
    """
    n, steps = TOKENS, 4000
    C, found = np.zeros(2), []
    dt = max(TIMES) / steps
    for step in range(steps + 1):
        if any(abs(step * dt - t) < dt / 2 for t in TIMES):
            pairs = n * (n - 1) / 2
            found.append((C[0] + (pairs - 1) * C[1]) / pairs)
        odds = np.exp((step + 0.5) * dt) / (n - 1)
        m = odds / (1.0 + odds)
        gamma = (n * m - 1.0) / (n - 1)
        growth = np.array([(1.0 - 1.0 / n) * (1.0 - gamma) - m, -m])
        middle = C + 0.5 * dt * (2.0 * growth * C + 2.0 * m * (1 - gamma**2) * (1 - gamma))
        C = C + dt * (2.0 * growth * middle + 2.0 * m * (1 - gamma**2) * (1 - gamma))
    return np.array(found)


PLAIN = ex.Part(
    "plain/d={dim}",
    Deviations,
    compute_plain,
    grid=lambda c: c.dims,
    cost=lambda c, dim: ex.Cost(2.0 + 3e-5 * c.replicas * dim),
)
SCORED = ex.Part(
    "scores",
    Deviations,
    compute_scored,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(5.0 + 8e-3 * c.scored),
)
CONSTANTS = ex.Part(
    "constants", Constants, compute_constants, grid=ex.alone, cost=lambda c, at: ex.Cost(10.0)
)


def _constant(found: ex.Found[Config], time: float) -> Estimate:
    """The dimension times the mean square deviation, over the large dimensions."""
    place = TIMES.index(time)
    rows = [dim * d.square[:, place] for dim, d in found.each(PLAIN) if dim >= FROM]
    return common.estimate(np.concatenate(rows))


def _predicted(found: ex.Found[Config], std: float, time: float) -> float:
    one = found(CONSTANTS)
    return float(one.limit[one.score_std.tolist().index(std), TIMES.index(time)])


CONSTANT = ex.Claims(
    "constant-at-{time:g}",
    f"Without scores, $n = {TOKENS}$: $d$ times the mean square deviation of an overlap from the "
    "common one is the constant of linear noise (relative).",
    estimate=lambda found, time: _relative(_constant(found, time), _predicted(found, 0.0, time)),
    prediction=1.0,
    tol=0.05,
    over=lambda c: TIMES,
    rivals=(
        ex.Rival[Config, float](
            "every overlap with a noise of its own",
            lambda found, time: (
                found(CONSTANTS).own_noise[TIMES.index(time)] / _predicted(found, 0.0, time)
            ),
        ),
        ex.Rival[Config, float]("noise times 1.2", 1.2),
        ex.Rival[Config, float]("noise times 1.1", 1.1, when=lambda c, time: c.replicas >= 4000),
    ),
    printed=PRINTED,
)


def _relative(one: Estimate, unit: float) -> Estimate:
    return Estimate(one.value / unit, one.floor / unit, one.count)


WITH_SCORES = ex.claim(
    "constant-with-scores",
    f"So it is with scores of deviation {STD:g}, $d = {DIM}$, at time {TIMES[0]:g} (relative).",
    lambda found: _relative(
        common.estimate(DIM * found(SCORED).square[:, 0], 0.01), _predicted(found, STD, TIMES[0])
    ),
    1.0,
    tol=0.1,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "the constant without scores",
            lambda found, at: _predicted(found, 0.0, 1.0) / _predicted(found, STD, 1.0),
        ),
        ex.Rival[Config, ex.Alone]("noise times 1.25", 1.25),
    ),
    printed=PRINTED,
)


def _power(found: ex.Found[Config], what: str) -> Estimate:
    """Power of the dimension in a root mean square deviation."""
    rows = []
    for _, data in found.each(PLAIN):
        rows.append(data.square[:, 0] ** 0.5 if what == "rms" else data.largest)
    fit = core.fit_rate(np.array(found.config.dims), rows)
    return fit.estimate()


POWER = ex.Claims(
    "exponent-{what}",
    lambda found, what: {
        "rms": "The root mean square deviation of overlaps falls as $d^{-1/2}$ (exponent).",
        "largest": "So does the largest deviation over pairs and time (exponent).",
    }[what],
    estimate=_power,
    prediction=-0.5,
    # Of the largest of many deviations the tails shrink too, at moderate dimension.
    tol=lambda c, what: {"rms": 0.03, "largest": 0.06}[what],
    over=lambda c: ("rms", "largest"),
    rivals=(
        ex.Rival("the order of the drift's terms", -1.0),
        ex.Rival("a quarter", -0.25),
        ex.Rival("0.4", -0.4),
        ex.Rival("no concentration", 0.0),
    ),
    printed=PRINTED,
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    one = found(CONSTANTS)
    for dim, data in found.each(PLAIN):
        for place, time in enumerate(TIMES):
            mean, error = common.mean_and_stderr(dim * data.square[:, place])
            limit, own = float(one.limit[0, place]), float(one.own_noise[place])
            yield (f"$\\tau = {time:g}$", dim, float(mean), float(error), limit, own)


FIGURE = ex.Figure(
    name="constant",
    title="How overlaps concentrate: the constant",
    caption=f"{TOKENS} orthonormal tokens without scores: dimension times the mean square "
    "deviation of an overlap from the common one (points, {replicas} networks, bars of one "
    "standard error), its limit by linear noise (lines) and without common noise (dashed).",
    columns=("time", "dim", "deviation", "stderr", "linear noise", "own noise"),
    rows=_rows,
    x="dim",
    by="time",
    layers=(
        figures.line("linear noise", label=""),
        figures.line("own noise", label="", dash="6 3"),
        figures.points("deviation", "stderr"),
    ),
    xlabel="dimension",
    ylabel="$d$ times the mean square deviation",
    log="x",
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/concentration",
    title="How overlaps concentrate about the simplex",
    question="How far do overlaps of tokens scatter about their common curve?",
    summary="Overlaps of orthonormal tokens stay within $d^{-1/2}$ of a common curve. The printed "
    "bound leaves its constant open; linear noise gives it, with and without scores, and noise "
    "common to all tokens makes it larger than that of overlaps which fluctuate alone.",
    citations=("koubbi2026", "diffrax", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        # Corrections of order 1 / d move the exponent by half as much up to d = 512 as up to 256.
        "demo": Config(),
        "standard": Config(replicas=6000, scored=8000),
        "paper": Config(dims=(64, 128, 256, 512, 1024), replicas=20_000, scored=40_000),
    },
    parts=(PLAIN, SCORED, CONSTANTS),
    claims=(CONSTANT, WITH_SCORES, POWER),
    figures=(FIGURE,),
    finding=ex.Finding(
        "Overlaps deviate from their common value with the exponent {0} in the dimension; at "
        "time 2 the constant is {1} of that of linear noise",
        ("exponent-rms", "constant-at-2"),
    ),
)
