r"""Does the best learning rate of a small transformer stay the best of a larger one?

Digits as patches, fresh minibatches, a fixed number of steps, a grid of rates in factors of two.
The optimum of a size is the vertex of the parabola through the lowest three points of the
seed-averaged log loss; the drift is log10 of the optimum of the largest size minus that of the
base. The rules keep the optimum; the standard parameterization moves it by log10 of the missing
1 / m_d under AdamW.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", hyper-parameter
transfer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

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

if TYPE_CHECKING:
    import xarray as xr

#: Standard parameterization against the rules, in log10, at multiple 4 along the head dimension.
MISSING_FACTOR = -0.60


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        multiples: of the base along an axis.
        axes: which axes are swept under the first optimiser; the others sweep the head dimension.
        optimizers: AdamW, SGD with momentum.
        alphas: exponents of the logits along the head dimension, under the first optimiser.
        steps: updates after which the loss is taken.
        log2_rates: first and last exponent of the grid of AdamW.
        log2_momentum_rates: first and last exponent of the grid of SGD with momentum.
        probe: examples on which the loss is taken.
    """

    multiples: tuple[int, ...] = (1, 2, 4)
    axes: tuple[Literal["head_dim", "heads", "layers"], ...] = ("head_dim", "heads", "layers")
    optimizers: tuple[Literal["adamw", "momentum"], ...] = ("adamw", "momentum")
    alphas: tuple[float, ...] = (1.0, 0.5)
    steps: int = 60
    log2_rates: tuple[int, int] = (-10, -3)
    log2_momentum_rates: tuple[int, int] = (-8, -1)
    probe: int = 256

    def rates(self, optimizer: str) -> tuple[float, ...]:
        """The grid of an optimiser."""
        first, last = self.log2_rates if optimizer == "adamw" else self.log2_momentum_rates
        return tuple(2.0**k for k in range(first, last + 1))

    def sizes(self, axis: str) -> tuple[int, ...]:
        """Values of an axis."""
        place = ("head_dim", "heads", "layers").index(axis)
        return tuple(self.base[place] * m for m in self.multiples)

    def studies(self) -> tuple[tuple[str, str, float], ...]:
        """Optimiser, axis, alpha_A of every comparison."""
        found: list[tuple[str, str, float]] = []
        for optimizer in self.optimizers:
            first = optimizer == self.optimizers[0]
            for axis in self.axes if first else ("head_dim",):
                alphas = self.alphas if first and axis == "head_dim" else self.alphas[:1]
                found += [(optimizer, axis, alpha) for alpha in alphas]
        return tuple(found)


