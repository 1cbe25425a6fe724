r"""A mean effect and noise at once: the equation with drift, as printed and as corrected.

One of two heads that are far apart is drawn for every layer, so that heads have a mean, and a
fluctuation whose covariance is no multiple of the identity; alpha is of the order of the step.
Cells, one for every residual step: three tokens in R^3 to paper time 1, the mean overlap of chains
and of paths of the equation in both forms.

The printed equation lacks two drifts of the order of the step: of the mean, -step <x, B-bar> b, and
of the noise, -(step / heads) E <x, xi> P_x xi. With both it is right to second order.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits, models, observe
from translimit.core import Claim, Estimate, Retraction
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Steps, Within
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    import xarray as xr

#: Tokens (rows are normalised).
ROWS = ((1.0, 0.2, 0.0), (0.3, 1.0, 0.4), (-0.2, 0.1, 1.0))
#: The heads: values MEAN + OTHER with the identity as scores, MEAN - OTHER with TURN.
MEAN = ((1.0, 0.3, 0.0), (-0.2, 0.8, 0.1), (0.0, 0.4, 0.6))
OTHER = ((1.2, -0.6, 0.2), (0.4, 0.9, -0.8), (-0.7, 0.5, 1.1))
TURN = ((1.0, 0.5, 0.0), (-0.5, 1.0, 0.3), (0.0, 0.2, -1.0))
#: Largest step of the equation, in paper time.
EULER_STEP = 0.05
FORMS = ("printed", "corrected")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        steps: residual steps of the chain, 1 over an integer, decreasing, at least two.
        replicas: chains of every step, and paths of every equation, at least 1000.
    """

    steps: Steps = (0.2, 0.1)
    replicas: Annotated[int, Within(1000)] = 60_000


class DriftAndNoise(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and steps times paths."""
        work = 2 / EULER_STEP + 0.3 / cell.parameters["step"]
        return Cost(20.0 + 6e-6 * config.replicas * work)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for every residual step."""
        return tuple(Cell(f"step={step:g}", {"step": step}) for step in config.steps)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return ("order-printed", "order-corrected")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell, in single precision."""
        import xarray as xr

        step = float(cell.parameters["step"])
        mean, other = np.array(MEAN), np.array(OTHER)
        law = describe.FiniteHeads(
            V=np.stack([mean + other, mean - other]),
            A=np.stack([np.eye(3), np.array(TURN)]),
            beta=1.0,
        )
        start = np.array(ROWS, dtype=np.float32)
        start /= np.linalg.norm(start, axis=1, keepdims=True)
        chain = models.RandomHeadChain(law=law, step=step, heads=1, layers=round(1.0 / step))
        states = chain.simulate(start, replicas=config.replicas, key=core.named_key(key, "chain"))
        values = [observe.mean_overlap(states.tokens[:, -1])]
        method = limits.homogenized.SphereEuler(max_step=EULER_STEP, paths=config.replicas)
        # The printed equation is the one of the tangent chain.
        retractions = (Retraction.TANGENT, Retraction.AMBIENT)
        for form, retraction in zip(FORMS, retractions, strict=True):
            problem = limits.homogenized.ModifiedSDE(
                law=law, initial=start, t1=1.0, step=step, heads=1, retraction=retraction
            )
            solution = core.solve(problem, method, key=core.named_key(key, form), save=[1.0])
            values.append(observe.mean_overlap(solution.tokens[:, 0]))
        means, stderrs = common.mean_and_stderr(np.array(values), axis=1)
        return xr.Dataset(
            {
                "mean": ("system", means, {"long_name": "mean overlap", "units": "1"}),
                "stderr": ("system", stderrs, {"long_name": "its standard error", "units": "1"}),
            },
            coords={"system": ["chain", *FORMS]},
            attrs={"step": step, "reference": common.REFERENCE},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The order of both forms between the two smallest steps."""
        what = {
            "printed": "as printed",
            "corrected": r"with $-\eta\langle x, \bar B\rangle b$ and the drift of the noise",
        }
        return [
            Claim(
                name=f"order-{form}",
                statement=f"With noise of size $\\alpha \\sim \\eta$ beside a drift, the equation "
                f"{what[form]} meets the mean overlap of the printed chain to second order.",
                prediction=2.0,
                estimate=_order(config, results, form),
                tol=0.4,
                reference=common.REFERENCE,
                printed=r"$\eta\max(\eta, \alpha)$ for the stochastic equation with modified drift",
            )
            for form in FORMS
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Gaps against steps."""
        return [_figure(config, results)]


def _gaps(config: Config, results: Results, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean overlap of the chain minus that of a form of the equation, and standard errors."""
    rows = []
    for step in config.steps:
        data = results[f"step={step:g}"].sel(system=["chain", form])
        mean, stderr = data["mean"].values, data["stderr"].values
        rows.append((mean[0] - mean[1], math.hypot(*stderr)))
    gaps, stderrs = np.array(rows).T
    return gaps, stderrs


def _order(config: Config, results: Results, form: str) -> Estimate:
    gap, stderr = (one[-2:] for one in _gaps(config, results, form))
    ratio = math.log(config.steps[-2] / config.steps[-1])
    order = math.log(abs(gap[0] / gap[1])) / ratio
    return Estimate(order, math.hypot(*(stderr / gap)) / ratio, config.replicas)


def _figure(config: Config, results: Results) -> FigureSpec:
    steps = np.array(config.steps)
    rows = {form: _gaps(config, results, form) for form in FORMS}

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (form, power) in enumerate(zip(FORMS, (1, 2), strict=True)):
            gap, stderr = rows[form]
            common.points(ax, steps, np.abs(gap), stderr, series, f"as {form}")
            guide = abs(gap[0]) * (steps / steps[0]) ** power
            common.line(ax, steps, guide, series, f"slope {power}", (":", "--")[series])
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(steps, [f"{one:g}" for one in steps])
        ax.minorticks_off()
        label = "|mean overlap, chain minus equation|"
        figures.finish(ax, xlabel="residual step $\\eta$", ylabel=label)

    table = tuple(
        (form, float(step), float(value), float(error))
        for form in FORMS
        for step, value, error in zip(steps, *rows[form], strict=True)
    )
    return FigureSpec(
        name="gaps",
        title="Drift and noise: the equation as printed and as corrected",
        caption="Three tokens in three dimensions, one of two heads a layer, paper time 1: mean "
        f"overlap of {config.replicas} chains minus that of as many paths of the equation (bars of "
        "one standard error), with slopes through the largest step. The printed equation lacks two "
        "drifts of the order of the step.",
        draw=draw,
        table=Table(("equation", "step", "gap", "stderr"), table),
        shown=len(table),
    )


EXPERIMENT = DriftAndNoise(
    name="koubbi2026/drift-and-noise",
    title="Heads with a mean effect and noise beside it",
    summary="Where heads have a mean and fluctuate, the limit is a stochastic equation with drift. "
    "Chains of one random head a layer are held against it, in the form that the paper prints and "
    "with the two drifts of second order that the printed chain has: one from the mean, one from "
    "noise that is not isotropic.",
    citations=("koubbi2026", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(steps=(0.2, 0.1, 0.05), replicas=400_000),
        "paper": Config(steps=(0.2, 0.1, 0.05), replicas=2_000_000),
    },
)
