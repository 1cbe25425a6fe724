r"""Sharp heads: the overlap of two tokens hardly moves on the diffusive clock.

With m = A x / |A x| imposed the update of two tokens is nearly common to them, and at a fixed
diffusive time T the overlap moves by d^{-1/2}:

    d Var R -> 2 T (1 - R_0^2)^2,      d (E R - R_0) -> -kappa T R_0 (1 - R_0^2).

The paper bounds sup |R - R_0| by T / d + C (T / d)^{1/2} and terms of the temperature, with a
constant that it does not name; what can be tested is the exponent, and here the constants. The
attention is imposed: with finitely many tokens and one-hot attention the overlap moves by order
one, as two tokens show against their backward equation.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models, observe
from translimit.core import Estimate
from translimit.experiments.checked import (
    CheckedConfig,
    Entries,
    IncreasingSizes,
    Step,
    Two,
    Within,
)
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    from translimit.limits.homogenized.two_tokens import Kernel

#: Overlap at the start, diffusive time, times within it at which the supremum looks.
START, T1, LOOKS = 0.5, 1.0, 20
#: Finitely many tokens under one-hot attention, their dimension, and their step.
COUNTS, FEW_DIM, FEW_STEP = (2, 8, 16), 32, 0.02
#: Resamples of a quantile.
RESAMPLES = 100


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dims: dimensions of the tokens, at least three.
        replicas: chains of every dimension; six times as many of the smallest.
        step: diffusive step of a layer; it lowers the variance by about its own share.
        networks: with finitely many tokens.
    """

    dims: Annotated[IncreasingSizes, Within(8), Entries(3)] = (16, 64, 256)
    replicas: Two = 40_000
    step: Step = 0.01
    networks: Two = 10_000


@dataclass(frozen=True)
class Moved(ex.Arrays):
    """How far overlaps moved, and what diffusions say of the mean."""

    change: Annotated[Float[np.ndarray, " replica"], "$R - R_0$ at $\\tau = 1$"]
    largest: Annotated[Float[np.ndarray, " replica"], "$\\sup |R - R_0|$"]
    mean: Annotated[float, "mean of the diffusion"]
    mean_one: Annotated[float, "without what a head does to cosines"]
    mean_two: Annotated[float, "with $d_k = d$"]
    independent: Annotated[Float[np.ndarray, " moment"], "mean and variance, independent noise"]


@dataclass(frozen=True)
class Few(ex.Arrays):
    """Mean overlaps of finitely many tokens at diffusive time 1."""

    overlap: Annotated[Float[np.ndarray, "count replica"], "mean overlap"]


def _mean(kernel: Kernel, dim: int, power: int = 1, start: float = START) -> float:
    """E (R - start)^power at the end."""
    return limits.homogenized.two_tokens.pair_expectation(
        lambda R: (R - start) ** power, kernel, initial=start, t1=T1, dim=dim
    )


def best_of_two(overlap: Float[np.ndarray, " nodes"]) -> tuple[np.ndarray, np.ndarray]:
    """S and p of two tokens under one-hot attention, at any dimension."""
    share = 0.5 + np.arcsin(overlap) / np.pi
    return np.ones_like(overlap), share + overlap * (1.0 - share)


def compute_moved(config: Config, dim: int, keys: ex.Keys) -> Moved:
    """Chains of one dimension, with infinitely wide heads."""
    chain = models.SharpHeadChain(dim=dim, head_dim=math.inf, diffusive_step=config.step)
    times = T1 * np.arange(1, LOOKS + 1) / LOOKS / dim
    replicas = config.replicas * (6 if dim == config.dims[0] else 1)
    paths = chain.simulate(START, times, replicas=replicas, key=keys.own)
    change = paths.overlaps - START
    sharp = limits.homogenized.low_temperature.sharp_kernel
    mean, square = (_mean(lambda R: (np.ones_like(R), 0.0 * R), dim, power) for power in (1, 2))
    return Moved(
        change=change[:, -1],
        largest=np.abs(change).max(axis=1),
        mean=_mean(sharp(dim, math.inf), dim),
        mean_one=_mean(lambda R: (np.ones_like(R), R), dim),
        mean_two=_mean(sharp(dim), dim),
        independent=np.array([mean, square - mean**2]),
    )


