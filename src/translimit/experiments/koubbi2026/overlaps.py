r"""Chain, Gram sampler and stochastic limit: one law of the overlaps; drift and noise of one step.

Tokens of which four lie close together go to unit diffusive time 1.35 by several routes: the chain
with explicit weights at (step, heads) = (0.3, 4) and (0.15, 1), its exact simulation from Gram
matrices, the solver of the stochastic limit, and that limit by Euler-Maruyama, which shares no code
with the others. Beside them the limit of other theories: without scores, with noise of its own for
every token, with the correction of flat space. Many single layers of explicit weights from one
configuration give mean and products of the increments of the overlaps, beside drift and
covariations.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models, observe
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, MultipleOf, Within
from translimit.experiments.koubbi2026 import common, euler_maruyama
from translimit.experiments.koubbi2026.common import Paths
from translimit.experiments.koubbi2026.single_layers import (
    MOMENTS,
    ONE_DIM,
    ONE_STD,
    WRONG,
    OneStep,
    one_step,
)

if TYPE_CHECKING:
    pass

#: Dimension, tokens, temperature, final time of the paths, saves, largest step of the solver.
DIM, TOKENS, SCORE_STD, T1 = 8, 6, 4.0, 1.35
SAVES, SDE_STEP = 12, 0.0225
#: How chains are simulated, their step and heads, by route.
EXPLICIT, FINE, GRAM = "explicit (0.3, 4)", "explicit (0.15, 1)", "Gram (0.3, 4)"
CHAINS = {EXPLICIT: ("explicit", 0.3, 4), FINE: ("explicit", 0.15, 1), GRAM: ("Gram", 0.3, 4)}
SDE, EULER = "SDE", "Euler-Maruyama"
#: Other theories of the limit, and what they change in the equation.
WITHOUT, OWN, FLAT = "without scores", "every token its own noise", "correction of flat space, 1/2"
OTHERS = {WITHOUT: {}, OWN: {"common": False}, FLAT: {"correction": 0.5}}
ROUTES = (*CHAINS, SDE, EULER)
#: The save at which (0.3, 4) has come as far as (0.15, 1) at the end, on other clocks.
OTHER_CLOCKS = {"one law at one paper time": SAVES // 2, "one law at one $\\eta^2 L$": SAVES // 4}
#: What of the mean overlap of a replica is compared.
OBSERVED = {"mean": "mean", "spread": "standard deviation over networks"}
#: Left edges of the bins of mean overlaps, and the last right one.
EDGES = np.linspace(-0.3, 1.0, 27)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        replicas: of every route, at least 100.
        layers: single layers of the one-step cell, a multiple of 1000.
    """

    replicas: Annotated[int, Within(100)] = 8000
    layers: Annotated[int, Within(1000), MultipleOf(1000)] = 100_000


def start() -> Float[np.ndarray, "tokens dim"]:
    """Four tokens close together and two alone: there attention matters."""
    tokens = np.eye(TOKENS, DIM)
    tokens[1:4] = 0.4 * tokens[1:4] + tokens[0]
    return core.SPHERE.project(tokens)


