r"""The exact laws of the linear part of the covariance SDE, measured on its paths.

Two tokens to t1 have log norms, second moments and the arcsine of their correlation; three tokens
log det, by the structure-preserving step and by Euler-Maruyama; two tokens to a long horizon the
arcsine law of alignment.

Reference: documentation, "The shaped Transformer"; alignment: Koubbi, Geshkovski and Rigollet,
arXiv 2604.01978, find the same law.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Decreasing, Distinct, Step, Two, Within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.limits.shaped import CovarianceSolution

PAIR = ((1.0, 0.3), (0.3, 1.2))
T1 = 0.8


def linear_block() -> describe.Block:
    """Infinite temperature: the skip connection and the values alone."""
    return describe.Block(gamma=0.6, lam=0.8, tau0=float("inf"))


Correlation = Annotated[float, Within(-1, 1, above=True, below=True)]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the measurement.

    Attributes:
        paths: of every cell.
        steps: step sizes at which log det is measured, decreasing.
        step: of the pair.
        starts: correlations from which alignment is measured.
        horizon: time by which pairs have aligned.
    """

    paths: Two = 20_000
    steps: Annotated[tuple[Step, ...], Decreasing()] = (0.08, 0.04, 0.02, 0.01)
    step: Step = 0.005
    starts: Annotated[tuple[Correlation, ...], Distinct()] = (-0.8, -0.5, 0.0, 0.5, 0.8)
    horizon: Annotated[float, Within(0.05, 1e4)] = 30.0


@dataclass(frozen=True)
class Pair(ex.Arrays):
    """Two tokens at t1."""

    log_norm: Float[np.ndarray, " path"]
    cross: Float[np.ndarray, " path"]
    arcsine: Float[np.ndarray, " path"]


@dataclass(frozen=True)
class LogDet(ex.Arrays):
    """Three tokens at t1."""

    log_det: Float[np.ndarray, " path"]


@dataclass(frozen=True)
class Aligned(ex.Arrays):
    """Two tokens at the horizon."""

    correlation: Float[np.ndarray, " path"]


def _end(
    initial: object, t1: float, method: core.AbstractMethod, keys: ex.Keys
) -> CovarianceSolution:
    """Paths of the linear SDE at t1, in float64."""
    sde = limits.shaped.CovarianceSDE(block=linear_block(), initial=np.array(initial), t1=t1)
    return core.solve(sde, method, key=keys.own, save=[t1])


def compute_pair(config: Config, at: ex.Alone, keys: ex.Keys) -> Pair:
    """Norm, product and correlation."""
    method = limits.shaped.StructurePreserving(config.paths, config.step)
    solution = _end(PAIR, T1, method, keys)
    cov, rho = np.asarray(solution.cov)[:, 0], np.asarray(solution.correlation)[:, 0, 0, 1]
    return Pair(np.log(cov[:, 0, 0]), cov[:, 0, 1] ** 2, np.arcsin(rho))


def compute_three(config: Config, at: tuple[str, float], keys: ex.Keys) -> LogDet:
    """By one scheme with one step."""
    shaped, (scheme, step) = limits.shaped, at
    kind = shaped.StructurePreserving if scheme == "structured" else shaped.EulerMaruyama
    method = kind(paths=config.paths, max_step=step)
    return LogDet(np.asarray(_end(np.eye(3), T1, method, keys).log_det)[:, 0])


