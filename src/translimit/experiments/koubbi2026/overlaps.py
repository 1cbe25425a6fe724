r"""Chain, Gram sampler and stochastic limit: one law of the overlaps; drift and noise of one step.

Orthonormal tokens go to unit diffusive time 1.5 by several routes: the chain with explicit weights
at (step, heads) = (0.5, 4) and (0.25, 1), its exact simulation from Gram matrices, and the
stochastic limit with steps of 0.05. Many single layers of explicit weights from one configuration
give mean and products of the increments of the overlaps, beside drift and covariations.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models, observe
from translimit.core import UNAVAILABLE, Estimate
from translimit.experiments.checked import CheckedConfig, MultipleOf, Within
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.single_layers import (
    MOMENTS,
    ONE_DIM,
    OneStep,
    draw_one_step,
    one_step,
)

if TYPE_CHECKING:
    from translimit.describe import GaussianHeads

#: Dimension, tokens, temperature, final time of the paths, saves.
DIM, TOKENS, SCORE_STD, T1 = 8, 6, 1.5, 1.5
SAVES = 6
#: How chains are simulated, their step and heads, by route.
CHAINS = {
    "explicit (0.5, 4)": ("explicit", 0.5, 4),
    "explicit (0.25, 1)": ("explicit", 0.25, 1),
    "Gram (0.5, 4)": ("Gram", 0.5, 4),
    "Gram (0.25, 1)": ("Gram", 0.25, 1),
}
SDE = "SDE"
ROUTES = (*CHAINS, SDE)
SDE_STEP = 0.05
#: The simplex equation: its form and the paper's statement, by words.
EQUATIONS = {
    "exact": ("EXACT", "with its terms of order $1/d$", UNAVAILABLE),
    "printed": (
        *("LARGE", "as printed"),
        "$\\dot\\gamma = s_{ij} - \\gamma s_{ii}$, stated as exact",
    ),
}
#: Left edges of the bins of mean overlaps, and the last right one.
EDGES = np.linspace(-0.3, 1.0, 27)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        replicas: of every route, at least 100.
        layers: single layers of the one-step cell, a multiple of 1000.
    """

    replicas: Annotated[int, Within(100)] = 1000
    layers: Annotated[int, Within(1000), MultipleOf(1000)] = 200_000


@dataclass(frozen=True)
class Paths(ex.Arrays):
    """Mean overlaps along depth, by one route."""

    time: Annotated[Float[np.ndarray, " time"], common.TAU]
    overlap: Annotated[Float[np.ndarray, "replica time"], "mean overlap of two tokens"]
    discretisation: float


def _law() -> GaussianHeads:
    return describe.GaussianHeads.of_score_std(SCORE_STD, dim=DIM)


def compute_paths(config: Config, route: str, keys: ex.Keys) -> Paths:
    """Mean overlaps by one route."""
    ts, error = np.linspace(0.0, T1, SAVES + 1), 0.0
    if route == SDE:
        method = limits.homogenized.SphereEuler(max_step=SDE_STEP, paths=config.replicas)
        problem = limits.homogenized.OverlapSDE(law=_law(), initial=np.eye(TOKENS), t1=T1)
        solution = core.solve(problem, method, key=keys.own, save=ts)
        tokens, error = solution.tokens, float(solution.discretisation)
    else:
        kind, step, heads = CHAINS[route]
        layers = round(T1 * heads / step**2)
        chain = models.RandomHeadChain(law=_law(), step=step, heads=heads, layers=layers)
        start = np.eye(TOKENS, DIM) if kind == "explicit" else np.eye(TOKENS)
        simulate = chain.simulate if kind == "explicit" else chain.simulate_overlaps
        tokens = simulate(
            start, replicas=config.replicas, key=keys.own, save_every=layers // SAVES
        ).tokens
    return Paths(time=ts, overlap=np.asarray(observe.mean_overlap(tokens)), discretisation=error)


