r"""Rich and lazy: what an infinite network learns as gamma_0 varies.

Infinite heads of infinite dimension: nothing is sampled, and one compiled program serves every
gamma_0. The lazy limit gamma_0 -> 0 is known: f(t + 1) - f(t) = eta_0 K Delta(t) with the kernel
of the start. At gamma_0 > 0 features move, and the kernel aligns with the targets.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.bordelon2024.tasks import DIGITS_PER_CLASS, two_digits
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Entries,
    Increasing,
    Positive,
    Positives,
    Within,
)

#: How much the alignment of the kernel gains at least at the largest gamma_0.
GAIN = 0.05
#: Claims on exponents in gamma_0, and the quantities that they are about.
QUANTITIES: dict[str, Literal["gap", "movement"]] = {
    "lazy-rate": "gap",
    "movement-rate": "movement",
}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        gammas: richnesses, increasing; the first two are in the lazy regime.
        layers: L.
        per_class: digits of each of the two classes.
        steps: evaluations.
        eta0: learning rate.
        beta0: branch multiplier.
    """

    gammas: Annotated[Positives, Increasing(), Entries(2)] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    layers: Count = 2
    per_class: Annotated[int, Within(1, DIGITS_PER_CLASS)] = 3
    steps: Count = 20
    eta0: Positive = 0.1
    beta0: Positive = 1.0

    def problem(self, gamma0: float) -> limits.dmft.TrainingDynamics:
        """Training at one richness."""
        inputs, targets = two_digits(self.per_class)
        return limits.dmft.TrainingDynamics(
            architecture=limits.dmft.Architecture(
                head_dim=math.inf, layers=self.layers, beta0=self.beta0, gamma0=gamma0
            ),
            inputs=inputs,
            targets=targets,
            steps=self.steps,
            eta0=self.eta0,
        )


@dataclass(frozen=True)
class Training(ex.Arrays):
    """What is learned at every richness."""

    gamma0: Float[np.ndarray, " gamma0"]
    loss: Float[np.ndarray, "gamma0 step"]
    gap: Annotated[Float[np.ndarray, " gamma0"], "distance from the lazy limit"]
    movement: Annotated[Float[np.ndarray, " gamma0"], "feature movement"]
    alignment: Float[np.ndarray, "gamma0 step"]


def compute_training(config: Config, at: ex.Alone, keys: ex.Keys) -> Training:
    """Loss, distance from the lazy limit, movement and alignment."""
    del at, keys
    loss, gap, movement, alignment = [], [], [], []
    for gamma0 in config.gammas:
        problem = config.problem(gamma0)
        solution = core.solve(problem)
        lazy = limits.dmft.lazy_predictions(
            solution.ntk[0], solution.targets, steps=config.steps, eta0=config.eta0
        )
        loss.append(solution.loss)
        gap.append(np.max(np.abs(solution.predictions - lazy)))
        movement.append(np.mean(solution.movement(config.layers)[-1]))
        alignment.append([_alignment(kernel, solution.targets) for kernel in solution.ntk])
    return Training(np.array(config.gammas), *map(np.array, (loss, gap, movement, alignment)))


def _alignment(
    kernel: Float[np.ndarray, "inputs inputs"], targets: Float[np.ndarray, " inputs"]
) -> float:
    """Y^T K y / (|y|^2 |K|) with the Frobenius norm."""
    return float(targets @ kernel @ targets / (targets @ targets * np.linalg.norm(kernel)))


def _cost(config: Config, at: ex.Alone) -> ex.Cost:
    """One compilation, and the coefficient rows."""
    del at
    history = config.steps * 8 * config.per_class
    return ex.Cost(5.0 + 8e-9 * len(config.gammas) * config.layers**2 * history**3)


TRAINING = ex.Part("training", Training, compute_training, grid=ex.alone, cost=_cost)


def _exponent(found: ex.Found[Config], quantity: Literal["gap", "movement"]) -> Estimate:
    """The exponent in gamma_0 between the two smallest; those of the first two are one error."""
    data = found(TRAINING)
    values = getattr(data, quantity)
    slopes = np.diff(np.log(values)) / np.diff(np.log(data.gamma0))
    # The next power of gamma_0 bends the slope: it has moved by so much between two pairs.
    bend = abs(slopes[1] - slopes[0]) if len(slopes) > 1 else 0.0
    return Estimate(float(slopes[0]), discretisation=float(bend / 3))


