r"""A mean effect and noise at once: the equation with drift, as printed and as corrected.

One of two heads that are far apart is drawn for every layer, so that heads have a mean, and a
fluctuation whose covariance is no multiple of the identity; alpha is of the order of the step.
Three tokens in R^3 go to paper time 1, at several residual steps: the mean overlap of chains, and
of paths of the equation in both forms.

The printed equation lacks two drifts of the order of the step: of the mean, -step <x, B-bar> b, and
of the noise, -(step / heads) E <x, xi> P_x xi. With both it is right to second order.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models, observe
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Steps, Within
from translimit.experiments.koubbi2026 import common

#: Tokens (rows are normalised).
ROWS = ((1.0, 0.2, 0.0), (0.3, 1.0, 0.4), (-0.2, 0.1, 1.0))
#: The heads: values MEAN + OTHER with the identity as scores, MEAN - OTHER with TURN.
MEAN = ((1.0, 0.3, 0.0), (-0.2, 0.8, 0.1), (0.0, 0.4, 0.6))
OTHER = ((1.2, -0.6, 0.2), (0.4, 0.9, -0.8), (-0.7, 0.5, 1.1))
TURN = ((1.0, 0.5, 0.0), (-0.5, 1.0, 0.3), (0.0, 0.2, -1.0))
#: Largest step of the equation, in paper time.
EULER_STEP = 0.05
#: Forms of the equation with their retractions: the printed one is that of the tangent chain.
FORMS = {"printed": "TANGENT", "corrected": "AMBIENT"}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        steps: residual steps of the chain, 1 over an integer, decreasing, at least two.
        replicas: chains of every step, and paths of every equation, at least 1000.
    """

    steps: Steps = (0.2, 0.1)
    replicas: Annotated[int, Within(1000)] = 60_000


@dataclass(frozen=True)
class Means(ex.Arrays):
    """Mean overlaps of the chain and of the equation in both forms."""

    system: Shaped[np.ndarray, " system"]
    mean: Annotated[Float[np.ndarray, " system"], "mean overlap"]
    stderr: Annotated[Float[np.ndarray, " system"], "its standard error"]

    def gap(self, form: str) -> tuple[float, float]:
        """The chain's mean minus that of a form of the equation, and its standard error."""
        place = self.system.tolist().index(form)
        error = math.hypot(self.stderr[0], self.stderr[place])
        return float(self.mean[0] - self.mean[place]), error


def compute(config: Config, step: float, keys: ex.Keys) -> Means:
    """Chains and paths at one residual step, in single precision."""
    mean, other = np.array(MEAN), np.array(OTHER)
    law = describe.FiniteHeads(
        V=np.stack([mean + other, mean - other]),
        A=np.stack([np.eye(3), np.array(TURN)]),
        beta=1.0,
    )
    start = np.array(ROWS, dtype=np.float32)
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    chain = models.RandomHeadChain(law=law, step=step, heads=1, layers=round(1.0 / step))
    states = chain.simulate(start, replicas=config.replicas, key=core.named_key(keys.own, "chain"))
    values = [observe.mean_overlap(states.tokens[:, -1])]
    method = limits.homogenized.SphereEuler(max_step=EULER_STEP, paths=config.replicas)
    for form, retraction in FORMS.items():
        problem = limits.homogenized.ModifiedSDE(
            law=law,
            initial=start,
            t1=1.0,
            step=step,
            heads=1,
            retraction=core.Retraction[retraction],
        )
        solution = core.solve(problem, method, key=core.named_key(keys.own, form), save=[1.0])
        values.append(observe.mean_overlap(solution.tokens[:, 0]))
    means, stderrs = common.mean_and_stderr(np.array(values), axis=1)
    return Means(system=np.array(["chain", *FORMS]), mean=means, stderr=stderrs)


AT_STEP = ex.Part(
    "step={step:g}",
    Means,
    compute,
    grid=lambda c: c.steps,
    # Compilation, and steps times paths.
    cost=lambda c, step: ex.Cost(20.0 + 6e-6 * c.replicas * (2 / EULER_STEP + 0.3 / step)),
)


def _order(found: ex.Found[Config], form: str) -> Estimate:
    """The order of the gap between the two smallest steps."""
    steps = found.config.steps[-2:]
    gap, stderr = np.array([found(AT_STEP, step).gap(form) for step in steps]).T
    ratio = math.log(steps[0] / steps[1])
    order = math.log(abs(gap[0] / gap[1])) / ratio
    return Estimate(order, math.hypot(*(stderr / gap)) / ratio, found.config.replicas)


def _statement(found: ex.Found[Config], form: str) -> str:
    del found
    what = {
        "printed": "as printed",
        "corrected": r"with $-\eta\langle x, \bar B\rangle b$ and the drift of the noise",
    }
    return (
        f"With noise of size $\\alpha \\sim \\eta$ beside a drift, the equation {what[form]} meets "
        "the mean overlap of the printed chain to second order."
    )


ORDER = ex.Claims(
    "order-{form}",
    _statement,
    estimate=_order,
    prediction=2.0,
    tol=0.4,
    over=lambda c: tuple(FORMS),
    printed=r"$\eta\max(\eta, \alpha)$ for the stochastic equation with modified drift",
)


def _gaps(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Gaps with their sizes, and a slope through that of the largest step."""
    steps = found.config.steps
    for form, power in zip(FORMS, (1, 2), strict=True):
        first, _ = found(AT_STEP, steps[0]).gap(form)
        for step in steps:
            gap, stderr = found(AT_STEP, step).gap(form)
            yield (form, step, gap, stderr, abs(gap), abs(first) * (step / steps[0]) ** power)


GAPS = ex.Figure(
    name="gaps",
    title="Drift and noise: the equation as printed and as corrected",
    caption=lambda found: (
        "Three tokens in three dimensions, one of two heads a layer, paper time 1: mean overlap "
        f"of {found.config.replicas} chains minus that of as many paths of the equation (bars of "
        "one standard error), with slopes through the largest step. The printed equation lacks "
        "two drifts of the order of the step."
    ),
    columns=("equation", "step", "gap", "stderr", "size", "slope"),
    rows=_gaps,
    x="step",
    by="equation",
    layers=(
        figures.points("size", "stderr", label="as {}"),
        figures.line("slope", where={"equation": "printed"}, label="slope 1", dash="1.5 2"),
        figures.line("slope", where={"equation": "corrected"}, label="slope 2", dash="6 3"),
    ),
    xlabel="residual step $\\eta$",
    ylabel="|mean overlap, chain minus equation|",
    log="xy",
    ticks=True,
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/drift-and-noise",
    title="Heads with a mean effect and noise beside it",
    summary="Where heads have a mean and fluctuate, the limit is a stochastic equation with drift. "
    "Chains of one random head a layer are held against it, in the form that the paper prints and "
    "with the two drifts of second order that the printed chain has: one from the mean, one from "
    "noise that is not isotropic.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(steps=(0.2, 0.1, 0.05), replicas=400_000),
        "paper": Config(steps=(0.2, 0.1, 0.05), replicas=2_000_000),
    },
    parts=(AT_STEP,),
    claims=(ORDER,),
    figures=(GAPS,),
)
