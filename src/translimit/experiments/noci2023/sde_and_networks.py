r"""The covariance SDE beside networks of finite width, on synthetic and on real tokens.

- `limit/<start>`: paths of the SDE of the full block, stopped at a multiple of the initial trace.
- `network/<start>/n=...`: the exact covariance chain of networks of width n, stopped alike.

Both are compared at several ratios of depth to width. Stopping makes the comparison one of equals:
beyond an explosion the SDE has no state, while a network goes on.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits, models
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import (
    BranchWeight,
    CheckedConfig,
    Distinct,
    Increasing,
    IncreasingSizes,
    OneOf,
    Positive,
    Step,
    Two,
    Within,
)
from translimit.experiments.noci2023.starts import (
    REFERENCE,
    STARTS,
    correlations,
    initial_covariance,
    kolmogorov,
)

if TYPE_CHECKING:
    import xarray as xr

#: Largest distance of the laws at the largest width.
TOLERANCE = 0.035
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
Ratio = Annotated[float, Within(0, 1000, above=True)]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        starts: initial covariances.
        dims: widths of the networks, increasing.
        ratios: depth over width at which laws are compared, increasing; dims divide into them.
        networks: networks of each width.
        paths: paths of the SDE.
        step: of the SDE.
        gamma: branch weight of attention and MLP.
        tau0: temperature.
        stop: a path stops when its trace has grown by this factor.
    """

    starts: Annotated[tuple[str, ...], OneOf(STARTS), Distinct()] = STARTS
    dims: IncreasingSizes = (20, 60, 200)
    ratios: Annotated[tuple[Ratio, ...], Increasing()] = (0.1, 0.2, 0.3, 0.4, 0.5)
    networks: Two = 1000
    paths: Two = 4000
    step: Step = 0.01
    gamma: BranchWeight = 0.5
    tau0: Positive = 2.0
    stop: Annotated[float, Within(1, above=True)] = 10.0

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        for dim in self.dims:
            if any(abs(ratio * dim - round(ratio * dim)) > 1e-6 for ratio in self.ratios):
                raise core.ConfigError(
                    "ratios",
                    f"got {self.ratios} for dims = {self.dims}",
                    f"pass whole numbers of layers over each dimension, not so for {dim}",
                )


