r"""Depth at alpha_L = 1/2 and 1: do blocks go on learning, and what does compute buy?

Every matrix of a block moves its pre-activations by L^(alpha_L - 1): at alpha_L = 1/2 keys,
queries and logits stop learning as depth grows, at alpha_L = 1 they do not. Beside it the loss
against the floating-point operations spent, six for every parameter and token of an update.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", derivation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import checks, core, describe, figures, train
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import PAPER, REFERENCE, Networks
from translimit.experiments.checked import Count, Entries, IncreasingSizes, Positive, Within

if TYPE_CHECKING:
    import xarray as xr

ALPHAS = (1.0, 0.5)
QUANTITIES = ("learned_key_change", "learned_query_change", "learned_score_change")


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        layers: L.
        rate: of SGD at the base.
        early: updates after which movement is taken.
        steps: updates of the loss curves.
        observations: how many times the loss of the probe is taken, evenly spaced.
    """

    batch: Count = 64
    seeds: Count = 16
    layers: Annotated[IncreasingSizes, Entries(2)] = (2, 4, 8, 16)
    rate: Positive = 0.1
    early: Count = 10
    steps: Count = 60
    observations: Annotated[int, Within(1, 10_000)] = 6

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.early > self.steps:
            raise core.ConfigError(
                "early", f"got {self.early} of steps = {self.steps}", "pass at most all steps"
            )

    def times(self) -> tuple[int, ...]:
        """Numbers of updates after which is observed."""
        even = {int(t) for t in np.linspace(0, self.steps, self.observations + 1)}
        return tuple(sorted(even | {self.early}))


