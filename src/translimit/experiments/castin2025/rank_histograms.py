r"""Ranks of limiting covariances in d = 3, 4, 5, counted without a threshold.

For every draw the closure is followed in logarithmic time and its eigenvalues are classified by
their slopes; beside it a count by the threshold 0.1, and the published projected Euler scheme.
For V > 0 and K = -Q, d tr(V^{-1} Sigma) / dt = -2 c |Q Sigma|^2 for softmax, so Q Sigma = 0 in
every limit point and the rank is at most d - rank Q, here ceil(d / 2); `limit_ranks` varies it.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Bool, Float, Int

import translimit.experiments as ex
from translimit import attention, core, figures, limits
from translimit.core import Estimate
from translimit.experiments.castin2025 import rank_draws
from translimit.experiments.checked import CheckedConfig, Count, Positive, Within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIANTS: tuple[str, ...] = ("softmax", "l2")
VALUES: tuple[str, ...] = ("identity", "random")
LARGEST = max(rank_draws.DIMS)
#: The bars of a histogram.
BARS = (*map(str, range(LARGEST + 1)), "undecided")
TITLES = {"identity": "$V = I$", "random": "$V = B^T B$"}
NAMES = {"softmax": "softmax", "l2": "L2"}
#: What is said of the limits for V = I.
DISTANCES = ("distance", "projected", "wrong_rows")
#: What is measured of a variant and a kind of value map.
Measured = Callable[[ex.Found["Config"], tuple[str, str]], Estimate]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the histograms.

    Attributes:
        draws: trajectories for each dimension, the first of the published 100.
        t1_identity: depth to which V = I is followed.
        t1_random: depth for V = B^T B, beyond one over the smallest eigenvalue of V.
        max_steps: attempted steps of one trajectory; one that needs more is undecided.
        euler_steps: where projected Euler is given up.
    """

    draws: Annotated[int, Within(2, rank_draws.DRAWS)] = 100
    t1_identity: Positive = 1e8
    t1_random: Positive = 1e10
    max_steps: Count = 20_000
    euler_steps: Count = 20_000


@dataclass(frozen=True)
class Ranks(ex.Arrays):
    """All draws of a variant and a kind of value map."""

    dim: Int[np.ndarray, " draw"]
    rank: Annotated[Int[np.ndarray, " draw"], "settled rank, -1 undecided"]
    undecided: Bool[np.ndarray, " draw"]
    threshold_rank: Annotated[
        Int[np.ndarray, " draw"], "eigenvalues above 0.1 at t1, -1 where t1 was not reached"
    ]
    eigenvalues: Float[np.ndarray, "draw eigenvalue"]
    slopes: Float[np.ndarray, "draw decade eigenvalue"]
    steps: Int[np.ndarray, " draw"]
    euler_rank: Int[np.ndarray, " draw"]
    left_cone: Bool[np.ndarray, " draw"]
    euler_settled: Bool[np.ndarray, " draw"]
    t1: float

    @property
    def half(self) -> Int[np.ndarray, " draw"]:
        """ceil(d / 2)."""
        return (self.dim + 1) // 2

    def counted(self) -> dict[str, Int[np.ndarray, " draw"]]:
        """Ranks by the way of counting, -1 where undecided."""
        return {
            "slopes": self.rank,
            "threshold 0.1": self.threshold_rank,
            "projected Euler": np.where(self.euler_settled, self.euler_rank, -1),
        }


@dataclass(frozen=True)
class ExactRanks(Ranks):
    """Beside the limits for V = I: distances to what is said of them, relative to the trace."""

    distance: Annotated[Float[np.ndarray, " draw"], "to F (I - P) F"]
    projected: Annotated[Float[np.ndarray, " draw"], "to the start projected off the rows of Q"]
    wrong_rows: Annotated[Float[np.ndarray, " draw"], "to F (I - P) F, P on the rows of Q"]


