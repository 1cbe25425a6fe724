r"""Strong scores: slow motion of the overlap of two tokens, its law, and where it ends.

The overlap u of two tokens under sharp heads (m = A x / |A x| imposed) moves on the slow clock
t = tau / d, as u = tanh y with y driven by the coefficient kappa = 3/2 + d / (2 d_k); printed is
kappa = 1. What is computed:

- the mean cosine after one random head A = W W'^T, sampled, beside the coefficient 1 / (2 d) of one
  Gaussian layer (printed) and 1 / d of two;
- chains of two tokens with d_k = d and d_k = 32 d to slow time 1, beside the slow equation with
  kappa = 1, 3/2 and 2;
- chains to slow time 8 with one head and with eight heads a layer: near +-1 the drift of the chain
  depends on how many heads average in a layer;
- chains with finitely many tokens and one-hot attention: they move on the diffusive clock.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import translimit.experiments as ex
from translimit import core, figures, limits, models
from translimit.core import UNAVAILABLE, Estimate
from translimit.experiments.checked import CheckedConfig, Step, Two, Within
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.slow_motion import (
    FEW_DIM,
    KAPPAS,
    FewTokens,
    Kernel,
    Motion,
    draw_motion,
    few_tokens,
    kernel,
    motion,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TIMES = (0.25, 0.5, 0.75, 1.0)
LONG_TIMES = (1.0, 2.0, 4.0, 8.0)
LONG_STEP = 0.2
HEADS: tuple[int, ...] = (1, 8)
#: d_k / d of the two short cells.
RATIOS = {"square": 1, "narrow": 32}
SQUARE = {"chain": "square"}
#: What a head may do to the cosine of two tokens: the coefficient of R (1 - R^2) / d.
COEFFICIENTS = {"printed": 0.5, "two-layers": 1.0}
#: Which chain should follow which slow equation.
LAWS = {
    "square-kappa-1-printed": ("square", 1.0),
    "square-kappa-2": ("square", 2.0),
    "narrow-kappa-3-2": ("narrow", 1.5),
}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dim: dimension of the tokens, at least 16.
        replicas: chains of every cell.
        step: diffusive step of the short chains.
        paths: of the slow equation where its law is not known.
    """

    dim: Annotated[int, Within(16)] = 24
    replicas: Two = 1000
    step: Step = 0.1
    paths: Two = 20_000


def compute_kernel(config: Config, at: ex.Alone, keys: ex.Keys) -> Kernel:
    """Cosines after one head, in float64."""
    del at
    return kernel(200 * config.replicas, keys.own)


def compute_short(config: Config, name: str, keys: ex.Keys) -> Motion:
    """Chains of one head a layer to slow time 1."""
    return _motion(config, config.step, 1, RATIOS[name], TIMES, keys)


def compute_long(config: Config, heads: int, keys: ex.Keys) -> Motion:
    """Chains with d_k = d to slow time 8."""
    return _motion(config, LONG_STEP, heads, 1, LONG_TIMES, keys)


def _motion(
    config: Config, step: float, heads: int, ratio: int, times: Sequence[float], keys: ex.Keys
) -> Motion:
    chain = models.SharpHeadChain(
        dim=config.dim, head_dim=ratio * config.dim, diffusive_step=step, heads=heads
    )
    return motion(chain, times, replicas=config.replicas, paths=config.paths, key=keys.own)


def compute_few_tokens(config: Config, at: ex.Alone, keys: ex.Keys) -> FewTokens:
    """Orthonormal tokens under one-hot attention."""
    del at
    return few_tokens(config.step, config.replicas, keys.own)


def _cost(config: Config, layers: float, compilation: float = 4.0) -> ex.Cost:
    """Compilation, and layers times replicas."""
    return ex.Cost(compilation + 8e-6 * config.replicas * layers)


