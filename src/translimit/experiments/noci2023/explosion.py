r"""The covariance SDE explodes: where in the plane of gamma and tau0, and how often.

For two tokens the probability of an explosion ever has a closed form, and that before t = 1 solves
a backward equation: both on a grid of gamma^2 and tau0. Adaptive paths of the SDE at a few points,
with heads and projection among them, are compared with it. Networks of finite width never explode:
how far they grow up to depth n stands beside.

Reference: documentation, "The shaped Transformer"; the explosion is not in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

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

DISTANCE = 2.0
#: Case -> gamma^2, tau0, heads, projection.
CASES: Mapping[str, tuple[float, float, int, bool]] = {
    "one head": (0.25, 0.5, 1, False),
    "loud branch": (0.4, 0.5, 1, False),
    "two heads": (0.25, 0.5, 2, False),
    "two heads, projection": (0.25, 0.5, 2, True),
    "hot": (0.25, 1.0, 1, False),
    "beyond the threshold": (0.9, 0.25, 1, False),
}
#: Cases whose steps are many, and the share of the paths that they get.
SHARES = {"beyond the threshold": 5}
#: Steps far from an explosion, where their error moves no path to one.
STEP = 0.02
#: Bias that the adaptive steps may leave; less where hardly anything explodes.
TOLERANCE = 0.012
TOLERANCES = {"hot": 0.004, "beyond the threshold": 0.004}


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
    paths: Two = 20_000
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

    @property
    def exploded(self) -> Estimate:
        """The fraction before t = 1, with the error by the rule of succession."""
        count, happened = len(self.blow_up_time), np.isfinite(self.blow_up_time)
        smoothed = (happened.sum() + 1) / (count + 2)
        error = float(np.sqrt(smoothed * (1 - smoothed) / count))
        return Estimate(float(happened.mean()), error, count)


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
        paths=max(2, config.paths // SHARES.get(case, 1)), max_step=STEP, adaptive=config.adaptive
    )
    solution = core.solve(sde, method, key=keys.own, save=[1.0])
    return Paths(np.asarray(solution.blow_up_time))


def compute_networks(config: Config, dim: int, keys: ex.Keys) -> Networks:
    """Networks of n layers and width n from the same tokens."""
    block = _block(*CASES["one head"])
    chain = models.CompressedShapedTransformer(block=block, dim=dim, layers=dim)
    cov = np.asarray(chain.simulate(np.eye(2), key=keys.own, seeds=config.networks).cov)[:, -1]
    return Networks(np.trace(cov, axis1=1, axis2=2) / 2)


def _block(
    square: float, tau0: float, heads: int = 1, projection: bool = False, attention: float = 1.0
) -> describe.Block:
    gains = describe.ShapedGains(attention=attention, centring=attention)
    return describe.Block(
        gamma=square**0.5, tau0=tau0, heads=heads, projection=projection, shaped_gains=gains
    )


def _probability(block: describe.Block, t1: float = np.inf) -> float:
    """Of an explosion before t1."""
    return float(limits.shaped.explosion_probability(block, DISTANCE, t1))


def _rival(
    name: str, change: Callable[[float, float, int, bool], describe.Block], *cases: str
) -> ex.Rival[Config, str]:
    """The backward equation of another block, at some cases."""
    return ex.Rival(
        name,
        lambda found, case: _probability(change(*CASES[case]), 1.0),
        when=lambda c, case: case in cases,
    )


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


_COLD = ("one head", "loud branch", "two heads", "two heads, projection")
_TWO = ("two heads", "two heads, projection")

CLAIMS = (
    ex.Claims[Config, str](
        "paths-{case}",
        lambda found, case: (
            f"{case}: fraction of adaptive paths that explode before $t = 1$, "
            "against the two-token backward equation."
        ),
        estimate=lambda found, case: found(PATHS, case).exploded,
        prediction=lambda found, case: _probability(_block(*CASES[case]), 1.0),
        tol=lambda config, case: TOLERANCES.get(case, TOLERANCE),
        over=lambda c: c.cases,
        rivals=(
            ex.Rival("always stable", 0.0, when=lambda c, at: at != "beyond the threshold"),
            ex.Rival(
                "ever, in place of before t = 1",
                lambda found, case: _probability(_block(*CASES[case])),
                when=lambda c, at: at != "beyond the threshold",
            ),
            _rival(
                "1 / tau0 in place of its square", lambda g, t, *h: _block(g, t**0.5, *h), *_COLD
            ),
            _rival("half the drift", lambda g, t, h, p: _block(g, t, h, p, 0.5**0.5), "hot"),
            _rival("no 1 / H", lambda g, t, h, p: _block(g, t, 1, p), *_TWO),
            _rival("1 / H in the drift", lambda g, t, h, p: _block(g, t, 1, p, h**-0.5), *_TWO),
            _rival(
                "half the noise of attention, threshold gamma^2 < H",
                lambda g, t, h, p: _block(g, t, 2 * h, p),
                *("one head", "loud branch", "two heads", "beyond the threshold"),
            ),
        ),
    ),
)


def _map_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    data = found(MAP)
    for i, square in enumerate(data.gamma_square):
        for j, tau0 in enumerate(data.tau0):
            yield (float(square), float(tau0), float(data.early[i, j]), float(data.ever[i, j]))


def _time_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case, paths in found.each(PATHS):
        times = paths.blow_up_time
        for t in np.linspace(0.1, 1.0, 10).tolist():
            fraction = float(np.mean(times <= t))
            error = float(np.sqrt(max(fraction * (1 - fraction), 1 / len(times)) / len(times)))
            yield (case, t, _probability(_block(*CASES[case]), t), fraction, error)


def _growth_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    exact = _probability(_block(*CASES["one head"]), 1.0)
    for dim, networks in found.each(NETWORKS):
        for g in np.logspace(0.3, 3, 28).tolist():
            tail = float(np.mean(networks.growth > g))
            if tail * len(networks.growth) > 5:
                error = (tail * (1 - tail) / len(networks.growth)) ** 0.5
                yield (dim, g, tail, error, exact)


FIGURES = (
    ex.Figure(
        name="map",
        title="Where two tokens explode",
        caption="Probability that two orthogonal unit tokens ($D_0 = 2$, one head) explode before "
        "$t = 1$ (backward equation) and ever (closed form). From $\\gamma^2 = 1/2$ on it is zero. "
        "Dimensionless.",
        columns=("gamma^2", "tau0", "before 1", "ever"),
        rows=_map_rows,
        x="gamma^2",
        layers=tuple(
            figures.panel(name, figures.image(name, "tau0", label="probability"))
            for name in ("before 1", "ever")
        ),
        xlabel="$\\gamma^2$",
        ylabel="temperature $\\tau_0$",
        log="y",
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
        columns=("width", "growth", "probability", "stderr", "SDE"),
        rows=_growth_rows,
        x="growth",
        by="width",
        layers=(
            figures.points("probability", "stderr", label="networks, $n = {}$"),
            figures.level("SDE", label="SDE: probability of explosion"),
        ),
        xlabel="growth $g$ of the trace",
        ylabel="$P$(growth at depth $n$ > $g$)",
        log="xy",
    ),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/explosion",
    title="The covariance SDE explodes with positive probability",
    question="How likely does a shaped transformer explode?",
    summary="For two tokens the probability of explosion has a closed form, and a "
    "backward equation "
    "gives it at finite depth. Adaptive paths of the SDE, with heads and an output projection, are "
    "compared with both; networks of finite width show what an explosion means for them.",
    citations=("noci2023", "jax"),
    presets={
        "demo": Config(
            gamma_squares=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
            temperatures=(0.25, 0.5, 1.0, 2.0),
            cases=("one head", "two heads", "beyond the threshold"),
            paths=10_000,
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
    finding=ex.Finding(
        "Before $t = 1$ a share of {0} of the paths explodes with one head, and of {1} with two",
        ("paths-one head", "paths-two heads"),
    ),
)
