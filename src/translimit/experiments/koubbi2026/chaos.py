r"""Propagation of chaos off the circle: n tokens against the same n among many, under one noise.

Uniform tokens on the sphere; the first n of N against the system of these n alone, with the same
heads, and against these n started a little apart. Without scores the distance is known: after one
layer, and to leading order in 1/n at all times. Beside it the Lipschitz property of single heads
that the theorem assumes: in the token and in the law.

The printed bound is a constant times the distance of the starts: zero for equal starts, whatever
its constant.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Four, IncreasingSizes, MultipleOf, Within
from translimit.experiments.koubbi2026 import chaos_systems, common
from translimit.experiments.koubbi2026.chaos_systems import (
    APART,
    BATCH,
    CASES,
    DIMS,
    FREE,
    SCORED,
    TIME,
    Case,
    Chaos,
    Single,
)

if TYPE_CHECKING:
    from translimit.core import RateFit

#: From so many tokens on the leading order in 1/n is compared with the numbers.
LARGE = 16


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        sizes: n, tokens of the small systems, increasing, at most a quarter of the large one's.
        largest: N, tokens of the large system.
        replicas: sequences of heads without scores, and with them.
        layers: single layers and heads, at least 1000, a multiple of 50.
    """

    sizes: IncreasingSizes = (8, 16, 32, 64, 128)
    largest: Annotated[int, Within(32)] = 512
    replicas: tuple[Four, Four] = (2000, 60)
    layers: Annotated[int, Within(1000), MultipleOf(BATCH)] = 16_000

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if max(self.sizes) > self.largest // 4:
            most = f"pass at most a quarter of largest, {self.largest // 4}"
            raise core.ConfigError("sizes", f"got {self.sizes}", most)


def compute_free(config: Config, case: Case, keys: ex.Keys) -> Chaos:
    """All systems without scores."""
    sizes, replicas = config.sizes, config.replicas[0]
    return chaos_systems.without_scores(case, sizes, config.largest, replicas, keys.own)


def compute_scored(config: Config, at: ex.Alone, keys: ex.Keys) -> Chaos:
    """All systems with scores."""
    del at
    return chaos_systems.with_scores(config.sizes, config.largest, config.replicas[1], keys.own)


def compute_single(config: Config, dim: int, keys: ex.Keys) -> Single:
    """Single layers and heads."""
    return chaos_systems.single(dim, config.sizes, config.largest, config.layers, keys.own)


CHAOS = ex.Part(
    "{name}",
    Chaos,
    compute_free,
    grid=lambda c: FREE,
    cost=lambda c, case: ex.Cost(2.0 + 8e-6 * c.replicas[0] * c.largest),
)
SCORES = ex.Part(
    "scores",
    Chaos,
    compute_scored,
    grid=ex.alone,
    # Compilation, and pairs of tokens.
    cost=lambda c, at: ex.Cost(15.0 + 1.5e-6 * c.replicas[1] * c.largest**2),
)
SINGLE = ex.Part(
    "single/d={dim}",
    Single,
    compute_single,
    grid=lambda c: DIMS,
    cost=lambda c, dim: ex.Cost(4.0 + 1.2e-6 * c.layers * c.largest),
)


def _chaos(found: ex.Found[Config], case: Case) -> Chaos:
    return found(SCORES) if case == SCORED else found(CHAOS, case)


def _fits(found: ex.Found[Config]) -> dict[Case, RateFit]:
    chaos = {case: _chaos(found, case) for case in CASES}
    return {k: core.fit_rate(one.size, one.equal.T**0.5, paired=True) for k, one in chaos.items()}


def _rate(found: ex.Found[Config], case: Case) -> Estimate:
    fit = found.once(_fits)[case]
    return Estimate(2 * fit.rate, 2 * fit.stderr, fit.replicates)


def _distance(found: ex.Found[Config], case: Case) -> Estimate:
    """N times the mean square over its prediction, without what is of the order 1/n."""
    chaos = _chaos(found, case)
    size = chaos.size[large := chaos.size >= LARGE]
    intercept = np.linalg.pinv(np.stack([np.ones(len(size)), 1 / size], axis=1))[0]
    return common.estimate(chaos.equal[:, large] * size @ intercept / case.expected)