KERNEL = ex.Part("kernel", Kernel, compute_kernel, grid=ex.alone, cost=lambda c, at: _cost(c, 0.0))
SHORT = ex.Part(
    "{name}",
    Motion,
    compute_short,
    grid=lambda c: tuple(RATIOS),
    cost=lambda c, name: _cost(c, c.dim / c.step),
)
LONG = ex.Part(
    "long/heads={heads}",
    Motion,
    compute_long,
    grid=lambda c: HEADS,
    cost=lambda c, heads: _cost(c, LONG_TIMES[-1] * c.dim / LONG_STEP * (0.5 + 0.25 * heads)),
)
FEW = ex.Part(
    "few-tokens",
    FewTokens,
    compute_few_tokens,
    grid=ex.alone,
    cost=lambda c, at: _cost(c, 0.0, 25.0),
)


def _coefficient(found: ex.Found[Config], form: str) -> Estimate:
    del form
    return found(KERNEL).estimate


def _square(found: ex.Found[Config], law: str) -> Estimate:
    """At slow time 1; corrections of order 1 / d, measured at 0.5 / d."""
    squares = found(SHORT, LAWS[law][0]).squares[:, -1]
    return common.estimate(squares, discretisation=0.5 / found.config.dim)


def _theory(found: ex.Found[Config], law: str) -> float:
    return float(found(SHORT, "square").theory[KAPPAS.index(LAWS[law][1]), -1])