class Depth(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and updates."""
        return Cost(12.0 + 0.006 * config.steps * config.seeds * cell.parameters["layers"])

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each depth; both exponents share a compiled program."""
        return tuple(Cell(f"L={n}", {"layers": n}) for n in config.layers)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """The exponent of every movement."""
        return tuple(f"{q}-{alpha:g}" for alpha in ALPHAS for q in QUANTITIES)

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Movement and losses of both exponents."""
        import xarray as xr

        shape = networks.shape_at(config, "layers", cell.parameters["layers"])
        training = train.Training(
            steps=config.steps,
            rates=(config.rate,),
            seeds=config.seeds,
            batch=config.batch,
            optimizer=networks.optimizer("sgd"),
        )
        found: dict[str, list[np.ndarray]] = {name: [] for name in ("loss", *QUANTITIES)}
        for alpha in ALPHAS:
            numbers = networks.ruled(config, shape, "sgd", alpha_L=alpha)
            history = train.train(
                shape,
                numbers.changed(describe.Role.KEY_BIAS, lr=0.0),
                networks.images(config.images),
                training,
                key=cell.shared_key("starts"),
                observe=(train.ProbeLoss(), train.Coordinates()),
                observe_at=config.times(),
            )
            found["loss"].append(history["probe_loss"][:, :, 0])
            for name in QUANTITIES:
                found[name].append(history[name][:, :, 0])
        tokens = shape.tokens * config.batch
        return xr.Dataset(
            {n: (("alpha_L", "updates", "seed"), np.array(v)) for n, v in found.items()},
            coords={"alpha_L": list(ALPHAS), "updates": list(config.times())},
            attrs={
                "reference": REFERENCE,
                "operations": 6.0 * shape.parameter_count * tokens,
                "linear_floor": networks.linear_floor(config),
            },
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """alpha_L - 1 for everything that keys and queries learn."""
        fits = _fits(config, results)
        return [
            Claim(
                name=f"{quantity}-{alpha:g}",
                statement=f"$\\alpha_L = {alpha:g}$: exponent in $L$ of "
                f"{quantity.replace('_', ' ')} after {config.early} updates of SGD.",
                prediction=alpha - 1,
                estimate=fit,
                tol=0.15,
                reference=REFERENCE,
            )
            for (alpha, quantity), fit in fits.items()
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Movement against depth, and loss against compute."""
        return [_movement_figure(config, results), _compute_figure(config, results)]


def _rows(config: Config, results: Results, alpha: float, quantity: str) -> np.ndarray:
    return np.array(
        [
            results[f"L={n}"][quantity].sel(alpha_L=alpha, updates=config.early).values
            for n in config.layers
        ]
    )


def _fits(config: Config, results: Results) -> dict[tuple[float, str], Estimate]:
    return {
        (alpha, quantity): checks.power_law_exponent(
            config.layers, _rows(config, results, alpha, quantity)
        )
        for alpha in ALPHAS
        for quantity in QUANTITIES
    }


def _movement_figure(config: Config, results: Results) -> FigureSpec:
    fits = _fits(config, results)

    def draw(figure: Any) -> None:
        for ax, quantity in zip(figure.subplots(1, 3), QUANTITIES, strict=True):
            for series, alpha in enumerate(ALPHAS):
                figures.plot_power_law(
                    ax,
                    config.layers,
                    _rows(config, results, alpha, quantity),
                    fits[alpha, quantity],
                    series=series,
                    label=rf"$\alpha_L$ = {alpha:g}",
                    expected=alpha - 1,
                )
            title = quantity.replace("_", " ")
            figures.finish(ax, xlabel=networks.AXIS_LABELS["layers"], ylabel="rms", title=title)

    rows = tuple((*case, fit.value, fit.stderr, case[0] - 1) for case, fit in fits.items())
    return FigureSpec(
        name="movement",
        title="What keys and queries learn, against depth",
        caption=f"Root mean squares over entries and all blocks after {config.early} updates of "
        f"SGD, at the inputs of the start; means and standard errors over {config.seeds} seeds, "
        "fitted exponents in the legend, expected ones dashed. Dimensionless.",
        draw=draw,
        table=Table(("alpha_L", "quantity", "exponent", "stderr", "expected"), rows),
        shown=len(rows),
        size=(12.0, 4.0),
    )


def _compute_figure(config: Config, results: Results) -> FigureSpec:
    rows = []
    for alpha in ALPHAS:
        for n in config.layers:
            cell = results[f"L={n}"]
            losses = cell["loss"].sel(alpha_L=alpha).values
            for t, row in zip(cell["updates"].values, losses, strict=True):
                spent = float(cell.attrs["operations"] * t)
                rows.append((alpha, n, int(t), spent, float(np.exp(np.log(row).mean()))))
    floor = results[f"L={config.layers[0]}"].attrs["linear_floor"]

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for ax, alpha in zip(panels, ALPHAS, strict=True):
            for series, n in enumerate(config.layers):
                curve = np.array([r[3:] for r in rows if r[:2] == (alpha, n) and r[2] > 0])
                style = {"color": figures.COLOURS[series], "marker": figures.MARKERS[series]}
                ax.plot(*curve.T, markersize=3.5, label=f"$L$ = {n}", **style)
            ax.axhline(floor, color="0.5", linestyle=":", label="linear model, fitted")
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.minorticks_off()
            title = rf"$\alpha_L$ = {alpha:g}"
            label = "loss" if ax is panels[0] else ""
            figures.finish(ax, xlabel="floating-point operations", ylabel=label, title=title)

    return FigureSpec(
        name="compute",
        title="Loss against compute for growing depth",
        caption="Cross-entropy in nats on 64 training examples, geometric means over "
        f"{config.seeds} seeds, against six operations for every parameter and token of an update, "
        f"SGD at rate {config.rate:g} of the base; dotted: the linear model fitted to all "
        "examples.",
        draw=draw,
        table=Table(("alpha_L", "layers", "updates", "operations", "loss"), tuple(rows)),
        shown=2 * len(config.layers),
        size=(9.0, 4.0),
    )


EXPERIMENT = Depth(
    name="bordelon2024/depth",
    title="Learning of keys and queries against depth, and loss against compute",
    summary="At $\\alpha_L = 1/2$ what keys, queries and logits learn falls like $L^{-1/2}$: deep "
    "blocks become lazy. At $\\alpha_L = 1$ it does not fall.",
    citations=("bordelon2024", "digits", "jax"),
    presets={
        "demo": Config(seeds=24, layers=(2, 4, 8), steps=20, observations=4),
        "standard": Config(),
        "paper": replace(Config(**PAPER), layers=(2, 4, 8, 16), rate=1.0, early=100, steps=10_000),
    },
)