def _added(found: ex.Found[Config], case: Case) -> Estimate:
    """What starts apart add, over the distance of the starts."""
    chaos = _chaos(found, case)
    large = chaos.size >= LARGE
    return common.estimate(chaos.apart[:, large].mean(axis=1) / chaos.start[:, large].mean())


PRINTED = (
    "$\\max_i E\\sup|x_i^n - \\bar x_i|^2 \\leq C_T n^{-1}\\sum_i E|x_i^n(0) - \\bar x_i(0)|^2$"
)
ZERO = "zero from equal starts, the printed bound"
TENTH = "a tenth more"

RATE = ex.Claims(
    "rate-{name}",
    "From equal starts, where the printed bound is zero, the mean square distance of a token in a "
    "system of $n$ to itself in a large one with the same heads falls like $n^{-1}$ (exponent).",
    estimate=_rate,
    prediction=-1.0,
    tol=0.15,
    over=lambda c: CASES,
    printed=PRINTED,
    rivals=(
        ex.Rival("like $n^{-1/2}$", -0.5),
        ex.Rival("like $n^{-2}$", -2.0),
        ex.Rival(
            "like $n^{-2/(d-1)}$, the rate of $W_2^2$ of a sample",
            lambda found, case: -2 / (case.dim - 1),
            when=lambda c, case: case.dim > 3,
        ),
    ),
)
DISTANCE = ex.Claims(
    "distance-{name}",
    "From equal starts without scores $n$ times the mean square distance tends to $(d-1)/d "
    "(e^{\\lambda\\tau} - 1)/\\lambda$, $\\lambda = (1 - 1/d)^2$ (measured over predicted, for "
    "layers of this size).",
    estimate=_distance,
    prediction=1.0,
    tol=0.04,
    over=lambda c: FREE,
    printed=PRINTED,
    rivals=(
        ex.Rival(ZERO, 0.0),
        ex.Rival("updates not projected", lambda found, case: case.dim / (case.dim - 1)),
        ex.Rival(
            "mean tokens do not grow apart",
            lambda found, case: (case.dim - 1) / case.dim * TIME / case.expected,
        ),
        ex.Rival(
            "they grow apart like $e^\\tau$, as in the logistic law",
            lambda found, case: (case.dim - 1) / case.dim * float(np.expm1(TIME)) / case.expected,
        ),
    ),
    decided_by="standard",
)
ADDED = ex.Claims(
    "apart-{name}",
    "Starts apart by $\\epsilon^2$ in mean square add $b \\epsilon^2$ to the distance, $b = 1$ "
    "for uniform tokens, $n$ large.",
    estimate=_added,
    prediction=1.0,
    # With scores a token that is moved sees others: more noise.
    tol=lambda c, case: 0.25 if case == SCORED else 0.04,
    over=lambda c: CASES,
    printed=PRINTED,
    rivals=(
        ex.Rival(TENTH, 1.1, when=lambda c, case: case != SCORED),
        ex.Rival("the starts are forgotten", 0.0),
        ex.Rival("they grow like $e^\\tau$", float(np.exp(TIME))),
    ),
)
#: Numbers of single layers and heads: what is said of them, and what is printed.
SINGLES = {
    "first": (
        "After one layer without scores $n$ times the mean square distance from equal starts is "
        "$(d-1)/d \\Delta\\tau (1 - |\\int x d\\mu|^2)$",
        PRINTED,
    ),
    "token": (
        "Without scores $E|G_\\mu(x) - G_\\mu(y)|^2 = 2\\sigma_V^2 |\\int z d\\mu|^2 (1 - R^2)$, "
        "which does not vanish with the temperature",
        "Lipschitz with $C = O(\\beta^2 e^{4\\beta|\\bar A|}e^{\\beta^2 d\\sigma_A^2})$",
    ),
    "law": (
        "Without scores $E|G_\\mu(x) - G_\\nu(x)|^2 = \\sigma_V^2 (d-1) "
        "|\\int z\\,d(\\mu-\\nu)|^2$",
        "Lipschitz with $C = O(\\beta^2 e^{4\\beta|\\bar A|}e^{\\beta^2 d\\sigma_A^2})$",
    ),
}