def _long(heads: int, found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    return common.estimate(found(LONG, heads).squares[:, -1])


def _marginal(found: ex.Found[Config], at: ex.Alone) -> float:
    del found, at
    return float(limits.homogenized.low_temperature.marginal_square(LONG_TIMES[-1]))


def _few(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    return common.estimate(found(FEW).change[0])


COSINE = ex.Claims(
    "kernel-{form}",
    lambda found, form: (
        "One random head draws the cosine of two tokens together by "
        f"${COEFFICIENTS[form]:g} \\cdot R(1 - R^2) / d$."
    ),
    estimate=_coefficient,
    prediction=lambda found, form: COEFFICIENTS[form],
    tol=0.25,
    over=lambda c: tuple(COEFFICIENTS),
    printed=lambda found, form: "$R - R(1-R^2)/(2d)$" if form == "printed" else UNAVAILABLE,
)
SLOW = ex.Claims(
    "{law}",
    lambda found, law: (
        "$E\\,u^2$ of the chain at slow time 1 is that of the slow equation with "
        f"$\\kappa = {LAWS[law][1]:g}$, where $d_k = {RATIOS[LAWS[law][0]]} d$."
    ),
    estimate=_square,
    prediction=_theory,
    tol=0.05,
    over=lambda c: tuple(LAWS),
    printed=lambda found, law: (
        "$du = -u(1-u^2)dt + \\sqrt{2}(1-u^2)dB$" if law.endswith("printed") else UNAVAILABLE
    ),
)
SETTLES = ex.Claims(
    "long-one-head-settles",
    "At slow time 8 the chain with one head a layer is nearer to $\\pm 1$ than the limit that "
    "never settles ($\\kappa = 2$): its $E\\,u^2$ is within 0.03 of the limit's.",
    estimate=partial(_long, 1),
    prediction=_marginal,
    tol=0.03,
    over=ex.alone,
)
MOVES = ex.Claims(
    "long-eight-heads-do-not",
    "With eight heads a layer $E\\,u^2$ at slow time 8 is at most that of the limit.",
    estimate=partial(_long, 8),
    prediction=_marginal,
    tol=0.03,
    over=ex.alone,
    one_sided=True,
)
FAST = ex.Claims(
    "finite-tokens-are-fast",
    "With finitely many tokens and one-hot attention the overlap does not move on the slow clock: "
    "its change within diffusive time 1 is at most 0.05.",
    estimate=_few,
    prediction=0.0,
    tol=0.05,
    over=ex.alone,
    one_sided=True,
    printed="slow motion, for a law of tokens with a density",
)


def _short_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for name, data in found.each(SHORT):
        for row in data.rows():
            yield (name, *row)


def _long_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for heads, data in found.each(LONG):
        for time, mean, stderr, *_ in data.rows():
            yield (heads, time, mean, stderr)


def _draw_long(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    del table
    draw_motion(canvas, dict(found.each(LONG)))


def _few_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    few = found(FEW)
    columns = (few.tokens, *common.mean_and_stderr(few.change, axis=1))
    yield from zip(*(one.tolist() for one in columns), strict=True)


SLOW_LAW = ex.Figure(
    name="slow-law",
    title="The slow law has the coefficient of two Gaussian layers",
    caption=lambda found: (
        f"Mean square overlap of two tokens from orthogonal, {found.config.replicas} chains with "
        f"sharp heads at $d = {found.config.dim}$ (points, bars of one standard error), and the "
        "slow equation at three coefficients (lines). Infinitely many tokens are imposed."
    ),
    columns=(
        *("chain", "slow time", "mean square overlap", "stderr"),
        *("kappa = 1", "kappa = 3/2", "kappa = 2"),
    ),
    rows=_short_rows,
    x="slow time",
    by="chain",
    layers=(
        *(
            figures.line(one, by="", series=None, where=SQUARE, label=label, dash=dash)
            for one, label, dash in (
                ("kappa = 1", "$\\kappa = 1$, as printed", "6 3"),
                ("kappa = 3/2", "$\\kappa = 3/2$", "7 2 1.5 2"),
                ("kappa = 2", "$\\kappa = 2$", ""),
            )
        ),
        figures.points("mean square overlap", "stderr", where=SQUARE, label="chain, $d_k = d$"),
        figures.points(
            *("mean square overlap", "stderr"),
            where={"chain": "narrow"},
            label="chain, $d_k = 32d$",
        ),
    ),
    xlabel="slow time $t = \\tau / d$",
    ylabel="$E\\,u^2$",
)
LONG_TIME = ex.Figure(
    name="long-time",
    title="Long times: the limit never settles, the chain with one head does",
    caption=lambda found: (
        f"{found.config.replicas} chains of two tokens at $d = d_k = {found.config.dim}$ with "
        f"sharp heads and diffusive step {LONG_STEP:g}: mean square overlap (bars of one standard "
        "error) and its law at slow time 8, beside the limit $u = \\tanh(\\sqrt{2} B_t)$."
    ),
    columns=("heads", "slow time", "mean square overlap", "stderr"),
    rows=_long_rows,
    draw=_draw_long,
    shown=lambda found, _: len(HEADS) * found.config.replicas,
    size=(10.0, 4.0),
)
FEW_TOKENS = ex.Figure(
    name="few-tokens",
    title="Slow motion is no statement about finitely many tokens",
    caption=lambda found: (
        f"Orthonormal tokens in dimension {FEW_DIM} under one-hot attention (score deviation "
        f"1000) at diffusive time 1, {found.config.replicas} chains each, bars of one standard "
        "error. Under the slow law the overlap would have moved by $O(1/d)$."
    ),
    columns=("tokens", "mean overlap", "stderr"),
    rows=_few_rows,
    x="tokens",
    layers=(
        figures.points("mean overlap", "stderr", label="one-hot attention"),
        figures.level(0.0, label="slow motion"),
    ),
    xlabel="tokens $n$",
    ylabel="mean overlap at $\\tau = 1$",
    log="x",
    ticks=True,
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/low-temperature",
    title="Strong scores: slow motion, its law, and where it ends",
    summary="For strong scores and tokens that fill the sphere, the overlap of two tokens moves on "
    "the slow clock $\\tau/d$. The equation as printed ($\\kappa = 1$) ends at $\\pm 1$; with the "
    "exact kernel of $A = WW'^\\top$ it is $\\kappa = 2$, which never settles. The chain tells "
    "them apart, and shows what a layer with few heads and a finite number of tokens do instead.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(dim=64, replicas=8000, paths=100_000),
        "paper": Config(dim=128, replicas=40_000, step=0.05, paths=400_000),
    },
    parts=(KERNEL, SHORT, LONG, FEW),
    claims=(COSINE, SLOW, SETTLES, MOVES, FAST),
    figures=(SLOW_LAW, LONG_TIME, FEW_TOKENS),
)