def compute_long(config: Config, rho: float, keys: ex.Keys) -> Aligned:
    """From one correlation."""
    method = limits.shaped.StructurePreserving(max(1000, config.paths // 5), 0.05)
    end = _end([[1.0, rho], [rho, 1.0]], config.horizon, method, keys)
    return Aligned(np.asarray(end.correlation)[:, 0, 0, 1])


def _cost(config: Config, steps: float) -> ex.Cost:
    """A share of compilation, and steps of all paths at 2 microseconds."""
    cells = 1 + 2 * len(config.steps) + len(config.starts)
    return ex.Cost(60.0 / cells + 2e-6 * steps * config.paths)


PARTS = (
    PAIRS := ex.Part(
        "pair", Pair, compute_pair, grid=ex.alone, cost=lambda c, at: _cost(c, T1 / c.step)
    ),
    THREE := ex.Part(
        "three/{scheme}/step={step:g}",
        LogDet,
        compute_three,
        grid=lambda c: [(scheme, h) for scheme in ("structured", "euler") for h in c.steps],
        cost=lambda c, at: _cost(c, T1 / at[1]),
    ),
    LONG := ex.Part(
        "long/rho={rho:g}",
        Aligned,
        compute_long,
        grid=lambda c: c.starts,
        cost=lambda c, rho: _cost(c, c.horizon / 0.05),
    ),
)


def _log_det(found: ex.Found[Config]) -> np.ndarray:
    """By the structure-preserving scheme with the smallest step."""
    return found(THREE, ("structured", found.config.steps[-1])).log_det


def _log_det_mean(found: ex.Found[Config]) -> Estimate:
    return Estimate.from_samples(_log_det(found))


def _log_det_variance(found: ex.Found[Config]) -> Estimate:
    return _variance(_log_det(found))


def _variance(values: np.ndarray) -> Estimate:
    return Estimate.from_samples((values - values.mean()) ** 2)


def _misaligned(found: ex.Found[Config]) -> Estimate:
    """The largest difference from the arcsine law over the starting correlations."""
    ends = found.each(LONG)
    misses = [
        float(np.mean(end.correlation > 0)) - limits.shaped.aligned_probability(rho)
        for rho, end in ends
    ]
    count = len(ends[0][1].correlation)
    return Estimate(max(misses, key=abs), 0.5 / count**0.5, count)


def _norm_law() -> tuple[float, float]:
    return limits.shaped.linear_norm_law(linear_block(), PAIR[0][0], T1)


def _log_det_law() -> tuple[float, float]:
    return limits.shaped.linear_log_det_law(linear_block(), np.eye(3), T1)


CLAIMS = (
    ex.claim(
        "norm-mean",
        "$\\log V_{00}$ is Gaussian: its mean.",
        lambda found: Estimate.from_samples(found(PAIRS).log_norm),
        lambda found: _norm_law()[0],
        0.05,
    ),
    ex.claim(
        "norm-variance",
        "$\\log V_{00}$ is Gaussian: its variance.",
        lambda found: _variance(found(PAIRS).log_norm),
        lambda found: _norm_law()[1],
        0.08,
    ),
    ex.claim(
        "cross-moment",
        "$E\\,V_{01}^2$ solves a linear system.",
        lambda found: Estimate.from_samples(found(PAIRS).cross),
        lambda found: limits.shaped.linear_second_moments(linear_block(), PAIR, T1)[0],
        0.35,
    ),
    ex.claim(
        "arcsine-martingale",
        "$E \\arcsin \\rho$ does not move.",
        lambda found: Estimate.from_samples(found(PAIRS).arcsine),
        lambda found: float(np.arcsin(PAIR[0][1] / PAIR[1][1] ** 0.5)),
        0.03,
    ),
    ex.claim(
        "log-det-mean",
        "$\\log \\det V$ of three tokens is Gaussian: its mean.",
        _log_det_mean,
        lambda found: _log_det_law()[0],
        0.12,
    ),
    ex.claim(
        "log-det-variance",
        "$\\log \\det V$ of three tokens is Gaussian: its variance.",
        _log_det_variance,
        lambda found: _log_det_law()[1],
        0.3,
    ),
    ex.claim(
        "alignment",
        "Two tokens align with probability $1/2 + \\arcsin(\\rho_0)/\\pi$ (largest "
        "difference over the starting correlations).",
        _misaligned,
        0.0,
        0.05,
    ),
)


def _medians(found: ex.Found[Config]) -> Iterator[figures.Row]:
    exact, _ = _log_det_law()
    for (scheme, step), three in found.each(THREE):
        kept = three.log_det[np.isfinite(three.log_det)]
        error = float(kept.std() / len(kept) ** 0.5)
        clipped = len(three.log_det) - len(kept)
        yield (scheme, step, float(np.median(three.log_det)), 1.2533 * error, clipped, float(exact))


def _log_det_caption(found: ex.Found[Config]) -> str:
    lost = sum(int(np.sum(~np.isfinite(three.log_det))) for _, three in found.each(THREE))
    return (
        f"Median over {found.config.paths} paths of the linear SDE of three tokens from $V = I$, "
        f"bars of one standard error. {lost} values are $-\\infty$, where Euler-Maruyama clipped "
        "an eigenvalue; they count in the median. Dimensionless."
    )


def _alignments(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for rho, end in found.each(LONG):
        p = float((end.correlation > 0).mean())
        error = float((p * (1 - p) / end.correlation.size) ** 0.5)
        yield (rho, limits.shaped.aligned_probability(rho), p, error)


def _draw_alignment(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Fractions on the law."""
    grid = np.linspace(-1, 1, 201)
    law = [limits.shaped.aligned_probability(float(rho)) for rho in grid]
    marks = (
        figures.Line(grid, np.array(law), label="$1/2 + \\arcsin(\\rho_0) / \\pi$"),
        figures.Points(
            table.numbers("rho_0"),
            table.numbers("paths"),
            figures.COLOURS[0],
            "paths",
            error=table.numbers("stderr"),
        ),
    )
    x = figures.ChartAxis("initial correlation $\\rho_0$")
    y = figures.ChartAxis("probability of $\\rho \\to 1$")
    figures.draw_charts([figures.Chart("The arcsine law of alignment", x, y, marks)], canvas)


FIGURES = (
    ex.Figure(
        name="log-det",
        title="Log determinant by scheme and step",
        caption=_log_det_caption,
        columns=("scheme", "step", "median", "stderr", "clipped", "exact"),
        rows=_medians,
        x="step",
        by="scheme",
        layers=(
            figures.points("median", "stderr", joined=True),
            figures.level("exact", label="exact median (= mean)"),
        ),
        ylabel="median of $\\log \\det V$ at $t = 0.8$",
        log="x",
        ticks=True,
        shown=lambda found, table: len(table.rows),
    ),
    ex.Figure(
        name="alignment",
        title="The arcsine law of alignment",
        caption="Fraction of paths whose correlation is positive at $t = {horizon:g}$, bars of one "
        "standard error, and the exact law of its limit. Dimensionless.",
        columns=("rho_0", "law", "paths", "stderr"),
        rows=_alignments,
        draw=_draw_alignment,
        shown=lambda found, table: len(table.rows),
    ),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/exact-facts",
    title="Exact laws of the linear covariance SDE",
    summary="Without attention the covariance SDE is linear: norms and determinants are "
    "log-normal, "
    "second moments solve a linear system, and the arcsine of a correlation is a martingale that "
    "ends at $\\pm\\pi/2$. Paths are held against all of it.",
    citations=("noci2023", "jax"),
    presets={
        "demo": Config(paths=4000, steps=(0.08, 0.02), step=0.01, starts=(-0.5, 0.5), horizon=20.0),
        "standard": Config(),
        "paper": Config(paths=100_000, steps=(0.08, 0.04, 0.02, 0.01, 0.005)),
    },
    reference=core.reference("noci2023"),
    parts=PARTS,
    claims=CLAIMS,
    figures=FIGURES,
)
