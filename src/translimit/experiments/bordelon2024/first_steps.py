r"""First steps against later ones: how far attention logits move as heads get larger.

At the start the gradient of a logit is a sum over the N values of a head of incoherent terms; it
becomes coherent once W_O has moved. Under SGD the first update of the logits, by what keys and
queries learn, is therefore N^(-1/2) below the later order. Adam divides the gradient by itself and
has no such suppression; its heads move apart at once.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", first-step
suppression.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from translimit import checks, describe, figures, train
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
from translimit.experiments.checked import Count, Entries, IncreasingSizes, Positive

if TYPE_CHECKING:
    import xarray as xr

QUANTITIES = ("learned_score_change", "learned_score_head_var", "learned_key_change")
#: Exponents of the first update.
EXPECTED = {
    ("sgd", "learned_score_change"): -0.5,
    ("sgd", "learned_score_head_var"): -1.0,
    ("adamw", "learned_score_change"): 0.0,
    ("adamw", "learned_score_head_var"): 0.0,
}
#: Of the acceptance table; a variance is a square.
TOLERANCE = {"learned_score_change": 0.2, "learned_score_head_var": 0.4}


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        head_dims: N.
        steps: numbers of updates after which is recorded.
        sgd_rate: of the base.
        adamw_rate: of the base.
        precision: of the networks.
    """

    batch: Count = 64
    seeds: Count = 6
    head_dims: Annotated[IncreasingSizes, Entries(2)] = (8, 16, 32, 64, 128)
    steps: IncreasingSizes = (1, 2, 5, 10)
    sgd_rate: Positive = 0.3
    adamw_rate: Positive = 0.003
    precision: Literal["float32", "float64"] = "float64"


