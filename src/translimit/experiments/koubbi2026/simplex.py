r"""Equal overlaps: their drift, and their mean along depth, which fluctuations move.

The drift of an overlap at a simplex is a function of the common overlap, measured on single layers
of explicit weights. The mean along depth obeys no such equation at moderate dimension: noise leaves
the simplex, and its second moments move the mean by O(1 / d). Networks are compared with the
closures, and without scores against the logistic law as the dimension grows.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models, observe
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Entries, IncreasingSizes, Two, Within
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.explicit_layers import Drift, drift_at

if TYPE_CHECKING:
    from translimit.limits.homogenized import SimplexSolution

#: Tokens, the small dimension, deviation of the scores, final time.
TOKENS, DIM, STD, T1 = 8, 16, 2.0, 3.0
#: Diffusive time of a layer; half as many layers of twice the step stand beside.
STEP = 0.05
GAMMAS = (0.0, 0.5, 0.9)
PRINTED = "$\\dot\\gamma = s_{ij} - \\gamma s_{ii}$"
#: What the paper says of the distance from that curve.
BOUND = (
    f"{PRINTED} up to $e^{{CT}} \\sqrt{{(8 T / d) \\log(2 n^2 / \\delta)}}$ with probability "
    "$1 - \\delta$"
)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        layers: single layers of explicit weights at every simplex.
        replicas: chains with scores in dimension 16, at both steps.
        dims: dimensions of networks without scores, increasing from 16.
        plain: networks without scores at both steps, of dimensions up to 32; half beyond.
    """

    layers: Annotated[int, Within(1000)] = 30_000
    replicas: Two = 5000
    dims: Annotated[IncreasingSizes, Within(DIM), Entries(3)] = (16, 32, 64)
    plain: Two = 24_000


@dataclass(frozen=True)
class Along(ex.Arrays):
    """Mean overlap along depth: of networks at both steps, of the closures, as printed."""

    time: Annotated[Float[np.ndarray, " time"], common.TAU]
    fine: Annotated[Float[np.ndarray, "replica time"], "mean overlap of two tokens"]
    coarse: Annotated[Float[np.ndarray, "other time"], "mean overlap of two tokens"]
    second: Annotated[Float[np.ndarray, " time"], "mean overlap, with fluctuations"]
    first: Annotated[Float[np.ndarray, " time"], "mean overlap, to first order"]
    large: Annotated[Float[np.ndarray, " time"], "mean overlap as printed, d to infinity"]

    @property
    def final(self) -> Estimate:
        """The mean at the end for a step to zero."""
        return common.extrapolated(self.fine[:, -1], self.coarse[:, -1], STEP**2 / 4)


def compute_drift(config: Config, gamma: float, keys: ex.Keys) -> Drift:
    """Single layers at one simplex."""
    return drift_at(gamma, TOKENS, DIM, STD, config.layers, common.generator(keys.own))


def _closures(dim: int, std: float, ts: np.ndarray) -> list[SimplexSolution]:
    """With fluctuations, to first order, and as printed."""
    room, law = limits.homogenized, describe.WideHeads(dim=dim, score_std=std)
    problem = room.SimplexClosure(law=law, tokens=TOKENS, t1=T1)
    printed = room.SimplexClosure(law=law, tokens=TOKENS, t1=T1, dimension=room.Dimension.LARGE)
    first = core.solve(problem, room.FirstOrder(), save=ts)
    return [core.solve(problem, save=ts), first, core.solve(printed, save=ts)]


def compute_scores(config: Config, at: ex.Alone, keys: ex.Keys) -> Along:
    """Chains with scores from Gram matrices, in single precision."""
    del at
    ts, law = np.linspace(0.0, T1, 7), describe.WideHeads(dim=DIM, score_std=STD)
    found = []
    for step in (STEP, 2 * STEP):
        layers = round(T1 / step)
        chain = models.RandomHeadChain(law=law, step=step**0.5, heads=1, layers=layers)
        key = core.named_key(keys.own, f"{step:g}")
        paths = chain.simulate_overlaps(
            np.eye(TOKENS, dtype=np.float32),
            replicas=config.replicas,
            key=key,
            save_every=layers // 6,
        )
        found.append(np.asarray(observe.mean_overlap(paths.tokens)))
    curves = (one.overlap for one in _closures(DIM, STD, ts))
    return Along(ts, *found, *map(np.asarray, curves))


