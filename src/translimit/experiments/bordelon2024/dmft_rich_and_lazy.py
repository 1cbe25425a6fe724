r"""Rich and lazy: what an infinite network learns as gamma_0 varies.

Infinite heads of infinite dimension: nothing is sampled, and one compiled program serves every
gamma_0. The lazy limit gamma_0 -> 0 is known: f(t + 1) - f(t) = eta_0 K Delta(t) with the kernel
of the start. At gamma_0 > 0 features move, and the kernel aligns with the targets.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, figures, limits
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.bordelon2024.tasks import DIGITS_PER_CLASS, REFERENCE, two_digits
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
    import xarray as xr


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


class RichAndLazy(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """One compilation, and the coefficient rows."""
        history = config.steps * 8 * config.per_class
        return Cost(5.0 + 8e-9 * len(config.gammas) * config.layers**2 * history**3)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One: all richnesses share a program."""
        return (Cell("training"),)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """What is checked."""
        return ("lazy-rate", "movement-rate", "alignment")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Loss, distance from the lazy limit, movement and alignment."""
        import xarray as xr

        inputs, targets = two_digits(config.per_class)
        rows: dict[str, list[Any]] = {"loss": [], "gap": [], "movement": [], "alignment": []}
        for gamma0 in config.gammas:
            problem = limits.dmft.TrainingDynamics(
                architecture=limits.dmft.Architecture(
                    head_dim=math.inf, layers=config.layers, beta0=config.beta0, gamma0=gamma0
                ),
                inputs=inputs,
                targets=targets,
                steps=config.steps,
                eta0=config.eta0,
            )
            solution = core.solve(problem)
            lazy = limits.dmft.lazy_predictions(
                solution.ntk[0], targets, steps=config.steps, eta0=config.eta0
            )
            rows["loss"].append(solution.loss)
            rows["gap"].append(np.max(np.abs(solution.predictions - lazy)))
            rows["movement"].append(np.mean(solution.movement(config.layers)[-1]))
            rows["alignment"].append([_alignment(kernel, targets) for kernel in solution.ntk])
        return xr.Dataset(
            {
                "loss": (("gamma0", "step"), rows["loss"]),
                "gap": (("gamma0",), rows["gap"], {"long_name": "distance from the lazy limit"}),
                "movement": (("gamma0",), rows["movement"], {"long_name": "feature movement"}),
                "alignment": (("gamma0", "step"), rows["alignment"]),
            },
            coords={"gamma0": list(config.gammas)},
            attrs={"reference": REFERENCE},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Both vanish like gamma_0^2; the rich kernel aligns."""
        data = results["training"]
        gap, movement = (_first_exponent(config, data[name].values) for name in ("gap", "movement"))
        gain = float(data["alignment"].values[-1, -1] - data["alignment"].values[-1, 0])
        return [
            Claim(
                name="lazy-rate",
                statement="The distance of predictions from the lazy limit vanishes like "
                "$\\gamma_0^2$.",
                prediction=2.0,
                estimate=Estimate(gap),
                tol=0.1,
                reference=REFERENCE,
            ),
            Claim(
                name="movement-rate",
                statement="So does the movement of the last features, "
                "$\\langle (h(t) - h(0))^2 \\rangle / \\langle h(0)^2 \\rangle$.",
                prediction=2.0,
                estimate=Estimate(movement),
                tol=0.1,
                reference=REFERENCE,
            ),
            Claim(
                name="alignment",
                statement=f"At $\\gamma_0 = {config.gammas[-1]:g}$ the tangent kernel aligns with "
                "the targets: the gain of $y^\\top K y / (|y|^2 \\|K\\|)$ is at least 0.05.",
                prediction=0.05,
                estimate=Estimate(min(gain, 0.05)),
                tol=0.005,
                reference=REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Loss and alignment for every richness."""
        data = results["training"]

        def draw(figure: Any) -> None:
            left, right = figure.subplots(1, 2)
            steps = np.arange(config.steps)
            for i, gamma0 in enumerate(config.gammas):
                place = i % len(figures.COLOURS)
                style: Any = {"color": figures.COLOURS[place], "ls": figures.DASHES[place]}
                label = f"$\\gamma_0 = {gamma0:g}$"
                left.plot(steps, data["loss"].values[i], label=label, **style)
                right.plot(steps, data["alignment"].values[i], **style)
            left.set_yscale("log")
            figures.finish(left, xlabel="updates", ylabel="loss")
            figures.finish(right, xlabel="updates", ylabel="alignment of the kernel with $y y^T$")

        rows = [
            (
                gamma0,
                float(data["loss"].values[i, -1]),
                float(data["gap"].values[i]),
                float(data["movement"].values[i]),
                float(data["alignment"].values[i, -1]),
            )
            for i, gamma0 in enumerate(config.gammas)
        ]
        names = ("gamma0", "last loss", "distance from lazy", "movement", "last alignment")
        return [
            FigureSpec(
                name="richness",
                title="Loss and kernel alignment from lazy to rich",
                caption="Infinitely many heads of infinite dimension on digits of two classes; "
                "nothing is sampled and there are no errors.",
                draw=draw,
                table=Table(names, tuple(rows)),
                shown=len(rows),
                size=(9.0, 4.0),
            )
        ]


def _first_exponent(config: Config, values: np.ndarray) -> float:
    """The exponent in gamma_0 between the two smallest."""
    low, high = config.gammas[:2]
    return float(np.log(values[1] / values[0]) / np.log(high / low))


def _alignment(kernel: np.ndarray, targets: np.ndarray) -> float:
    """Y^T K y / (|y|^2 |K|) with the Frobenius norm."""
    return float(targets @ kernel @ targets / (targets @ targets * np.linalg.norm(kernel)))


EXPERIMENT = RichAndLazy(
    name="bordelon2024/dmft-rich-and-lazy",
    title="What the infinite network learns, from lazy to rich",
    summary="With infinitely many heads of infinite dimension, training at any richness "
    "$\\gamma_0$ is linear algebra. As $\\gamma_0 \\to 0$ it is the lazy limit with an error of "
    "order $\\gamma_0^2$; at $\\gamma_0$ of order one the kernel turns towards the targets.",
    citations=("bordelon2024", "jax"),
    presets={
        "demo": Config(per_class=2, steps=12),
        "standard": Config(),
        "paper": Config(per_class=4, steps=40),
    },
)
