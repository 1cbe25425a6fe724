r"""Depth: attention is learned at alpha_L = 1 and freezes at alpha_L = 1/2.

Infinite heads of infinite dimension, so that nothing is sampled: every number is exact for its
depth.

- `depth/L=...`: training at alpha_L = 1 and at alpha_L = 1/2 with L layers.
- `ode`: the depth ODE of alpha_L = 1, extrapolated in its cells.

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
from translimit.experiments.checked import CheckedConfig, Count, Doubled, Positive, Within

if TYPE_CHECKING:
    import xarray as xr

ALPHAS = (1.0, 0.5)


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

    layers: Doubled = (16, 32, 64, 128)
    cells: Annotated[int, Within(2)] = 64
    per_class: Annotated[int, Within(1, DIGITS_PER_CLASS)] = 1
    steps: Count = 6
    eta0: Positive = 0.05
    beta0: Positive = 1.0
    gamma0: Positive = 2.0

    def problem(self, layers: int | float, alpha_L: float) -> Any:
        """Training at one depth."""
        inputs, targets = two_digits(self.per_class)
        return limits.dmft.TrainingDynamics(
            architecture=limits.dmft.Architecture(
                head_dim=math.inf,
                layers=layers if math.isinf(layers) else int(layers),
                alpha_L=alpha_L,
                beta0=self.beta0,
                gamma0=self.gamma0,
            ),
            inputs=inputs,
            targets=targets,
            steps=self.steps,
            eta0=self.eta0,
        )


class Depth(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and the square of the history of the deepest stream."""
        layers = cell.parameters.get("layers", config.cells)
        return Cost(2.0 + 5e-5 * (layers * config.steps) ** 2)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The ODE, and every depth."""
        return (Cell("ode"), *(Cell(f"depth/L={n}", {"layers": n}) for n in config.layers))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """What is checked."""
        return ("ode", "learned", "frozen")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Predictions, and the logits in the middle of the network."""
        import xarray as xr

        if cell.name == "ode":
            method = limits.dmft.LinearAlgebra(cells=config.cells)
            solution = core.solve(config.problem(math.inf, 1.0), method)
            return xr.Dataset(
                {
                    "predictions": (("step", "sample"), solution.predictions),
                    "discretisation": (("step", "sample"), solution.cell_error),
                },
                attrs={"reference": REFERENCE},
            )
        layers = cell.parameters["layers"]
        solved = [core.solve(config.problem(layers, alpha)) for alpha in ALPHAS]
        logits = [s.score_law(layers // 2).mean for s in solved]
        rms = [np.sqrt(np.mean(one**2, axis=(1, 2, 3))) for one in logits]
        return xr.Dataset(
            {
                "predictions": (("alpha_L", "step", "sample"), [s.predictions for s in solved]),
                "logit_rms": (("alpha_L", "step"), rms),
            },
            coords={"alpha_L": list(ALPHAS)},
            attrs={"reference": REFERENCE, "layers": layers},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Layers tend to the ODE; attention moves, or freezes."""
        f = {n: results[f"depth/L={n}"]["predictions"].values for n in config.layers}
        ode = results["ode"]
        finest = config.layers[-1]
        once = {n: 2 * f[n][0] - f[n // 2][0] for n in config.layers[1:]}
        twice = (4 * once[finest] - once[finest // 2]) / 3
        gap = np.abs(twice - ode["predictions"].values)
        worst = np.unravel_index(np.argmax(gap), gap.shape)
        errors = np.abs(twice - once[finest])[worst], ode["discretisation"].values[worst]
        rms = np.array(_logits(config, results, 0))
        limit = 2 * rms[1:] - rms[:-1]
        frozen = np.array(_logits(config, results, 1))
        rates = np.log2(frozen[1:] / frozen[:-1])
        rate = 2 * rates[-1] - rates[-2]
        return [
            Claim(
                name="ode",
                statement="At $\\alpha_L = 1$ layers, extrapolated in $1/L$, give the predictions "
                "of the depth ODE (largest difference).",
                prediction=0.0,
                estimate=Estimate(float(gap.max()), discretisation=float(max(errors))),
                tol=0.002,
                reference=REFERENCE,
            ),
            Claim(
                name="learned",
                statement="At $\\alpha_L = 1$ the learned logits in the middle of the network tend "
                "to a limit: $2 A(2L) - A(L)$ from the last two pairs of depths agree (relative).",
                prediction=0.0,
                estimate=Estimate(float(limit[-1] / limit[-2] - 1)),
                tol=0.05,
                reference=REFERENCE,
            ),
            Claim(
                name="frozen",
                statement="At $\\alpha_L = 1/2$ they fall like $1/L$ (exponents of the last two "
                "pairs, extrapolated in $1/L$).",
                prediction=-1.0,
                estimate=Estimate(float(rate), discretisation=float(abs(rate - rates[-1]))),
                tol=0.1,
                reference=REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Logits against depth."""
        values = np.array([_logits(config, results, i) for i in range(2)])

        def draw(figure: Any) -> None:
            ax = figure.subplots()
            for i, alpha in enumerate(ALPHAS):
                label = f"$\\alpha_L = {alpha:g}$"
                marker, colour = figures.MARKERS[i], figures.COLOURS[i]
                ax.plot(config.layers, values[i], marker, color=colour, label=label)
            line = values[1][0] * config.layers[0] / np.array(config.layers)
            ax.plot(config.layers, line, color=figures.LIMIT, label="predicted rate −1")
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xticks(config.layers, [str(n) for n in config.layers])
            ax.minorticks_off()
            figures.finish(ax, xlabel="layers $L$", ylabel="rms logit in the middle")

        rows = [(n, *map(float, column)) for n, column in zip(config.layers, values.T, strict=True)]
        return [
            FigureSpec(
                name="attention",
                title="Learned attention against depth",
                caption=f"Rms logit of layer $L/2$ after {config.steps - 1} updates; infinitely "
                "many heads of infinite dimension, where logits start at zero. No errors: nothing "
                "is sampled.",
                draw=draw,
                table=Table(("layers", *(f"alpha_L = {a:g}" for a in ALPHAS)), tuple(rows)),
                shown=len(config.layers),
            )
        ]


def _logits(config: Config, results: Results, index: int) -> list[float]:
    """Rms logits at the end, depth by depth."""
    return [float(results[f"depth/L={n}"]["logit_rms"].values[index, -1]) for n in config.layers]


EXPERIMENT = Depth(
    name="bordelon2024/dmft-depth",
    title="Attention along infinite depth",
    summary="With infinitely many heads of infinite dimension training is linear algebra. At "
    "$\\alpha_L = 1$ layers tend to an ODE in depth and attention is learned; at "
    "$\\alpha_L = 1/2$ what attention learns vanishes like $1/L$.",
    citations=("bordelon2024", "jax"),
    presets={
        "demo": Config(layers=(16, 32, 64), cells=32),
        "standard": Config(),
        "paper": Config(layers=(16, 32, 64, 128, 256), steps=10),
    },
)
