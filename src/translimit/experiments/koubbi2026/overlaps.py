r"""Chain, Gram sampler and stochastic limit: one law of the overlaps; drift and noise of one step.

Cells:

- `paths/<route>`: orthonormal tokens to unit diffusive time 1.5 by four routes: the chain with
  explicit weights at (step, heads) = (0.5, 4) and (0.25, 1), its exact simulation from Gram
  matrices, and the stochastic limit with steps of 0.05.
- `one-step`: many single layers of explicit weights from one configuration: mean and products of
  the increments of the overlaps against drift and covariations.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits, models, observe
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, MultipleOf, Within
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    import xarray as xr

#: Dimension, tokens, temperature, final time of the paths.
DIM, TOKENS, SCORE_STD, T1 = 8, 6, 1.5, 1.5
SAVES = 6
ROUTES = ("explicit (0.5, 4)", "explicit (0.25, 1)", "Gram (0.5, 4)", "Gram (0.25, 1)", "SDE")
SDE_STEP = 0.05
#: The configuration of the single layers, and their step.
START = ((1.0, 0.3, -0.2), (0.3, 1.0, 0.5), (-0.2, 0.5, 1.0))
ONE_STEP = 0.1
PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        replicas: of every route, at least 100.
        layers: single layers of the one-step cell, a multiple of 1000.
    """

    replicas: Annotated[int, Within(100)] = 1000
    layers: Annotated[int, Within(1000), MultipleOf(1000)] = 200_000


