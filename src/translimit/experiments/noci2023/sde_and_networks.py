r"""The covariance SDE beside networks of finite width, where attention matters.

Means of bounded or logarithmic observables of the covariance at depth / width t1: over its exact
chain in networks of two widths, extrapolated in 1 / n, and over Euler-Maruyama paths of the SDE,
which share no code with a layer. Both sides stop at a multiple of the initial trace.

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.checked import (
    CheckedConfig,
    Distinct,
    Entries,
    Increasing,
    IncreasingSizes,
    OneOf,
    Step,
    Two,
    Within,
)
from translimit.experiments.noci2023.starts import generator
from translimit.experiments.noci2023.theories import (
    CASES,
    OBSERVABLES,
    SEEN,
    SEEN_AT_STANDARD,
    SPREADS,
    WRONG,
    case_of,
    differences,
    observe,
)

#: Cases of more than four tokens.
TOKENS = {"eight": 8, "text": 6}
BINS = np.linspace(-1.5, 2.5, 81)
Ratio = Annotated[float, Within(0, 1000, above=True)]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        cases: blocks with initial covariances.
        dims: widths of the networks, increasing; the last two are extrapolated.
        ratios: depth over width at which laws are compared, increasing; dims divide into them.
        networks: networks of each width.
        paths: paths of the SDE.
        pairs: paths on which changed theories are compared with the SDE.
        step: of the SDE.
    """

    cases: Annotated[tuple[str, ...], OneOf(tuple(CASES)), Distinct()] = tuple(CASES)
    dims: Annotated[IncreasingSizes, Entries(2)] = (100, 200)
    ratios: Annotated[tuple[Ratio, ...], Increasing()] = (0.05, 0.1, 0.15)
    networks: Two = 160_000
    paths: Two = 80_000
    pairs: Two = 20_000
    step: Step = 0.0025

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        layers = [ratio * dim for ratio in self.ratios for dim in self.dims]
        if any(abs(one - round(one)) > 1e-6 for one in layers):
            told = f"got {self.ratios} for dims = {self.dims}"
            raise core.ConfigError("ratios", told, "pass whole numbers of layers over each dim")

    @property
    def last(self) -> float:
        """The last ratio."""
        return self.ratios[-1]

    @property
    def largest(self) -> int:
        """The largest width."""
        return self.dims[-1]


@dataclass(frozen=True)
class Law(ex.Arrays):
    """Means of the observables in their order, and a histogram of log (trace / tokens)."""

    ratio: Annotated[Float[np.ndarray, " ratio"], "depth / width $t$"]
    mean: Float[np.ndarray, "ratio observable"]
    stderr: Float[np.ndarray, "ratio observable"]
    step_error: Float[np.ndarray, " observable"]
    density: Float[np.ndarray, " bin"]

    def last(self, name: str) -> Estimate:
        """The mean of an observable at the last ratio."""
        place = list(OBSERVABLES).index(name)
        mean, stderr = float(self.mean[-1, place]), float(self.stderr[-1, place])
        return Estimate(mean, stderr, discretisation=float(self.step_error[place]))


@dataclass(frozen=True)
class Gaps(ex.Arrays):
    """What changed theories predict beyond the SDE, in the order of `WRONG`."""

    mean: Float[np.ndarray, "theory observable"]
    stderr: Float[np.ndarray, "theory observable"]


def _law(config: Config, cov: np.ndarray, bias: np.ndarray, step_error: np.ndarray) -> Law:
    """The means of covariances, at the last ratio without the first order of their step."""
    values = observe(cov)
    values[:, -1] -= bias
    return Law(
        ratio=np.array([0.0, *config.ratios]),
        mean=values.mean(axis=0),
        stderr=values.std(axis=0, ddof=1) / len(values) ** 0.5,
        step_error=step_error,
        density=np.histogram(values[:, -1, 0], BINS)[0] / (len(values) * np.diff(BINS)),
    )


def compute_limit(config: Config, case: str, keys: ex.Keys) -> Law:
    """Euler-Maruyama paths of the SDE, in float64, extrapolated in their step."""
    block, cov, stop = case_of(case)
    sde = limits.shaped.CovarianceSDE(block=block, initial=cov, t1=config.last, stop_trace=stop)
    method = limits.shaped.EulerMaruyama(paths=config.paths, max_step=config.step)
    solution = core.solve(sde, method, key=keys.own, save=[0.0, *config.ratios])
    # The scheme has weak order one: pairs of paths with steps 2 h and h tell the first order.
    both = solution.pairs.coarse, solution.pairs.fine
    coarse, fine = (observe(np.asarray(one.cov)[:, -1]) for one in both)
    bias = float(solution.pairs.ratio) * (coarse - fine)
    mean, noise = bias.mean(axis=0), bias.std(axis=0, ddof=1) / len(bias) ** 0.5
    return _law(config, np.asarray(solution.cov), mean, np.hypot(noise, mean / 4))


