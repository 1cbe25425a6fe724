r"""Depth: attention is learned at alpha_L = 1 and freezes at alpha_L = 1/2.

Infinite heads of infinite dimension, so that nothing is sampled: every number is exact for its
depth. Training at both exponents with L layers is compared with the depth ODE of alpha_L = 1,
extrapolated in its cells.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.bordelon2024.extrapolation import last_exponent
from translimit.experiments.bordelon2024.tasks import DIGITS_PER_CLASS, two_digits
from translimit.experiments.checked import CheckedConfig, Count, Counts, Doubling, Positive, Within

#: Where attention is learned, and where it freezes.
ALPHAS = (1.0, 0.5)
#: Claims on exponents of depth, and where.
NAMES = dict(zip(("learned", "frozen"), ALPHAS, strict=True))
#: Responses that survive at infinite depth.
RESPONSES = ("R_v", "R_p")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        layers: depths, each twice the one before.
        cells: cells of the depth ODE.
        per_class: digits of each of the two classes.
        steps: evaluations.
        eta0: learning rate.
        beta0: branch multiplier.
        gamma0: richness.
    """

    layers: Annotated[Counts, Doubling(4)] = (16, 32, 64, 128)
    cells: Annotated[int, Within(2)] = 64
    per_class: Annotated[int, Within(1, DIGITS_PER_CLASS)] = 1
    steps: Count = 6
    eta0: Positive = 0.05
    beta0: Positive = 1.0
    gamma0: Positive = 2.0

    @property
    def updates(self) -> int:
        """Updates before the last evaluation."""
        return self.steps - 1

    def problem(self, layers: int | float, alpha_L: float) -> limits.dmft.TrainingDynamics:
        """Training at one depth."""
        inputs, targets = two_digits(self.per_class)
        return limits.dmft.TrainingDynamics(
            architecture=limits.dmft.Architecture(
                head_dim=math.inf,
                layers=layers,
                alpha_L=alpha_L,
                beta0=self.beta0,
                gamma0=self.gamma0,
            ),
            inputs=inputs,
            targets=targets,
            steps=self.steps,
            eta0=self.eta0,
        )


@dataclass(frozen=True)
class Ode(ex.Arrays):
    """Training at infinite depth, and without the responses that survive there."""

    predictions: Float[np.ndarray, "step sample"]
    discretisation: Float[np.ndarray, "step sample"]
    without: Float[np.ndarray, "response step sample"]


@dataclass(frozen=True)
class Depth(ex.Arrays):
    """Training at one depth, at both exponents, and the logits in the middle of the network."""

    alpha_L: Float[np.ndarray, " alpha_L"]
    predictions: Float[np.ndarray, "alpha_L step sample"]
    logit_rms: Float[np.ndarray, "alpha_L step"]


def compute_ode(config: Config, at: ex.Alone, keys: ex.Keys) -> Ode:
    """Predictions of the depth ODE."""
    del at, keys
    whole, *without = (
        core.solve(
            config.problem(math.inf, 1.0), limits.dmft.LinearAlgebra(cells=config.cells, omit=omit)
        )
        for omit in ((), *((name,) for name in RESPONSES))
    )
    others = np.array([one.predictions for one in without])
    return Ode(whole.predictions, whole.cell_error, others)


