r"""Rich and lazy under cross-entropy: what an infinite network learns of classes as gamma_0 varies.

Infinite heads of infinite dimension: nothing is sampled. As gamma_0 -> 0 outputs follow the kernel
of the start, f(t + 1) - f(t) = eta_0 K Delta(f(t)), with an error of order gamma_0^2, and features
move by that much in the square. But under cross-entropy outputs of data that can be told apart grow
without end, and features by gamma_0 |f|: none stays lazy for ever, unless labels are smoothed.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.bordelon2024.tasks import digit_classes
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
        gammas: richnesses, increasing; the first three are in the lazy regime.
        layers: L.
        classes: the first digits.
        per_class: digits of each class.
        steps: evaluations.
        long: evaluations of the runs at the smallest gamma_0 that are followed for long.
        eta0: learning rate.
        long_eta0: of the long runs.
        beta0: branch multiplier.
        smoothing: of labels, where they are smoothed.
    """

    gammas: Annotated[Positives, Increasing(), Entries(3)] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    layers: Count = 2
    classes: Annotated[int, Within(2, 10)] = 3
    per_class: Annotated[int, Within(1, 100)] = 2
    steps: Annotated[int, Within(3)] = 16
    long: Annotated[int, Within(4)] = 60
    eta0: Positive = 0.4
    long_eta0: Positive = 4.0
    beta0: Positive = 1.0
    smoothing: Annotated[float, Within(0, 1, above=True, below=True)] = 0.2

    def loss(self, smoothed: bool) -> limits.dmft.CrossEntropy:
        """Cross-entropy, of smoothed labels or not."""
        return limits.dmft.CrossEntropy(smoothing=self.smoothing if smoothed else 0.0)

    def problem(
        self, gamma0: float, *, long: bool = False, smoothed: bool = False
    ) -> limits.dmft.TrainingDynamics:
        """Training at one richness."""
        inputs, labels = digit_classes(self.per_class, self.classes)
        return limits.dmft.TrainingDynamics(
            architecture=limits.dmft.Architecture(
                head_dim=math.inf,
                layers=self.layers,
                beta0=self.beta0,
                gamma0=gamma0,
                norm="rms",
            ),
            inputs=inputs,
            targets=labels,
            loss=self.loss(smoothed),
            steps=self.long if long else self.steps,
            eta0=self.long_eta0 if long else self.eta0,
        )


@dataclass(frozen=True)
class Training(ex.Arrays):
    """What is learned at every richness, labels as they are."""

    gamma0: Float[np.ndarray, " gamma0"]
    loss: Float[np.ndarray, "gamma0 step"]
    gap: Annotated[Float[np.ndarray, " gamma0"], "distance from the lazy limit"]
    movement: Annotated[Float[np.ndarray, " gamma0"], "feature movement"]
    alignment: Annotated[Float[np.ndarray, "gamma0 step"], "of pooled features with the classes"]


@dataclass(frozen=True)
class Long(ex.Arrays):
    """A long run at the smallest richness."""

    outputs: Annotated[Float[np.ndarray, " step"], "rms output"]
    movement: Annotated[Float[np.ndarray, " step"], "rms movement of features over gamma_0"]


@dataclass(frozen=True)
class Labels:
    """How labels are given.

    Attributes:
        labels: "plain" or "smoothed".
    """

    labels: Literal["plain", "smoothed"]


def compute_training(config: Config, at: ex.Alone, keys: ex.Keys) -> Training:
    """Loss, distance from the lazy limit, movement and alignment."""
    del at, keys
    labels = digit_classes(config.per_class, config.classes)[1]
    loss, gap, movement, alignment = [], [], [], []
    for gamma0 in config.gammas:
        solution = core.solve(config.problem(gamma0))
        lazy = limits.dmft.lazy_predictions(
            solution.ntk[0],
            labels,
            steps=config.steps,
            eta0=config.eta0,
            loss=config.loss(smoothed=False),
            classes=config.classes,
        )
        loss.append(solution.loss)
        gap.append(np.max(np.abs(solution.predictions - lazy)))
        movement.append(np.mean(solution.movement(config.layers)[-1]))
        kernel = solution.kernel(config.layers).mean(axis=(2, 5))
        alignment.append([_alignment(kernel[t, :, t], labels) for t in range(config.steps)])
    return Training(np.array(config.gammas), *map(np.array, (loss, gap, movement, alignment)))