def compute_one_step(config: Config, at: ex.Alone, keys: ex.Keys) -> OneStep:
    """Single layers of explicit weights, their drift and their covariations."""
    del at
    return one_step(config.layers, keys.own)


PATHS = ex.Part(
    "paths/{route}",
    Paths,
    compute_paths,
    grid=lambda c: ROUTES,
    cost=lambda c, route: ex.Cost(5.0 + 4e-4 * c.replicas),
)
ONE = ex.Part(
    "one-step",
    OneStep,
    compute_one_step,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(5.0 + 1e-5 * c.layers),
)


def _final(found: ex.Found[Config], route: str) -> Float[np.ndarray, " replica"]:
    return found(PATHS, route).overlap[:, -1]


def _closures(found: ex.Found[Config]) -> dict[str, Float[np.ndarray, " time"]]:
    """The simplex equation in both forms, at the times of the paths."""
    del found
    curves = {}
    for name, (kind, *_) in EQUATIONS.items():
        problem = limits.homogenized.SimplexClosure(
            law=_law(), tokens=TOKENS, t1=T1, dimension=limits.homogenized.Dimension[kind]
        )
        save = np.linspace(0.0, T1, 5 * SAVES + 1)
        curves[name] = np.asarray(core.solve(problem, save=save).overlap)[::5]
    return curves


@dataclass(frozen=True)
class Same:
    """Two routes with one law."""

    name: str
    one: str
    two: str
    statement: str


SAME = (
    Same(
        *("gram-is-the-chain", "Gram (0.5, 4)", "explicit (0.5, 4)"),
        "Simulation from Gram matrices has the mean overlap of the chain with explicit weights.",
    ),
    Same(
        *("one-diffusive-step-one-law", "explicit (0.5, 4)", "explicit (0.25, 1)"),
        "The chains at (step, heads) = (0.5, 4) and (0.25, 1) have the same mean overlap at the "
        "same diffusive time.",
    ),
    Same(
        *("sde-is-the-chain", SDE, "explicit (0.5, 4)"),
        "The stochastic limit has the mean overlap of the chain.",
    ),
)


def _difference(found: ex.Found[Config], at: Same) -> Estimate:
    (a, a_error), (b, b_error) = (
        common.mean_and_stderr(_final(found, route)) for route in (at.one, at.two)
    )
    replicas, step = found.config.replicas, found(PATHS, at.one).discretisation
    return Estimate(float(a - b), float(np.hypot(a_error, b_error)), replicas, step)


def _all_chains(found: ex.Found[Config], form: str) -> Estimate:
    del form
    return common.estimate(np.concatenate([_final(found, route) for route in CHAINS]))


ONE_LAW = ex.Claims(
    "{name}",
    lambda found, at: at.statement,
    estimate=_difference,
    prediction=0.0,
    tol=0.04,
    over=lambda c: SAME,
)
SIMPLEX = ex.Claims(
    "simplex-{form}",
    lambda found, form: (
        f"The simplex equation, {EQUATIONS[form][1]}, predicts the mean overlap at $d = {DIM}$."
    ),
    estimate=_all_chains,
    prediction=lambda found, form: float(found.once(_closures)[form][-1]),
    tol=0.06,
    over=lambda c: tuple(EQUATIONS),
    printed=lambda found, form: EQUATIONS[form][2],
)
INCREMENT = ex.Claims(
    "one-step-{name}",
    lambda found, name: {
        "drift": "Single layers move the overlaps by their drift: largest deviation, relative to "
        "the largest drift.",
        "covariation": "Products of the increments have the covariations: largest deviation, "
        "relative to the largest one.",
    }[name],
    estimate=lambda found, name: found(ONE).deviation(name),
    prediction=0.0,
    tol=0.1,
    over=lambda c: MOMENTS,
)