class FirstSteps(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """Compilation, and updates whose price grows with the square of the width."""
        updates = 2 * config.steps[-1] * config.seeds * sum((n / 32) ** 2 for n in config.head_dims)
        return Cost(24.0 * len(config.head_dims) + 0.15 * updates)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each optimiser."""
        return tuple(Cell(name, {"optimizer": name}) for name in ("sgd", "adamw"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Exponents of the first update, the square as reported, and that SGD recovers."""
        made = [f"{name}-{quantity}" for name, quantity in EXPECTED]
        return (*made, "sgd-square", "sgd-square-as-reported", "sgd-recovers")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Coordinates of all sizes after the steps, on one batch."""
        import xarray as xr

        name = cell.parameters["optimizer"]

        def numbers(shape: Any) -> Any:
            return networks.ruled(config, shape, name).changed(describe.Role.KEY_BIAS, lr=0.0)

        check = train.ensemble_coordinate_check(
            networks.base_shape(config),
            "head_dim",
            config.head_dims,
            numbers,
            networks.images(config.images),
            optimizer=networks.optimizer(name),
            rate=config.sgd_rate if name == "sgd" else config.adamw_rate,
            key=cell.shared_key("starts"),
            steps=config.steps,
            seeds=config.seeds,
            batch=config.batch,
            precision=config.precision,
        )
        return xr.Dataset(
            {n: (("size", "updates", "seed"), check.values[n]) for n in QUANTITIES},
            coords={"size": list(check.sizes), "updates": list(check.steps)},
            attrs={"reference": REFERENCE},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The acceptance row, and what is reported of the paper beside it."""
        first, last = config.steps[0], config.steps[-1]
        made = []
        for (name, quantity), expected in EXPECTED.items():
            made.append(
                Claim(
                    name=f"{name}-{quantity}",
                    statement=f"{networks.OPTIMIZER_LABELS[name]}: exponent in $N$ of "
                    f"{quantity.replace('_', ' ')} after the first update.",
                    prediction=expected,
                    estimate=_fit(results[name], quantity, first),
                    tol=TOLERANCE[quantity],
                    reference=REFERENCE,
                )
            )
        single = _fit(results["sgd"], "learned_score_change", first)
        square = Estimate(2 * single.value, 2 * single.stderr, single.count)
        for suffix, expected, text in (
            ("", -1.0, "as incoherent sums give"),
            ("-as-reported", -2.0, "as the paper is reported to say"),
        ):
            made.append(
                Claim(
                    name=f"sgd-square{suffix}",
                    statement=f"SGD: the square of the first change of the logits goes like "
                    f"$N^{{{expected:g}}}$, {text}.",
                    prediction=expected,
                    estimate=square,
                    tol=0.4,
                    reference=REFERENCE,
                )
            )
        late = _slopes(results["sgd"], "learned_score_change", last)
        gain = late - _slopes(results["sgd"], "learned_score_change", first)
        made.append(
            Claim(
                name="sgd-recovers",
                statement=f"SGD: after {last} updates the exponent is larger than after the first "
                "(minus the difference is below 0).",
                prediction=0.0,
                estimate=Estimate.from_samples(-gain),
                tol=0.0,
                reference=REFERENCE,
                one_sided=True,
            )
        )
        return made

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """A row of panels for each optimiser."""
        return [_figure(config, results)]


def _fit(check: xr.Dataset, quantity: str, step: int) -> Estimate:
    return checks.power_law_exponent(check["size"].values, check[quantity].sel(updates=step).values)


def _slopes(check: xr.Dataset, quantity: str, step: int) -> Any:
    """The exponent of every seed [seeds]."""
    rows = check[quantity].sel(updates=step).values
    sizes = check["size"].values
    return checks.power_law_exponents(sizes, rows)


def _figure(config: Config, results: Results) -> FigureSpec:
    fits = {
        (name, quantity, step): _fit(check, quantity, step)
        for name, check in results.items()
        for quantity in QUANTITIES
        for step in config.steps
    }

    def draw(figure: Any) -> None:
        grid = figure.subplots(2, 3, sharex=True)
        for row, name in zip(grid, ("sgd", "adamw"), strict=True):
            for ax, quantity in zip(row, QUANTITIES, strict=True):
                for series, step in enumerate(config.steps):
                    first = step == config.steps[0]
                    figures.plot_power_law(
                        ax,
                        config.head_dims,
                        results[name][quantity].sel(updates=step).values,
                        fits[name, quantity, step],
                        series=series,
                        label=f"step {step}",
                        expected=EXPECTED.get((name, quantity)) if first else None,
                    )
                figures.finish(
                    ax,
                    xlabel=networks.AXIS_LABELS["head_dim"],
                    ylabel="size",
                    title=f"{networks.OPTIMIZER_LABELS[name]}: {quantity.replace('_', ' ')}",
                )
                figures.legend_below(ax)

    rows = tuple((*case, fit.value, fit.stderr) for case, fit in fits.items())
    return FigureSpec(
        name="first-steps",
        title="What keys and queries learn in the first steps, against head dimension",
        caption="Root mean squares (and the mean variance over heads) of the changes of logits "
        "and keys at the inputs of the start, by what keys and queries learn; $\\alpha_A = 1$, "
        f"$H = {config.base[1]}$, means and standard errors over {config.seeds} seeds, fitted "
        "exponents in the legend, expected ones of the first update dashed. Dimensionless.",
        draw=draw,
        table=Table(("optimizer", "quantity", "updates", "exponent", "stderr"), rows),
        shown=len(rows),
        size=(12.0, 6.8),
    )


EXPERIMENT = FirstSteps(
    name="bordelon2024/first-steps",
    title="First updates of the attention logits against later ones",
    summary="At $\\alpha_A = 1$ the first update of SGD moves the logits by $N^{-1/2}$ less than "
    "later ones, squared $N^{-1}$; the paper is reported to have $N^{-2}$. Adam has no such "
    "suppression, and the variance over heads of its first change does not fall.",
    citations=("bordelon2024", "digits", "jax"),
    presets={
        "demo": Config(seeds=8, head_dims=(8, 16, 32), steps=(1, 2), precision="float32"),
        "standard": Config(),
        "paper": replace(Config(**PAPER), sgd_rate=1.0, adamw_rate=0.03, precision="float32"),
    },
)