def _gain(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """What the alignment loses at the largest gamma_0: minus what it gains."""
    del at
    row = found(TRAINING).alignment[-1]
    return Estimate(float(row[0] - row[-1]))


def _lazy_gain(found: ex.Found[Config], at: ex.Alone) -> float:
    """The same at the smallest gamma_0."""
    del at
    row = found(TRAINING).alignment[0]
    return float(row[0] - row[-1])


RATES = ex.Claims(
    "{name}",
    lambda found, name: (
        "The distance of predictions from the lazy limit vanishes like $\\gamma_0^2$."
        if name == "lazy-rate"
        else "So does the movement of the last features, "
        "$\\langle (h(t) - h(0))^2 \\rangle / \\langle h(0)^2 \\rangle$."
    ),
    estimate=lambda found, name: _exponent(found, QUANTITIES[name]),
    prediction=2.0,
    tol=0.05,
    over=lambda c: tuple(QUANTITIES),
    rivals=(
        ex.Rival("of first order, exponent 1", 1.0),
        ex.Rival("exponent 3/2", 1.5),
        ex.Rival("exponent 2.2", 2.2),
        ex.Rival("of the next even order, exponent 4", 4.0),
    ),
)
ALIGNMENT = ex.Claims(
    "alignment",
    lambda found, at: (
        f"At $\\gamma_0 = {found.config.gammas[-1]:g}$ the tangent kernel aligns "
        "with the targets: the gain of $y^\\top K y / (|y|^2 \\|K\\|)$ is at least "
        f"{GAIN:g} (compared with a minus sign)."
    ),
    estimate=_gain,
    prediction=-GAIN,
    tol=0.005,
    over=ex.alone,
    one_sided=True,
    rivals=(
        ex.Rival("a kernel that keeps that of the start", 0.0),
        ex.Rival("the gain of the smallest $\\gamma_0$", _lazy_gain),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    data = found(TRAINING)
    columns = (data.gamma0, data.gap, data.movement, data.loss, data.alignment)
    for gamma0, gap, movement, losses, alignments in zip(*columns, strict=True):
        for t, (loss, alignment) in enumerate(zip(losses, alignments, strict=True)):
            yield (float(gamma0), t, float(loss), float(alignment), float(gap), float(movement))


RICHNESS = ex.Figure(
    name="richness",
    title="Loss and kernel alignment from lazy to rich",
    caption="Infinitely many heads of infinite dimension on digits of two classes; "
    "nothing is sampled and there are no errors.",
    columns=("gamma0", "updates", "loss", "alignment", "distance from lazy", "movement"),
    rows=_rows,
    x="updates",
    by="gamma0",
    layers=(
        figures.panel(
            "loss", figures.line("loss", label="$\\gamma_0$ = {}"), ylabel="loss", log="y"
        ),
        figures.panel(
            "tangent kernel", figures.line("alignment", label=""), ylabel="alignment with $y y^T$"
        ),
    ),
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-rich-and-lazy",
    title="What the infinite network learns, from lazy to rich",
    question="What does the infinite network learn, from lazy to rich?",
    summary="With infinitely many heads of infinite dimension, training at any richness "
    "$\\gamma_0$ is linear algebra. As $\\gamma_0 \\to 0$ it is the lazy limit with an error of "
    "order $\\gamma_0^2$; at $\\gamma_0$ of order one the kernel turns towards the targets.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(per_class=2, steps=12),
        "standard": Config(),
        "paper": Config(per_class=4, steps=40),
    },
    parts=(TRAINING,),
    claims=(RATES, ALIGNMENT),
    figures=(RICHNESS,),
    finding=ex.Finding(
        "Predictions leave the lazy limit like a power of $\\gamma_0$ with the exponent {0}, and "
        "at the largest $\\gamma_0$ the tangent kernel gains an alignment of {1:negated}",
        ("lazy-rate", "alignment"),
    ),
)
