r"""The covariance SDE explodes: where in the plane of gamma and tau0, and how often.

For two tokens the probability of an explosion ever has a closed form, and that before t = 1 solves
a backward equation: both on a grid of gamma^2 and tau0. Adaptive paths of the SDE at a few points,
with heads and projection among them, are held against it. Networks of finite width never explode:
how far they grow up to depth n stands beside.

Reference: documentation, "The shaped Transformer"; the explosion is not in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.checked import (
    BranchWeight,
    CheckedConfig,
    Distinct,
    OneOf,
    Positives,
    Sizes,
    Step,
    Two,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DISTANCE = 2.0
#: Case -> gamma^2, tau0, heads, projection.
CASES: Mapping[str, tuple[float, float, int, bool]] = {
    "one head": (0.25, 0.5, 1, False),
    "loud branch": (0.4, 0.5, 1, False),
    "two heads": (0.25, 0.5, 2, False),
    "two heads, projection": (0.25, 0.5, 2, True),
    "hot": (0.25, 1.0, 1, False),
}
#: Steps far from an explosion, where their error moves no path to one.
STEP = 0.02
#: Bias that the adaptive steps may leave.
TOLERANCE = 0.012


BranchWeights = Annotated[tuple[BranchWeight, ...], Distinct()]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        gamma_squares: grid of gamma^2.
        temperatures: grid of tau0.
        cases: of the paths.
        paths: of each case.
        adaptive: tolerance of their steps.
        dims: widths of the networks.
        networks: how many of each.
    """

    gamma_squares: BranchWeights = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
    temperatures: Positives = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0)
    cases: Annotated[tuple[str, ...], OneOf(tuple(CASES)), Distinct()] = tuple(CASES)
    paths: Two = 10_000
    adaptive: Step = 0.1
    dims: Sizes = (20, 80, 320)
    networks: Two = 2000


@dataclass(frozen=True)
class Map(ex.Arrays):
    """Probabilities of explosion."""

    gamma_square: Float[np.ndarray, " gamma_square"]
    tau0: Float[np.ndarray, " tau0"]
    ever: Float[np.ndarray, "gamma_square tau0"]
    early: Float[np.ndarray, "gamma_square tau0"]


@dataclass(frozen=True)
class Paths(ex.Arrays):
    """When paths explode, infinity where they do not."""

    blow_up_time: Float[np.ndarray, " path"]


@dataclass(frozen=True)
class Networks(ex.Arrays):
    """Growth of the trace up to depth n."""

    growth: Float[np.ndarray, " network"]


def compute_map(config: Config, at: ex.Alone, keys: ex.Keys) -> Map:
    """Closed form, and backward equation up to t = 1."""

    def probabilities(t1: float) -> np.ndarray:
        return np.array(
            [
                [
                    limits.shaped.explosion_probability(_block(square, tau0), DISTANCE, t1)
                    for tau0 in config.temperatures
                ]
                for square in config.gamma_squares
            ]
        )

    axes = np.array(config.gamma_squares), np.array(config.temperatures)
    return Map(*axes, ever=probabilities(np.inf), early=probabilities(1.0))


def compute_paths(config: Config, case: str, keys: ex.Keys) -> Paths:
    """Adaptive paths from two orthogonal unit tokens."""
    sde = limits.shaped.CovarianceSDE(block=_block(*CASES[case]), initial=np.eye(2), t1=1.0)
    method = limits.shaped.StructurePreserving(
        paths=config.paths, max_step=STEP, adaptive=config.adaptive
    )
    solution = core.solve(sde, method, key=keys.own, save=[1.0])
    return Paths(np.asarray(solution.blow_up_time))


def compute_networks(config: Config, dim: int, keys: ex.Keys) -> Networks:
    """Networks of n layers and width n from the same tokens."""
    block = _block(*CASES["one head"])
    chain = models.CompressedShapedTransformer(block=block, dim=dim, layers=dim)
    cov = np.asarray(chain.simulate(np.eye(2), key=keys.own, seeds=config.networks).cov)[:, -1]
    return Networks(np.trace(cov, axis1=1, axis2=2) / 2)


