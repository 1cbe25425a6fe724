r"""Ranks of limiting covariances in d = 3, 4, 5, counted without a threshold.

Cells `softmax/identity`, `softmax/random`, `l2/identity`, `l2/random`: for every draw the closure
is followed in logarithmic time and its eigenvalues are classified by their slopes (undecided ones
are their own bar); beside it the same covariances counted by the absolute threshold 0.1, and the
projected Euler scheme of the published histogram.

For V > 0 and K = -Q, d tr(V^{-1} Sigma) / dt = -2 c |Q Sigma|^2 for softmax, so Q Sigma = 0 in
every limit point and the rank is at most d - rank Q = ceil(d / 2).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import attention, figures, limits
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.castin2025 import rank_draws
from translimit.experiments.checked import CheckedConfig, Count, Positive, Within

if TYPE_CHECKING:
    import xarray as xr

REFERENCE = "Castin et al., arXiv 2501.18322"
VARIANTS = ("softmax", "l2")
VALUES = ("identity", "random")
LARGEST = max(rank_draws.DIMS)
_TITLES = {"identity": "$V = I$", "random": "$V = B^T B$"}
_NAMES = {"softmax": "softmax", "l2": "L2"}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the histograms.

    Attributes:
        draws: trajectories for each dimension, the first of the published 100.
        t1_identity: depth to which V = I is followed.
        t1_random: depth to which V = B^T B is followed: a transient lasts until t is about one over
            the smallest eigenvalue of V.
        max_steps: attempted steps of one trajectory; one that needs more is undecided.
        euler_steps: where projected Euler is given up.
    """

    draws: Annotated[int, Within(2, rank_draws.DRAWS)] = 100
    t1_identity: Positive = 1e8
    t1_random: Positive = 1e10
    max_steps: Count = 20_000
    euler_steps: Count = 20_000


