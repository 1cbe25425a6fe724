r"""Does the best learning rate of a small transformer stay the best of a larger one?

Digits as patches, fresh minibatches, a fixed number of steps, a grid of rates in factors of two,
AdamW and SGD with momentum, along head dimension, heads and layers.
The optimum of a size is the vertex of the parabola through the lowest three points of the
seed-averaged log loss; the drift is log10 of the optimum of the largest size minus that of the
base. The rules keep the optimum; the standard parameterization moves it by log10 of the missing
1 / m_d under AdamW.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", hyper-parameter
transfer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np

from translimit import checks, figures, train
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
from translimit.experiments.bordelon2024.networks import PAPER, REFERENCE, AxisName, Networks
from translimit.experiments.checked import (
    Count,
    Distinct,
    Entries,
    Exponent,
    Increasing,
    IncreasingSizes,
    Within,
)
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    import xarray as xr

    from translimit.describe import Parameterization, TransformerShape


Optimizer = Literal["adamw", "momentum"]


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        multiples: of the base along an axis.
        axes: which axes are swept.
        optimizers: AdamW, SGD with momentum.
        alphas: exponents of the logits along the head dimension, under the first optimiser.
        steps: updates after which the loss is taken.
        log2_rates: first and last exponent of the grid of AdamW.
        log2_momentum_rates: first and last exponent of the grid of SGD with momentum.
        probe: examples on which the loss is taken.
    """

    multiples: Annotated[IncreasingSizes, Entries(2)] = (1, 2, 4)
    axes: Annotated[tuple[AxisName, ...], Distinct()] = ("head_dim", "heads", "layers")
    optimizers: Annotated[tuple[Optimizer, ...], Distinct()] = ("adamw", "momentum")
    alphas: Annotated[tuple[Exponent, ...], Distinct()] = (1.0, 0.5)
    steps: Count = 60
    log2_rates: Annotated[tuple[int, int], Within(-60, 60), Increasing()] = (-12, -3)
    log2_momentum_rates: Annotated[tuple[int, int], Within(-60, 60), Increasing()] = (-8, -1)
    probe: Count = 256

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
            for axis in self.axes:
                alphas = self.alphas if first and axis == "head_dim" else self.alphas[:1]
                found += [(optimizer, axis, alpha) for alpha in alphas]
        return tuple(found)

    # What is trained; a study of other data overrides these.

    @property
    def positions(self) -> int:
        """Tokens of one input."""
        return 8 if self.images == "digits" else 64

    @property
    def classes(self) -> int:
        """Outputs of the readout."""
        return 10

    def shape(self) -> TransformerShape:
        """The base."""
        return networks.base_shape(self)

    def source(self) -> Any:
        """Where batches come from."""
        return networks.images(self.images)

    def ruled(self, shape: TransformerShape, optimizer: Any, alpha_A: float) -> Parameterization:
        """The numbers of a shape by the rules."""
        return networks.ruled(self, shape, optimizer, alpha_A=alpha_A)

    def standard(self, shape: TransformerShape) -> Parameterization:
        """The numbers of a shape in the standard parameterization."""
        return networks.standard(shape)

    def floor(self) -> float:
        """A loss to compare with."""
        return networks.linear_floor(self)

    @property
    def floor_label(self) -> str:
        """What the floor is."""
        return "linear model"

    @property
    def samples(self) -> str:
        """What the loss is a mean over."""
        return f"{self.probe} training examples"

    def drift_tolerance(self, optimizer: str, axis: str) -> float | None:
        """Of the drift under the rules, in decades; None where it separates nothing.

        Along depth SGD drifts alike in both parameterizations at these sizes: it is shown, and
        nothing is claimed.
        """
        if optimizer == "momentum" and axis == "layers":
            return None
        return 0.15 if (optimizer, axis) == ("adamw", "head_dim") else 0.2

    def standard_drift(self, axis: str) -> float | None:
        """The drift of AdamW in the standard parameterization, where the missing factor tells it.

        None where it is only known to fall by at least 0.3 decades.
        """
        return -float(np.log10(self.multiples[-1])) if axis == "head_dim" else None