def compute_long(config: Config, at: Labels, keys: ex.Keys) -> Long:
    """Outputs and movement along a long run."""
    del keys
    gamma0 = config.gammas[0]
    solution = core.solve(config.problem(gamma0, long=True, smoothed=at.labels == "smoothed"))
    moved = np.sqrt(np.maximum(solution.movement(config.layers).mean(axis=(1, 2)), 0))
    outputs = np.sqrt(np.mean(solution.predictions**2, axis=(1, 2)))
    return Long(outputs=outputs, movement=moved / gamma0)


def _alignment(kernel: Float[np.ndarray, "inputs inputs"], labels: np.ndarray) -> float:
    """<C, Y> / (|C| |Y|), C the centred kernel and Y that of centred one-hot labels."""
    centre = np.eye(len(labels)) - 1 / len(labels)
    same = centre @ (labels[:, None] == labels).astype(float) @ centre
    own = centre @ kernel @ centre
    return float(np.sum(own * same) / (np.linalg.norm(own) * np.linalg.norm(same)))


def _cost(runs: int, steps: int, config: Config) -> ex.Cost:
    """A compilation, and the coefficient rows."""
    history = steps * 4 * config.per_class * config.classes
    return ex.Cost(8.0 + 8e-9 * runs * config.layers**2 * history**3, 7e8 + 800.0 * history**2)


TRAINING = ex.Part(
    "training",
    Training,
    compute_training,
    grid=ex.alone,
    cost=lambda c, at: _cost(len(c.gammas), c.steps, c),
)


def _labels(config: Config) -> Sequence[Labels]:
    del config
    return [Labels("plain"), Labels("smoothed")]


LONG = ex.Part(
    "long/{labels}", Long, compute_long, grid=_labels, cost=lambda c, at: _cost(1, c.long, c)
)


def _exponent(found: ex.Found[Config], quantity: Literal["gap", "movement"]) -> Estimate:
    """The exponent as gamma_0 goes to zero, from the three smallest; the next three tell its error.

    y = gamma^p (1 + c gamma^2) has the slope p + c w between a and b, w = (b^2 - a^2) / ln(b / a).
    """
    data = found(TRAINING)
    steps = np.diff(np.log(data.gamma0))
    slopes, w = np.diff(np.log(getattr(data, quantity))) / steps, np.diff(data.gamma0**2) / steps
    ends = slopes[:-1] - w[:-1] * np.diff(slopes) / np.diff(w)
    # What is left of the fourth power is at least four times as much one richness further.
    left = abs(ends[1] - ends[0]) / 3 if len(ends) > 1 else abs(slopes[0] - ends[0])
    return Estimate(float(ends[0]), discretisation=float(left))


def _loss_of(row: int, found: ex.Found[Config]) -> float:
    """What the alignment loses at a gamma_0: minus what it gains."""
    alignment = found(TRAINING).alignment[row]
    return float(alignment[0] - alignment[-1])


