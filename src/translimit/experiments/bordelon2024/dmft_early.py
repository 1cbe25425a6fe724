r"""Early dynamics against depth: the first update, which the limit knows in closed form.

Training starts with f(1) - f(0) = eta_0 K (y - f(0)) / P. Without norm and at infinite width

    K = (2 (1 + e^2)^L + 2 beta_0^2 (1 + e^2)^(L - 1)) Kbar,    e = beta_0 L^(-alpha_L),

so that losses, which end nearly alike, start at different rates: at alpha_L = 1 deep networks are
slower, at 1/2 faster. With RMS norm K is taken from the limit's solver. Networks with a fixed
number of heads are extrapolated in the head dimension, whose error is of order 1 / N.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.bordelon2024.dmft_problem import RingProblem
from translimit.experiments.bordelon2024.extrapolation import extrapolated
from translimit.experiments.bordelon2024.limit_and_networks import (
    Networks,
    train_networks,
)
from translimit.experiments.bordelon2024.tasks import RING, RING_TARGETS
from translimit.experiments.checked import (
    Count,
    Counts,
    Doubling,
    Exponent,
    IncreasingSizes,
    Positive,
    Replicates,
    require_one_each,
)


@dataclass(frozen=True)
class Point:
    """Networks of one depth, at one exponent of their branches.

    Attributes:
        alpha_L: the exponent.
        layers: L.
        norm: before each block.
    """

    alpha_L: float
    layers: int
    norm: Literal["none", "rms"]


@dataclass(frozen=True)
class Config(RingProblem):
    """The problem, and its networks.

    Attributes:
        exponents: alpha_L.
        depths: L without norm.
        normed: L with RMS norm.
        heads: H.
        head_dims: N, each twice the one before.
        seeds: networks of each N and of the most layers; fewer layers have more networks, as
            many layers in all.
    """

    beta0: Positive = 2.0
    gamma0: Positive = 1.0
    eta0: Positive = 1e-3
    steps: Count = 2
    exponents: tuple[Exponent, ...] = (1.0, 0.5)
    depths: IncreasingSizes = (2, 4, 8)
    normed: IncreasingSizes = (2, 8)
    heads: Count = 2
    head_dims: Annotated[Counts, Doubling(3)] = (8, 16, 32)
    seeds: Replicates = (4000, 6000, 4000)

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        require_one_each("seeds", self.seeds, "head_dims", self.head_dims)

    def points(self) -> list[Point]:
        """The networks that are compared with the limit."""
        bare = [Point(alpha, depth, "none") for alpha in self.exponents for depth in self.depths]
        return bare + [Point(1.0, depth, "rms") for depth in self.normed]

    def seeds_of(self, head_dim: int, layers: int) -> int:
        """Networks of one head dimension and depth."""
        most = max(*self.depths, *self.normed)
        return self.seeds[self.head_dims.index(head_dim)] * most // layers

    def closed_form(self, layers: int | float, alpha_L: float) -> float:
        """What the first update adds towards the targets, over eta_0, without norm."""
        return towards(
            limits.dmft.uniform_attention_ntk(
                RING, 2, layers=layers, beta0=self.beta0, alpha_L=alpha_L
            )
        )


def towards(kernel: Float[np.ndarray, "2 2"]) -> float:
    """The mean over inputs of sign(y) K y / P."""
    y = np.array(RING_TARGETS)
    return float(np.mean(np.sign(y) * (kernel @ y) / len(y)))


@dataclass(frozen=True)
class Solved(ex.Arrays):
    """What the first update adds towards the targets, over eta_0, by the limit's solver."""

    rate: float


def compute_limit(config: Config, at: Point, keys: ex.Keys) -> Solved:
    """From the tangent kernel at the start."""
    del keys
    sized = replace(config, alpha_L=at.alpha_L, norm=at.norm)
    solution = core.solve(sized.limit(head_dim=math.inf, layers=at.layers))
    return Solved(towards(solution.ntk[0]))


def compute_networks(config: Config, at: tuple[int, Point], keys: ex.Keys) -> Networks:
    """Networks after one update."""
    head_dim, point = at
    sized = replace(config, alpha_L=point.alpha_L, norm=point.norm)
    seeds = config.seeds_of(head_dim, point.layers)
    return train_networks(
        sized, keys.own, heads=config.heads, seeds=seeds, head_dim=head_dim, layers=point.layers
    )


def _cost(config: Config, at: tuple[int, Point]) -> ex.Cost:
    head_dim, point = at
    seeds = config.seeds_of(head_dim, point.layers)
    return config.networks_cost(config.heads, seeds, head_dim=head_dim, layers=point.layers)


LIMIT = ex.Part(
    "limit/{norm}/alpha={alpha_L:g}/L={layers}",
    Solved,
    compute_limit,
    grid=lambda c: [*c.points(), *(Point(0.5, depth, "rms") for depth in c.normed)],
    cost=lambda c, at: ex.Cost(2.5),
)
NETWORKS = ex.Part(
    "networks/N={head_dim}/{point.norm}/alpha={point.alpha_L:g}/L={point.layers}",
    Networks,
    compute_networks,
    grid=lambda c: [(head_dim, point) for head_dim in c.head_dims for point in c.points()],
    cost=_cost,
)


