r"""What the limit costs: time against inputs, tokens, steps and layers, error against heads.

A pass with K = steps inputs tokens history rows costs O(layers heads head_dim K^2) for heads and
O(layers^2 K^3) for the stream. Times are medians after compilation, with the powers fitted to
them: measurements of one machine, not claims. What is claimed is the error: the scatter of
predictions over populations falls like heads^(-1/2).

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, figures
from translimit.core import Claim
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.bordelon2024.limit_and_networks import Problem
from translimit.experiments.bordelon2024.tasks import REFERENCE
from translimit.experiments.checked import Count, Entries, Four, IncreasingSizes, Two

if TYPE_CHECKING:
    import xarray as xr

AXES = {
    "inputs": "inputs $P$",
    "tokens": "tokens $S$",
    "steps": "steps $T$",
    "layers": "layers $L$",
}


@dataclass(frozen=True)
class Config(Problem):
    """The base of the grid, and how far each size grows.

    Attributes:
        factors: each size is the base times these.
        repeats: timed passes of each size; their median counts.
        heads: heads of a population where the error is measured.
        replicates: independent populations of each.
    """

    task: str = "synthetic"
    inputs: Count = 2
    tokens: Count = 2
    dim: Count = 32
    steps: Count = 8
    samples: Count = 2000
    populations: Two = 2
    factors: Annotated[IncreasingSizes, Entries(2)] = (1, 2, 4, 8)
    repeats: Count = 3
    heads: Annotated[IncreasingSizes, Entries(2)] = (500, 1000, 2000, 4000)
    replicates: Four = 48


class CostOfTheLimit(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and passes that grow."""
        if cell.name == "error":
            largest = replace(config, samples=max(config.heads))
            return Cost(6.0 * len(config.heads), largest.limit_bytes())
        history = max(config.factors) * config.steps * 4
        work = 6e-9 * config.samples * config.head_dim * history**2
        passes = config.repeats * config.populations
        axis = cell.parameters["axis"]
        largest = replace(config, **{axis: max(config.factors) * getattr(config, axis)})
        return Cost(4.0 * len(config.factors) + passes * work, largest.limit_bytes())

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """Times along each axis, and errors."""
        return (*(Cell(f"time/{axis}", {"axis": axis}) for axis in AXES), Cell("error"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """What is checked."""
        return ("error",)

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Seconds of a population along one axis, or the scatter of predictions."""
        import xarray as xr

        if cell.name == "error":
            f = []
            for heads in config.heads:
                sized = replace(config, samples=heads)
                problem = sized.limit()
                method = sized.method(problem)
                solved = [
                    core.solve(problem, method, key=core.named_key(key, heads, i))
                    for i in range(config.replicates)
                ]
                f.append([one.predictions for one in solved])
            dims = ("heads", "replicate", "step", "sample")
            return xr.Dataset(
                {"predictions": (dims, np.array(f))},
                coords={"heads": list(config.heads)},
                attrs={"reference": REFERENCE},
            )
        axis = cell.parameters["axis"]
        seconds, told, sizes = [], [], []
        for factor in config.factors:
            sized = replace(config, **{axis: factor * getattr(config, axis)})
            problem = sized.limit()
            method = sized.method(problem)
            core.solve(problem, method, key=key)  # compiles
            row = []
            for repeat in range(config.repeats):
                start = time.perf_counter()
                core.solve(problem, method, key=core.named_key(key, factor, repeat))
                row.append((time.perf_counter() - start) / config.populations)
            seconds.append(row)
            told.append(float(problem.memory(method)))
            sizes.append(factor * getattr(config, axis))
        return xr.Dataset(
            {
                "seconds": (("size", "repeat"), seconds, {"units": "s"}),
                "memory": (("size",), told, {"units": "byte"}),
            },
            coords={"size": sizes},
            attrs={"reference": REFERENCE, "axis": axis},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The error of a population."""
        scatter = _scatter(results)
        return [
            Claim(
                name="error",
                statement="The scatter of predictions over populations falls like the inverse "
                "square root of the sampled heads.",
                prediction=-0.5,
                estimate=core.fit_rate(config.heads, scatter).estimate(),
                tol=0.15,
                reference=REFERENCE,
            )
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Times with their powers."""
        rows, curves = [], {}
        for axis, label in AXES.items():
            data = results[f"time/{axis}"]
            sizes = data["size"].values.astype(float)
            median = np.median(data["seconds"].values, axis=1)
            power = float(np.polyfit(np.log(sizes[-2:]), np.log(median[-2:]), 1)[0])
            curves[label] = (np.array(config.factors, float), median, power)
            for size, second, memory in zip(sizes, median, data["memory"].values, strict=True):
                rows.append((axis, int(size), float(second), float(memory) / 2**20, power))

        def draw(figure: Any) -> None:
            ax = figure.subplots()
            for i, (label, (factors, median, power)) in enumerate(curves.items()):
                marker, colour = figures.MARKERS[i] + "-", figures.COLOURS[i]
                text = f"{label}, last power {power:.2f}"
                ax.plot(factors, median, marker, color=colour, label=text)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            figures.finish(ax, xlabel="factor of the base size", ylabel="seconds a population")

        columns = ("axis", "size", "seconds", "MiB told", "power of the last pair")
        return [
            FigureSpec(
                name="cost",
                title="Cost of one population of the limit",
                caption=f"Medians of {config.repeats} timed passes after compilation on the "
                "machine of this run, not repeated elsewhere; base "
                f"P = {config.inputs}, S = {config.tokens}, T = {config.steps}, L = "
                f"{config.layers}, N = {config.head_dim}, {config.samples} heads.",
                draw=draw,
                table=Table(columns, tuple(rows)),
                shown=len(rows),
            )
        ]


def _scatter(results: Results) -> np.ndarray:
    """Distances of populations from their mean, rms over evaluations and inputs after the first."""
    f = results["error"]["predictions"].values[:, :, 1:]
    gap = f - f.mean(axis=1, keepdims=True)
    return np.sqrt(np.mean(gap**2, axis=(2, 3)))


EXPERIMENT = CostOfTheLimit(
    name="bordelon2024/dmft-cost",
    title="What the limit costs",
    summary="Time of one population against inputs, tokens, steps and layers, memory told before "
    "the solve, and the error against the number of sampled heads.",
    citations=("bordelon2024", "jax"),
    presets={
        "demo": Config(factors=(1, 2), samples=1000, heads=(500, 1000, 2000), replicates=24),
        "standard": Config(),
        "paper": Config(factors=(1, 2, 4, 8, 16), samples=8000, replicates=32),
    },
)
