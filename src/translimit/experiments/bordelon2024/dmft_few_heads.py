r"""One limit for every number of heads: at alpha_A = 1 all heads do what a single one does.

Networks of few heads whose dimension grows are extrapolated in their width N H, and compared with
the limit of infinitely many heads of infinite dimension, in which attention is one deterministic
number. At one width networks of any number of heads are equally far from it: the distance is of
order 1 / (N H), not 1 / N.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024.dmft_problem import RingProblem
from translimit.experiments.bordelon2024.extrapolation import extrapolated
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    Networks,
    course,
    extrapolated_gap,
    solve_limit,
    train_networks,
)
from translimit.experiments.checked import (
    Count,
    Counts,
    Doubling,
    IncreasingSizes,
    Positive,
    Replicates,
    require_one_each,
)

#: Responses that other theories leave out.
RESPONSES = ("R_v", "R_h")


@dataclass(frozen=True)
class Config(RingProblem):
    """The problem (`head_dim` is set by the cells), and the networks.

    Attributes:
        few: H, increasing; the first is the one that others are compared with.
        widths: N H, each twice the one before and a multiple of every H.
        seeds: networks of each width.
    """

    beta0: Positive = 2.0
    gamma0: Positive = 2.0
    eta0: Positive = 0.03
    steps: Count = 8
    few: IncreasingSizes = (1, 2, 4)
    widths: Annotated[Counts, Doubling(3)] = (32, 64, 128)
    seeds: Replicates = (10_000, 4000, 3000)

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        require_one_each("seeds", self.seeds, "widths", self.widths)
        if any(self.widths[0] % heads for heads in self.few):
            raise core.ConfigError(
                "widths", f"got {self.widths}", f"pass multiples of each of {self.few}"
            )

    @property
    def most(self) -> int:
        """The largest number of heads."""
        return self.few[-1]


def compute_limit(config: Config, theory: str, keys: ex.Keys) -> Limit:
    """Infinitely many heads of infinite dimension, or a theory without one response."""
    omit = theory if theory in RESPONSES else None
    return solve_limit(config, keys.own, omit=omit, head_dim=math.inf)


def compute_networks(config: Config, at: tuple[int, int], keys: ex.Keys) -> Networks:
    """Networks of one number of heads and one width."""
    heads, width = at
    seeds = config.seeds[config.widths.index(width)]
    return train_networks(config, keys.own, heads=heads, seeds=seeds, head_dim=width // heads)


def _cost(config: Config, at: tuple[int, int]) -> ex.Cost:
    heads, width = at
    seeds = config.seeds[config.widths.index(width)]
    return config.networks_cost(heads, seeds, head_dim=width // heads)


LIMIT = ex.Part(
    "limit/{theory}",
    Limit,
    compute_limit,
    grid=lambda c: [str(theory) for theory in ("all", *RESPONSES)],
    cost=lambda c, theory: ex.Cost(6.0),
)
NETWORKS = ex.Part(
    "networks/H={heads}/n={width}",
    Networks,
    compute_networks,
    grid=lambda c: [(heads, width) for width in c.widths for heads in c.few],
    cost=_cost,
)


def _trained(found: ex.Found[Config], heads: int) -> list[Networks]:
    return [found(NETWORKS, (heads, width)) for width in found.config.widths]


def _gap(found: ex.Found[Config], heads: int, theory: str) -> Estimate:
    """Networks at infinite width minus a theory."""
    lazy = theory == "lazy"
    limit = found(LIMIT, "all").frozen() if lazy else found(LIMIT, theory)
    return extrapolated_gap(_trained(found, heads), limit, "predictions")


def _distance(found: ex.Found[Config], heads: int) -> Estimate:
    """The mean distance from the limit at the smallest width."""
    smallest = _trained(found, heads)[0]
    return extrapolated_gap([smallest], found(LIMIT, "all"), "predictions")


def _ratio(found: ex.Found[Config], heads: int) -> Estimate:
    """The distance of many heads over that of the fewest."""
    many, few = _distance(found, heads), _distance(found, found.config.few[0])
    ratio = many.value / few.value
    error = math.hypot(many.stderr, ratio * few.stderr) / abs(few.value)
    return Estimate(ratio, error, many.count)


def _apart(found: ex.Found[Config]) -> Estimate:
    """Exponent in N of the deviation over heads of a score after training."""
    most, widths = found.config.most, found.config.widths
    ends = [net.score[:, -1] for net in _trained(found, most)]
    deviations = [np.std(one, axis=1, ddof=1) for one in ends]
    return core.fit_rate([width // most for width in widths], deviations).estimate()


PREDICTIONS = ex.Claims(
    "limit-H={heads}",
    lambda found, heads: (
        f"Predictions of networks of {heads} head{'s' if heads > 1 else ''}, extrapolated in their "
        "width, are those of infinitely many heads of infinite dimension (mean over evaluations "
        "and inputs)."
    ),
    estimate=lambda found, heads: _gap(found, heads, "all"),
    prediction=0.0,
    tol=0.03,
    over=lambda c: c.few,
    rivals=(
        ex.Rival[Config, int](
            "features that do not move", estimate=lambda f, heads: _gap(f, heads, "lazy")
        ),
        ex.Rival[Config, int]("without $R^v$", estimate=lambda f, heads: _gap(f, heads, "R_v")),
        ex.Rival[Config, int]("without $R^h$", estimate=lambda f, heads: _gap(f, heads, "R_h")),
    ),
)
DISTANCE = ex.Claims(
    "width-H={heads}",
    lambda found, heads: (
        f"At width {found.config.widths[0]} networks of {heads} heads are as far from the limit as "
        f"those of {found.config.few[0]}: the distance is of order $1/(NH)$ (ratio)."
    ),
    estimate=_ratio,
    prediction=1.0,
    tol=0.5,
    over=lambda c: c.few[-1:],
    rivals=(
        ex.Rival("of order $1/N$ at every $H$", lambda found, heads: heads / found.config.few[0]),
        ex.Rival("of many heads are there already", 0.0),
    ),
)
APART = ex.claim(
    "heads-alike",
    "After training heads are alike up to $N^{-1/2}$ (exponent of the deviation of a score over "
    "the heads of a network).",
    _apart,
    prediction=-0.5,
    tol=0.12,
    rivals=(
        ex.Rival("heads stay apart, as at $\\alpha_A = 1/2$", 0.0),
        ex.Rival("a variance that falls like $N^{-2}$", -1.0),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for t, value in enumerate(course(found(LIMIT, "all").predictions)):
        yield ("limit", t, float(value), 0.0)
    for heads in found.config.few:
        ends = extrapolated([course(net.predictions) for net in _trained(found, heads)])
        errors = 2 * np.sqrt(np.diag(ends.cov))
        for t, (mean, error) in enumerate(zip(ends.mean, errors, strict=True)):
            yield (f"H = {heads}", t, float(mean), float(error))


COURSE = ex.Figure(
    name="few-heads",
    title="Few heads and infinitely many",
    caption="Mean prediction towards the targets. Points: networks, extrapolated in their width "
    "$N H$, with two standard errors; line: infinitely many heads of infinite dimension.",
    columns=("networks", "updates", "prediction", "two standard errors"),
    rows=_rows,
    x="updates",
    by="networks",
    layers=(
        figures.line("prediction", where={"networks": "limit"}),
        figures.points(
            "prediction",
            "two standard errors",
            where={"networks": tuple(f"H = {heads}" for heads in range(1, 65))},
        ),
    ),
    ylabel="prediction towards the targets",
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-few-heads",
    title="One limit for every number of heads",
    question="Do networks of one, two and four wide heads share one limit?",
    summary="At $\\alpha_A = 1$ the limit $N \\to \\infty$ of networks with one, two or four heads "
    "is that of infinitely many: heads of infinite dimension are all alike. The distance from it "
    "depends on the width $NH$ alone.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        # 2000 networks of the smallest width give the ratio of distances to 0.11, 8000 to half of
        # it, which tells it from zero. The wider ones give the limit to 0.006, a fifth of its
        # tolerance.
        "demo": Config(few=(1, 4), seeds=(8000, 3000, 2000)),
        "standard": Config(),
        "paper": Config(few=(1, 2, 4, 8), widths=(64, 128, 256), seeds=(20_000, 8000, 4000)),
    },
    parts=(LIMIT, NETWORKS),
    claims=(PREDICTIONS, DISTANCE, APART),
    figures=(COURSE,),
    finding=ex.Finding(
        "Networks of one head, extrapolated in width, predict what infinitely many heads of "
        "infinite dimension do, up to {0}; scores deviate over the heads of a network with the "
        "exponent {1} in $N$",
        ("limit-H=1", "heads-alike"),
    ),
)
