r"""The covariance SDE beside networks of finite width, on synthetic and on real tokens.

Paths of the SDE of the full block, and the exact covariance chain of networks of width n, are
compared at several ratios of depth to width. Both are stopped at a multiple of the initial trace,
which makes the comparison one of equals: beyond an explosion the SDE has no state, while a network
goes on.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models
from translimit.core import Estimate
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
    STARTS,
    correlations,
    initial_covariance,
    kolmogorov,
)

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

    @property
    def largest(self) -> int:
        """The largest width."""
        return self.dims[-1]

    @property
    def last(self) -> float:
        """The last ratio."""
        return self.ratios[-1]


@dataclass(frozen=True)
class Law(ex.Arrays):
    """Two observables of the covariance, sample by sample."""

    ratio: Annotated[Float[np.ndarray, " ratio"], "depth / width $t$"]
    correlation: Annotated[Float[np.ndarray, "sample ratio"], "correlation of the pair"]
    norm: Annotated[Float[np.ndarray, "sample ratio"], "$\\log V_{00}$"]
    stopped: Bool[np.ndarray, " sample"]
    pair: str

    def last(self, observable: str) -> Float[np.ndarray, " sample"]:
        """An observable at the last ratio."""
        return (self.correlation if observable == "correlation" else self.norm)[:, -1]


def compute_limit(config: Config, start: str, keys: ex.Keys) -> Law:
    """Paths of the SDE, in float64."""
    cov = initial_covariance(start)
    sde = limits.shaped.CovarianceSDE(
        block=_block(config),
        initial=cov,
        t1=config.last,
        stop_trace=config.stop * float(np.trace(cov)),
    )
    method = limits.shaped.StructurePreserving(
        paths=config.paths, max_step=min(config.step, 0.01), bounded=True
    )
    solution = core.solve(sde, method, key=keys.own, save=[0.0, *config.ratios])
    return _law(config, cov, np.asarray(solution.cov))


def compute_networks(config: Config, at: tuple[str, int], keys: ex.Keys) -> Law:
    """The covariance chain of networks of one width, in float64."""
    start, dim = at
    cov = initial_covariance(start)
    depths = np.array([round(ratio * dim) for ratio in config.ratios])
    every = int(np.gcd.reduce(depths))
    chain = models.CompressedShapedTransformer(
        block=_block(config), dim=dim, layers=int(depths[-1])
    )
    stop = config.stop * float(np.trace(cov))
    networks = chain.simulate(
        cov, key=keys.own, seeds=config.networks, save_every=every, stop_trace=stop
    )
    return _law(config, cov, np.asarray(networks.cov)[:, np.concatenate([[0], depths]) // every])


def _block(config: Config) -> describe.Block:
    mlp = describe.ShapedMLP(gamma=config.gamma)
    return describe.Block(gamma=config.gamma, tau0=config.tau0, mlp=mlp)


def _law(config: Config, start: np.ndarray, cov: np.ndarray) -> Law:
    """Correlation of the first token with the first other that is not equal to it, and its norm."""
    rho = correlations(start)
    other = next(b for b in range(1, len(start)) if rho[0, b] < 1 - 1e-9)
    return Law(
        ratio=np.array([0.0, *config.ratios]),
        correlation=correlations(cov)[:, :, 0, other],
        norm=np.log(cov[:, :, 0, 0]),
        stopped=np.trace(cov[:, -1], axis1=1, axis2=2) > config.stop * float(np.trace(start)),
        pair=f"correlation of tokens 0 and {other}",
    )


LIMIT = ex.Part(
    "limit/{start}",
    Law,
    compute_limit,
    grid=lambda c: c.starts,
    cost=lambda c, start: ex.Cost(8.0 + 1e-5 * c.paths * c.last / c.step),
)
NETWORK = ex.Part(
    "network/{start}/n={dim}",
    Law,
    compute_networks,
    grid=lambda c: [(start, dim) for start in c.starts for dim in c.dims],
    # Compilation, and layers: the MLP's hidden normals of every network.
    cost=lambda c, at: ex.Cost(8.0 + 2e-7 * c.last * at[1] ** 2 * c.networks),
)


def _both(found: ex.Found[Config], start: str, dim: int | None = None) -> tuple[Law, Law]:
    """The law of the SDE, and that of networks (of the largest width by default)."""
    return found(LIMIT, start), found(NETWORK, (start, dim or found.config.largest))


def _distance(found: ex.Found[Config], at: tuple[str, str]) -> Estimate:
    """Kolmogorov distance at the last ratio beyond its mean for equal laws."""
    start, observable = at
    law, networks = (one.last(observable) for one in _both(found, start))
    distance, floor, spread = kolmogorov(networks, law)
    return Estimate(distance - floor, spread, found.config.networks)


def _statement(found: ex.Found[Config], at: tuple[str, str]) -> str:
    start, observable = at
    name = found(LIMIT, start).pair if observable == "correlation" else "$\\log V_{00}$"
    return (
        f"{start}: at depth / width {found.config.last:g} the law of {name} over networks of "
        f"width {found.config.largest} is that of the stopped SDE (Kolmogorov distance beyond its "
        "mean for equal laws)."
    )


SAME_LAW = ex.Claims(
    "{start}-{observable}",
    _statement,
    estimate=_distance,
    prediction=0.0,
    tol=TOLERANCE,
    one_sided=True,
    over=lambda c: [(start, name) for start in c.starts for name in ("correlation", "norm")],
)


def _densities(found: ex.Found[Config]) -> Iterator[figures.Row]:
    bins = np.linspace(-1, 1, 41)
    for start in found.config.starts:
        law, networks = _both(found, start)
        for index in (len(found.config.ratios) // 2, len(found.config.ratios)):
            values = networks.correlation[:, index]
            columns = (
                (bins[1:] + bins[:-1]) / 2,
                np.histogram(law.correlation[:, index], bins, density=True)[0],
                np.histogram(values, bins, density=True)[0],
                np.sqrt(np.histogram(values, bins)[0]) / (len(values) * np.diff(bins)),
            )
            for row in zip(*columns, strict=True):
                yield (start, float(law.ratio[index]), *map(float, row))


def _trajectories(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for start in found.config.starts:
        law, networks = (one.correlation for one in _both(found, start))
        for index, ratio in enumerate((0.0, *found.config.ratios)):
            quantiles = np.quantile(law[:, index], LEVELS).tolist()
            mean, values = float(law[:, index].mean()), networks[:, index]
            stderr = float(values.std() / len(values) ** 0.5)
            yield (start, ratio, *quantiles, mean, float(values.mean()), stderr)


def _distances(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for start, dim in NETWORK.points(found.config):
        law, networks = (one.correlation[:, -1] for one in _both(found, start, dim))
        distance, floor, spread = kolmogorov(networks, law)
        yield (start, dim, distance, spread, floor)


DENSITIES = ex.Figure(
    name="densities",
    title="Densities of a correlation at final depth",
    caption="Correlation of two tokens over {networks} networks of width {largest} (points, bars "
    "of one standard error) and {paths} stopped paths of the SDE (steps), at two ratios of depth "
    "to width. Nothing is fitted. Dimensionless.",
    columns=("start", "depth / width", "correlation", "SDE", "networks", "stderr"),
    rows=_densities,
    x="correlation",
    by="depth / width",
    panels="start",
    layers=(
        figures.steps("SDE", label="SDE, $t = {}$"),
        figures.points("networks", "stderr", label="networks, $t = {}$"),
    ),
    ylabel="density",
    size=(10.0, 3.8),
)
TRAJECTORIES = ex.Figure(
    name="trajectories",
    title="A correlation along depth",
    caption="Mean over {networks} networks of width {largest} (points, bars of one standard error) "
    "and mean with quantile bands of {paths} stopped paths of the SDE. Dimensionless.",
    columns=(
        *("start", "depth / width", "q10", "q25", "q50", "q75", "q90"),
        *("SDE mean", "networks", "stderr"),
    ),
    rows=_trajectories,
    x="depth / width",
    panels="start",
    layers=(
        figures.band("q10", "q90", label="SDE, 10-90 %", opacity=0.15),
        figures.band("q25", "q75", label="SDE, 25-75 %", opacity=0.3),
        figures.line("SDE mean", label="SDE, mean", series=None),
        figures.points("networks", "stderr", label="networks", series=1),
    ),
    xlabel="depth / width $t$",
    ylabel="correlation",
    size=(10.0, 3.8),
)
DISTANCES = ex.Figure(
    name="distances",
    title="Distance of the laws against width",
    caption="Kolmogorov distance between the correlation over networks and over paths of the SDE "
    "at depth / width {last:g}; bars: the standard deviation that the distance has when both laws "
    "are equal, dashed: its mean then, below which nothing can be seen.",
    columns=("start", "width", "distance", "spread", "floor"),
    rows=_distances,
    x="width",
    by="start",
    layers=(
        figures.points("distance", "spread", joined=True),
        figures.level("floor", label="mean distance of equal laws", dash="6 3"),
    ),
    xlabel="width $n$",
    ylabel="Kolmogorov distance to the SDE",
    log="xy",
    ticks=True,
)

EXPERIMENT = ex.Experiment(
    name="noci2023/sde-and-networks",
    title="The covariance SDE beside networks",
    summary="Depth and width of a shaped Transformer grow together: the covariance of its tokens "
    "tends to a stochastic process. Laws over networks of growing width are held against it at "
    "several ratios of depth to width, from synthetic tokens, patches of digits and bytes of text.",
    citations=("noci2023", "li2022", "digits", "jax"),
    reference=core.reference("noci2023"),
    presets={
        "demo": Config(starts=("synthetic",), dims=(20, 100), networks=1000, paths=4000),
        "standard": Config(),
        "paper": Config(dims=(20, 60, 200, 600), networks=10_000, paths=40_000, step=0.005),
    },
    parts=(LIMIT, NETWORK),
    claims=(SAME_LAW,),
    figures=(DENSITIES, TRAJECTORIES, DISTANCES),
)