def compute_plain(config: Config, dim: int, keys: ex.Keys) -> Along:
    """Networks without scores, in single precision."""
    ts, rng, found = np.linspace(0.0, T1, 7), common.generator(keys.own), []
    replicas = config.plain if dim <= 32 else max(config.plain // 2, 2)
    for step in (STEP, 2 * STEP):
        layers = round(T1 / step)
        rows = [np.zeros(replicas)]
        chain = common.plain_chain(TOKENS, dim, step, layers, replicas, rng)
        for layer, tokens in enumerate(chain, 1):
            if layer % (layers // 6) == 0:
                rows.append(common.mean_overlaps(tokens))
        found.append(np.stack(rows, axis=1))
    curves = (one.overlap for one in _closures(dim, 0.0, ts))
    return Along(ts, *found, *map(np.asarray, curves))


DRIFT = ex.Part(
    "drift/{gamma:g}",
    Drift,
    compute_drift,
    grid=lambda c: GAMMAS,
    cost=lambda c, gamma: ex.Cost(2.0 + 1.5e-5 * c.layers),
)
SCORES = ex.Part(
    "scores",
    Along,
    compute_scores,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(5.0 + 3e-3 * c.replicas),
)
PLAIN = ex.Part(
    "plain/d={dim}",
    Along,
    compute_plain,
    grid=lambda c: c.dims,
    cost=lambda c, dim: ex.Cost(2.0 + 2e-5 * c.plain * dim),
)


def _form(name: str, words: str, most: float = 1.0) -> ex.Rival[Config, float]:
    """Another form of the drift, relative to the exact one, at overlaps below `most`."""
    return ex.Rival(
        words,
        lambda found, gamma: getattr(found(DRIFT, gamma), name) / found(DRIFT, gamma).exact,
        printed=name == "printed",
        when=lambda c, gamma: gamma < most,
    )


DRIFTS = ex.Claims(
    "drift-at-{gamma:g}",
    lambda found, gamma: (
        f"Where all overlaps are {gamma:g}, an overlap's mean step over single layers is the exact "
        "drift $\\frac1d (d - 2 + \\gamma^2) s_{ij} - \\frac{d-1}d \\gamma s_{ii}$ (ratio)."
    ),
    estimate=lambda found, gamma: found(DRIFT, gamma).ratio,
    prediction=1.0,
    tol=0.01,
    over=lambda c: GAMMAS,
    rivals=(
        _form("printed", "as printed, for d to infinity"),
        _form("one_query", "all queries weigh alike", 0.9),
        # Near one the scores of a token's neighbours are nearly equal.
        _form("plain", "without attention", 0.9),
        ex.Rival("times 1.1", 1.1),
    ),
    printed=f"{PRINTED}, stated as exact",
)
WITH_SCORES = ex.claim(
    "mean-with-scores",
    f"At $d = {DIM}$, score deviation {STD:g}, the mean overlap at $\\tau = {T1:g}$ is that of the "
    "closure with fluctuations (chains, for a step to zero).",
    lambda found: found(SCORES).final,
    lambda found: float(found(SCORES).second[-1]),
    tol=0.025,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "as printed, for d to infinity",
            lambda found, at: float(found(SCORES).large[-1]),
            printed=True,
        ),
        ex.Rival[Config, ex.Alone](
            "first order, the exact drift at the mean",
            lambda found, at: float(found(SCORES).first[-1]),
        ),
        ex.Rival[Config, ex.Alone](
            "without attention",
            lambda found, at: float(found(PLAIN, found.config.dims[0]).second[-1]),
        ),
    ),
    printed=BOUND,
)
WITHOUT = ex.Claims(
    "mean-without-scores-d={dim}",
    lambda found, dim: f"So it is without scores, $d = {dim}$.",
    estimate=lambda found, dim: found(PLAIN, dim).final,
    prediction=lambda found, dim: float(found(PLAIN, dim).second[-1]),
    tol=lambda c, dim: 0.012 * (16 / dim) ** 0.5,
    over=lambda c: [dim for dim in c.dims if dim <= 32],
    rivals=(
        ex.Rival(
            "as printed, for d to infinity",
            lambda found, dim: float(found(PLAIN, dim).large[-1]),
            printed=True,
        ),
        ex.Rival(
            "first order, the exact drift at the mean",
            lambda found, dim: float(found(PLAIN, dim).first[-1]),
        ),
    ),
    printed=BOUND,
)


def _logistic(rate: float) -> float:
    """The overlap at the end with the growth of m sped up."""
    m = float(limits.homogenized.high_temperature.logistic_overlap_all(rate * T1, 1 / TOKENS))
    return (TOKENS * m - 1) / (TOKENS - 1)


