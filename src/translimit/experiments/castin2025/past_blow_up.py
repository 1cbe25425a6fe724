r"""Finite clouds beyond the blow-up of their closure: two limits that do not commute.

In one dimension with A = V = 1 the variance of the closure is Sigma_0 / (1 - 2 Sigma_0 t), which
blows up at t* = 1 / (2 V A Sigma_0) = 1. Clouds of n tokens from the same law go on: under softmax
attention |x_i(t)| <= e^(|V| t) max |x_i(0)|. So n -> infinity and t -> t* do not commute.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, core, figures, limits
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import batch_size
from translimit.experiments.checked import CheckedConfig, Entries, Sizes, Two

if TYPE_CHECKING:
    from jaxtyping import Array

    from translimit.core import AnyArray

COV = 0.5
#: 1 / (2 V A Sigma_0) with V = A = 1.
BLOW_UP = 1.0 / (2.0 * COV)
#: Final depth, beyond the blow-up, and Runge-Kutta steps to it.
T1 = 1.5
STEPS = 48
#: One pair of tokens in one evaluation of the field, on one core.
SECONDS_PER_PAIR = 2e-9
CLOSURE = "closure, exact"


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        tokens: numbers of tokens n of the clouds.
        clouds: independent clouds of each.
    """

    tokens: Annotated[Sizes, Entries(2)] = (100, 400)
    clouds: Two = 64


@dataclass(frozen=True)
class Clouds(ex.Arrays):
    """Clouds of one size along depth, and the closure as far as it exists."""

    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    variance: Float[np.ndarray, "cloud time"]
    bound_ratio: Annotated[Float[np.ndarray, "cloud time"], "largest token over its bound"]
    closure_variance: Float[np.ndarray, " time"]
    blow_up_time: float


def compute(config: Config, tokens: int, keys: ex.Keys) -> Clouds:
    """In float64."""
    import jax

    softmax = attention.Softmax(Q=[[1.0]], K=[[1.0]], V=[[1.0]])
    ts = np.linspace(0.0, T1, 13)
    with jax.enable_x64(True):
        shape = (config.clouds, tokens, 1)
        clouds = np.sqrt(COV) * jax.random.normal(keys.own, shape, dtype=np.float64)

        def flow(cloud: Array) -> AnyArray:
            problem = limits.meanfield.ParticleFlow(attention=softmax, initial=cloud, t1=T1)
            return core.solve(problem, limits.meanfield.FixedODE(steps=STEPS), save=ts).tokens

        batch = batch_size(config.clouds, tokens)
        paths = np.asarray(jax.jit(partial(jax.lax.map, flow, batch_size=batch))(clouds))
    law = limits.meanfield.GaussianFlow(attention=softmax, mean=[0.0], cov=[[COV]], t1=T1)
    closure = core.solve(law, save=ts)
    largest = np.abs(paths).max(axis=(2, 3))
    return Clouds(
        time=ts,
        variance=paths[..., 0].var(axis=-1),
        bound_ratio=largest / (largest[:, :1] * np.exp(ts)),
        closure_variance=np.asarray(closure.cov)[:, 0, 0],
        blow_up_time=float(closure.blow_up_time),
    )


def _cost(config: Config, tokens: int) -> ex.Cost:
    """Compilation, and the pairs of tokens evaluated."""
    pairs = tokens**2 * config.clouds * 6 * STEPS
    return ex.Cost(5.0 + SECONDS_PER_PAIR * pairs, 6e8 + 64.0 * tokens * config.clouds)


CLOUDS = ex.Part("n={tokens}", Clouds, compute, grid=lambda c: c.tokens, cost=_cost)


def _blow_up(found: ex.Found[Config]) -> Estimate:
    return Estimate(found(CLOUDS, found.config.tokens[0]).blow_up_time, 0.0, 1, 1e-9)


def _bound(rate: float) -> Callable[..., Estimate]:
    """The largest token over e^(rate t) times the first, over all clouds and times after 0."""

    def measured(found: ex.Found[Config], at: object = None) -> Estimate:
        every = [
            one.bound_ratio[:, 1:] * np.exp((1.0 - rate) * one.time[1:])
            for _, one in found.each(CLOUDS)
        ]
        count = found.config.clouds * len(every)
        return Estimate(max(float(ratio.max()) for ratio in every), 0.0, count, 1e-9)

    return measured