def _path_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for place, (route, data) in enumerate(found.each(PATHS)):
        moved = data.time + 0.012 * (place - 2)
        measured = common.mean_and_stderr(data.overlap)
        columns = (data.time, *measured, moved, *found.once(_closures).values())
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield (route, *row)


def _histogram(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for route in ROUTES:
        heights, _ = np.histogram(_final(found, route), EDGES, density=True)
        for edge, height in zip(EDGES[:-1].tolist(), heights.tolist(), strict=True):
            yield (route, edge, height)


def _inside(found: ex.Found[Config], table: figures.Table) -> int:
    """How many mean overlaps lie in the bins."""
    del table
    finals = [_final(found, route) for route in ROUTES]
    return sum(int(((one >= EDGES[0]) & (one <= EDGES[-1])).sum()) for one in finals)


def _moment_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    return found(ONE).rows()


ALONG_DEPTH = ex.Figure(
    name="routes",
    title="Five routes to one law",
    caption=lambda found: (
        f"{TOKENS} orthonormal tokens, $d = d_k = {DIM}$, score deviation {SCORE_STD:g}: mean "
        f"overlap over {found.config.replicas} replicas of every route (the step and heads in "
        "brackets; points moved sideways for legibility), bars of one standard error. Lines: the "
        "simplex equation with its exact drift, and as printed, for large dimension."
    ),
    columns=("route", "tau", "mean overlap", "stderr", "place", "exact drift", "as printed"),
    rows=_path_rows,
    x="place",
    by="route",
    layers=(
        figures.line(
            "exact drift",
            x="tau",
            by="",
            series=None,
            where={"route": SDE},
            label="simplex equation, exact drift",
        ),
        figures.line(
            "as printed",
            x="tau",
            by="",
            series=None,
            where={"route": SDE},
            label="simplex equation, as printed",
            dash="6 3",
        ),
        figures.points("mean overlap", "stderr"),
    ),
    xlabel=common.TAU,
    ylabel="mean overlap of two tokens",
)
HISTOGRAM = ex.Figure(
    name="histogram",
    title="Not the mean alone: the spread of single networks",
    caption=f"Distribution at $\\tau = {T1:g}$ of the mean overlap over replicas: under common "
    "noise it does not concentrate with the number of tokens. Bins from $-0.3$ to 1.",
    columns=("route", "left edge", "density"),
    rows=_histogram,
    x="left edge",
    by="route",
    layers=(figures.steps("density", left=True),),
    xlabel="mean overlap of two tokens",
    ylabel="density over replicas",
    shown=_inside,
    excluded=lambda found, table: len(ROUTES) * found.config.replicas - _inside(found, table),
)
INCREMENTS = ex.Figure(
    name="one-step",
    title="One layer moves the overlaps by their drift and covariations",
    caption=lambda found: (
        f"Increments of three overlaps over {found.config.layers} single layers of explicit "
        f"weights ($d = {ONE_DIM}$, score deviation 1), and the limit's drift and covariations; "
        "bars of one standard error."
    ),
    columns=("quantity", "measured", "stderr", "limit"),
    rows=_moment_rows,
    draw=lambda canvas, table, found: draw_one_step(canvas, found(ONE)),
    shown=lambda found, _: found.config.layers,
    size=(9.5, 3.6),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/overlaps",
    title="Chain, Gram sampler and stochastic limit",
    summary="The overlaps of tokens under random heads are followed by explicit weights, by exact "
    "simulation from Gram matrices (cost independent of the dimension), by the stochastic limit "
    "and by the simplex equation, with its exact drift and as printed. Single layers are held "
    "against drift and covariations.",
    citations=("koubbi2026", "diffrax", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(replicas=10_000, layers=2_000_000),
        "paper": Config(replicas=100_000, layers=20_000_000),
    },
    parts=(PATHS, ONE),
    claims=(ONE_LAW, SIMPLEX, INCREMENT),
    figures=(ALONG_DEPTH, HISTOGRAM, INCREMENTS),
)