def _growth(found: ex.Found[Config], labels: Literal["plain", "smoothed"]) -> float:
    """By how much outputs grow over the second half of a long run, relative to its middle."""
    outputs = found(LONG, Labels(labels)).outputs
    return float(outputs[-1] / outputs[len(outputs) // 2] - 1)


def _follows(found: ex.Found[Config]) -> Estimate:
    """The exponent of rms movement in rms outputs over the second half of the plain long run."""
    data = found(LONG, Labels("plain"))
    steps = len(data.outputs)
    places = [steps // 2, 3 * steps // 4, steps - 1]
    x, y = np.log(data.outputs[places]), np.log(data.movement[places])
    early, late = np.diff(y) / np.diff(x)
    whole = (y[2] - y[0]) / (x[2] - x[0])
    return Estimate(float(whole), discretisation=float(abs(late - early) / 2))


RATES = ex.Claims(
    "{name}",
    lambda found, name: (
        "The distance of outputs from the lazy limit vanishes like $\\gamma_0^2$."
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
        f"At $\\gamma_0 = {found.config.gammas[-1]:g}$ pooled features align with the classes: "
        f"the centred kernel alignment gains at least {GAIN:g} (compared with a minus sign)."
    ),
    estimate=lambda found, at: Estimate(_loss_of(-1, found)),
    prediction=-GAIN,
    tol=0.005,
    over=ex.alone,
    one_sided=True,
    rivals=(
        ex.Rival("features that do not move", 0.0),
        ex.Rival[Config, ex.Alone](
            "the gain of the smallest $\\gamma_0$", lambda found, at: _loss_of(0, found)
        ),
    ),
)
ENDLESS = ex.Claims(
    "endless",
    lambda found, at: (
        f"Outputs at $\\gamma_0 = {found.config.gammas[0]:g}$ grow by at least a fifth over the "
        "second half of a long run (compared with a minus sign)."
    ),
    estimate=lambda found, at: Estimate(-_growth(found, "plain")),
    prediction=-0.2,
    tol=0.0,
    over=ex.alone,
    one_sided=True,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "smoothed labels, whose outputs have an optimum",
            lambda found, at: -_growth(found, "smoothed"),
        ),
        ex.Rival("outputs at an end", 0.0),
    ),
)
FOLLOWS = ex.claim(
    "movement-of-outputs",
    "Meanwhile features move in proportion to outputs, $\\gamma_0 |f|$: exponent of the rms "
    "movement in the rms output.",
    _follows,
    prediction=1.0,
    tol=0.15,
    rivals=(
        ex.Rival("features that have come to rest", 0.0),
        ex.Rival("as the square of outputs", 2.0),
        ex.Rival("as the root of outputs", 0.5),
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
    title="Cross-entropy and alignment from lazy to rich",
    caption="Infinitely many heads of infinite dimension on digits of {classes} classes; "
    "nothing is sampled and there are no errors.",
    columns=("gamma0", "updates", "loss", "alignment", "distance from lazy", "movement"),
    rows=_rows,
    x="updates",
    by="gamma0",
    layers=(
        figures.panel("loss", figures.line("loss", label="$\\gamma_0$ = {}"), ylabel="loss"),
        figures.panel(
            "features", figures.line("alignment", label=""), ylabel="alignment with classes"
        ),
    ),
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-rich-classes",
    title="Classes in the infinite network under cross-entropy, from lazy to rich",
    question="The same under cross-entropy: is lazy training lazy for ever?",
    summary="With infinitely many heads of infinite dimension, training under cross-entropy at any "
    "richness $\\gamma_0$ is linear algebra. As $\\gamma_0 \\to 0$ it is lazy with an error of "
    "order $\\gamma_0^2$, but not for ever: outputs grow without end unless labels are smoothed, "
    "and features move in proportion.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(steps=12, long=32),
        "standard": Config(),
        "paper": Config(per_class=4, steps=24, long=60),
    },
    parts=(TRAINING, LONG),
    claims=(RATES, ALIGNMENT, ENDLESS, FOLLOWS),
    figures=(RICHNESS,),
    finding=ex.Finding(
        "Outputs leave the lazy limit like a power of $\\gamma_0$ with the exponent {0}, and in a "
        "long run features move like a power of the outputs with the exponent {1}",
        ("lazy-rate", "movement-of-outputs"),
    ),
)
