r"""Kernels over the tokens of one sample, before and after training, with few heads and with many.

<h_s h_t> over the tokens s, t of one digit, after the last block, and the same of the gradient
before the first. The spatial kernel of one network has a limit along H as the pooled ones do:
its variance over networks is of order 1 / H, before and after training.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import data, train
from translimit.core import Claim
from translimit.experiments.base import AbstractExperiment, Cell, Cost, FigureSpec, Results
from translimit.experiments.bordelon2024 import vit_and_lm as common
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Entries,
    Four,
    IncreasingSizes,
    Positive,
    Within,
)
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    import xarray as xr

#: Name, level and title of the kernels that are drawn.
KERNELS = (("spatial_kernel", -1, "stream"), ("spatial_gradient_kernel", 0, "gradient"))


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes and training.

    Attributes:
        head_dim: N.
        heads: values of H, increasing; the last is the reference.
        layers: L.
        beta0: factor of the branches.
        gamma0: richness.
        eta0: base rate of SGD with momentum 0.9.
        steps: updates.
        seeds: networks of each size, at least 4.
        batch: images of an update.
        sample: which image of the probe.
    """

    head_dim: Count = 4
    heads: Annotated[IncreasingSizes, Entries(3)] = (2, 4, 8, 16, 32)
    layers: Count = 2
    beta0: Positive = 4.0
    gamma0: Positive = 1.0
    eta0: Positive = 0.05
    steps: Count = 300
    seeds: Four = 16
    batch: Count = 32
    sample: Annotated[int, Within(0, data.DIGITS - 1)] = 0


class SpatialKernels(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and floating-point operations at 10 a nanosecond."""
        tokens = config.seeds * config.steps * config.batch * 8
        width = config.head_dim * cell.parameters["heads"]
        memory = ensemble_bytes(
            (config.head_dim, cell.parameters["heads"], config.layers),
            members=config.seeds,
            batch=config.batch,
            tokens=8,
            outputs=10,
            slots=1,
        )
        return Cost(8 + 36 * config.layers * width**2 * tokens / 1e10, memory)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each number of heads."""
        return tuple(Cell(f"H={heads}", {"heads": heads}) for heads in config.heads)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """The rate of each kernel before and after training."""
        return tuple(f"{title}-{word}" for _, _, title in KERNELS for word in common.WHEN)

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Train all seeds of one number of heads."""
        size = (config.head_dim, cell.parameters["heads"], config.layers)
        shape = common.bare_shape(size, tokens=8, outputs=10, patch_dim=8)
        numbers = common.numbers(size, "momentum", 1.0, 1.0, config.beta0, config.gamma0, 8)
        training = train.Training(
            steps=config.steps,
            rates=(config.eta0,),
            seeds=config.seeds,
            batch=config.batch,
            optimizer=train.Optimizer("momentum"),
        )
        history = train.train(
            shape,
            numbers,
            data.digit_patches(),
            training,
            key=key,
            observe=tuple(
                train.StreamKernel(pooled=False, sample=config.sample, gradient=gradient)
                for gradient in (False, True)
            ),
            observe_at=(0, config.steps),
            probe=config.sample + 1,
        )
        found = history.to_xarray().isel(rate=0, drop=True)
        return found.assign_attrs(reference=common.REFERENCE)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Variances over networks fall like 1 / H."""
        found: list[Claim] = []
        for name, level, title in KERNELS:
            for when, word in enumerate(common.WHEN):
                found += common.rate_claim(
                    f"{title}-{word}",
                    f"The variance over networks of the spatial {title} kernel falls like $1/H$ "
                    f"{word} training.",
                    common.squared_rate(
                        config.heads, _fluctuations(config, results, name, level, when)
                    ),
                    -1.0,
                    0.4 if when == 0 else 0.5,
                )
        return found

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """The kernels, and their convergence."""
        return [_maps(config, results), _rates(config, results)]


def _kernels(dataset: xr.Dataset, name: str, level: int, when: int) -> np.ndarray:
    return dataset[name].isel(observation=when, level=level).values.astype(float)


def _fluctuations(
    config: Config, results: Results, name: str, level: int, when: int
) -> list[np.ndarray]:
    cells = [results[f"H={heads}"] for heads in config.heads]
    return [common.fluctuations(_kernels(cell, name, level, when)) for cell in cells]


def _maps(config: Config, results: Results) -> FigureSpec:
    rows: list[tuple] = [("kernel", "H", "training", "mean diagonal", "mean off the diagonal")]
    panels = []
    for name, level, title in KERNELS:
        for heads in (config.heads[0], config.heads[-1]):
            for when, word in enumerate(common.WHEN):
                kernel = _kernels(results[f"H={heads}"], name, level, when)[0]
                panels.append((f"{title}, $H$ = {heads}, {word}", kernel))
                off = float(kernel[~np.eye(len(kernel), dtype=bool)].mean())
                rows.append((title, heads, word, float(np.diagonal(kernel).mean()), off))

    def draw(figure: Any) -> None:
        common.draw_heat_maps(figure, panels, 4)

    return common.spec(
        "kernels",
        "Spatial kernels of one digit",
        "$\\langle h_s h_t \\rangle$ over the tokens of one image after the last block, and that "
        "of the gradient of output 0 before the first, for one network. A scale for each panel.",
        draw,
        rows,
        size=(11.0, 5.2),
    )


def _rates(config: Config, results: Results) -> FigureSpec:
    rows: list[tuple] = [("kernel", "training", "H", "variance", "stderr")]
    panels = []
    for name, level, title in KERNELS:
        series = {}
        for when, word in enumerate(common.WHEN):
            series[word] = _fluctuations(config, results, name, level, when)
            for heads, row in zip(config.heads, series[word], strict=True):
                error = float((row**2).std(ddof=1) / len(row) ** 0.5)
                rows.append((title, word, heads, float(np.mean(row**2)), error))
        panels.append((title, series))

    def draw(figure: Any) -> None:
        for ax, (title, series) in zip(figure.subplots(1, 2), panels, strict=True):
            common.draw_rates(
                ax,
                config.heads,
                series,
                -1.0,
                xlabel=common.LONG["H"],
                ylabel=f"variance over networks, {title} kernel",
            )

    return common.spec(
        "rates",
        "Convergence of spatial kernels",
        "Relative squared distance (Frobenius) of one network's spatial kernel from the mean over "
        "seeds of its size. Error bars: standard errors over seeds; rates with 95 % "
        "intervals by bootstrap over seeds.",
        draw,
        rows,
        size=(10.0, 4.2),
    )


EXPERIMENT = SpatialKernels(
    name="bordelon2024/spatial-kernels",
    title="Spatial kernels of one sample, before and after training",
    summary="Kernels over the tokens of one digit in networks of growing $H$, in the paper's "
    "parameterization: they concentrate like $1/H$ before and after training.",
    citations=("bordelon2024", "digits", "jax"),
    presets={
        "demo": Config(heads=(2, 4, 16), steps=60),
        "standard": Config(seeds=48),
        "paper": Config(
            head_dim=16,
            heads=(4, 8, 16, 32, 64),
            layers=4,
            gamma0=0.1,
            steps=2000,
        ),
    },
)