def compute_depth(config: Config, layers: int, keys: ex.Keys) -> Depth:
    """Predictions, and the logits in the middle of the network."""
    del keys
    solved = [core.solve(config.problem(layers, alpha)) for alpha in ALPHAS]
    logits = [one.score_law(layers // 2).mean for one in solved]
    return Depth(
        alpha_L=np.array(ALPHAS),
        predictions=np.array([one.predictions for one in solved]),
        logit_rms=np.array([np.sqrt(np.mean(one**2, axis=(1, 2, 3))) for one in logits]),
    )


def _cost(config: Config, layers: int) -> ex.Cost:
    """Compilation, and the square of the history of the deepest stream."""
    return ex.Cost(2.0 + 5e-5 * (layers * config.steps) ** 2)


ODE = ex.Part("ode", Ode, compute_ode, grid=ex.alone, cost=lambda c, at: _cost(c, c.cells))
DEPTH = ex.Part("depth/L={layers}", Depth, compute_depth, grid=lambda c: c.layers, cost=_cost)


def _logits(found: ex.Found[Config]) -> Float[np.ndarray, "alpha_L layers"]:
    """Rms logits at the end."""
    return np.array([data.logit_rms[:, -1] for _, data in found.each(DEPTH)]).T


def _gap(found: ex.Found[Config], wrong: np.ndarray | None = None) -> Estimate:
    """Layers, extrapolated twice, against the ODE; the error is that of the worst entry."""
    f = [data.predictions[0] for _, data in found.each(DEPTH)]
    once = [2 * fine - coarse for coarse, fine in pairwise(f)][-2:]
    twice = (4 * once[-1] - once[-2]) / 3
    ode = found(ODE)
    gap = np.abs(twice - (ode.predictions if wrong is None else wrong))
    worst = np.unravel_index(np.argmax(gap), gap.shape)
    errors = np.abs(twice - once[-1])[worst], ode.discretisation[worst]
    return Estimate(float(gap.max()), discretisation=float(max(errors)))


def _deepest(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """The gap of the deepest network's limit, as if its depth were infinite."""
    del at
    return _gap(found, found(DEPTH, found.config.layers[-1]).predictions[0])


def _exponent(found: ex.Found[Config], alpha_L: float) -> Estimate:
    """Of the scores in the middle of the network against depth."""
    return last_exponent(found.once(_logits)[ALPHAS.index(alpha_L)])


def _without(place: int) -> ex.Rival[Config, ex.Alone]:
    return ex.Rival(
        f"the ODE without $R^{RESPONSES[place][-1]}$",
        estimate=lambda found, at: _gap(found, found(ODE).without[place]),
    )


CLAIMS = (
    ex.claim(
        "ode",
        "At $\\alpha_L = 1$ layers, extrapolated in $1/L$, give the predictions of the depth ODE "
        "(largest difference).",
        _gap,
        prediction=0.0,
        tol=2e-4,
        rivals=(
            _without(0),
            _without(1),
            ex.Rival("the limit of the largest depth, not extrapolated", estimate=_deepest),
        ),
    ),
    ex.Claims(
        "{name}",
        lambda found, name: (
            "At $\\alpha_L = 1$ the learned scores in the middle of the network tend to a limit "
            "that is not zero (exponent in $L$, extrapolated in $1/L$)."
            if NAMES[name] == 1.0
            else "At $\\alpha_L = 1/2$ they fall like $1/L$ (alike)."
        ),
        estimate=lambda found, name: _exponent(found, NAMES[name]),
        prediction=lambda found, name: 2 * (NAMES[name] - 1),
        tol=0.05,
        over=lambda c: tuple(NAMES),
        rivals=(
            ex.Rival("as one head's, $L^{\\alpha_L - 1}$", -0.5),
            ex.Rival("0.2 larger", lambda found, name: 2 * (NAMES[name] - 1) + 0.2),
            ex.Rival("0.2 smaller", lambda found, name: 2 * (NAMES[name] - 1) - 0.2),
            ex.Rival("the other exponent's law", lambda found, name: 1 - 2 * NAMES[name]),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    learned, frozen = found.once(_logits)
    first = float(frozen[0]) * found.config.layers[0]
    for layers, *logits in zip(found.config.layers, learned, frozen, strict=True):
        yield (layers, *map(float, logits), first / layers)


ATTENTION = ex.Figure(
    name="attention",
    title="Learned attention against depth",
    caption="Rms logit of layer $L/2$ after {updates} updates; infinitely many heads of infinite "
    "dimension, where logits start at zero. No errors: nothing is sampled.",
    columns=("layers", "alpha_L = 1", "alpha_L = 0.5", "rate -1"),
    rows=_rows,
    x="layers",
    layers=(
        figures.line("rate -1", label="predicted rate −1", series=None),
        figures.points("alpha_L = 1", label="$\\alpha_L = 1$"),
        figures.points("alpha_L = 0.5", label="$\\alpha_L = 0.5$", series=1),
    ),
    xlabel="layers $L$",
    ylabel="rms logit in the middle",
    log="xy",
    ticks=True,
    shown=lambda found, table: len(table.rows),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-depth",
    title="Attention along infinite depth",
    question="At infinite depth, does attention learn?",
    summary="With infinitely many heads of infinite dimension training is linear algebra. At "
    "$\\alpha_L = 1$ layers tend to an ODE in depth and attention is learned; at "
    "$\\alpha_L = 1/2$ what attention learns vanishes like $1/L$.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(layers=(8, 16, 32, 64), cells=32),
        "standard": Config(),
        "paper": Config(layers=(16, 32, 64, 128, 256), steps=10),
    },
    parts=(ODE, DEPTH),
    claims=CLAIMS,
    figures=(ATTENTION,),
    finding=ex.Finding(
        "With the layers, learned scores change with the exponent {0} at $\\alpha_L = 1$ and "
        "{1} at $\\alpha_L = 1/2$",
        ("learned", "frozen"),
    ),
)