def _attention(variant: str, draw: rank_draws.Draw) -> attention.Softmax | attention.L2:
    """One shape for every dimension; the scale is that of the true one, 1 / sqrt(d)."""
    query = rank_draws.padded(draw.Q, LARGEST // 2, LARGEST)
    value = rank_draws.padded(draw.V, LARGEST, LARGEST)
    scale = len(draw.cov) ** -0.5
    if variant == "softmax":
        return attention.Softmax(Q=query, K=-query, V=value, score_scale=scale)
    return attention.L2(Q=query, K=-query, V=value, score_scale=scale, key_scale=1.0)


def _follow(
    config: Config, variant: str, values: str
) -> tuple[Ranks, list[rank_draws.Draw], np.ndarray]:
    """All draws at once, padded to d = 5, and their last covariances."""
    cases = {d: rank_draws.draws(variant, values, d, config.draws) for d in rank_draws.DIMS}
    every = [draw for d in rank_draws.DIMS for draw in cases[d]]
    t1 = config.t1_identity if values == "identity" else config.t1_random
    problems = [
        limits.meanfield.GaussianLimit(
            attention=_attention(variant, draw),
            cov=rank_draws.padded(draw.cov, LARGEST, LARGEST),
            t1=t1,
        )
        for draw in every
    ]
    method = limits.meanfield.LogTimeODE(max_steps=config.max_steps)
    solution = limits.meanfield.solve_limits(problems, method)
    schemes = [
        rank_draws.projected_euler(
            variant, values, cases[d], step=step, max_steps=config.euler_steps
        )
        for d, step in zip(rank_draws.DIMS, rank_draws.EULER_STEPS[variant, values], strict=True)
    ]
    eigenvalues = np.asarray(solution.eigenvalues)
    reached = np.isfinite(eigenvalues).all(axis=1)
    ranks = Ranks(
        dim=np.repeat(rank_draws.DIMS, config.draws),
        rank=np.asarray(solution.rank),
        undecided=np.asarray(solution.undecided),
        threshold_rank=np.where(reached, (eigenvalues > rank_draws.THRESHOLD).sum(axis=1), -1),
        eigenvalues=eigenvalues,
        slopes=np.asarray(solution.slopes),
        steps=np.asarray(solution.steps_taken),
        euler_rank=np.concatenate([one.rank for one in schemes]),
        left_cone=np.concatenate([one.left_cone for one in schemes]),
        euler_settled=np.concatenate([one.settled for one in schemes]),
        t1=t1,
    )
    return ranks, every, np.asarray(solution.last_cov)


def compute_random(config: Config, variant: str, keys: ex.Keys) -> Ranks:
    """V = B^T B; nothing is random beyond the published seeds."""
    return _follow(config, variant, "random")[0]


def compute_identity(config: Config, variant: str, keys: ex.Keys) -> ExactRanks:
    """V = I, likewise, beside the exact limits."""
    ranks, draws, covs = _follow(config, variant, "identity")
    gaps = []
    for draw, end in zip(draws, covs, strict=True):
        d = len(draw.cov)
        told = (limits.meanfield.identity_limit(draw.Q, draw.cov), *rank_draws.rivals(draw))
        gaps.append([np.linalg.norm(end[:d, :d] - one) / np.trace(draw.cov) for one in told])
    return ExactRanks(**vars(ranks), **dict(zip(DISTANCES, np.array(gaps).T, strict=True)))


def _cost(config: Config, variant: str) -> ex.Cost:
    """Compilation, a few hundred steps a trajectory, and those of projected Euler."""
    return ex.Cost(4.0 + 0.018 * config.draws + config.euler_steps * (4e-4 + 1e-5 * config.draws))


RANDOM = ex.Part("{variant}/random", Ranks, compute_random, grid=lambda c: VARIANTS, cost=_cost)
IDENTITY = ex.Part(
    "{variant}/identity", ExactRanks, compute_identity, grid=lambda c: VARIANTS, cost=_cost
)


def _ranks(found: ex.Found[Config], variant: str, values: str) -> Ranks:
    return found(IDENTITY, variant) if values == "identity" else found(RANDOM, variant)


def _missed(rule: Callable[[Ranks], np.ndarray]) -> Measured:
    """The share of all draws that did not settle at a rank; undecided ones among them."""

    def measured(found: ex.Found[Config], at: tuple[str, str]) -> Estimate:
        ranks = _ranks(found, *at)
        return rank_draws.share(ranks.rank != rule(ranks))

    return measured


def _counted(way: str) -> Measured:
    """The share of all draws of which another way of counting does not give ceil(d / 2)."""

    def measured(found: ex.Found[Config], at: tuple[str, str]) -> Estimate:
        ranks = _ranks(found, *at)
        return rank_draws.share(ranks.counted()[way] != ranks.half)

    return measured


def _farthest(limit: str) -> Measured:
    """The largest distance to a limit, relative to the trace at the start."""

    def measured(found: ex.Found[Config], at: tuple[str, str]) -> Estimate:
        distance = getattr(found(IDENTITY, at[0]), limit)
        return Estimate(float(np.nanmax(distance)), count=distance.size)

    return measured


def _filtered(found: ex.Found[Config]) -> Estimate:
    """Of the settled runs of the published scheme, in all cells, those above ceil(d / 2)."""
    every = [_ranks(found, variant, values) for variant in VARIANTS for values in VALUES]
    above = [(one.euler_rank > one.half)[one.euler_settled] for one in every]
    return rank_draws.share(np.concatenate(above))


CLAIMS = (
    ex.Claims(
        "{variant}-{values}-rank",
        lambda found, at: (
            f"Limits of {NAMES[at[0]]} attention with {TITLES[at[1]]}, $K = -Q$ have rank $d - "
            "\\operatorname{rank} Q = \\lceil d/2\\rceil$ (share of all draws that did not settle "
            "there; undecided draws count against it)."
        ),
        estimate=_missed(lambda ranks: ranks.half),
        prediction=0.0,
        tol=lambda config, at: 0.05 if at[1] == "identity" else 0.25,
        over=lambda c: [(variant, values) for variant in VARIANTS for values in VALUES],
        rivals=(
            ex.Rival("floor(d / 2)", estimate=_missed(lambda ranks: ranks.dim // 2)),
            ex.Rival("no loss of rank", estimate=_missed(lambda ranks: ranks.dim)),
            *(
                ex.Rival(
                    f"the published count: {way}",
                    estimate=_counted(way),
                    printed=True,
                    when=lambda config, at: at[1] == "identity",
                )
                for way in ("threshold 0.1", "projected Euler")
            ),
        ),
        one_sided=True,
    ),
    ex.Claims(
        "{variant}-{values}-limit",
        lambda found, at: (
            f"{NAMES[at[0]]}, $V = I$: the limit is $F(I - P)F$ (largest distance, over the trace)."
        ),
        estimate=_farthest("distance"),
        prediction=0.0,
        tol=1e-5,
        over=lambda c: [(variant, "identity") for variant in VARIANTS],
        rivals=(
            ex.Rival("the start, projected off the rows of Q", estimate=_farthest("projected")),
            ex.Rival("P the projector on the rows of Q", estimate=_farthest("wrong_rows")),
        ),
        one_sided=True,
    ),
    ex.claim(
        "filter-never-fires",
        "The published filter, which drops runs with a rank above $\\lceil d/2\\rceil$, drops none "
        "(share of the settled runs of the published scheme, all cells).",
        _filtered,
        0.0,
        0.01,
        rivals=(ex.Rival("it drops one run in twenty", 0.05),),
        one_sided=True,
        decided_by="standard",
    ),
)


def _histogram(variant: str, values: str) -> ex.Figure[Config]:
    """One histogram a cell, every draw in it."""

    def rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
        ranks = _ranks(found, variant, values)
        for d in rank_draws.DIMS:
            for label, counted in ranks.counted().items():
                mine = counted[ranks.dim == d]
                bars = [int((mine == rank).sum()) for rank in range(LARGEST + 1)]
                yield (d, label, *bars, int((mine < 0).sum()))

    return ex.Figure(
        name=f"{variant}-{values}",
        title=f"Ranks of the limit, {NAMES[variant]}, {TITLES[values]}",
        caption=lambda found: (
            f"Rank of the limiting covariance over {found.config.draws} draws for each $d$, none "
            "left out. Plain: eigenvalues that persist by their logarithmic slopes, followed to "
            f"$t = {_ranks(found, variant, values).t1:.0e}$; hatched: the same covariances counted "
            "by the threshold 0.1; dotted: projected Euler, at most "
            f"{found.config.euler_steps} steps, counted by that threshold. The last bar, ?, are "
            "the undecided draws: a slope that is neither a persistent nor a decaying "
            f"eigenvalue's, {found.config.max_steps} steps used up, or a scheme that did not "
            "settle. Dashed: the bound $\\lceil d/2\\rceil$. Dimensionless; counts of fixed draws, "
            "without error bars."
        ),
        columns=("d", "counted by", *BARS),
        rows=rows,
        draw=_draw,
        shown=lambda found, table: len(rank_draws.DIMS) * found.config.draws,
        size=(11.0, 3.6),
    )


def _draw(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Bars side by side, a panel for each d."""
    axes = canvas.subplots(1, len(rank_draws.DIMS), sharey=True)
    for place, (d, ax) in enumerate(zip(rank_draws.DIMS, axes, strict=True)):
        here = table.where({"d": d})
        bars = np.array([here.numbers(bar) for bar in BARS]).astype(int).T.tolist()
        figures.plot_rank_histogram(
            dict(zip(here.column("counted by"), bars, strict=True)),
            [*BARS[:-1], "?"],
            ax,
            bound=(d + 1) // 2,
            title=f"$d = {d}$",
            legend=place == 0,
        )
        if place:
            ax.set_ylabel("")


EXPERIMENT = ex.Experiment(
    name="castin2025/rank-histograms",
    title="Ranks of limiting covariances, without a threshold",
    question="To which rank do covariances collapse, told without a threshold?",
    summary="Covariances of the Gaussian closure with $K = -Q$ and $Q$ of rank "
    "$\\lfloor d/2\\rfloor$ lose rank as $t\\to\\infty$. Every draw of the published histograms is "
    "followed in logarithmic time and counted by the slopes of its eigenvalues, beside the count "
    "by an absolute threshold and the projected Euler scheme, which both bias the rank down.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(draws=20, max_steps=1500, euler_steps=1500),
        "standard": Config(),
        "paper": Config(max_steps=100_000),
    },
    reference=core.reference("castin2025"),
    parts=(RANDOM, IDENTITY),
    claims=CLAIMS,
    figures=tuple(_histogram(variant, values) for values in VALUES for variant in VARIANTS),
    finding=ex.Finding(
        "With $V = I$ a share {0} of draws has no limit of rank $\\lceil d/2\\rceil$ (L2: {1})",
        ("softmax-identity-rank", "l2-identity-rank"),
    ),
)