def compute_few(config: Config, at: ex.Alone, keys: ex.Keys) -> Few:
    """Orthonormal tokens under one-hot attention, in single precision."""
    del at
    law = describe.WideHeads(dim=FEW_DIM, score_std=1e3)
    layers = round(T1 / FEW_STEP)
    chain = models.RandomHeadChain(law=law, step=FEW_STEP**0.5, heads=1, layers=layers)
    rows = []
    for tokens in COUNTS:
        own, start = core.named_key(keys.own, tokens), np.eye(tokens, dtype=np.float32)
        paths = chain.simulate_overlaps(start, replicas=config.networks, key=own, save_every=layers)
        rows.append(observe.mean_overlap(paths.tokens[:, -1]))
    return Few(overlap=np.array(rows))


MOVED = ex.Part(
    "d={dim}",
    Moved,
    compute_moved,
    grid=lambda c: c.dims,
    # The kernel at a finite head dimension, and layers times replicas.
    cost=lambda c, dim: ex.Cost(3.0 + 1e-6 * c.replicas * T1 / c.step),
)
FEW = ex.Part(
    "few-tokens",
    Few,
    compute_few,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(20.0 + 2e-4 * c.networks),
)


def _variance(found: ex.Found[Config], dim: int) -> Estimate:
    """D times the variance, with the share that the step takes."""
    change = found(MOVED, dim).change
    value = dim * float(np.var(change, ddof=1))
    fourth = float(np.mean((change - change.mean()) ** 4)) / float(np.var(change)) ** 2
    error = value * math.sqrt((fourth - 1.0) / len(change))
    return Estimate(value, error, len(change), found.config.step * value / 2)


