r"""A mean effect and noise at once: the equations with drift, as printed and as corrected.

One of two heads that are far apart is drawn for every layer, so that heads have a mean, and a
fluctuation whose covariance is no multiple of the identity. Three tokens in R^3 go to paper time 1,
with one head a layer, so that alpha is proportional to the step, and with a number of heads
proportional to the step, so that alpha stays. Mean overlaps of the chain and of the equations are
exact (`two_heads`); sampled chains and paths of the library are compared with both.

The printed equation lacks two drifts of the order of the step: of the mean, -step <x, B-bar> b, and
of the noise, -(step / heads) E <x, xi> P_x xi. The printed corollaries on the two equations without
noise promise an error of the order step max(step, alpha); noise alone makes one of order alpha.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import core, figures, limits, models, observe
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Within
from translimit.experiments.koubbi2026.orders import at_zero, order_of
from translimit.experiments.koubbi2026.two_heads import (
    EQUATIONS,
    ROWS,
    equation_means,
    exact_mean,
    two_heads,
)

#: Residual steps, and heads of a layer at each, by series.
STEPS = (0.2, 0.1, 0.05)
SERIES = {"one head": (1, 1, 1), "alpha fixed": (4, 2, 1)}
POINTS = tuple(dict.fromkeys(zip(STEPS * 2, sum(SERIES.values(), ()), strict=True)))
DROPPED = "without the drift of the mean", "without the drift of the noise"
#: The rows of one equation.
CORRECTED = {"equation": "corrected"}
#: Largest step of sampled paths, in paper time.
EULER_STEP = 0.05


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        replicas: sampled chains, and sampled paths, at least 1000.
    """

    replicas: Annotated[int, Within(1000)] = 20_000


Measured = Callable[[ex.Found[Config], ex.Alone], Estimate]


@dataclass(frozen=True)
class Means(ex.Arrays):
    """Exact mean overlaps of the chain, and of the equations with the error of their steps."""

    chain: float
    tangent: float
    equation: Shaped[np.ndarray, " equation"]
    mean: Annotated[Float[np.ndarray, " equation"], "mean overlap"]
    error: Float[np.ndarray, " equation"]

    def of(self, equation: str) -> float:
        """The mean overlap of an equation."""
        return float(self.mean[self.equation.tolist().index(equation)])


@dataclass(frozen=True)
class Sampled(ex.Arrays):
    """Mean overlaps of sampled chains and paths at the largest step."""

    chain: Float[np.ndarray, " replica"]
    paths: Float[np.ndarray, " replica"]
    discretisation: float


def compute_exact(config: Config, at: tuple[float, int], keys: ex.Keys) -> Means:
    """The chain and all equations at one step and number of heads; nothing is random."""
    del config, keys
    step, heads = at
    means, errors = equation_means(step, heads)
    return Means(
        chain=exact_mean(step, heads),
        tangent=exact_mean(step, heads, tangent=True),
        equation=np.array(list(EQUATIONS)),
        mean=means,
        error=errors,
    )


def compute_sampled(config: Config, at: ex.Alone, keys: ex.Keys) -> Sampled:
    """Sampled chains and paths at the largest step, in single precision."""
    del at
    law, step = two_heads(), STEPS[0]
    start = core.SPHERE.project(np.array(ROWS)).astype(np.float32)
    chain = models.RandomHeadChain(law=law, step=step, heads=1, layers=round(1.0 / step))
    states = chain.simulate(start, replicas=config.replicas, key=core.named_key(keys.own, "chain"))
    problem = limits.homogenized.ModifiedSDE(law=law, initial=start, t1=1.0, step=step, heads=1)
    method = limits.homogenized.SphereEuler(max_step=EULER_STEP, paths=config.replicas)
    solution = core.solve(problem, method, key=core.named_key(keys.own, "paths"), save=[1.0])
    return Sampled(
        chain=np.asarray(observe.mean_overlap(states.tokens[:, -1])),
        paths=np.asarray(observe.mean_overlap(solution.tokens[:, 0])),
        discretisation=float(solution.discretisation),
    )