def _block(square: float, tau0: float, heads: int = 1, projection: bool = False) -> describe.Block:
    return describe.Block(gamma=square**0.5, tau0=tau0, heads=heads, projection=projection)


def _probability(case: str, t1: float = np.inf) -> float:
    """Of an explosion before t1."""
    return float(limits.shaped.explosion_probability(_block(*CASES[case]), DISTANCE, t1))


MAP = ex.Part(
    "map",
    Map,
    compute_map,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(0.15 * len(c.gamma_squares) * len(c.temperatures)),
)
PATHS = ex.Part(
    "paths/{case}",
    Paths,
    compute_paths,
    grid=lambda c: c.cases,
    # About a thousand steps for the slowest of a chunk of paths.
    cost=lambda c, case: ex.Cost(8 + 2e-3 * c.paths * (0.1 / c.adaptive) ** 2),
)
NETWORKS = ex.Part(
    "network/n={dim}",
    Networks,
    compute_networks,
    grid=lambda c: c.dims,
    cost=lambda c, dim: ex.Cost(10 + 4e-6 * dim * c.networks),
)


def _beyond(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """The largest probability of explosion from gamma^2 = 1/2 on."""
    data = found(MAP)
    return Estimate(float(data.ever[data.gamma_square >= 0.5].max()))


CLAIMS = (
    ex.Claims[Config, str](
        "paths-{case}",
        lambda found, case: (
            f"{case}: fraction of adaptive paths that explode before $t = 1$, "
            "against the two-token backward equation."
        ),
        estimate=lambda found, case: Estimate.from_samples(
            np.isfinite(found(PATHS, case).blow_up_time).astype(float)
        ),
        prediction=lambda found, case: _probability(case, 1.0),
        tol=TOLERANCE,
        over=lambda c: c.cases,
    ),
    ex.Claims(
        "heads-explode-more",
        "Less noise, the same drift: two heads explode with probability 0.4406 "
        "where one explodes with 0.3125 (ratio, closed form).",
        estimate=lambda found, at: Estimate(_probability("two heads") / _probability("one head")),
        prediction=0.4405956558 / 0.3125056189,
        tol=1e-6,
        over=ex.alone,
    ),
    ex.Claims(
        "threshold",
        "One head: no explosion at all from $\\gamma^2 = 1/2$ on (largest "
        "probability on the grid).",
        estimate=_beyond,
        prediction=0.0,
        tol=1e-12,
        over=ex.alone,
    ),
)


def _map_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    data = found(MAP)
    for i, square in enumerate(data.gamma_square):
        for j, tau0 in enumerate(data.tau0):
            yield (float(square), float(tau0), float(data.early[i, j]), float(data.ever[i, j]))


def _draw_map(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Shades with levels, and the line beyond which nothing explodes."""
    data = found(MAP)
    axes = canvas.subplots(1, 2, sharey=True)
    image = None
    for ax, values, title in zip(
        axes, (data.early, data.ever), ("before $t = 1$", "ever"), strict=True
    ):
        image = ax.pcolormesh(data.gamma_square, data.tau0, values.T, cmap="magma", vmin=0, vmax=1)
        lines = ax.contour(
            data.gamma_square, data.tau0, values.T, levels=[0.01, 0.1, 0.3], colors="white"
        )
        ax.clabel(lines, fmt="%g")
        ax.axvline(0.5, color="white", linestyle="--", linewidth=1)
        ax.set_yscale("log")
        ax.set_yticks(data.tau0, [f"{tau:g}" for tau in data.tau0])
        ax.minorticks_off()
        figures.finish(
            ax, xlabel="$\\gamma^2$", ylabel="temperature $\\tau_0$", title=title, legend=False
        )
        ax.grid(visible=False)
    if image is not None:
        canvas.colorbar(image, ax=axes, label="probability of explosion")


def _time_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case, paths in found.each(PATHS):
        times = paths.blow_up_time
        for t in np.linspace(0.1, 1.0, 10).tolist():
            fraction = float(np.mean(times <= t))
            error = float(np.sqrt(max(fraction * (1 - fraction), 1 / len(times)) / len(times)))
            yield (case, t, _probability(case, t), fraction, error)


def _growth_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for dim, networks in found.each(NETWORKS):
        for g in np.logspace(0.3, 3, 28).tolist():
            yield (dim, g, float(np.mean(networks.growth > g)))


def _draw_growth(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Tails, with bars of binomial errors."""
    ax = canvas.subplots()
    for series, dim in enumerate(found.config.dims):
        here = table.where({"width": dim})
        tail = here.numbers("probability")
        error = np.sqrt(np.maximum(tail * (1 - tail), 1e-12) / found.config.networks)
        ax.errorbar(
            here.numbers("growth"),
            np.where(tail > 0, tail, np.nan),
            yerr=error,
            color=figures.COLOURS[series],
            marker=figures.MARKERS[series],
            markersize=3,
            label=f"networks, $n = {dim}$",
        )
    never = _probability("one head", 1.0)
    ax.axhline(never, color=figures.LIMIT, label="SDE: probability of explosion")
    ax.set_xscale("log")
    ax.set_yscale("log")
    figures.finish(ax, xlabel="growth $g$ of the trace", ylabel="$P$(growth at depth $n$ > $g$)")


FIGURES = (
    ex.Figure(
        name="map",
        title="Where two tokens explode",
        caption="Probability that two orthogonal unit tokens ($D_0 = 2$, one head) explode before "
        "$t = 1$ (backward equation) and ever (closed form). To the right of the dashed line, "
        "$\\gamma^2 = 1/2$, it is zero. Dimensionless.",
        columns=("gamma^2", "tau0", "before 1", "ever"),
        rows=_map_rows,
        draw=_draw_map,
        shown=lambda found, table: len(table.rows),
        size=(9.0, 4.2),
    ),
    ex.Figure(
        name="times",
        title="When two tokens explode",
        caption="Fraction of {paths} adaptive paths that have exploded (points, bars of one "
        "standard error) and the backward equation (lines), from two orthogonal unit tokens. "
        "Dimensionless.",
        columns=("case", "t", "exact", "paths", "stderr"),
        rows=_time_rows,
        x="t",
        by="case",
        layers=(figures.line("exact", label="", dash=""), figures.points("paths", "stderr")),
        xlabel="depth / width $t$",
        ylabel="probability of explosion before $t$",
    ),
    ex.Figure(
        name="growth",
        title="What an explosion is to a finite network",
        caption="Tail of the growth of the trace over {networks} networks of $n$ layers and width "
        "$n$, bars of one standard error, $\\gamma^2 = 1/4$, $\\tau_0 = 1/2$. A network never "
        "explodes: it leaves the shaped regime and grows geometrically, so that its tail fills up "
        "to the SDE's probability of explosion (line) as it widens. Dimensionless.",
        columns=("width", "growth", "probability"),
        rows=_growth_rows,
        draw=_draw_growth,
        shown=lambda found, table: len(found.config.dims),
    ),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/explosion",
    title="The covariance SDE explodes with positive probability",
    summary="For two tokens the probability of explosion has a closed form, and a "
    "backward equation "
    "gives it at finite depth. Adaptive paths of the SDE, with heads and an output projection, are "
    "held against both; networks of finite width show what an explosion means for them.",
    citations=("noci2023", "jax"),
    presets={
        "demo": Config(
            gamma_squares=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
            temperatures=(0.25, 0.5, 1.0, 2.0),
            cases=("one head", "two heads"),
            paths=2000,
            adaptive=0.15,
            dims=(20, 80),
            networks=1000,
        ),
        "standard": Config(),
        "paper": Config(paths=100_000, adaptive=0.05, networks=20_000),
    },
    reference=core.reference("noci2023"),
    parts=(MAP, PATHS, NETWORKS),
    claims=CLAIMS,
    figures=FIGURES,
)