class Overlaps(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """Compilation, replicas, and single layers."""
        return Cost(seconds=30.0 + 2e-3 * config.replicas + 1e-5 * config.layers)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One a route, and the single layers."""
        return (*(Cell(f"paths/{route}", {"route": route}) for route in ROUTES), Cell("one-step"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return (
            "gram-is-the-chain",
            "one-diffusive-step-one-law",
            "sde-is-the-chain",
            "simplex-exact",
            "simplex-printed",
            "one-step-drift",
            "one-step-covariation",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell."""
        if cell.name == "one-step":
            return _compute_one_step(config, key)
        return _compute_paths(config, cell.parameters["route"], key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Equal means of the routes, the closures, one step."""
        final = {route: _final(results, route) for route in ROUTES}

        def difference(one: str, two: str, discretisation: float = 0.0) -> Estimate:
            a, b = (common.mean_and_stderr(final[name]) for name in (one, two))
            error = float(np.hypot(a[1], b[1]))
            return Estimate(float(a[0] - b[0]), error, config.replicas, discretisation)

        everything = common.estimate(
            np.concatenate([final[route] for route in ROUTES[:4]]),
            discretisation=0.0,
        )
        one_step = results["one-step"]
        step_error = float(results["paths/SDE"].attrs["discretisation"])
        return [
            Claim(
                name="gram-is-the-chain",
                statement="Simulation from Gram matrices has the mean overlap of the chain with "
                "explicit weights.",
                prediction=0.0,
                estimate=difference(ROUTES[2], ROUTES[0]),
                tol=0.04,
                reference=common.REFERENCE,
            ),
            Claim(
                name="one-diffusive-step-one-law",
                statement="The chains at (step, heads) = (0.5, 4) and (0.25, 1) have the same mean "
                "overlap at the same diffusive time.",
                prediction=0.0,
                estimate=difference(ROUTES[0], ROUTES[1]),
                tol=0.04,
                reference=common.REFERENCE,
            ),
            Claim(
                name="sde-is-the-chain",
                statement="The stochastic limit has the mean overlap of the chain.",
                prediction=0.0,
                estimate=difference("SDE", ROUTES[0], step_error),
                tol=0.04,
                reference=common.REFERENCE,
            ),
            *(
                Claim(
                    name=f"simplex-{name}",
                    statement=f"The simplex equation, {words}, predicts the mean overlap at "
                    f"$d = {DIM}$.",
                    prediction=float(_closure(kind)[-1]),
                    estimate=everything,
                    tol=0.06,
                    printed=printed,
                    reference=common.REFERENCE,
                )
                for name, words, kind, printed in (
                    ("exact", "with its terms of order $1/d$", "EXACT", "unavailable"),
                    (
                        "printed",
                        "as printed",
                        "LARGE",
                        "$\\dot\\gamma = s_{ij} - \\gamma s_{ii}$, stated as exact",
                    ),
                )
            ),
            Claim(
                name="one-step-drift",
                statement="Single layers move the overlaps by their drift: largest deviation, "
                "relative to the largest drift.",
                prediction=0.0,
                estimate=_largest(one_step, "drift"),
                tol=0.1,
                reference=common.REFERENCE,
            ),
            Claim(
                name="one-step-covariation",
                statement="Products of the increments have the covariations: largest deviation, "
                "relative to the largest one.",
                prediction=0.0,
                estimate=_largest(one_step, "covariation"),
                tol=0.1,
                reference=common.REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Mean overlaps along depth, their histogram, and one step."""
        return [
            _figure_paths(config, results),
            _figure_histogram(config, results),
            _figure_one_step(results["one-step"]),
        ]


def _law() -> Any:
    return describe.GaussianHeads.of_score_std(SCORE_STD, dim=DIM)


def _compute_paths(config: Config, route: str, key: Any) -> xr.Dataset:
    import xarray as xr

    ts = np.linspace(0.0, T1, SAVES + 1)
    if route == "SDE":
        method = limits.homogenized.SphereEuler(max_step=SDE_STEP, paths=config.replicas)
        problem = limits.homogenized.OverlapSDE(law=_law(), initial=np.eye(TOKENS), t1=T1)
        solution = core.solve(problem, method, key=key, save=ts)
        tokens, discretisation = solution.tokens, solution.discretisation
    else:
        step, heads = (0.5, 4) if "(0.5, 4)" in route else (0.25, 1)
        layers = round(T1 * heads / step**2)
        chain = models.RandomHeadChain(law=_law(), step=step, heads=heads, layers=layers)
        options = {"replicas": config.replicas, "key": key, "save_every": layers // SAVES}
        if route.startswith("explicit"):
            tokens = chain.simulate(np.eye(TOKENS, DIM), **options).tokens
        else:
            tokens = chain.simulate_overlaps(np.eye(TOKENS), **options).tokens
        discretisation = 0.0
    return xr.Dataset(
        {
            "overlap": (
                ("replica", "time"),
                observe.mean_overlap(tokens),
                {"long_name": "mean overlap of two tokens"},
            )
        },
        coords={"time": ("time", ts, {"long_name": common.TAU})},
        attrs={"discretisation": discretisation, "reference": common.REFERENCE},
    )


def _compute_one_step(config: Config, key: Any) -> xr.Dataset:
    import xarray as xr

    start, pairs = np.array(START), np.array(PAIRS).T
    dim = 5
    law = describe.GaussianHeads.of_score_std(1.0, dim=dim)
    tokens = np.linalg.cholesky(start) @ np.eye(3, dim)
    chain = models.RandomHeadChain(law=law, step=ONE_STEP, heads=1, layers=1)
    time = ONE_STEP**2
    moved = chain.simulate(tokens, replicas=config.layers, key=key).overlaps[:, 1]
    rows = (moved - start)[:, *pairs] / time
    products = np.stack([rows[:, a] * rows[:, b] * time for a in range(3) for b in range(a, 3)], 1)
    s = limits.homogenized.overlaps.attention_overlap(
        law, start, samples=config.layers, key=core.named_key(key, "kernel")
    ).value
    drift = limits.homogenized.overlaps.overlap_drift(start, s, dim)[*pairs]
    covariation = [
        limits.homogenized.overlaps.overlap_covariation(start, s, dim, PAIRS[a], PAIRS[b])
        for a in range(3)
        for b in range(a, 3)
    ]
    names = [f"R{a + 1}{b + 1}" for a, b in PAIRS]
    both = [f"{names[a]}, {names[b]}" for a in range(3) for b in range(a, 3)]
    data = {}
    for name, values, theory, axis in (
        ("drift", rows, drift, "overlap"),
        ("covariation", products, np.array(covariation), "pair"),
    ):
        mean, stderr = common.mean_and_stderr(values)
        data |= {
            name: (axis, mean),
            f"{name}_stderr": (axis, stderr),
            f"{name}_theory": (axis, theory),
        }
    return xr.Dataset(
        data,
        coords={"overlap": names, "pair": both},
        attrs={"step": time, "layers": config.layers, "reference": common.REFERENCE},
    )


def _final(results: Results, route: str) -> np.ndarray:
    return results[f"paths/{route}"]["overlap"].isel(time=-1).values


def _closure(kind: str) -> np.ndarray:
    problem = limits.homogenized.SimplexClosure(
        law=_law(), tokens=TOKENS, t1=T1, dimension=limits.homogenized.Dimension[kind]
    )
    return np.asarray(core.solve(problem, save=np.linspace(0.0, T1, 31)).overlap)


def _largest(one_step: xr.Dataset, name: str) -> Estimate:
    """The largest relative deviation, with its standard error and the order of the step."""
    theory = one_step[f"{name}_theory"].values
    gap = np.abs(one_step[name].values - theory)
    worst, scale = int(np.argmax(gap)), float(np.abs(theory).max())
    error = float(one_step[f"{name}_stderr"].values[worst]) / scale
    return Estimate(
        float(gap[worst]) / scale, error, one_step.attrs["layers"], 0.5 * one_step.attrs["step"]
    )


def _figure_paths(config: Config, results: Results) -> FigureSpec:
    rows = {route: common.mean_and_stderr(results[f"paths/{route}"]["overlap"]) for route in ROUTES}
    ts = results[f"paths/{ROUTES[0]}"]["time"].values
    curves = {kind: _closure(kind) for kind in ("EXACT", "LARGE")}

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (route, (mean, stderr)) in enumerate(rows.items()):
            shifted = ts + 0.012 * (series - 2)
            common.points(ax, shifted, mean, stderr, series, route)
        grid = np.linspace(0.0, T1, 31)
        common.line(ax, grid, curves["EXACT"], None, "simplex equation, exact drift")
        common.line(ax, grid, curves["LARGE"], None, "simplex equation, as printed", "--")
        figures.finish(ax, xlabel=common.TAU, ylabel="mean overlap of two tokens")

    table = tuple(
        (route, float(t), float(m), float(s))
        for route, (mean, stderr) in rows.items()
        for t, m, s in zip(ts, mean, stderr, strict=True)
    )
    return FigureSpec(
        name="routes",
        title="Five routes to one law",
        caption=f"{TOKENS} orthonormal tokens, $d = d_k = {DIM}$, score deviation {SCORE_STD:g}: "
        f"mean overlap over {config.replicas} replicas of every route (the step and heads in "
        "brackets; points moved sideways for legibility), bars of one standard error. Lines: the "
        "simplex equation with its exact drift, and as printed, for large dimension.",
        draw=draw,
        table=Table(("route", "tau", "mean overlap", "stderr"), table),
        shown=len(ROUTES) * config.replicas,
    )


def _figure_histogram(config: Config, results: Results) -> FigureSpec:
    edges = np.linspace(-0.3, 1.0, 27)
    counts = {
        route: np.histogram(_final(results, route), edges, density=True)[0] for route in ROUTES
    }

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (route, heights) in enumerate(counts.items()):
            style: Any = {"color": figures.COLOURS[series], "linestyle": figures.DASHES[series]}
            ax.stairs(heights, edges, linewidth=1.3, label=route, **style)
        figures.finish(ax, xlabel="mean overlap of two tokens", ylabel="density over replicas")

    table = tuple(
        (route, float(edge), float(height))
        for route, heights in counts.items()
        for edge, height in zip(edges, heights, strict=False)
    )
    inside = sum(int(((v >= -0.3) & (v <= 1)).sum()) for v in (_final(results, r) for r in ROUTES))
    return FigureSpec(
        name="histogram",
        title="Not the mean alone: the spread of single networks",
        caption=f"Distribution at $\\tau = {T1:g}$ of the mean overlap over replicas: under common "
        "noise it does not concentrate with the number of tokens. Bins from $-0.3$ to 1.",
        draw=draw,
        table=Table(("route", "left edge", "density"), table),
        shown=inside,
        excluded=len(ROUTES) * config.replicas - inside,
    )


def _figure_one_step(one_step: xr.Dataset) -> FigureSpec:
    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1, 2]})
        for ax, name, axis in zip(axes, ("drift", "covariation"), ("overlap", "pair"), strict=True):
            x = np.arange(one_step.sizes[axis])
            common.points(ax, x, one_step[name], one_step[f"{name}_stderr"], 0, "single layers")
            ax.plot(
                x,
                one_step[f"{name}_theory"],
                "_",
                color=figures.LIMIT,
                markersize=22,
                label="limit",
            )
            ax.set_xticks(x, one_step[axis].values, fontsize="small")
            ax.set_xlim(-0.6, len(x) - 0.4)
            figures.finish(ax, xlabel="", ylabel=f"{name} per unit of $\\tau$")

    table = tuple(
        (str(label), float(a), float(b), float(c))
        for name, axis in (("drift", "overlap"), ("covariation", "pair"))
        for label, a, b, c in zip(
            one_step[axis].values,
            one_step[name].values,
            one_step[f"{name}_stderr"].values,
            one_step[f"{name}_theory"].values,
            strict=True,
        )
    )
    return FigureSpec(
        name="one-step",
        title="One layer moves the overlaps by their drift and covariations",
        caption=f"Increments of three overlaps over {one_step.attrs['layers']} single layers of "
        "explicit weights ($d = 5$, score deviation 1), and the limit's drift and covariations; "
        "bars of one standard error.",
        draw=draw,
        table=Table(("quantity", "measured", "stderr", "limit"), table),
        shown=int(one_step.attrs["layers"]),
        size=(9.5, 3.6),
    )


EXPERIMENT = Overlaps(
    name="koubbi2026/overlaps",
    title="Chain, Gram sampler and stochastic limit",
    summary="The overlaps of tokens under random heads are followed by explicit weights, by exact "
    "simulation from Gram matrices (cost independent of the dimension), by the stochastic limit "
    "and by the simplex equation, with its exact drift and as printed. Single layers are held "
    "against drift and covariations.",
    citations=("koubbi2026", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(replicas=10_000, layers=2_000_000),
        "paper": Config(replicas=100_000, layers=20_000_000),
    },
)