EXACT = ex.Part(
    "step={step:g}/heads={heads}",
    Means,
    compute_exact,
    grid=lambda c: POINTS,
    cost=lambda c, at: ex.Cost(8.0),
)
SAMPLED = ex.Part(
    "sampled",
    Sampled,
    compute_sampled,
    grid=ex.alone,
    # Compilation, and steps times paths.
    cost=lambda c, at: ex.Cost(20.0 + 6e-6 * c.replicas * (2 / EULER_STEP + 0.3 / STEPS[0])),
)


def _gaps(found: ex.Found[Config], series: str, equation: str) -> Float[np.ndarray, " step"]:
    """The chain's mean minus that of an equation, at the steps of a series."""
    cells = [found(EXACT, at) for at in zip(STEPS, SERIES[series], strict=True)]
    return np.array([one.chain - one.of(equation) for one in cells])


def _order(series: str, equation: str) -> Measured:
    return lambda found, at: order_of(STEPS, _gaps(found, series, equation).tolist())


def _linear(equation: str) -> Measured:
    """The coefficient of the step in the gap, one head a layer."""
    return lambda found, at: at_zero(
        STEPS, (_gaps(found, "one head", equation) / np.array(STEPS)).tolist()
    )


def _left(equation: str) -> Measured:
    """The gap at step zero where alpha stays."""
    return lambda found, at: at_zero(STEPS, _gaps(found, "alpha fixed", equation).tolist())


def _noise_alone(equation: str) -> Callable[[ex.Found[Config], ex.Alone], float]:
    """What an equation of first order adds to the ballistic one; the same at every step."""

    def prediction(found: ex.Found[Config], at: ex.Alone) -> float:
        del at
        means = found(EXACT, (STEPS[-1], SERIES["alpha fixed"][-1]))
        return means.of(equation) - means.of("ballistic")

    return prediction


def _largest(equation: str) -> Callable[[ex.Found[Config], ex.Alone], float]:
    return lambda found, at: found(EXACT, (STEPS[0], 1)).of(equation)