def compute_networks(config: Config, at: tuple[str, int], keys: ex.Keys) -> Law:
    """The covariance chain of networks of one width, in float64."""
    (block, cov, stop), dim = case_of(at[0]), at[1]
    depths = np.array([round(ratio * dim) for ratio in config.ratios])
    every = int(np.gcd.reduce(depths))
    chain = models.CompressedShapedTransformer(block=block, dim=dim, layers=int(depths[-1]))
    networks = chain.simulate(
        cov, key=keys.own, seeds=config.networks, save_every=every, stop_trace=stop
    )
    kept = np.asarray(networks.cov)[:, np.concatenate([[0], depths]) // every]
    return _law(config, kept, *np.zeros((2, len(OBSERVABLES))))


def compute_theories(config: Config, case: str, keys: ex.Keys) -> Gaps:
    """Changed theories minus the SDE on the same noise."""
    last, steps = config.last, round(config.last / (2 * config.step))
    return Gaps(*differences(case, last, steps, config.pairs, generator(keys)))


def _layer_cost(at: tuple[str, int]) -> float:
    """Of a layer of one network; an MLP draws its hidden normals."""
    return 2e-6 * TOKENS.get(at[0], 4) * (1 + 0.02 * at[1] * (at[0] == "full"))


LIMIT = ex.Part(
    "limit/{case}",
    Law,
    compute_limit,
    grid=lambda c: c.cases,
    cost=lambda c, case: ex.Cost(6 + 2e-6 * TOKENS.get(case, 4) * c.paths * c.last / c.step),
)
NETWORK = ex.Part(
    "network/{case}/n={dim}",
    Law,
    compute_networks,
    grid=lambda c: [(case, dim) for case in c.cases for dim in c.dims],
    cost=lambda c, at: ex.Cost(8 + _layer_cost(at) * c.last * at[1] * c.networks),
)
THEORIES = ex.Part(
    "theories/{case}",
    Gaps,
    compute_theories,
    grid=lambda c: c.cases,
    cost=lambda c, case: ex.Cost(1 + 2e-7 * TOKENS.get(case, 4) ** 2 * c.pairs * c.last / c.step),
)

Point = tuple[str, str]


def _networks(found: ex.Found[Config], at: Point, dim: int | None = None) -> Estimate:
    """The mean over networks of one width; of the last two extrapolated in 1 / n by default."""
    if dim:
        return found(NETWORK, (at[0], dim)).last(at[1])
    small, large = found.config.dims[-2:]
    coarse, fine = (found(NETWORK, (at[0], one)).last(at[1]) for one in (small, large))
    weight = large / (large - small)
    value = weight * fine.value - (weight - 1) * coarse.value
    error = np.hypot(weight * fine.stderr, (weight - 1) * coarse.stderr)
    return Estimate(value, float(error), found.config.networks)


def _beyond(found: ex.Found[Config], at: Point, dim: int | None = None) -> Estimate:
    """Networks minus the SDE."""
    networks, limit = _networks(found, at, dim), found(LIMIT, at[0]).last(at[1])
    error = float(np.hypot(networks.stderr, limit.stderr))
    difference = networks.value - limit.value
    return Estimate(difference, error, networks.count, discretisation=limit.discretisation)


def _beyond_wrong(name: str, found: ex.Found[Config], at: Point) -> Estimate:
    """Networks minus a changed theory."""
    gaps, right = found(THEORIES, at[0]), _beyond(found, at)
    place = list(WRONG).index(name), list(OBSERVABLES).index(at[1])
    value, error = right.value - gaps.mean[place], np.hypot(right.stderr, gaps.stderr[place])
    return Estimate(float(value), float(error), right.count, discretisation=right.discretisation)


def _tolerance(config: Config, at: Point) -> float:
    """4.5 standard errors of the extrapolated networks (widths as 1 to 2) and the paths."""
    spread = SPREADS[at[0]][list(OBSERVABLES).index(at[1])]
    return 4.5 * spread * (5 / config.networks + 1 / config.paths) ** 0.5


def _same_law(seen: Mapping[Point, tuple[str, ...]], decided_by: str) -> ex.Claims[Config, Point]:
    """The claims of some observables, each against the theories that it sees."""
    return ex.Claims(
        "{case}-{observable}",
        lambda found, at: (
            f"{at[0]}: at depth / width {found.config.last:g} the mean of {OBSERVABLES[at[1]]} "
            f"over networks, extrapolated from widths {found.config.dims[-2:]}, is that of the "
            "stopped SDE (difference)."
        ),
        estimate=_beyond,
        prediction=0.0,
        tol=_tolerance,
        over=lambda c: [at for at in seen if at[0] in c.cases],
        rivals=tuple(
            ex.Rival(
                name,
                estimate=lambda found, at, name=name: _beyond_wrong(name, found, at),
                when=lambda c, at, name=name: name in seen[at],
            )
            for name in WRONG
        ),
        decided_by=decided_by,
    )


def _densities(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case in found.config.cases:
        limit, networks = found(LIMIT, case), found(NETWORK, (case, found.config.largest))
        error = np.sqrt(networks.density / (found.config.networks * np.diff(BINS)))
        columns = ((BINS[1:] + BINS[:-1]) / 2, limit.density, networks.density, error)
        for row in zip(*columns, strict=True):
            if row[1] or row[2]:
                yield (case, *map(float, row))


def _trajectories(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case in found.config.cases:
        limit, networks = found(LIMIT, case), found(NETWORK, (case, found.config.largest))
        columns = (limit.ratio, limit.mean[:, 0], networks.mean[:, 0], networks.stderr[:, 0])
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield (case, *row)


def _differences(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case in found.config.cases:
        for dim, name in itertools.product((*found.config.dims, None), ("log_trace", "rank")):
            one = _beyond(found, (case, name), dim)
            yield (name, case, 1 / dim if dim else 0.0, one.value, one.floor)


FIGURES = (
    ex.Figure(
        name="densities",
        title="Densities of the log trace at final depth",
        caption="$\\log$ (trace / tokens) at depth / width {last:g}: {networks} networks of width "
        "{largest} (bars: one standard error), {paths} stopped paths of the SDE. Dimensionless.",
        columns=("case", "log trace", "SDE", "networks", "stderr"),
        rows=_densities,
        x="log trace",
        panels="case",
        across=2,
        layers=(
            figures.steps("SDE", label="SDE"),
            figures.points("networks", "stderr", label="networks", series=1),
        ),
        ylabel="density",
        size=lambda c: (8.0, 3.2 * (1 + len(c.cases)) // 2),
    ),
    ex.Figure(
        name="trajectories",
        title="The log trace along depth",
        caption="Means over {networks} networks of width {largest} (points, bars of one standard "
        "error) and over {paths} stopped paths of the SDE (lines). Dimensionless.",
        columns=("case", "depth / width", "SDE", "networks", "stderr"),
        rows=_trajectories,
        x="depth / width",
        by="case",
        layers=(figures.line("SDE", label="", dash=""), figures.points("networks", "stderr")),
        xlabel="depth / width $t$",
        ylabel=OBSERVABLES["log_trace"],
    ),
    ex.Figure(
        name="differences",
        title="Networks minus the SDE against width",
        caption="Means over {networks} networks minus those over {paths} paths of the SDE at depth "
        "/ width {last:g}; at $1/n = 0$ the extrapolation of the last two widths. Bars: one "
        "standard error, with that of the SDE's step. Dimensionless.",
        columns=("observable", "case", "1 / n", "difference", "stderr"),
        rows=_differences,
        x="1 / n",
        by="case",
        panels="observable",
        titles={**OBSERVABLES},
        layers=(
            figures.points("difference", "stderr", joined=True),
            figures.level(0.0, label="", dash="6 3"),
        ),
        xlabel="1 / width",
        ylabel="networks − SDE",
        size=(9.0, 4.2),
    ),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/sde-and-networks",
    title="The covariance SDE beside networks",
    question="Do shaped networks of finite width follow the covariance SDE?",
    summary="As depth and width grow together the covariance follows an SDE. Networks are compared "
    "with it where attention matters: three to eight tokens of unequal norms, four heads with a "
    "projection, an MLP, digits, text. Every term of the SDE is changed in turn and refuted.",
    citations=("noci2023", "li2022", "digits", "jax"),
    reference=core.reference("noci2023"),
    presets={
        "demo": Config(cases=("eight", "full"), networks=24_000, paths=12_000, pairs=4000),
        "standard": Config(),
        "paper": Config(dims=(100, 200, 400), networks=1_000_000, paths=500_000, step=0.00125),
    },
    parts=(LIMIT, NETWORK, THEORIES),
    claims=(_same_law(SEEN, "demo"), _same_law(SEEN_AT_STANDARD, "standard")),
    figures=FIGURES,
    finding=ex.Finding("Mean log determinants differ by {0}", ("eight-log_det",)),
)