@dataclass(frozen=True)
class One:
    """A number of single layers or heads in one dimension."""

    kind: str
    dim: int


ONE = ex.Claims(
    "single-{kind}-d={dim}",
    lambda found, at: f"{SINGLES[at.kind][0]} (measured over predicted).",
    estimate=lambda found, at: common.estimate(getattr(found(SINGLE, at.dim), at.kind)),
    prediction=1.0,
    tol=0.04,
    over=lambda c: tuple(One(kind, dim) for kind in SINGLES for dim in DIMS),
    printed=lambda found, at: SINGLES[at.kind][1],
    rivals=(
        ex.Rival(TENTH, 1.1),
        ex.Rival(ZERO, 0.0, printed=True, when=lambda c, at: at.kind == "first"),
        ex.Rival("no effect of the law", 0.0, when=lambda c, at: at.kind == "law"),
        ex.Rival(
            "proportional to $\\beta^2$, as the printed constant: zero",
            0.0,
            printed=True,
            when=lambda c, at: at.kind == "token",
        ),
        ex.Rival(
            "$|x - y|^2$ in the place of $1 - R^2$",
            lambda found, at: 2 / (1 + found(SINGLE, at.dim).overlap),
            when=lambda c, at: at.kind == "token",
        ),
        ex.Rival(
            "updates not projected",
            lambda found, at: at.dim / (at.dim - 1),
            when=lambda c, at: at.kind != "token",
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case in CASES:
        chaos = _chaos(found, case)
        start = chaos.start.mean(axis=0)
        equal, added = (common.mean_and_stderr(one) for one in (chaos.equal, chaos.apart))
        expected = (np.nan if case == SCORED else case.expected) / chaos.size
        columns = (chaos.size, *equal, expected, *(one / start for one in added))
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield (case.words, *row)


DISTANCES = ex.Figure(
    name="chaos",
    title="Tokens of small and large systems under the same heads",
    caption=lambda found: (
        f"Uniform tokens, diffusive time {TIME:g}, bars of one standard error over sequences of "
        "heads. Left: mean square distance of a token in a system of $n$ to itself in one of "
        f"{found.config.largest} from equal starts, and the leading order in $1/n$ without scores; "
        "the share $n/N$ that both systems have in common is divided out. Right: what starts apart "
        f"by {APART:g} add, over the mean square distance of the starts."
    ),
    columns=("system", "tokens", "square", "stderr", "predicted", "added", "its stderr"),
    rows=_rows,
    x="tokens",
    by="system",
    layers=(
        figures.panel(
            "equal starts",
            figures.line(
                "predicted",
                label="predicted, {}",
                where={"system": tuple(case.words for case in FREE)},
            ),
            figures.points("square", "stderr"),
            ylabel="mean square distance of a token",
            log="xy",
        ),
        figures.panel(
            "starts apart",
            figures.points("added", "its stderr"),
            figures.level(1.0),
            ylabel="added over the starts' distance",
            log="x",
        ),
    ),
    xlabel="tokens $n$",
    ticks=True,
    size=(10.0, 4.2),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/chaos",
    title="Propagation of chaos off the circle",
    question="How many tokens until each moves as among infinitely many?",
    summary="Tokens of small systems approach those of a large one under the same heads, at a rate "
    "of $1/n$ in mean square that is there for equal starts too: the printed bound lacks the "
    "sampling of the tokens. Without scores the constant is known. Single heads have the Lipschitz "
    "property that the theorem assumes, with a constant that stays when the temperature goes.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(replicas=(20_000, 120), layers=40_000),
        "paper": Config(largest=2048, replicas=(50_000, 200), layers=100_000),
    },
    parts=(CHAOS, SCORES, SINGLE),
    claims=(RATE, DISTANCE, ADDED, ONE),
    figures=(DISTANCES,),
    finding=ex.Finding(
        "The mean square distance of a token to itself in a large system goes with the exponent"
        " {0} in $n$ without scores, and {1} with them",
        ("rate-d=8,beta=0", "rate-d=8,beta=1"),
    ),
)