CLAIMS = (
    ex.claim(
        "order-corrected",
        "With noise of size $\\alpha \\sim \\eta$ beside a drift, the equation with "
        "$-\\eta\\langle x, \\bar B\\rangle b$ and the drift of the noise meets the mean overlap "
        "of the printed chain to second order.",
        lambda found: _order("one head", "corrected")(found, ex.Alone()),
        2.0,
        tol=0.2,
        rivals=(
            ex.Rival("as printed", estimate=_order("one head", "as printed"), printed=True),
            ex.Rival(DROPPED[0], estimate=_order("one head", DROPPED[0])),
            ex.Rival("order 1", 1.0),
            ex.Rival("order 3", 3.0),
        ),
        printed=r"$\eta\max(\eta, \alpha)$ for the stochastic equation with modified drift",
    ),
    ex.claim(
        "linear-part",
        "Its gap to the chain has no part linear in the step: each of the drifts is needed.",
        lambda found: _linear("corrected")(found, ex.Alone()),
        0.0,
        tol=0.02,
        rivals=tuple(ex.Rival(one, estimate=_linear(one)) for one in ("as printed", *DROPPED)),
    ),
    ex.claim(
        "order-first",
        "The first stochastic equation, with the drift $b$ alone, is of first order.",
        lambda found: _order("one head", "first order, as printed")(found, ex.Alone()),
        1.0,
        tol=0.2,
        rivals=(ex.Rival("order 1/2", 0.5), ex.Rival("order 2", 2.0)),
        printed=r"$\eta\max(1, \alpha)$",
    ),
    ex.claim(
        "first-at-fixed-alpha",
        "Where $\\alpha$ stays as the step falls, the first stochastic equation meets the chain in "
        "the limit if it has the drift of the noise.",
        lambda found: _left("first order, corrected")(found, ex.Alone()),
        0.0,
        tol=0.001,
        rivals=(
            ex.Rival("as printed", estimate=_left("first order, as printed"), printed=True),
            ex.Rival("no noise", estimate=_left("ballistic")),
        ),
        printed=r"$\eta\max(1, \alpha)$ without the drift of the noise",
    ),
    ex.claim(
        "order-at-fixed-alpha",
        "There it is of first order.",
        lambda found: _order("alpha fixed", "first order, corrected")(found, ex.Alone()),
        1.0,
        tol=0.2,
        rivals=(ex.Rival("order 1/2", 0.5), ex.Rival("order 2", 2.0)),
        printed=r"$\eta\max(1, \alpha)$",
    ),
    ex.claim(
        "no-noise-at-fixed-alpha",
        "There the equation without noise is off by what noise and its drift do, of order "
        "$\\alpha$, at every step.",
        lambda found: _left("ballistic")(found, ex.Alone()),
        lambda found: _noise_alone("first order, corrected")(found, ex.Alone()),
        tol=0.001,
        rivals=(
            ex.Rival("falls with the step", 0.0, printed=True),
            ex.Rival("no drift of the noise", _noise_alone("first order, as printed")),
        ),
        printed=r"$\eta\max(\eta, \alpha)$ for the equations without noise",
    ),
    ex.claim(
        "sampled-chain",
        "Sampled chains have the mean overlap of all sequences of heads.",
        lambda found: Estimate.from_samples(found(SAMPLED).chain.astype(np.float64)),
        lambda found: found(EXACT, (STEPS[0], 1)).chain,
        tol=0.006,
        rivals=(
            ex.Rival("the tangent chain", lambda found, at: found(EXACT, (STEPS[0], 1)).tangent),
            ex.Rival("the corrected equation", _largest("corrected")),
        ),
    ),
    ex.claim(
        "sampled-paths",
        "Sampled paths of the corrected equation have its mean overlap.",
        lambda found: Estimate.from_samples(
            found(SAMPLED).paths.astype(np.float64), discretisation=found(SAMPLED).discretisation
        ),
        lambda found: _largest("corrected")(found, ex.Alone()),
        tol=0.008,
        rivals=tuple(ex.Rival(one, _largest(one)) for one in ("as printed", *DROPPED)),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Sizes of the gaps of every equation, and slopes through the largest step."""
    for series, heads in SERIES.items():
        for equation in EQUATIONS:
            for step, number, gap in zip(
                STEPS, heads, _gaps(found, series, equation).tolist(), strict=True
            ):
                slopes = 0.3 * step, 0.5 * step**2
                yield (series, equation, step, number, gap, abs(gap), *slopes)


GAPS = ex.Figure(
    name="gaps",
    title="Drift and noise: the equations as printed and as corrected",
    caption="Three tokens in three dimensions, one of two heads drawn for every head of a layer, "
    "paper time 1: mean overlap of the chain (all sequences of heads) minus that of an equation. "
    "Left with one head a layer, right with a number of heads proportional to the step. The "
    "printed equation lacks two drifts of the order of the step, and one of them does not vanish "
    "with the step on the right.",
    columns=("series", "equation", "step", "heads", "gap", "size", "slope 1", "slope 2"),
    rows=_rows,
    x="step",
    by="equation",
    panels="series",
    titles={"one head": "one head a layer", "alpha fixed": "heads proportional to the step"},
    layers=(
        *(
            figures.line(one, by="", series=None, where=CORRECTED, label=one, dash=dash)
            for one, dash in (("slope 1", "6 3"), ("slope 2", "1.5 2"))
        ),
        figures.points("size", joined=True),
    ),
    xlabel="residual step $\\eta$",
    ylabel="|mean overlap, chain minus equation|",
    log="xy",
    ticks=True,
    size=(10.0, 5.2),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/drift-and-noise",
    title="Heads with a mean effect and noise beside it",
    question="Which limit holds where heads have a mean and fluctuate?",
    summary="Where heads have a mean and fluctuate, the limit is a stochastic equation with drift. "
    "Chains of random heads are compared with it, in the forms that the paper prints and with the "
    "two drifts of the printed chain that these lack: one from the mean, one from noise that is "
    "not isotropic.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(replicas=100_000),
        "paper": Config(replicas=1_000_000),
    },
    parts=(EXACT, SAMPLED),
    claims=CLAIMS,
    figures=(GAPS,),
    finding=ex.Finding(
        "The corrected equation meets the chain with the order {0} in the step, the first "
        "stochastic equation with {1}",
        ("order-corrected", "order-first"),
    ),
)