class SDEAndNetworks(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and layers: the MLP's hidden normals of every network."""
        ratio = config.ratios[-1]
        if cell.name.startswith("limit"):
            return Cost(8.0 + 1e-5 * config.paths * ratio / config.step)
        return Cost(8.0 + 2e-7 * ratio * cell.parameters["dim"] ** 2 * config.networks)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """For each start the limit and the networks."""
        cells = []
        for start in config.starts:
            cells.append(Cell(f"limit/{start}", {"start": start}))
            cells += [
                Cell(f"network/{start}/n={n}", {"start": start, "dim": n}) for n in config.dims
            ]
        return tuple(cells)

    def claim_names(self) -> tuple[str, ...]:
        """Two observables of every start."""
        return tuple(f"{start}-{name}" for start in STARTS for name in ("correlation", "norm"))

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Covariances at all ratios, in float64."""
        import xarray as xr

        start = initial_covariance(cell.parameters["start"])
        stop = config.stop * float(np.trace(start))
        block = _block(config)
        if cell.name.startswith("limit"):
            sde = limits.shaped.CovarianceSDE(
                block=block, initial=start, t1=config.ratios[-1], stop_trace=stop
            )
            method = limits.shaped.StructurePreserving(
                paths=config.paths, step=min(config.step, 0.01), bounded=True
            )
            cov = core.solve(sde, method, key=key, save=[0.0, *config.ratios]).cov
        else:
            dim = cell.parameters["dim"]
            depths = np.array([round(ratio * dim) for ratio in config.ratios])
            every = int(np.gcd.reduce(depths))
            chain = models.CompressedShapedTransformer(block=block, dim=dim, layers=int(depths[-1]))
            cov = chain.simulate(
                start, key=key, seeds=config.networks, save_every=every, stop_trace=stop
            )[:, np.concatenate([[0], depths]) // every]
        first, second = _pair(start)
        return xr.Dataset(
            {
                "correlation": (
                    ("sample", "ratio"),
                    correlations(cov)[:, :, first, second],
                    {"long_name": f"correlation of tokens {first} and {second}"},
                ),
                "norm": (
                    ("sample", "ratio"),
                    np.log(cov[:, :, 0, 0]),
                    {"long_name": "$\\log V_{00}$"},
                ),
                "stopped": (("sample",), np.trace(cov[:, -1], axis1=1, axis2=2) > stop),
            },
            coords={"ratio": ("ratio", [0.0, *config.ratios], {"long_name": "depth / width $t$"})},
            attrs={"reference": REFERENCE, **cell.parameters},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The laws at the last ratio agree at the largest width."""
        claims = []
        dim = config.dims[-1]
        for start in config.starts:
            limit, network = results[f"limit/{start}"], results[f"network/{start}/n={dim}"]
            for name in ("correlation", "norm"):
                distance, floor, spread = kolmogorov(
                    network[name][:, -1].values, limit[name][:, -1].values
                )
                claims.append(
                    Claim(
                        name=f"{start}-{name}",
                        statement=f"{start}: at depth / width {config.ratios[-1]:g} the law of "
                        f"{limit[name].attrs['long_name']} over networks of width {dim} is that of "
                        "the stopped SDE (Kolmogorov distance beyond its mean for equal laws).",
                        prediction=0.0,
                        estimate=Estimate(distance - floor, spread, config.networks),
                        tol=TOLERANCE,
                        one_sided=True,
                        reference=REFERENCE,
                    )
                )
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Densities, trajectories with bands, and distances against width."""
        return [
            _figure_densities(config, results),
            _figure_trajectories(config, results),
            _figure_distances(config, results),
        ]


def _block(config: Config) -> describe.Block:
    return describe.Block(
        gamma=config.gamma, tau0=config.tau0, mlp=describe.ShapedMLP(gamma=config.gamma)
    )


def _pair(start: np.ndarray) -> tuple[int, int]:
    """The first token and the first other that is not equal to it."""
    rho = correlations(start)
    return 0, next(b for b in range(1, len(start)) if rho[0, b] < 1 - 1e-9)


def _figure_densities(config: Config, results: Results) -> FigureSpec:
    shown = (len(config.ratios) // 2, len(config.ratios))
    bins = np.linspace(-1, 1, 41)
    dim = config.dims[-1]
    rows = []
    for start in config.starts:
        for index in shown:
            limit = np.histogram(
                results[f"limit/{start}"]["correlation"][:, index], bins, density=True
            )
            network = results[f"network/{start}/n={dim}"]["correlation"][:, index]
            finite = np.histogram(network, bins, density=True)
            error = np.sqrt(np.histogram(network, bins)[0]) / (len(network) * np.diff(bins))
            ratio = float(results[f"limit/{start}"]["ratio"][index])
            rows += [
                (start, ratio, float(x), float(a), float(b), float(e))
                for x, a, b, e in zip(
                    (bins[1:] + bins[:-1]) / 2, limit[0], finite[0], error, strict=True
                )
            ]

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(config.starts), squeeze=False, sharex=True)[0]
        for ax, start in zip(axes, config.starts, strict=True):
            for series, index in enumerate(shown):
                ratio = float(results[f"limit/{start}"]["ratio"][index])
                here = np.array([row[2:] for row in rows if row[:2] == (start, ratio)])
                colour = figures.COLOURS[series]
                ax.step(
                    here[:, 0],
                    here[:, 1],
                    where="mid",
                    color=colour,
                    linestyle=figures.DASHES[series],
                    label=f"SDE, $t = {ratio:g}$",
                )
                ax.errorbar(
                    here[:, 0],
                    here[:, 2],
                    yerr=here[:, 3],
                    fmt=figures.MARKERS[series],
                    color=colour,
                    markersize=3,
                    linewidth=0.8,
                    label=f"networks, $t = {ratio:g}$",
                )
            name = results[f"limit/{start}"]["correlation"].attrs["long_name"]
            figures.finish(
                ax, xlabel=name, ylabel="density", title=start, legend=start == config.starts[0]
            )

    return FigureSpec(
        name="densities",
        title="Densities of a correlation at final depth",
        caption=f"Correlation of two tokens over {config.networks} networks of width "
        f"{dim} (points, "
        f"bars of one standard error) and {config.paths} stopped paths of the SDE (steps), at two "
        "ratios of depth to width. Nothing is fitted. Dimensionless.",
        draw=draw,
        table=Table(
            ("start", "depth / width", "correlation", "SDE", "networks", "stderr"), tuple(rows)
        ),
        shown=len(config.starts) * len(shown),
        size=(10.0, 3.8),
    )


def _figure_trajectories(config: Config, results: Results) -> FigureSpec:
    dim = config.dims[-1]
    rows = []
    for start in config.starts:
        limit = results[f"limit/{start}"]["correlation"].values
        network = results[f"network/{start}/n={dim}"]["correlation"].values
        for index, ratio in enumerate((0.0, *config.ratios)):
            rows.append(
                (
                    start,
                    ratio,
                    *np.quantile(limit[:, index], LEVELS).tolist(),
                    float(limit[:, index].mean()),
                    float(network[:, index].mean()),
                    float(network[:, index].std() / len(network) ** 0.5),
                )
            )

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(config.starts), squeeze=False, sharey=True)[0]
        for ax, start in zip(axes, config.starts, strict=True):
            here = np.array([row[1:] for row in rows if row[0] == start])
            t = here[:, 0]
            ax.fill_between(
                t,
                here[:, 1],
                here[:, 5],
                color=figures.COLOURS[0],
                alpha=0.15,
                label="SDE, 10-90 %",
            )
            ax.fill_between(
                t, here[:, 2], here[:, 4], color=figures.COLOURS[0], alpha=0.3, label="SDE, 25-75 %"
            )
            ax.plot(t, here[:, 6], color=figures.LIMIT, label="SDE, mean")
            ax.errorbar(
                t,
                here[:, 7],
                yerr=here[:, 8],
                fmt="o",
                color=figures.COLOURS[1],
                markersize=4,
                capsize=2,
                label=f"networks, $n = {dim}$",
            )
            name = results[f"limit/{start}"]["correlation"].attrs["long_name"]
            figures.finish(
                ax,
                xlabel="depth / width $t$",
                ylabel=name,
                title=start,
                legend=start == config.starts[0],
            )

    return FigureSpec(
        name="trajectories",
        title="A correlation along depth",
        caption=f"Mean over {config.networks} networks of width {dim} (points, bars of "
        "one standard "
        f"error) and mean with quantile bands of {config.paths} stopped paths of the SDE. "
        "Dimensionless.",
        draw=draw,
        table=Table(
            (
                "start",
                "depth / width",
                "q10",
                "q25",
                "q50",
                "q75",
                "q90",
                "SDE mean",
                "networks",
                "stderr",
            ),
            tuple(rows),
        ),
        shown=len(config.starts),
        size=(10.0, 3.8),
    )


def _figure_distances(config: Config, results: Results) -> FigureSpec:
    rows = []
    for start in config.starts:
        limit = results[f"limit/{start}"]["correlation"][:, -1].values
        for dim in config.dims:
            network = results[f"network/{start}/n={dim}"]["correlation"][:, -1].values
            distance, floor, spread = kolmogorov(network, limit)
            rows.append((start, dim, distance, spread, floor))

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, start in enumerate(config.starts):
            here = np.array([row[1:] for row in rows if row[0] == start])
            ax.errorbar(
                here[:, 0],
                here[:, 1],
                yerr=here[:, 2],
                fmt=figures.MARKERS[series] + "-",
                color=figures.COLOURS[series],
                capsize=3,
                label=start,
            )
        ax.axhline(
            rows[0][4], color=figures.LIMIT, linestyle="--", label="mean distance of equal laws"
        )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(config.dims, [str(n) for n in config.dims])
        ax.minorticks_off()
        figures.finish(ax, xlabel="width $n$", ylabel="Kolmogorov distance to the SDE")

    return FigureSpec(
        name="distances",
        title="Distance of the laws against width",
        caption="Kolmogorov distance between the correlation over networks and over "
        "paths of the SDE "
        f"at depth / width {config.ratios[-1]:g}; bars: the standard deviation that the "
        "distance has "
        "when both laws are equal, dashed: its mean then, below which nothing can be seen.",
        draw=draw,
        table=Table(("start", "width", "distance", "spread", "floor"), tuple(rows)),
        shown=len(rows),
    )


EXPERIMENT = SDEAndNetworks(
    name="noci2023/sde-and-networks",
    title="The covariance SDE beside networks",
    summary="Depth and width of a shaped Transformer grow together: the covariance of its tokens "
    "tends to a stochastic process. Laws over networks of growing width are held against it at "
    "several ratios of depth to width, from synthetic tokens, patches of digits and bytes of text.",
    citations=("noci2023", "li2022", "digits", "jax"),
    presets={
        "demo": Config(starts=("synthetic",), dims=(20, 100), networks=1000, paths=4000),
        "standard": Config(),
        "paper": Config(dims=(20, 60, 200, 600), networks=10_000, paths=40_000, step=0.005),
    },
)