class RankHistograms(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """Compilation, a few hundred steps a trajectory, and those of projected Euler."""
        steps = 12 * config.draws * 300 * 2e-5
        return Cost(seconds=16.0 + steps + config.euler_steps * (1.5e-3 + 4e-5 * config.draws))

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The slow ones first."""
        return tuple(
            Cell(f"{variant}/{values}", {"variant": variant, "values": values})
            for values in reversed(VALUES)
            for variant in VARIANTS
        )

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return (
            *(f"{variant}-{values}-bound" for variant in VARIANTS for values in VALUES),
            *(f"{variant}-identity-limit" for variant in VARIANTS),
            *(f"{variant}-identity-rank" for variant in VARIANTS),
            "floor-of-half",
            "threshold-counts-the-rank",
            "euler-stays-in-the-cone",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """All draws of a cell at once, padded to d = 5; nothing is random beyond the seeds."""
        return _compute(config, **cell.parameters)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The bound, the exact limit, and what is wrong with the published count."""
        claims = [
            Claim(
                name=f"{variant}-{values}-bound",
                statement=f"No limit of {_NAMES[variant]} attention with {_TITLES[values]}, "
                "$K = -Q$ has a rank above $\\lceil d/2\\rceil$ (largest excess, settled draws).",
                prediction=0.0,
                estimate=Estimate(
                    _excess(results[f"{variant}/{values}"]),
                    count=_settled(results, variant, values),
                ),
                tol=0.0,
                one_sided=True,
                reference=REFERENCE,
            )
            for variant in VARIANTS
            for values in VALUES
        ]
        claims += [
            Claim(
                name=f"{variant}-identity-limit",
                statement=f"{_NAMES[variant]}, $V = I$, $K = -Q$: the limit is $F(I - P)F$ "
                "(largest distance over the draws, relative to the trace at the start).",
                prediction=0.0,
                estimate=Estimate(
                    float(results[f"{variant}/identity"]["distance"].max()),
                    count=results[f"{variant}/identity"].sizes["draw"],
                ),
                tol=1e-5,
                one_sided=True,
                reference=REFERENCE,
            )
            for variant in VARIANTS
        ]
        claims += [
            Claim(
                name=f"{variant}-identity-rank",
                statement=f"{_NAMES[variant]}, $V = I$: every settled rank is $\\lceil d/2\\rceil$ "
                "(fraction of the settled draws).",
                prediction=1.0,
                estimate=_fraction(results[f"{variant}/identity"], "is_half"),
                tol=0.0,
                reference=REFERENCE,
            )
            for variant in VARIANTS
        ]
        identity = results["softmax/identity"]
        odd = identity.isel(draw=np.flatnonzero(identity["dim"].values % 2 == 1))
        claims += [
            Claim(
                name="floor-of-half",
                statement="Erratum: $\\lfloor d/2\\rfloor$ bounds the rank for odd $d$ too "
                "(fraction of settled draws above it; softmax, $V = I$).",
                prediction=0.0,
                estimate=_fraction(odd, "above_floor"),
                tol=0.0,
                reference=REFERENCE,
            ),
            Claim(
                name="threshold-counts-the-rank",
                statement="Erratum: eigenvalues above 0.1 count the rank of the limit (fraction of "
                "draws whose exact limit $F(I - P)F$ is miscounted; softmax, $V = I$).",
                prediction=0.0,
                estimate=Estimate.from_samples(
                    np.asarray(
                        identity["exact_threshold_rank"] != (identity["dim"] + 1) // 2, dtype=float
                    )
                ),
                tol=0.02,
                reference=REFERENCE,
            ),
            Claim(
                name="euler-stays-in-the-cone",
                statement="Erratum: the published Euler step keeps covariances positive "
                "semi-definite (fraction of draws whose first step does not; softmax, $V = I$).",
                prediction=0.0,
                estimate=Estimate.from_samples(np.asarray(identity["left_cone"], dtype=float)),
                tol=0.02,
                reference=REFERENCE,
            ),
        ]
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """One histogram a cell, every draw in it."""
        return [
            _figure(config, variant, values, results[f"{variant}/{values}"])
            for values in VALUES
            for variant in VARIANTS
        ]


def _attention(variant: str, draw: rank_draws.Draw) -> Any:
    """One shape for every dimension; the scale is that of the true one, 1 / sqrt(d)."""
    dim = draw.cov.shape[0]
    query = rank_draws.padded(draw.Q, LARGEST // 2, LARGEST)
    value = rank_draws.padded(draw.V, LARGEST, LARGEST)
    options: dict[str, Any] = {"Q": query, "K": -query, "V": value, "score_scale": dim**-0.5}
    return (
        attention.Softmax(**options)
        if variant == "softmax"
        else attention.L2(**options, key_scale=1.0)
    )


def _compute(config: Config, variant: str, values: str) -> xr.Dataset:
    import xarray as xr

    cases = {d: rank_draws.draws(variant, values, d, config.draws) for d in rank_draws.DIMS}
    every = [draw for d in rank_draws.DIMS for draw in cases[d]]
    t1 = config.t1_identity if values == "identity" else config.t1_random
    solution = limits.meanfield.solve_limits(
        [
            limits.meanfield.GaussianLimit(
                attention=_attention(variant, draw),
                cov=rank_draws.padded(draw.cov, LARGEST, LARGEST),
                t1=t1,
            )
            for draw in every
        ],
        limits.meanfield.LogTimeODE(max_steps=config.max_steps),
    )
    schemes = [
        rank_draws.projected_euler(
            variant, values, cases[d], step=step, max_steps=config.euler_steps
        )
        for d, step in zip(rank_draws.DIMS, rank_draws.EULER_STEPS[variant, values], strict=True)
    ]
    euler = [np.concatenate(part) for part in zip(*schemes, strict=True)]
    reached = np.isfinite(solution.eigenvalues).all(axis=1)
    data = {
        "rank": ("draw", solution.rank, {"long_name": "settled rank, -1 undecided"}),
        "undecided": ("draw", solution.undecided),
        "threshold_rank": (
            "draw",
            np.where(reached, (solution.eigenvalues > rank_draws.THRESHOLD).sum(axis=1), -1),
            {"long_name": "eigenvalues above 0.1 at t1, -1 where t1 was not reached"},
        ),
        "eigenvalues": (("draw", "eigenvalue"), solution.eigenvalues),
        "slopes": (("draw", "decade", "eigenvalue"), solution.slopes),
        "steps": ("draw", solution.steps_taken),
        "euler_rank": ("draw", euler[0]),
        "left_cone": ("draw", euler[1]),
        "euler_settled": ("draw", euler[2]),
    }
    if values == "identity":
        exact = [
            rank_draws.padded(rank_draws.exact_limit(draw), LARGEST, LARGEST) for draw in every
        ]
        counts = [(np.linalg.eigvalsh(cov) > rank_draws.THRESHOLD).sum() for cov in exact]
        distance = [
            np.linalg.norm(cov - limit) / np.trace(draw.cov)
            for cov, limit, draw in zip(solution.last_cov, exact, every, strict=True)
        ]
        data |= {"exact_threshold_rank": ("draw", counts), "distance": ("draw", distance)}
    return xr.Dataset(
        data,
        coords={"dim": ("draw", np.repeat(rank_draws.DIMS, config.draws))},
        attrs={"t1": t1, "reference": REFERENCE},
    )


def _excess(data: xr.Dataset) -> float:
    settled = ~data["undecided"].values
    excess = data["rank"].values - (data["dim"].values + 1) // 2
    return float(excess[settled].max()) if settled.any() else float("nan")


def _settled(results: Results, variant: str, values: str) -> int:
    return int((~results[f"{variant}/{values}"]["undecided"].values).sum())


def _fraction(data: xr.Dataset, which: str) -> Estimate:
    """A fraction of the settled draws; the draws are fixed, so it has no sampling error."""
    settled = ~data["undecided"].values
    rank, dim = data["rank"].values[settled], data["dim"].values[settled]
    hits = rank == (dim + 1) // 2 if which == "is_half" else rank > dim // 2
    return Estimate(float(hits.mean()) if hits.size else float("nan"), count=int(hits.size))


def _figure(config: Config, variant: str, values: str, data: xr.Dataset) -> FigureSpec:
    bars = [*map(str, range(LARGEST + 1)), "undecided"]
    ways = {"slopes": "rank", "threshold 0.1": "threshold_rank", "projected Euler": "euler_rank"}

    def counts(dim: int, name: str) -> list[int]:
        mine = data.isel(draw=np.flatnonzero(data["dim"].values == dim))
        ranks = mine[name].values
        ranks = np.where(mine["euler_settled"], ranks, -1) if name == "euler_rank" else ranks
        return [*(int((ranks == r).sum()) for r in range(LARGEST + 1)), int((ranks < 0).sum())]

    table = {(d, label): counts(d, name) for d in rank_draws.DIMS for label, name in ways.items()}

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(rank_draws.DIMS), sharey=True)
        for index, (d, ax) in enumerate(zip(rank_draws.DIMS, axes, strict=True)):
            figures.plot_rank_histogram(
                {label: table[d, label] for label in ways},
                [*bars[:-1], "?"],
                ax,
                bound=(d + 1) // 2,
                title=f"$d = {d}$",
                legend=index == 0,
            )
            if index:
                ax.set_ylabel("")

    rows = tuple((d, label, *values_) for (d, label), values_ in table.items())
    return FigureSpec(
        name=f"{variant}-{values}",
        title=f"Ranks of the limit, {_NAMES[variant]}, {_TITLES[values]}",
        caption=f"Rank of the limiting covariance over {config.draws} draws for each $d$, none "
        "left out. Plain: eigenvalues that persist by their logarithmic slopes, followed to "
        f"$t = {data.attrs['t1']:.0e}$; hatched: the same covariances counted by the "
        "threshold 0.1; dotted: projected Euler, at most "
        f"{config.euler_steps} steps, counted by that threshold. The last bar, ?, are the "
        "undecided draws: a slope that is neither a persistent nor a decaying eigenvalue's, "
        f"{config.max_steps} steps used up, or a scheme that did not settle. Dashed: the bound "
        "$\\lceil d/2\\rceil$. Dimensionless; counts of fixed draws, without error bars.",
        draw=draw,
        table=Table(("d", "counted by", *bars), rows),
        shown=int(data.sizes["draw"]),
        size=(11.0, 3.6),
    )


EXPERIMENT = RankHistograms(
    name="castin2025/rank-histograms",
    title="Ranks of limiting covariances, without a threshold",
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
)
