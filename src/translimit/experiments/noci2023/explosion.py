r"""The covariance SDE explodes: where in the plane of gamma and tau0, and how often.

- `map`: two tokens, probability of explosion ever (closed form) and before t = 1 (backward
  equation) on a grid of gamma^2 and tau0.
- `paths/<case>`: adaptive paths of the SDE at a few points, with heads and projection among them.
- `network/n=...`: networks of finite width never explode: their largest growth up to depth n.

Reference: documentation, "The shaped Transformer"; the explosion is not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    OneOf,
    Positives,
    Sizes,
    Step,
    Two,
)
from translimit.experiments.noci2023.starts import REFERENCE

if TYPE_CHECKING:
    import xarray as xr

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


class Explosion(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Backward equations, and about a thousand steps for the slowest of a chunk of paths."""
        if cell.name == "map":
            return Cost(0.15 * len(config.gamma_squares) * len(config.temperatures))
        if cell.name.startswith("paths"):
            return Cost(8 + 2e-3 * config.paths * (0.1 / config.adaptive) ** 2)
        return Cost(10 + 4e-6 * cell.parameters["dim"] * config.networks)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The map, the cases, the networks."""
        paths = tuple(Cell(f"paths/{case}", {"case": case}) for case in config.cases)
        networks = tuple(Cell(f"network/n={n}", {"dim": n}) for n in config.dims)
        return (Cell("map"), *paths, *networks)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """One for each case, more heads, and the threshold."""
        return (*(f"paths-{case}" for case in CASES), "heads-explode-more", "threshold")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Probabilities, blow-up times or growth."""
        import xarray as xr

        attrs = {"reference": REFERENCE, **cell.parameters}
        if cell.name == "map":
            return _map(config)
        if cell.name.startswith("paths"):
            sde = limits.shaped.CovarianceSDE(
                block=_block(*CASES[cell.parameters["case"]]), initial=np.eye(2), t1=1.0
            )
            method = limits.shaped.StructurePreserving(
                paths=config.paths, max_step=STEP, adaptive=config.adaptive
            )
            solution = core.solve(sde, method, key=key, save=[1.0])
            return xr.Dataset({"blow_up_time": (("path",), solution.blow_up_time)}, attrs=attrs)
        dim = cell.parameters["dim"]
        chain = models.CompressedShapedTransformer(
            block=_block(*CASES["one head"]), dim=dim, layers=dim
        )
        cov = chain.simulate(np.eye(2), key=key, seeds=config.networks).cov[:, -1]
        growth = np.trace(cov, axis1=1, axis2=2) / 2
        return xr.Dataset({"growth": (("network",), growth)}, attrs=attrs)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Paths against the backward equation; heads; where explosion ends."""
        claims = []
        for case in config.cases:
            exploded = np.isfinite(results[f"paths/{case}"]["blow_up_time"].values)
            exact = limits.shaped.explosion_probability(_block(*CASES[case]), DISTANCE, 1.0)
            claims.append(
                Claim(
                    name=f"paths-{case}",
                    statement=f"{case}: fraction of adaptive paths that explode before $t = 1$, "
                    "against the two-token backward equation.",
                    prediction=exact,
                    estimate=Estimate.from_samples(exploded.astype(float)),
                    tol=TOLERANCE,
                    reference=REFERENCE,
                )
            )
        data = results["map"]
        beyond = data["ever"].sel(gamma_square=data["gamma_square"] >= 0.5)
        one, two = (
            limits.shaped.explosion_probability(_block(*CASES[case]), DISTANCE)
            for case in ("one head", "two heads")
        )
        return [
            *claims,
            Claim(
                name="heads-explode-more",
                statement="Less noise, the same drift: two heads explode with probability 0.4406 "
                "where one explodes with 0.3125 (ratio, closed form).",
                prediction=0.4405956558 / 0.3125056189,
                estimate=Estimate(two / one),
                tol=1e-6,
                reference=REFERENCE,
            ),
            Claim(
                name="threshold",
                statement="One head: no explosion at all from $\\gamma^2 = 1/2$ on (largest "
                "probability on the grid).",
                prediction=0.0,
                estimate=Estimate(float(beyond.max())),
                tol=1e-12,
                reference=REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """The two maps, the times of explosion, and the growth of networks."""
        return [
            _figure_map(results),
            _figure_times(config, results),
            _figure_growth(config, results),
        ]


def _block(square: float, tau0: float, heads: int = 1, projection: bool = False) -> describe.Block:
    return describe.Block(gamma=square**0.5, tau0=tau0, heads=heads, projection=projection)


def _map(config: Config) -> xr.Dataset:
    import xarray as xr

    shape = (len(config.gamma_squares), len(config.temperatures))
    probabilities = {
        name: np.array(
            [
                [
                    limits.shaped.explosion_probability(_block(square, tau0), DISTANCE, t1)
                    for tau0 in config.temperatures
                ]
                for square in config.gamma_squares
            ]
        ).reshape(shape)
        for name, t1 in (("ever", np.inf), ("early", 1.0))
    }
    return xr.Dataset(
        {name: (("gamma_square", "tau0"), value) for name, value in probabilities.items()},
        coords={"gamma_square": list(config.gamma_squares), "tau0": list(config.temperatures)},
        attrs={"reference": REFERENCE},
    )


def _figure_map(results: Results) -> FigureSpec:
    data = results["map"]
    titles = {"early": "before $t = 1$", "ever": "ever"}

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        image = None
        for ax, (name, title) in zip(axes, titles.items(), strict=True):
            image = ax.pcolormesh(
                data["gamma_square"], data["tau0"], data[name].T, cmap="magma", vmin=0, vmax=1
            )
            levels = [0.01, 0.1, 0.3]
            lines = ax.contour(
                data["gamma_square"], data["tau0"], data[name].T, levels=levels, colors="white"
            )
            ax.clabel(lines, fmt="%g")
            ax.axvline(0.5, color="white", linestyle="--", linewidth=1)
            ax.set_yscale("log")
            ax.set_yticks(data["tau0"].values, [f"{tau:g}" for tau in data["tau0"].values])
            ax.minorticks_off()
            figures.finish(
                ax, xlabel="$\\gamma^2$", ylabel="temperature $\\tau_0$", title=title, legend=False
            )
            ax.grid(visible=False)
        figure.colorbar(image, ax=axes, label="probability of explosion")

    rows = tuple(
        (float(square), float(tau0), float(data["early"][i, j]), float(data["ever"][i, j]))
        for i, square in enumerate(data["gamma_square"].values)
        for j, tau0 in enumerate(data["tau0"].values)
    )
    return FigureSpec(
        name="map",
        title="Where two tokens explode",
        caption="Probability that two orthogonal unit tokens ($D_0 = 2$, one head) explode before "
        "$t = 1$ (backward equation) and ever (closed form). To the right of the dashed line, "
        "$\\gamma^2 = 1/2$, it is zero. Dimensionless.",
        draw=draw,
        table=Table(("gamma^2", "tau0", "before 1", "ever"), rows),
        shown=len(rows),
        size=(9.0, 4.2),
    )


def _figure_times(config: Config, results: Results) -> FigureSpec:
    ts = np.linspace(0.1, 1.0, 10)
    rows = []
    for case in config.cases:
        times = results[f"paths/{case}"]["blow_up_time"].values
        for t in ts:
            fraction = float(np.mean(times <= t))
            error = float(np.sqrt(max(fraction * (1 - fraction), 1 / len(times)) / len(times)))
            exact = limits.shaped.explosion_probability(_block(*CASES[case]), DISTANCE, float(t))
            rows.append((case, float(t), exact, fraction, error))

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, case in enumerate(config.cases):
            here = np.array([row[1:] for row in rows if row[0] == case])
            colour = figures.COLOURS[series]
            ax.plot(here[:, 0], here[:, 1], color=colour)
            ax.errorbar(
                here[:, 0],
                here[:, 2],
                yerr=here[:, 3],
                fmt=figures.MARKERS[series],
                color=colour,
                capsize=2,
                markersize=5,
                label=case,
            )
        figures.finish(ax, xlabel="depth / width $t$", ylabel="probability of explosion before $t$")

    return FigureSpec(
        name="times",
        title="When two tokens explode",
        caption=f"Fraction of {config.paths} adaptive paths that have exploded (points, "
        "bars of one "
        "standard error) and the backward equation (lines), from two orthogonal unit tokens. "
        "Dimensionless.",
        draw=draw,
        table=Table(("case", "t", "exact", "paths", "stderr"), tuple(rows)),
        shown=len(config.cases),
    )


def _figure_growth(config: Config, results: Results) -> FigureSpec:
    levels = np.logspace(0.3, 3, 28)
    rows = [
        (
            dim,
            float(level),
            float(np.mean(results[f"network/n={dim}"]["growth"].values > level)),
        )
        for dim in config.dims
        for level in levels
    ]
    never = limits.shaped.explosion_probability(_block(*CASES["one head"]), DISTANCE, 1.0)

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, dim in enumerate(config.dims):
            here = np.array([row[1:] for row in rows if row[0] == dim])
            error = np.sqrt(np.maximum(here[:, 1] * (1 - here[:, 1]), 1e-12) / config.networks)
            ax.errorbar(
                here[:, 0],
                np.where(here[:, 1] > 0, here[:, 1], np.nan),
                yerr=error,
                color=figures.COLOURS[series],
                marker=figures.MARKERS[series],
                markersize=3,
                label=f"networks, $n = {dim}$",
            )
        ax.axhline(never, color=figures.LIMIT, label="SDE: probability of explosion")
        ax.set_xscale("log")
        ax.set_yscale("log")
        figures.finish(
            ax, xlabel="growth $g$ of the trace", ylabel="$P$(growth at depth $n$ > $g$)"
        )

    return FigureSpec(
        name="growth",
        title="What an explosion is to a finite network",
        caption=f"Tail of the growth of the trace over {config.networks} networks of $n$ "
        "layers and "
        "width $n$, bars of one standard error, $\\gamma^2 = 1/4$, $\\tau_0 = 1/2$. A "
        "network never "
        "explodes: it leaves the shaped regime and grows geometrically, so that its tail fills up "
        "to the SDE's probability of explosion (line) as it widens. Dimensionless.",
        draw=draw,
        table=Table(("width", "growth", "probability"), tuple(rows)),
        shown=len(config.dims),
    )


EXPERIMENT = Explosion(
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
)
