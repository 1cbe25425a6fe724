r"""Loss curves of transformers with more and more heads at one rate of the base: wider is better.

Under the rules networks of all numbers of heads follow one curve at first, and those with more
heads stay on it longer. The floor of the linear model of all pixels is drawn.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", hyper-parameter
transfer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from translimit import core, figures, train
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


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        heads: H, increasing.
        optimizer: AdamW, or SGD with momentum.
        rate: of the base, the same for all.
        steps: updates.
        observations: how many times the loss of the probe is taken, evenly spaced.
        probe: examples on which it is taken.
    """

    base: tuple[Count, Count, Count] = (4, 4, 2)
    seeds: Count = 4
    heads: Annotated[IncreasingSizes, Entries(2)] = (2, 4, 8, 16, 32)
    optimizer: Literal["adamw", "momentum"] = "adamw"
    rate: Positive = 0.016
    steps: Count = 80
    observations: Annotated[int, Within(1, 10_000)] = 20
    probe: Count = 256

    def times(self) -> tuple[int, ...]:
        """Numbers of updates after which the loss is taken."""
        return tuple(sorted({int(t) for t in np.linspace(0, self.steps, self.observations + 1)}))


class HeadScaling(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and updates."""
        return Cost(8.0 + 2.5e-4 * config.steps * config.seeds * cell.parameters["heads"])

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each number of heads."""
        return tuple(Cell(f"H={h}", {"heads": h}) for h in config.heads)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Every doubling."""
        heads = Config().heads
        return tuple(f"H={b}-below-H={a}" for a, b in pairwise(heads))

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Losses of the minibatches and of the probe."""
        import xarray as xr

        shape = networks.shape_at(config, "heads", cell.parameters["heads"])
        history = train.train(
            shape,
            networks.ruled(config, shape, config.optimizer),
            networks.images(config.images),
            train.Training(
                steps=config.steps,
                rates=(config.rate,),
                seeds=config.seeds,
                batch=config.batch,
                optimizer=networks.optimizer(config.optimizer),
            ),
            key=cell.shared_key("starts"),
            observe=(train.ProbeLoss(),),
            observe_at=config.times(),
            probe=config.probe,
        )
        return xr.Dataset(
            {"loss": (("updates", "seed"), history["probe_loss"][:, :, 0])},
            coords={"updates": list(config.times())},
            attrs={
                "reference": REFERENCE,
                "parameters": shape.parameter_count,
                "linear_floor": networks.linear_floor(config),
            },
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """More heads, lower loss at the end."""
        made = []
        for a, b in pairwise(config.heads):
            fewer, more = (np.log(results[f"H={h}"]["loss"].values[-1]) for h in (a, b))
            made.append(
                Claim(
                    name=f"H={b}-below-H={a}",
                    statement=f"After {config.steps} steps at one rate of the base the loss with "
                    f"{b} heads is below that with {a} (log of the ratio is below 0).",
                    prediction=0.0,
                    estimate=_difference(more, fewer),
                    tol=0.0,
                    reference=REFERENCE,
                    one_sided=True,
                )
            )
        return made

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Loss curves, and the last loss against heads."""
        return [_figure(config, results)]


def _difference(one: np.ndarray, other: np.ndarray) -> Estimate:
    """The difference of means of independent seeds."""
    means = [Estimate.over_seeds(v) for v in (one, other)]
    error = float(np.sqrt(np.sum(np.array([mean.stderr for mean in means]) ** 2)))
    return Estimate(means[0].value - means[1].value, error, len(one))


def _figure(config: Config, results: Results) -> FigureSpec:
    curves = {h: results[f"H={h}"] for h in config.heads}
    floor = curves[config.heads[0]].attrs["linear_floor"]

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for series, (h, curve) in enumerate(curves.items()):
            colour = figures.COLOURS[series % len(figures.COLOURS)]
            logs = np.log(curve["loss"].values)
            mean, error = logs.mean(axis=1), figures.bars(core.standard_error(logs, 1))
            times = curve["updates"].values
            style = figures.marked(series, len(times))
            left.plot(times, np.exp(mean), label=f"$H$ = {h}", **style)
            low, high = np.exp(mean - error), np.exp(mean + error)
            left.fill_between(times, low, high, color=colour, alpha=0.2)
            right.errorbar(
                h,
                np.exp(mean[-1]),
                yerr=[[np.exp(mean[-1]) - low[-1]], [high[-1] - np.exp(mean[-1])]],
                fmt=figures.MARKERS[series % len(figures.MARKERS)],
                color=colour,
                capsize=2.5,
            )
        for ax in (left, right):
            ax.axhline(floor, color="0.5", linestyle=":", label="linear model, fitted")
            ax.set_yscale("log")
        right.set_xscale("log")
        right.set_xticks(config.heads, [str(h) for h in config.heads])
        right.minorticks_off()
        figures.finish(left, xlabel="updates", ylabel="loss", title=f"rate {config.rate:g}")
        title = f"after {config.steps} updates"
        figures.finish(right, xlabel=networks.AXIS_LABELS["heads"], ylabel="loss", title=title)

    rows = tuple(
        (h, int(t), float(np.exp(np.log(row).mean())))
        for h, curve in curves.items()
        for t, row in zip(curve["updates"].values, curve["loss"].values, strict=True)
    )
    return FigureSpec(
        name="curves",
        title="Loss curves for growing numbers of heads at one rate",
        caption=f"Cross-entropy in nats on {config.probe} training examples, geometric means over "
        f"{config.seeds} seeds with one standard error, under the rules from the base "
        f"$(N, H, L) = {config.base}$ with {networks.OPTIMIZER_LABELS[config.optimizer]} at the "
        "same rate of the base; dotted: the linear model fitted to all examples.",
        draw=draw,
        table=Table(("heads", "updates", "loss"), rows),
        shown=len(curves),
        size=(9.0, 4.0),
    )


EXPERIMENT = HeadScaling(
    name="bordelon2024/head-scaling",
    title="Loss curves for growing numbers of heads",
    summary="Under the rules transformers with more heads follow the same loss curve at one rate "
    "of the base and end lower.",
    citations=("bordelon2024", "digits", "jax"),
    presets={
        "demo": Config(seeds=3, heads=(4, 8, 16), steps=40, observations=10),
        "standard": Config(seeds=12),
        "paper": replace(
            Config(**PAPER), heads=(4, 8, 16, 32), optimizer="momentum", rate=1.0, steps=10_000
        ),
    },
)