class Transfer(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """About 12 seconds of compilation a size, and the updates."""
        cells = self.cells(config)
        updates = config.steps * config.seeds * 8 * sum(m**1.5 for m in config.multiples)
        size = np.prod(config.base) / 32 * config.batch / 32
        return Cost(10.0 * len(cells) + 0.002 * updates * size * len(cells))

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The rules of every comparison, and the standard parameterization beside them."""
        made = []
        for optimizer, axis, alpha in config.studies():
            facts = {"optimizer": optimizer, "axis": axis, "alpha_A": alpha}
            name = f"{optimizer}/{axis}"
            made.append(Cell(f"{name}/rules, alpha_A={alpha:g}", {**facts, "rules": True}))
            if alpha == config.alphas[0]:
                made.append(Cell(f"{name}/standard", {**facts, "rules": False}))
        return tuple(made)

    def claim_names(self) -> tuple[str, ...]:
        """Drifts of both parameterizations, and the loss at the rate of the base."""
        names = []
        for optimizer, axis, alpha in Config().studies():
            name = f"{optimizer}-{axis}-{alpha:g}"
            names += [f"{name}-rules-drift", f"{name}-standard-drift", f"{name}-wider-is-better"]
        return tuple(names)

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """One sweep: losses of all sizes, seeds and rates, and what follows from them."""
        import xarray as xr

        facts = cell.parameters
        optimizer, axis, alpha = facts["optimizer"], facts["axis"], facts["alpha_A"]

        def numbers(shape: Any) -> Any:
            if not facts["rules"]:
                return networks.standard(shape)
            return networks.ruled(config, shape, optimizer, alpha_A=alpha)

        training = train.Training(
            steps=config.steps,
            rates=config.rates(optimizer),
            seeds=config.seeds,
            batch=config.batch,
            optimizer=networks.optimizer(optimizer),
        )
        sizes = config.sizes(axis)
        sweep = train.transfer_sweep(
            networks.base_shape(config),
            axis,
            sizes,
            numbers,
            networks.images(config.images),
            training,
            key=core.named_key(key, "starts"),
            probe=config.probe,
        )
        optima = [sweep.optimum(size) for size in sizes]
        at_base = [sweep.loss_at_base_rate(size) for size in sizes]
        drift = sweep.drift
        return xr.Dataset(
            {
                "loss": (("size", "seed", "rate"), sweep.losses, {"long_name": "loss"}),
                "optimum": ("size", [o.value for o in optima]),
                "optimum_stderr": ("size", [o.stderr for o in optima]),
                "base_rate_loss": ("size", [b.value for b in at_base]),
                "base_rate_stderr": ("size", [b.stderr for b in at_base]),
                "edge": ("size", [sweep.at_edge(size) for size in sizes]),
            },
            coords={"size": list(sizes), "rate": list(sweep.rates)},
            attrs={
                "reference": REFERENCE,
                "drift": drift.value,
                "drift_stderr": drift.stderr,
                "warnings": "; ".join(sweep.warnings()),
                "linear_floor": networks.linear_floor(config),
            },
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The rows of the acceptance table, and whether larger is better at the base's rate."""
        made = []
        for optimizer, axis, alpha in config.studies():
            ours = results[f"{optimizer}/{axis}/rules, alpha_A={alpha:g}"]
            name = f"{optimizer}-{axis}-{alpha:g}"
            where = f"{networks.OPTIMIZER_LABELS[optimizer]}, {networks.AXIS_LABELS[axis]}"
            main = optimizer == "adamw" and axis == "head_dim"
            made.append(
                Claim(
                    name=f"{name}-rules-drift",
                    statement=f"{where}: from base to {config.multiples[-1]} times the base the "
                    f"best rate stays in place under the rules, $\\alpha_A = {alpha:g}$ (decades).",
                    prediction=0.0,
                    estimate=_drift(config, ours),
                    tol=0.15 if main else 0.2,
                    reference=REFERENCE,
                )
            )
            if optimizer == "adamw" and alpha == config.alphas[0]:
                made.append(_standard_drift(config, results, axis, name, where))
            if axis != "layers":
                made.append(_wider_is_better(config, ours, name, where))
        return made

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """One row of panels for each comparison."""
        names = {}
        for optimizer, axis, _ in config.studies():
            names.setdefault((optimizer, axis), None)
        return [_figure(self, config, results, *pair) for pair in names]


def _drift(config: Config, sweep: xr.Dataset) -> Estimate:
    edge = bool(sweep["edge"].values.any())
    stderr = float("nan") if edge else float(sweep.attrs["drift_stderr"])
    return Estimate(float(sweep.attrs["drift"]), stderr, config.seeds)


def _standard_drift(config: Config, results: Results, axis: str, name: str, where: str) -> Claim:
    drift = _drift(config, results[f"adamw/{axis}/standard"])
    common: dict[str, Any] = {
        "name": f"{name}-standard-drift",
        "estimate": drift,
        "reference": REFERENCE,
    }
    if axis == "head_dim":
        expected = -float(np.log10(config.multiples[-1]))
        return Claim(
            statement=f"{where}: in the standard parameterization the best rate falls by the "
            "missing $1/m_d$ (decades).",
            prediction=expected,
            tol=0.15,
            **common,
        )
    return Claim(
        statement=f"{where}: in the standard parameterization the best rate falls by at least "
        "0.3 decades.",
        prediction=-0.3,
        tol=0.0,
        one_sided=True,
        **common,
    )


def _wider_is_better(config: Config, ours: xr.Dataset, name: str, where: str) -> Claim:
    loss, stderr = ours["base_rate_loss"].values, ours["base_rate_stderr"].values
    ratio = float(np.log(loss[-1] / loss[0]))
    error = float(np.hypot(stderr[-1] / loss[-1], stderr[0] / loss[0]))
    return Claim(
        name=f"{name}-wider-is-better",
        statement=f"{where}: at the best rate of the base the largest network has a lower loss "
        "than the base (log of the ratio is below 0).",
        prediction=0.0,
        estimate=Estimate(ratio, error, config.seeds),
        tol=0.0,
        reference=REFERENCE,
        one_sided=True,
    )


def _figure(
    experiment: Transfer, config: Config, results: Results, optimizer: str, axis: str
) -> FigureSpec:
    cells = [
        cell
        for cell in experiment.cells(config)
        if (cell.parameters["optimizer"], cell.parameters["axis"]) == (optimizer, axis)
    ]
    sweeps = {cell.name.rsplit("/", 1)[1]: results[cell.name] for cell in cells}
    floor = next(iter(sweeps.values())).attrs["linear_floor"]

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(sweeps), sharey=True, squeeze=False)[0]
        for ax, (kind, sweep) in zip(panels, sweeps.items(), strict=True):
            for series, size in enumerate(sweep["size"].values):
                losses = np.log(sweep["loss"].sel(size=size).values)
                mean = np.exp(losses.mean(axis=0))
                optimum = float(sweep["optimum"].values[series])
                error = float(sweep["optimum_stderr"].values[series])
                colour = figures.COLOURS[series]
                ax.plot(
                    sweep["rate"],
                    mean,
                    marker=figures.MARKERS[series],
                    color=colour,
                    markersize=3.5,
                    linewidth=1.2,
                    label=f"{size}: best $10^{{{optimum:.2f} \\pm {error:.2f}}}$",
                )
                depth = float(mean.min()) * 0.93
                span = [[10**optimum - 10 ** (optimum - error)], [10 ** (optimum + error)]]
                span[1][0] -= 10**optimum
                ax.errorbar(10**optimum, depth, xerr=span, fmt="v", color=colour, capsize=2.5)
            ax.axvline(10 ** float(sweep["optimum"].values[0]), color=figures.LIMIT, linewidth=0.8)
            ax.axhline(floor, color="0.5", linestyle=":", linewidth=1.0, label="linear model")
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            drift = f"{sweep.attrs['drift']:+.2f}".replace("-", "\N{MINUS SIGN}")
            title = kind.replace("alpha_A=", r"$\alpha_A$ = ")
            figures.finish(
                ax,
                xlabel="learning rate at the base",
                ylabel=f"loss after {config.steps} steps" if ax is panels[0] else "",
                title=f"{title}: drift {drift} decades",
            )

    rows = [
        (
            kind,
            int(size),
            float(sweep["optimum"].values[i]),
            float(sweep["optimum_stderr"].values[i]),
            float(np.exp(np.log(sweep["loss"].values[i]).mean(axis=0)).min()),
            float(sweep["base_rate_loss"].values[i]),
        )
        for kind, sweep in sweeps.items()
        for i, size in enumerate(sweep["size"].values)
    ]
    best = {kind: row[4] for kind, *_ in rows for row in rows if row[0] == kind}
    said = ", ".join(f"{loss:.2f} ({kind})" for kind, loss in best.items())
    where = networks.AXIS_LABELS[axis]
    return FigureSpec(
        name=f"{optimizer}-{axis}",
        title=f"{networks.OPTIMIZER_LABELS[optimizer]}: loss against rate along {where}",
        caption=f"Cross-entropy in nats on {config.probe} training examples after {config.steps} "
        f"steps, geometric means over {config.seeds} seeds; legend: {where} and its best rate. "
        "Triangles: optima with bars of one standard error over seeds; vertical line: optimum of "
        "the base; dotted: the linear model fitted to all examples. Lowest losses on the grid at "
        f"the largest size: {said}. The rules buy transfer, not the lowest loss of a short run.",
        draw=draw,
        table=Table(
            ("parameterization", axis, "log10_optimum", "stderr", "best_loss", "base_rate_loss"),
            tuple(rows),
        ),
        shown=len(rows),
        size=(4.2 * len(sweeps), 4.0),
    )


EXPERIMENT = Transfer(
    name="bordelon2024/transfer",
    title="Learning-rate transfer over head dimension, heads and layers",
    summary="Under the rules the best learning rate of a small transformer is the best of one "
    "with larger heads, more heads or more layers; in the standard parameterization it moves by "
    "the factors that the rules supply. Loss at the best rate is another matter: in short runs "
    "the standard parameterization, tuned at its own size, is often lower.",
    citations=("bordelon2024", "digits", "jax"),
    presets={
        "demo": Config(
            base=(4, 4, 2),
            steps=40,
            seeds=2,
            axes=("head_dim",),
            optimizers=("adamw",),
            alphas=(1.0,),
        ),
        "standard": Config(),
        "paper": replace(
            Config(**PAPER),
            axes=("head_dim",),
            optimizers=("momentum",),
            steps=10_000,
            log2_momentum_rates=(-6, 3),
            probe=1024,
        ),
    },
)