def _shift(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """D times the mean change, at the smallest dimension."""
    del at
    dim = found.config.dims[0]
    return Estimate.from_samples(dim * found(MOVED, dim).change)


def _times_dim(name: str) -> Callable[[ex.Found[Config], ex.Alone], float]:
    def prediction(found: ex.Found[Config], at: ex.Alone) -> float:
        del at
        dim = found.config.dims[0]
        return dim * float(np.ravel(getattr(found(MOVED, dim), name))[0])

    return prediction


def _spread(values: Float[np.ndarray, " replica"]) -> float:
    return float(np.std(values, ddof=1))


def _tail(values: Float[np.ndarray, " replica"]) -> float:
    return float(np.quantile(values, 0.95))


#: What is compared over dimensions, by the name of a claim: array and statistic.
SIZES = {"spread": ("change", _spread), "supremum": ("largest", _tail)}


def _exponent(found: ex.Found[Config], name: str) -> Estimate:
    """The slope over the logarithm of the dimension, with a bootstrap over replicas.

    Its discretisation error is half of what leaving out the smallest dimension changes.
    """
    array, statistic = SIZES[name]
    rng, logs = np.random.default_rng(0), np.log(np.array(found.config.dims, float))
    values = [getattr(data, array) for _, data in found.each(MOVED)]

    def slope(samples: list[Float[np.ndarray, " replica"]], first: int = 0) -> float:
        values = [math.log(statistic(one)) for one in samples[first:]]
        return float(np.polyfit(logs[first:], values, 1)[0])

    again = [
        slope([one[rng.integers(len(one), size=len(one))] for one in values])
        for _ in range(RESAMPLES)
    ]
    error, found_slope = float(np.std(again, ddof=1)), slope(values)
    left = abs(slope(values, first=1) - found_slope) / 2
    return Estimate(found_slope, error, found.config.replicas, left)


VARIANCE = ex.Claims(
    "variance-d={dim}",
    "At diffusive time 1 the variance of the overlap is $2 T (1 - R_0^2)^2 / d$.",
    estimate=_variance,
    prediction=2.0 * T1 * (1 - START**2) ** 2,
    tol=0.05,
    over=lambda c: c.dims[1:],
    rivals=(
        ex.Rival("times 1.1", 2.2 * T1 * (1 - START**2) ** 2),
        ex.Rival("2 T (1 - R_0^2) / d", 2.0 * T1 * (1 - START**2)),
        ex.Rival(
            "noise not common to the tokens",
            lambda found, dim: dim * float(found(MOVED, dim).independent[1]),
        ),
    ),
)
MEAN = ex.claim(
    "mean",
    "Its mean moves as the diffusion of this dimension says, by "
    "$-\\kappa T R_0 (1 - R_0^2) / d$ with $\\kappa = 3/2$ to leading order.",
    lambda found: _shift(found, ex.Alone()),
    lambda found: _times_dim("mean")(found, ex.Alone()),
    tol=0.04,
    rivals=(
        ex.Rival("kappa = 1", _times_dim("mean_one")),
        ex.Rival("kappa = 2", _times_dim("mean_two")),
        ex.Rival("no drift", 0.0),
        ex.Rival("noise not common to the tokens", _times_dim("independent")),
    ),
)
EXPONENT = ex.Claims(
    "{name}-exponent",
    lambda found, name: {
        "spread": "The deviation of the overlap at diffusive time 1 falls as $d^{-1/2}$.",
        "supremum": "The 95 % quantile of $\\sup |R - R_0|$ falls as $d^{-1/2}$.",
    }[name],
    estimate=_exponent,
    prediction=-0.5,
    tol=0.03,
    over=lambda c: tuple(SIZES),
    rivals=(
        ex.Rival("-1", -1.0),
        ex.Rival("-1/4", -0.25),
        ex.Rival("-0.6", -0.6),
        ex.Rival("-0.4", -0.4),
    ),
    printed=r"$T/d + C \sqrt{(T/d) \log(1/\delta)}$",
    decided_by="standard",
)
FAST = ex.claim(
    "finite-tokens-are-fast",
    "Two orthogonal tokens under one-hot attention move by order one within diffusive time 1, as "
    "their backward equation says: slow motion needs a law of tokens with a density.",
    lambda found: Estimate.from_samples(found(FEW).overlap[0].astype(np.float64)),
    lambda found: _mean(best_of_two, FEW_DIM, start=0.0),
    tol=0.02,
    rivals=(
        ex.Rival("slow motion", 0.0),
        ex.Rival(
            "without scores",
            lambda found, at: _mean(
                limits.homogenized.two_tokens.without_scores, FEW_DIM, start=0.0
            ),
        ),
        ex.Rival("times 0.8", lambda found, at: 0.8 * _mean(best_of_two, FEW_DIM, start=0.0)),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for dim, data in found.each(MOVED):
        scaled = dim**-0.5 * (2.0 * T1) ** 0.5 * (1 - START**2)
        yield ("dimension", dim, _spread(data.change), None, _tail(data.largest), scaled)
    means = common.mean_and_stderr(found(FEW).overlap, axis=1)
    for tokens, mean, error in zip(COUNTS, *(one.tolist() for one in means), strict=True):
        yield ("tokens", tokens, mean, error, None, 0.0)


MOTION = ex.Figure(
    name="motion",
    title="Slow motion, and what finitely many tokens do instead",
    caption="Left: how far the overlap of two tokens under sharp heads has moved within diffusive "
    "time 1, from {replicas} chains of each dimension; the line is "
    "$(2 T / d)^{{1/2}} (1 - R_0^2)$. Right: orthonormal tokens in dimension 32 under one-hot "
    "attention, {networks} networks each, bars of one standard error.",
    columns=("panel", "size", "value", "stderr", "supremum", "limit"),
    rows=_rows,
    x="size",
    layers=(
        figures.panel(
            "infinitely many tokens",
            figures.line("limit", label="limit", series=None),
            figures.points("value", label="deviation of $R$"),
            figures.points("supremum", label="95 % of $\\sup |R - R_0|$", series=1),
            where={"panel": "dimension"},
            xlabel="dimension $d$",
            ylabel="change of the overlap",
            log="xy",
        ),
        figures.panel(
            "finitely many tokens",
            figures.level(0.0, label="slow motion"),
            figures.points("value", "stderr", label="one-hot attention"),
            where={"panel": "tokens"},
            xlabel="tokens $n$",
            ylabel="mean overlap at $\\tau = 1$",
            log="x",
        ),
    ),
    ticks=True,
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/slow-motion",
    title="Sharp heads: slow motion of the overlap of two tokens",
    question="With sharp heads, how slowly does the overlap of two tokens move?",
    summary="For strong scores and tokens that fill the sphere the update of two tokens is nearly "
    "common to them, so that their overlap moves by $d^{-1/2}$ only at a fixed diffusive time. "
    "Exponent and constants are measured, and how finitely many tokens move instead.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(dims=(16, 32, 64, 128, 256), replicas=200_000, networks=40_000),
        "paper": Config(
            dims=(16, 32, 64, 128, 256, 512), replicas=1_000_000, step=0.005, networks=100_000
        ),
    },
    parts=(MOVED, FEW),
    claims=(VARIANCE, MEAN, EXPONENT, FAST),
    figures=(MOTION,),
    finding=ex.Finding(
        "The overlap of two tokens deviates with the exponent {0} in the dimension; under "
        "finitely many tokens it moves by {1} within diffusive time 1",
        ("spread-exponent", "finite-tokens-are-fast"),
    ),
)
