r"""Which responses matter: each is left out of the limit in turn, and networks say what is right.

The four responses say how a Gaussian source feeds back through a matrix that is used twice,
forward and transposed: R^v and R^p of a head to the sources of its outputs and inputs, R^h and
R^g of the stream to the sources that a sub-block adds to it. A limit without one of them is what a
naive mean-field argument gives, which treats the two uses as independent.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from translimit import figures
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.bordelon2024.limit_and_networks import (
    Problem,
    extrapolated_gap,
    solve_limit,
    train_networks,
)
from translimit.experiments.bordelon2024.tasks import REFERENCE
from translimit.experiments.checked import Count, Four

if TYPE_CHECKING:
    import xarray as xr

#: By how much predictions must change at least (rms) without each response.
MISS = {"R_v": 0.05, "R_p": 0.003, "R_h": 0.03, "R_g": 0.003}


@dataclass(frozen=True)
class Config(Problem):
    """The problem, and networks of two sizes.

    Attributes:
        heads: H of the smaller networks; the larger ones have twice as many.
        seeds: networks of each size.
    """

    heads: Count = 32
    seeds: Four = 2000

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        self.require_samples()


class Responses(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """A limit, or networks of one size."""
        if "heads" in cell.parameters:
            size = cell.parameters["heads"], config.seeds
            return Cost(config.networks_seconds(*size), config.networks_bytes(*size))
        return Cost(config.limit_seconds(), config.limit_bytes())

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The limit, the limit without each response, and networks."""
        limits = (Cell(f"limit-without/{name}", {"omit": name}) for name in MISS)
        networks = (Cell(f"networks/H={n}", {"heads": n}) for n in _sizes(config))
        return (Cell("limit"), *limits, *networks)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """What is checked."""
        return ("all", *(name.replace("_", "-") for name in MISS))

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """One limit, or the networks of one size; all limits share their random numbers."""
        if cell.name.startswith("limit"):
            return solve_limit(config, cell.shared_key("limit"), omit=cell.parameters.get("omit"))
        return train_networks(config, key, heads=cell.parameters["heads"], seeds=config.seeds)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The full limit is right, and each response moves it."""
        coarse, fine = (results[f"networks/H={n}"] for n in _sizes(config))
        low, high = _sizes(config)
        claims = [
            Claim(
                name="all",
                statement="With all responses the predictions of the limit are those of networks, "
                f"extrapolated from $H = {low}$ and {high} (mean over evaluations and inputs).",
                prediction=0.0,
                estimate=extrapolated_gap(fine, coarse, results["limit"], "predictions"),
                tol=0.02,
                reference=REFERENCE,
            )
        ]
        for name, miss in MISS.items():
            change, error = _change(results, name)
            claims.append(
                Claim(
                    name=name.replace("_", "-"),
                    statement=f"Without $R^{name[-1]}$ predictions change by at least {miss:g} "
                    "(rms over evaluations and inputs; compared with a minus sign).",
                    prediction=-miss,
                    estimate=Estimate(-change, error, config.populations),
                    tol=0.0,
                    reference=REFERENCE,
                    one_sided=True,
                )
            )
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Predictions of one input, and the distance of every limit from the networks."""
        coarse, fine = (results[f"networks/H={n}"] for n in _sizes(config))
        mean = (
            2 * fine["predictions"].mean("seed").values - coarse["predictions"].mean("seed").values
        )
        spread = fine["predictions"].std("seed").values / config.seeds**0.5 * 5**0.5
        names = ("all", *MISS)
        limits = {name: results[_cell(name)]["predictions"].values for name in names}
        gaps = {n: extrapolated_gap(fine, coarse, results[_cell(n)], "predictions") for n in names}

        def draw(figure: Any) -> None:
            ax = figure.subplots()
            steps = np.arange(config.steps)
            labels = {"all": "limit"} | {n: f"without $R^{n[-1]}$" for n in MISS}
            for i, name in enumerate(names):
                colour = figures.LIMIT if name == "all" else figures.COLOURS[i]
                line = limits[name][:, 0, 0]
                ax.plot(steps, line, ls=figures.DASHES[i], color=colour, label=labels[name])
            ax.errorbar(
                steps,
                mean[:, 0, 0],
                yerr=2 * spread[:, 0, 0],
                fmt="o",
                color=figures.COLOURS[0],
                markersize=4,
                label="networks, extrapolated in $1/H$",
            )
            figures.finish(ax, xlabel="updates", ylabel="prediction of the first input")

        rows = tuple(
            (
                name,
                0.0 if name == "all" else _change(results, name)[0],
                gaps[name].value,
                gaps[name].stderr,
            )
            for name in names
        )
        columns = ("left out", "change of f, rms", "limit to networks", "standard error")
        return [
            FigureSpec(
                name="responses",
                title="The limit without each of its responses",
                caption="The first input's prediction. Points: networks, extrapolated in $1/H$ "
                f"from $H = {_sizes(config)[0]}$ and {_sizes(config)[1]}, with two standard "
                "errors. Gaps in the table are signed means of networks minus limit.",
                draw=draw,
                table=Table(columns, (("nothing", *rows[0][1:]), *rows[1:])),
                shown=len(names),
            )
        ]


def _sizes(config: Config) -> tuple[int, int]:
    return config.heads, 2 * config.heads


def _cell(name: str) -> str:
    return "limit" if name == "all" else f"limit-without/{name}"


def _change(results: Results, name: str) -> tuple[float, float]:
    """Rms change of predictions without a response, and its standard error at most."""
    full, wrong = results["limit"], results[_cell(name)]
    gap = wrong["predictions"].values - full["predictions"].values
    stderr = np.hypot(full["predictions_stderr"].values, wrong["predictions_stderr"].values)
    rms = float(np.sqrt(np.mean(gap**2)))
    return rms, float(np.sum(np.abs(gap) * stderr) / np.sum(np.abs(gap)))


EXPERIMENT = Responses(
    name="bordelon2024/dmft-responses",
    title="What goes wrong without each response",
    summary="A matrix that is used forward and transposed remembers: four responses carry it. Each "
    "is left out of the limit in turn, and trained networks show which predictions are right.",
    citations=("bordelon2024", "jax"),
    presets={
        "demo": Config(heads=16, steps=10, samples=2000, populations=6),
        "standard": Config(heads=32, seeds=4000, samples=16_000, populations=16),
        "paper": Config(heads=64, seeds=4000, inputs=8, layers=2, samples=20_000),
    },
)