def _rate(found: ex.Found[Config], at: Point) -> Estimate:
    """What the first update of networks adds, over eta_0, at infinite head dimension."""
    signs = np.sign(RING_TARGETS)
    nets = [found(NETWORKS, (head_dim, at)).predictions for head_dim in found.config.head_dims]
    added = [np.mean((f[:, 1, :, 0] - f[:, 0, :, 0]) * signs, axis=1) for f in nets]
    return extrapolated([one / found.config.eta0 for one in added]).estimate()


def _bare(config: Config, at: Point) -> bool:
    return at.norm == "none"


CLOSED_FORM = ex.Claims(
    "first-update-alpha={alpha_L:g}-L={layers}",
    lambda found, at: (
        f"At $\\alpha_L = {at.alpha_L:g}$ the first update of networks of {at.layers} layers adds "
        "to predictions what the closed form of the tangent kernel says."
    ),
    estimate=_rate,
    prediction=lambda found, at: found.config.closed_form(at.layers, at.alpha_L),
    tol=lambda c, at: 0.08 * c.closed_form(at.layers, at.alpha_L),
    over=lambda c: [point for point in c.points() if _bare(c, point)],
    rivals=(
        ex.Rival(
            "one rate for all depths, that of the fewest layers",
            lambda found, at: found.config.closed_form(found.config.depths[0], at.alpha_L),
            when=lambda c, at: at.layers > c.depths[0],
        ),
        ex.Rival(
            "the rate of infinite depth",
            lambda found, at: found.config.closed_form(math.inf, at.alpha_L),
            when=lambda c, at: at.alpha_L == 1 or at.layers < 4,
        ),
        ex.Rival(
            "the other exponent of depth",
            lambda found, at: found.config.closed_form(at.layers, 1.5 - at.alpha_L),
            when=lambda c, at: at.layers > 1,
        ),
        ex.Rival(
            "as if keys and queries learned like values",
            lambda found, at: _with_keys(found.config, at),
        ),
    ),
)
NORMED = ex.Claims(
    "normed-L={layers}",
    lambda found, at: (
        f"So does that of networks of {at.layers} layers with RMS norm at $\\alpha_L = 1$, by the "
        "limit's solver (relative difference)."
    ),
    estimate=lambda found, at: _relative(found, at, at),
    prediction=0.0,
    tol=0.08,
    over=lambda c: [point for point in c.points() if not _bare(c, point)],
    rivals=(
        ex.Rival[Config, Point](
            "the other exponent of depth",
            estimate=lambda found, at: _relative(found, at, replace(at, alpha_L=0.5)),
        ),
        ex.Rival[Config, Point](
            "one rate for all depths, that of the fewest layers",
            estimate=lambda found, at: _relative(
                found, at, replace(at, layers=found.config.normed[0])
            ),
            when=lambda c, at: at.layers > c.normed[0],
        ),
    ),
)


def _with_keys(config: Config, at: Point) -> float:
    """Four matrices of a block contribute instead of two."""
    one = 1 + config.beta0**2 * at.layers ** (-2 * at.alpha_L)
    right = 2 * one**at.layers + 2 * config.beta0**2 * one ** (at.layers - 1)
    more = 2 * one**at.layers + 4 * config.beta0**2 * one ** (at.layers - 1)
    return config.closed_form(at.layers, at.alpha_L) * more / right


def _relative(found: ex.Found[Config], at: Point, theory: Point) -> Estimate:
    """Networks over the solver's number at a point, minus one."""
    said, rate = found(LIMIT, theory).rate, _rate(found, at)
    return Estimate(rate.value / said - 1, rate.stderr / said, rate.count)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at in found.config.points():
        rate = _rate(found, at)
        panel = "RMS norm" if at.norm == "rms" else "no norm"
        said = found(LIMIT, at).rate
        yield (panel, at.alpha_L, at.layers, rate.value, 2 * rate.stderr, said)


RATES = ex.Figure(
    name="first-update",
    title="The first update against depth",
    caption="What the first update adds to predictions towards the targets, over $\\eta_0$. "
    "Points: networks of {heads} heads, extrapolated in head dimension, with two standard "
    "errors; lines: the limit.",
    columns=("norm", "alpha_L", "layers", "networks", "two standard errors", "limit"),
    rows=_rows,
    x="layers",
    by="alpha_L",
    panels="norm",
    layers=(
        figures.line("limit", label="$\\alpha_L$ = {}"),
        figures.points("networks", "two standard errors", label=""),
    ),
    ylabel="first update over $\\eta_0$",
    log="xy",
    ticks=True,
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-early",
    title="Early dynamics against depth, in closed form",
    question="How does the first update depend on depth?",
    summary="Losses of networks that differ in depth start at different rates. The first update is "
    "known in closed form: at $\\alpha_L = 1$ its rate rises and then falls to a limit with "
    "growing depth, at $\\alpha_L = 1/2$ it rises to a larger one.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(exponents=(1.0,), depths=(2, 8), normed=(8,), seeds=(2000, 3000, 2000)),
        "standard": Config(),
        "paper": Config(depths=(1, 2, 4, 8, 16), normed=(2, 8, 16)),
    },
    parts=(LIMIT, NETWORKS),
    claims=(CLOSED_FORM, NORMED),
    figures=(RATES,),
    finding=ex.Finding(
        "In networks of 2 layers the first update adds {0} to predictions at $\\alpha_L = 1$; "
        "under RMS norm and 8 layers it misses the limit's by a relative difference of {1}",
        ("first-update-alpha=1-L=2", "normed-L=8"),
    ),
)