class Transfer(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """About 10 seconds of compilation, and the updates of all sizes, seeds and rates."""
        networks = config.seeds * len(config.rates(cell.parameters["optimizer"]))
        growth = 1.2 if cell.parameters["axis"] == "layers" else 1.5
        sizes = sum(multiple**growth for multiple in config.multiples)
        base = float(np.prod(config.base)) / 32 * config.batch * config.positions / 256
        largest = list(config.base)
        place = ("head_dim", "heads", "layers").index(cell.parameters["axis"])
        largest[place] *= max(config.multiples)
        memory = ensemble_bytes(
            largest,
            members=networks,
            batch=config.batch,
            tokens=config.positions,
            outputs=config.classes,
            vocabulary=config.classes,
            mlp_ratio=config.mlp_ratio,
        )
        return Cost(10.0 + 1.25e-3 * config.steps * networks * sizes * base, memory)

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

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Drifts of both parameterizations, and the loss at the rate of the base."""
        names = []
        for optimizer, axis, alpha in self.presets["standard"].studies():
            name = f"{optimizer}-{axis}-{alpha:g}"
            kinds = ("rules-drift", "standard-drift", "wider-is-better", "regret")
            names += [f"{name}-{kind}" for kind in kinds]
        return tuple(names)

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """One sweep: losses of all sizes, seeds and rates, and what follows from them."""
        import xarray as xr

        facts = cell.parameters
        optimizer, axis, alpha = facts["optimizer"], facts["axis"], facts["alpha_A"]

        def numbers(shape: Any) -> Any:
            if not facts["rules"]:
                return config.standard(shape)
            return config.ruled(shape, optimizer, alpha)

        training = train.Training(
            steps=config.steps,
            rates=config.rates(optimizer),
            seeds=config.seeds,
            batch=config.batch,
            optimizer=networks.optimizer(optimizer),
        )
        sizes = config.sizes(axis)
        sweep = train.ensemble_transfer_sweep(
            config.shape(),
            axis,
            sizes,
            numbers,
            config.source(),
            training,
            key=cell.shared_key("starts"),
            probe=config.probe,
        )
        optima = [sweep.optimum(size) for size in sizes]
        at_base = [sweep.loss_at_base_rate(size) for size in sizes]
        at_best = [sweep.loss_at_optimum(size) for size in sizes]
        drift, regret = sweep.optimum_drift, sweep.regret(sizes[-1])
        return xr.Dataset(
            {
                "loss": (("size", "seed", "rate"), sweep.losses, {"long_name": "loss"}),
                "optimum": ("size", [o.value for o in optima]),
                "optimum_stderr": ("size", [o.stderr for o in optima]),
                "base_rate_loss": ("size", [b.value for b in at_base]),
                "base_rate_stderr": ("size", [b.stderr for b in at_base]),
                "best_loss": ("size", [b.value for b in at_best]),
                "best_stderr": ("size", [b.stderr for b in at_best]),
                "edge": ("size", [bool(sweep.bound(size)) for size in sizes]),
            },
            coords={"size": list(sizes), "rate": list(sweep.rates)},
            attrs={
                "reference": REFERENCE,
                "drift": drift.value,
                "drift_stderr": drift.stderr,
                "regret": regret.value,
                "regret_stderr": regret.stderr,
                "warnings": "; ".join(sweep.warnings()),
                "floor": config.floor(),
            },
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The rows of the acceptance table, and whether larger is better at the base's rate."""
        made = []
        for optimizer, axis, alpha in config.studies():
            ours = results[f"{optimizer}/{axis}/rules, alpha_A={alpha:g}"]
            name = f"{optimizer}-{axis}-{alpha:g}"
            where = f"{networks.OPTIMIZER_LABELS[optimizer]}, {networks.AXIS_LABELS[axis]}"
            tolerance = config.drift_tolerance(optimizer, axis)
            if tolerance is not None:
                made.append(
                    Claim(
                        name=f"{name}-rules-drift",
                        statement=f"{where}: from base to {config.multiples[-1]} times the base "
                        "the best rate stays in place under the rules, "
                        f"$\\alpha_A = {alpha:g}$ (decades).",
                        prediction=0.0,
                        estimate=_drift(config, ours),
                        tol=tolerance,
                        reference=REFERENCE,
                    )
                )
                made.append(_regret(config, ours, name, where))
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
    expected = config.standard_drift(axis)
    if expected is not None:
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


def _regret(config: Config, ours: xr.Dataset, name: str, where: str) -> Claim:
    value, stderr = float(ours.attrs["regret"]), float(ours.attrs["regret_stderr"])
    return Claim(
        name=f"{name}-regret",
        statement=f"{where}: under the rules the largest network pays little for the base's best "
        "rate instead of its own: the log of the ratio of losses.",
        prediction=0.0,
        estimate=Estimate(value, stderr, config.seeds),
        tol=0.1,
        reference=REFERENCE,
        one_sided=True,
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


def _sweep(axis: str, stored: xr.Dataset) -> checks.TransferSweep:
    """A sweep from its dataset."""
    sizes, rates = stored["size"].values.tolist(), stored["rate"].values.tolist()
    cap = float(stored["loss"].max())
    name = cast("checks.AxisName", axis)
    return checks.TransferSweep(name, tuple(sizes), tuple(rates), stored["loss"].values, cap)


def _figure(
    experiment: Transfer, config: Config, results: Results, optimizer: str, axis: str
) -> FigureSpec:
    cells = [
        cell
        for cell in experiment.cells(config)
        if (cell.parameters["optimizer"], cell.parameters["axis"]) == (optimizer, axis)
    ]
    sweeps = {cell.name.rsplit("/", 1)[1]: results[cell.name] for cell in cells}
    floor = float(next(iter(sweeps.values())).attrs["floor"])

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(sweeps), sharey=True, squeeze=False)[0]
        for ax, (kind, sweep) in zip(panels, sweeps.items(), strict=True):
            found = _sweep(axis, sweep)
            drift = found.optimum_drift_in_words().replace("-", "\N{MINUS SIGN}")
            title = kind.replace("alpha_A=", r"$\alpha_A$ = ")
            figures.plot_transfer(
                ax,
                sweep["rate"].values,
                sweep["loss"].values,
                sweep["optimum"].values,
                sweep["optimum_stderr"].values,
                sweep["size"].values,
                bounds=[found.bound(size) for size in found.sizes],
                ylabel=f"loss after {config.steps} steps" if ax is panels[0] else "",
                title=f"{title}: drift {drift}",
                floor=floor,
                floor_label=config.floor_label,
            )

    rows = [
        (
            kind,
            int(size),
            float(sweep["optimum"].values[i]),
            float(sweep["optimum_stderr"].values[i]),
            float(sweep["best_loss"].values[i]),
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
        caption=f"Cross-entropy in nats on {config.samples} after {config.steps} "
        f"steps, geometric means over {config.seeds} seeds; legend: {where} and its best rate. "
        "Triangles: optima with bars of one standard error over seeds; those that point along "
        "the axis: bounds, where the optimum lies at the end of the grid; vertical line: optimum "
        f"of the base; dotted: {config.floor_label}. Lowest losses on the grid at "
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
            log2_rates=(-10, -3),
        ),
        "standard": Config(seeds=8),
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
