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
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: How much the alignment of the kernel gains at least at the largest gamma_0.
GAIN = 0.05


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


def _exponent(gammas: np.ndarray, values: np.ndarray) -> Estimate:
    """The exponent in gamma_0 between the two smallest."""
    return Estimate(float(np.log(values[1] / values[0]) / np.log(gammas[1] / gammas[0])))


def _gap_rate(found: ex.Found[Config]) -> Estimate:
    data = found(TRAINING)
    return _exponent(data.gamma0, data.gap)


def _movement_rate(found: ex.Found[Config]) -> Estimate:
    data = found(TRAINING)
    return _exponent(data.gamma0, data.movement)


def _gain(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """What the alignment gains at the largest gamma_0, at most what is asked for."""
    del at
    row = found(TRAINING).alignment[-1]
    return Estimate(min(float(row[-1] - row[0]), GAIN))


LAZY_RATE = ex.claim(
    "lazy-rate",
    "The distance of predictions from the lazy limit vanishes like $\\gamma_0^2$.",
    _gap_rate,
    prediction=2.0,
    tol=0.1,
)
MOVEMENT_RATE = ex.claim(
    "movement-rate",
    "So does the movement of the last features, "
    "$\\langle (h(t) - h(0))^2 \\rangle / \\langle h(0)^2 \\rangle$.",
    _movement_rate,
    prediction=2.0,
    tol=0.1,
)
ALIGNMENT = ex.Claims(
    "alignment",
    lambda found, at: (
        f"At $\\gamma_0 = {found.config.gammas[-1]:g}$ the tangent kernel aligns "
        "with the targets: the gain of $y^\\top K y / (|y|^2 \\|K\\|)$ is at least "
        f"{GAIN:g}."
    ),
    estimate=_gain,
    prediction=GAIN,
    tol=0.005,
    over=ex.alone,
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    data = found(TRAINING)
    columns = (data.gamma0, data.loss[:, -1], data.gap, data.movement, data.alignment[:, -1])
    for row in zip(*columns, strict=True):
        yield tuple(map(float, row))


def _draw(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    """Loss and alignment along training, for every richness."""
    del table
    data = found(TRAINING)
    left, right = canvas.subplots(1, 2)
    steps = np.arange(found.config.steps)
    for i, gamma0 in enumerate(found.config.gammas):
        style = figures.marked(i, len(steps))
        left.plot(steps, data.loss[i], label=f"$\\gamma_0 = {gamma0:g}$", **style)
        right.plot(steps, data.alignment[i], **style)
    left.set_yscale("log")
    figures.finish(left, xlabel="updates", ylabel="loss")
    figures.finish(right, xlabel="updates", ylabel="alignment of the kernel with $y y^T$")


RICHNESS = ex.Figure(
    name="richness",
    title="Loss and kernel alignment from lazy to rich",
    caption="Infinitely many heads of infinite dimension on digits of two classes; "
    "nothing is sampled and there are no errors.",
    columns=("gamma0", "last loss", "distance from lazy", "movement", "last alignment"),
    rows=_rows,
    draw=_draw,
    shown=lambda found, table: len(table.rows),
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-rich-and-lazy",
    title="What the infinite network learns, from lazy to rich",
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
    claims=(LAZY_RATE, MOVEMENT_RATE, ALIGNMENT),
    figures=(RICHNESS,),
)