def _closure_ratio(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """The same, if tokens moved with the closure as long as it exists."""
    times = found(CLOUDS, found.config.tokens[0]).time
    before = times[times < BLOW_UP]
    return Estimate(float((np.exp(-before) / np.sqrt(1.0 - before / BLOW_UP)).max()))


def _growth(found: ex.Found[Config]) -> Estimate:
    """Minus the slope over log n of the mean log variance at the end, by least squares."""
    sizes = np.log(found.config.tokens)
    weights = (sizes - sizes.mean()) / ((sizes - sizes.mean()) ** 2).sum()
    ends = [
        Estimate.from_samples(np.log(found(CLOUDS, n).variance[:, -1])) for n in found.config.tokens
    ]
    slope = sum(w * end.value for w, end in zip(weights, ends, strict=True))
    error = np.hypot.reduce([w * end.stderr for w, end in zip(weights, ends, strict=True)])
    return Estimate(-float(slope), float(error), found.config.clouds)


CLAIMS = (
    ex.claim(
        "blow-up-time",
        "The closure of the one-dimensional set blows up at $t^* = 1/(2 V A \\Sigma_0) = 1$.",
        _blow_up,
        BLOW_UP,
        1e-7,
        rivals=(
            ex.Rival("without the factor 2", 2.0 * BLOW_UP),
            ex.Rival("times 1.1", 1.1 * BLOW_UP),
        ),
    ),
    ex.claim(
        "no-blow-up",
        "Finite clouds pass $t^*$: the largest $|x_i(t)|$ stays below "
        "$e^{\\|V\\| t} \\max |x_i(0)|$ (ratio at most 1, for all $t > 0$ kept).",
        _bound(1.0),
        1.0,
        1e-6,
        rivals=(
            ex.Rival("tokens move with the closure until t*", estimate=_closure_ratio),
            ex.Rival("no growth at all", estimate=_bound(0.0)),
            ex.Rival("half the rate", estimate=_bound(0.5)),
        ),
        one_sided=True,
    ),
    ex.claim(
        "no-limit-beyond",
        "Beyond $t^*$ the variance has no limit of many tokens: at $t = 1.5$ its geometric mean "
        "grows at least like $n^{1/10}$ (minus the exponent).",
        _growth,
        -0.1,
        0.0,
        rivals=(ex.Rival("the limits commute: a finite limit", 0.0),),
        one_sided=True,
        decided_by="standard",
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for n, one in found.each(CLOUDS):
        mean, count = one.variance.mean(axis=0), len(one.variance)
        bars = one.variance.std(axis=0, ddof=1) / np.sqrt(count)
        for row in zip(one.time.tolist(), mean.tolist(), bars.tolist(), strict=True):
            yield (f"particles, $n = {n}$", *row)
    for t in np.linspace(0.0, 0.985 * BLOW_UP, 200).tolist():
        yield (CLOSURE, t, COV / (1.0 - t / BLOW_UP), None)


VARIANCE = ex.Figure(
    name="limits",
    title="Two limits that do not commute",
    caption="Variance of one-dimensional softmax tokens ($A = V = 1$, $\\Sigma_0 = 1/2$). The "
    "closure blows up at $t^* = 1$; clouds of $n$ tokens never do, and leave the closure the "
    "later the larger $n$. {clouds} clouds for each $n$, bars of one standard "
    "error. Dimensionless.",
    columns=("what", "t", "variance", "stderr"),
    rows=_rows,
    x="t",
    layers=lambda c: (
        figures.level(BLOW_UP, label="blow-up $t^*$", dash="1.5 2", vertical=True),
        figures.line("variance", label=CLOSURE, series=None, where={"what": CLOSURE}),
        *(
            figures.points(
                *("variance", "stderr"),
                where={"what": f"particles, $n = {n}$"},
                label=f"particles, $n = {n}$",
                series=series,
                joined=True,
            )
            for series, n in enumerate(c.tokens)
        ),
    ),
    xlabel="depth $t$",
    ylabel="variance of the tokens",
    log="y",
    shown=lambda found, table: found.config.clouds * len(found.config.tokens),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/past-blow-up",
    title="Finite clouds beyond the blow-up of their closure",
    question="What do finitely many tokens do where infinitely many blow up?",
    summary="The Gaussian closure of one-dimensional softmax tokens blows up at a finite depth "
    "$t^*$; clouds of $n$ tokens can not. They are followed beyond $t^*$ and compared with the "
    "bound on their largest token: many tokens and late depth are limits that do not commute.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(tokens=(100, 400, 1600), clouds=48),
        "paper": Config(tokens=(200, 2000, 8000), clouds=64),
    },
    reference=core.reference("castin2025"),
    parts=(CLOUDS,),
    claims=CLAIMS,
    figures=(VARIANCE,),
    finding=ex.Finding(
        "The closure blows up at the time {0}; beyond it the variance of finite clouds "
        "grows in $n$ with the exponent {1:negated}",
        ("blow-up-time", "no-limit-beyond"),
    ),
)