def compute_paths(config: Config, route: str, keys: ex.Keys) -> Paths:
    """Mean overlaps by one route."""
    ts, tokens = np.linspace(0.0, T1, SAVES + 1), start()
    law = describe.GaussianHeads.of_score_std(SCORE_STD, dim=DIM)
    if route == SDE:
        method = limits.homogenized.SphereEuler(max_step=SDE_STEP, paths=config.replicas)
        problem = limits.homogenized.OverlapSDE(law=law, initial=tokens @ tokens.T, t1=T1)
        solution = core.solve(problem, method, key=keys.own, save=ts)
        overlap = np.asarray(observe.mean_overlap(solution.tokens))
        return Paths(time=ts, overlap=overlap, discretisation=float(solution.discretisation))
    if route not in CHAINS:
        found = euler_maruyama.mean_overlaps(
            tokens,
            0.0 if route == WITHOUT else SCORE_STD,
            step=T1 / SAVES / 4,
            blocks=SAVES,
            pairs=2,
            paths=config.replicas if route == EULER else config.replicas // 2,
            key=keys.own,
            **OTHERS.get(route, {}),
        )
        return Paths(time=ts, overlap=found[0], coarse=found[1], discretisation=0.0)
    kind, step, heads = CHAINS[route]
    layers = round(T1 * heads / step**2)
    chain = models.RandomHeadChain(law=law, step=step, heads=heads, layers=layers)
    every = {"replicas": config.replicas, "key": keys.own, "save_every": layers // SAVES}
    if kind == "explicit":
        states = chain.simulate(tokens.astype(np.float32), **every).tokens
    else:
        states = chain.simulate_overlaps(tokens @ tokens.T, **every).tokens
    overlap = np.asarray(observe.mean_overlap(states), np.float64)
    return Paths(time=ts, overlap=overlap, discretisation=0.0)


def compute_one_step(config: Config, at: ex.Alone, keys: ex.Keys) -> OneStep:
    """Single layers of explicit weights, their drift and their covariations."""
    del at
    return one_step(config.layers, keys.own)


PATHS = ex.Part(
    "paths/{route}",
    Paths,
    compute_paths,
    grid=lambda c: (*ROUTES, *OTHERS),
    cost=lambda c, route: ex.Cost(5.0 + 1e-3 * c.replicas),
)
ONE = ex.Part(
    "one-step",
    OneStep,
    compute_one_step,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(8.0 + 4e-5 * c.layers),
)


@dataclass(frozen=True)
class Same:
    """Two routes with one law, and what of it is compared."""

    name: str
    one: str
    two: str
    statement: str
    of: str = "mean"


SAME = tuple(
    Same(name if of == "mean" else f"{name}-{of}", one, two, statement, of)
    for of in OBSERVED
    for name, one, two, statement in (
        (
            *("gram-is-the-chain", GRAM, EXPLICIT),
            "Simulation from Gram matrices has the mean overlap of the chain with explicit weights",
        ),
        (
            *("one-diffusive-step-one-law", EXPLICIT, FINE),
            "Chains at (step, heads) = (0.3, 4) and (0.15, 1) have one mean overlap at one "
            "diffusive time",
        ),
        (
            *("sde-is-the-chain", EULER, EXPLICIT),
            "The stochastic limit, by Euler-Maruyama with its Ito drift written out, has the mean "
            "overlap of the chain",
        ),
        (
            *("solver-is-the-sde", SDE, EULER),
            "The solver that steps on the sphere has the mean overlap of the limit by "
            "Euler-Maruyama",
        ),
    )
)


def _difference(found: ex.Found[Config], at: Same) -> Estimate:
    return common.difference(*(found(PATHS, route).statistic(at.of) for route in (at.one, at.two)))


def _with_other(other: str, found: ex.Found[Config], at: Same) -> Estimate:
    """The other theory in the place of the limit, or of what simulates it."""
    measured = at.one if at.one == SDE else at.two
    return common.difference(
        found(PATHS, other).statistic(at.of), found(PATHS, measured).statistic(at.of)
    )


def _on_other_clock(save: int, found: ex.Found[Config], at: Same) -> Estimate:
    """As far as the coarse chain is when the fine one ends, by another clock."""
    coarse, fine = found(PATHS, EXPLICIT), found(PATHS, FINE)
    return common.difference(coarse.statistic(at.of, save), fine.statistic(at.of))


#: The other correction leaves the spread as it is, about.
OTHER_LAWS = tuple(
    ex.Rival[Config, Same](
        other,
        estimate=functools.partial(_with_other, other),
        when=lambda c, at, other=other: at.two != FINE and (at.of == "mean" or other != FLAT),
    )
    for other in OTHERS
)
ONE_LAW = ex.Claims(
    "{name}",
    lambda found, at: f"{at.statement} ({OBSERVED[at.of]}).",
    estimate=_difference,
    prediction=0.0,
    tol=lambda c, at: 0.015 if at.of == "mean" else 0.012,
    over=lambda c: SAME,
    rivals=(
        *OTHER_LAWS,
        *(
            ex.Rival[Config, Same](
                name,
                estimate=functools.partial(_on_other_clock, save),
                when=lambda c, at: at.two == FINE,
            )
            for name, save in OTHER_CLOCKS.items()
        ),
    ),
    decided_by="standard",
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
    tol=0.03,
    over=lambda c: MOMENTS,
    rivals=tuple(
        ex.Rival[Config, str](
            wrong,
            estimate=lambda found, name, wrong=wrong: found(ONE).deviation(name, wrong),
            when=lambda c, name, wrong=wrong: wrong in WRONG[name],
        )
        for wrong in dict.fromkeys((*WRONG["drift"], *WRONG["covariation"]))
    ),
)


def _path_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for place, (route, data) in enumerate(found.each(PATHS)):
        moved = data.time + 0.012 * (place - 2)
        columns = (data.time, *common.mean_and_stderr(data.overlap), moved)
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield (route, *row)


def _histogram(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for route in ROUTES:
        heights, _ = np.histogram(found(PATHS, route).overlap[:, -1], EDGES, density=True)
        for edge, height in zip(EDGES[:-1].tolist(), heights.tolist(), strict=True):
            yield (route, edge, height)


def _moment_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    return found(ONE).rows()


ALONG_DEPTH = ex.Figure(
    name="routes",
    title="Routes to one law, and other theories",
    caption=lambda found: (
        f"{TOKENS} tokens, four of them close together, $d = d_k = {DIM}$, score deviation "
        f"{SCORE_STD:g}: mean overlap over {found.config.replicas} replicas of every route (the "
        "step and heads in brackets; points moved sideways for legibility), bars of one standard "
        "error. Lines: the stochastic limit by Euler-Maruyama, and the same with something else."
    ),
    columns=("route", "tau", "mean overlap", "stderr", "place"),
    rows=_path_rows,
    by="route",
    layers=(
        figures.line("mean overlap", x="tau", where={"route": (EULER, *OTHERS)}),
        figures.points("mean overlap", "stderr", x="place", where={"route": (*CHAINS, SDE)}),
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
)
INCREMENTS = ex.Figure(
    name="one-step",
    title="One layer moves the overlaps by their drift and covariations",
    caption=lambda found: (
        f"Increments of three overlaps over {found.config.layers} single layers of explicit "
        f"weights ($d = {ONE_DIM}$, score deviation {ONE_STD:g}) against the limit's drift and "
        "covariations, per unit of $\\tau$; bars of one standard error, lines where both agree."
    ),
    columns=("moment", "quantity", "limit", "measured", "stderr"),
    rows=_moment_rows,
    x="limit",
    panels="moment",
    layers=(
        figures.line("limit", series=None, label="as the limit"),
        figures.points("measured", "stderr", label="single layers"),
    ),
    ylabel="measured",
    size=(9.0, 3.8),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/overlaps",
    title="Chain, Gram sampler and stochastic limit",
    question="Do chain, Gram sampler and SDE give the same overlaps of tokens?",
    summary="The overlaps of tokens under random heads are followed by explicit weights, by exact "
    "simulation from Gram matrices (cost independent of the dimension) and by the stochastic "
    "limit, solved on the sphere and by Euler-Maruyama. Single layers are compared with drift and "
    "covariations.",
    citations=("koubbi2026", "diffrax", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(replicas=40_000, layers=1_000_000),
        "paper": Config(replicas=400_000, layers=10_000_000),
    },
    parts=(PATHS, ONE),
    claims=(ONE_LAW, INCREMENT),
    figures=(ALONG_DEPTH, HISTOGRAM, INCREMENTS),
    finding=ex.Finding(
        "The mean overlap of the stochastic limit lies {0} from that of the chain with explicit"
        " weights",
        ("sde-is-the-chain",),
    ),
)