LOGISTIC = ex.claim(
    "logistic-at-large-dim",
    "Without scores the mean overlap of the largest dimension is the logistic law's, to 3.5 over "
    "the dimension.",
    lambda found: _scaled(found),
    0.0,
    tol=3.5,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "growth 1.1 times as fast", estimate=lambda found, at: _scaled(found, 1.1)
        ),
        ex.Rival[Config, ex.Alone]("half as fast", estimate=lambda found, at: _scaled(found, 0.5)),
        ex.Rival[Config, ex.Alone]("no growth", estimate=lambda found, at: _scaled(found, 0.0)),
    ),
    printed="$\\dot u = u(1 - u)$ as $d \\to \\infty$",
)


def _scaled(found: ex.Found[Config], rate: float = 1.0) -> Estimate:
    """The dimension times the gap to the logistic law at the largest dimension."""
    dim = found.config.dims[-1]
    one = found(PLAIN, dim).final
    return Estimate(dim * (one.value - _logistic(rate)), dim * one.floor, one.count)


def _exponent(found: ex.Found[Config], curve: str) -> Estimate:
    """Power of d in the gap to the printed curve at the end, of networks or of a closure."""
    logs, weights = [], []
    for _, data in found.each(PLAIN):
        one = data.final if curve == "networks" else Estimate(float(getattr(data, curve)[-1]))
        gap = float(data.large[-1]) - one.value
        logs.append(np.log(gap))
        weights.append(one.floor / gap)
    x = np.log(np.array(found.config.dims, dtype=np.float64))
    x = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    error = float(np.linalg.norm(x * np.array(weights)))
    return Estimate(float(x @ np.array(logs)), error, found.config.plain)


ORDER = ex.claim(
    "order-in-dim",
    "The gap of networks without scores to the curve for $d \\to \\infty$ falls with the dimension "
    "as that of the closure does, nearly as $1/d$ (exponent).",
    lambda found: _exponent(found, "networks"),
    lambda found: _exponent(found, "second").value,
    tol=0.1,
    rivals=(
        ex.Rival("the size of fluctuations", -0.5),
        ex.Rival("the next order alone", -2.0),
        ex.Rival("no dependence", 0.0),
    ),
    decided_by="standard",
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    cases = [(f"$d = {DIM}$, scores of deviation {STD:g}", found(SCORES))]
    cases += [(f"$d = {dim}$, no scores", data) for dim, data in found.each(PLAIN)]
    for name, data in cases:
        mean, error = common.mean_and_stderr(data.fine)
        columns = (data.time, mean, error, data.second, data.first, data.large)
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield (name, *row)


FIGURE = ex.Figure(
    name="means",
    title="The mean overlap: what fluctuations do to it",
    caption=lambda found: (
        f"{TOKENS} orthonormal tokens: mean overlap of {found.config.replicas} networks with "
        f"scores and {found.config.plain} without (points, layers of diffusive time {STEP:g}, bars "
        "of one standard error), the closure with fluctuations, the exact drift taken at the mean "
        "(first order), and the printed equation, for $d \\to \\infty$."
    ),
    columns=("network", "tau", "mean", "stderr", "with fluctuations", "first order", "printed"),
    rows=_rows,
    x="tau",
    panels="network",
    layers=(
        figures.line("with fluctuations", label="with fluctuations"),
        figures.line("first order", label="first order", dash="6 3"),
        figures.line("printed", label="as printed", dash="2 3"),
        figures.points("mean", "stderr", label="networks"),
    ),
    xlabel=common.TAU,
    ylabel="mean overlap",
    across=2,
    size=(9.0, 7.0),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/simplex",
    title="Equal overlaps: their drift, and the mean that fluctuations move",
    question="Do equal overlaps stay equal, and on which curve?",
    summary="The drift of an overlap at a simplex is exact at every dimension, measured on single "
    "layers. The paper prints its form for $d \\to \\infty$ as the law of the overlaps. Their mean "
    "differs from both curves by $O(1/d)$: fluctuations leave the simplex and move it, as the "
    "closure with second moments predicts.",
    citations=("koubbi2026", "diffrax", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(layers=200_000, replicas=40_000, dims=(16, 32, 64, 128), plain=40_000),
        "paper": Config(
            layers=1_000_000, replicas=200_000, dims=(16, 32, 64, 128, 256), plain=200_000
        ),
    },
    parts=(SCORES, DRIFT, PLAIN),
    claims=(DRIFTS, WITH_SCORES, WITHOUT, LOGISTIC, ORDER),
    figures=(FIGURE,),
    finding=ex.Finding(
        "In dimension 16 the mean overlap at $\\tau = 3$ is {0} without scores and {1} with "
        "scores of deviation 2",
        ("mean-without-scores-d=16", "mean-with-scores"),
    ),
)
