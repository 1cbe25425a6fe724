r"""The exact laws of the linear part of the covariance SDE, measured on its paths.

Two tokens to t1: log norms, second moments, the arcsine of their correlation; three: log det by
both solvers; two to a long horizon: the law of alignment.

Reference: documentation, "The shaped Transformer"; alignment also arXiv 2604.01978.
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
from translimit.experiments.checked import CheckedConfig, Decreasing, Distinct, Step, Within

if TYPE_CHECKING:
    from translimit.limits.shaped import CovarianceSolution

PAIR, T1 = ((1.0, 0.3), (0.3, 1.2)), 0.8


def linear_block(*, projection: bool = False) -> describe.Block:
    """Infinite temperature: the skip connection and the values alone."""
    return describe.Block(gamma=0.6, lam=0.8, tau0=float("inf"), projection=projection)


Correlation = Annotated[float, Within(-1, 1, above=True, below=True)]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the measurement.

    Attributes:
        paths: of three tokens; of the pair twice as many, and two fifths to the horizon.
        steps: step sizes at which log det is measured, decreasing.
        step: of the pair.
        starts: correlations from which alignment is measured.
        horizon: time by which pairs have aligned.
    """

    paths: Annotated[int, Within(10)] = 40_000
    steps: Annotated[tuple[Step, ...], Decreasing()] = (0.08, 0.04, 0.02, 0.01, 0.005)
    step: Step = 0.01
    starts: Annotated[tuple[Correlation, ...], Distinct()] = (-0.8, -0.5, 0.5, 0.8)
    horizon: Annotated[float, Within(0.05, 1e4)] = 30.0


@dataclass(frozen=True)
class Pair(ex.Arrays):
    """Two tokens at t1."""

    log_norm: Float[np.ndarray, " path"]
    cross: Float[np.ndarray, " path"]
    arcsine: Float[np.ndarray, " path"]
    step_error: Float[np.ndarray, " observable"]

    def mean(self, place: int) -> Estimate:
        """Of log norm, product or arcsine, with the error of the step."""
        values = (self.log_norm, self.cross, self.arcsine)[place]
        return Estimate.from_samples(values, discretisation=float(self.step_error[place]))


@dataclass(frozen=True)
class Ends(ex.Arrays):
    """Log det of three tokens at t1, or the correlation of two at the horizon."""

    value: Float[np.ndarray, " path"]


def _end(
    initial: object, t1: float, method: core.AbstractMethod, keys: ex.Keys
) -> CovarianceSolution:
    """Paths of the linear SDE at t1, in float64."""
    sde = limits.shaped.CovarianceSDE(block=linear_block(), initial=np.array(initial), t1=t1)
    return core.solve(sde, method, key=keys.own, save=[t1])


def _observe(cov: np.ndarray) -> np.ndarray:
    """Log norm, squared product and arcsine of the correlation [..., observable]."""
    first, second, both = cov[..., 0, 0], cov[..., 1, 1], cov[..., 0, 1]
    rho = np.clip(both / np.sqrt(first * second), -1.0, 1.0)
    return np.stack([np.log(first), both**2, np.arcsin(rho)], axis=-1)


def compute_pair(config: Config, at: ex.Alone, keys: ex.Keys) -> Pair:
    """Norm, product and correlation."""
    method = limits.shaped.StructurePreserving(2 * config.paths, config.step)
    solution = _end(PAIR, T1, method, keys)
    error = solution.step_error(lambda paths: _observe(np.asarray(paths.cov)[:, -1]))
    values = _observe(np.asarray(solution.cov)[:, 0]).T
    return Pair(*values, step_error=np.hypot(error.bias, error.noise))


def compute_three(config: Config, at: tuple[str, float], keys: ex.Keys) -> Ends:
    """By one scheme with one step."""
    shaped, (scheme, step) = limits.shaped, at
    kind = shaped.StructurePreserving if scheme == "structured" else shaped.EulerMaruyama
    method = kind(paths=config.paths, max_step=step)
    return Ends(np.asarray(_end(np.eye(3), T1, method, keys).log_det)[:, 0])


def compute_long(config: Config, rho: float, keys: ex.Keys) -> Ends:
    """From one correlation."""
    method = limits.shaped.StructurePreserving(2 * config.paths // 5, 0.05)
    end = _end([[1.0, rho], [rho, 1.0]], config.horizon, method, keys)
    return Ends(np.asarray(end.correlation)[:, 0, 0, 1])


def _cost(config: Config, steps: float) -> ex.Cost:
    """A share of compilation, and steps of all paths at 2 microseconds."""
    return ex.Cost(
        60.0 / (1 + 2 * len(config.steps) + len(config.starts)) + 2e-6 * steps * config.paths
    )


PARTS = (
    PAIRS := ex.Part(
        "pair", Pair, compute_pair, grid=ex.alone, cost=lambda c, at: _cost(c, 2 * T1 / c.step)
    ),
    THREE := ex.Part(
        "three/{scheme}/step={step:g}",
        Ends,
        compute_three,
        grid=lambda c: [(scheme, h) for scheme in ("structured", "euler") for h in c.steps],
        cost=lambda c, at: _cost(c, T1 / at[1]),
    ),
    LONG := ex.Part(
        "long/rho={rho:g}",
        Ends,
        compute_long,
        grid=lambda c: c.starts,
        cost=lambda c, rho: _cost(c, 8 * c.horizon),
    ),
)


def _measured(found: ex.Found[Config], law: str) -> Estimate:
    """Mean or variance of log norm or log det, with the error of the step."""
    mean_error, variance_error = _step_errors(found.config)
    finest = found(THREE, ("structured", found.config.steps[-1])).value
    if law == "norm-mean":
        return found(PAIRS).mean(0)
    if law == "log-det-mean":
        return Estimate.from_samples(finest, discretisation=mean_error)
    values, error = (finest, variance_error) if "det" in law else (found(PAIRS).log_norm, 0.0)
    return Estimate.from_samples((values - values.mean()) ** 2, discretisation=error)


def _gaussian(law: str, factor: float = 1.0) -> float:
    """What it is with sigma^2 times a factor: the same as at so many times the time."""
    laws, t = limits.shaped, factor * T1
    if law in ("norm-mean", "norm-variance"):
        found = laws.linear_norm_law(linear_block(), PAIR[0][0], t)
    else:
        found = laws.linear_log_det_law(linear_block(), np.eye(3), t)
    return found[law in ("norm-variance", "log-det-variance")]


def _step_errors(config: Config) -> tuple[float, float]:
    """Of mean and variance of log det: those of a sum of log chi-squares, which a step draws."""
    from scipy.special import digamma, polygamma

    steps = np.ceil(T1 / config.steps[-1] * (1 - 1e-9))
    mean, variance = _gaussian("log-det-mean"), _gaussian("log-det-variance")
    degrees = steps / (_VARIANCE * T1)  # 1 / (sigma^2 h)
    halves = (degrees - np.arange(3)) / 2
    drawn = steps * np.sum(digamma(halves) - np.log(degrees / 2))
    return abs(float(drawn) - mean), abs(float(steps * np.sum(polygamma(1, halves))) - variance)


def _cross(block: describe.Block) -> float:
    return limits.shaped.linear_second_moments(block, PAIR, T1)[0]


_VARIANCE = 2 * 0.64 * 0.36 + 0.36**2
#: The share of sigma^2 = 2 lam^2 gamma^2 + gamma^4 that its first term has.
_FIRST = 2 * 0.64 / (2 * 0.64 + 0.36)
_ARCSINE = float(np.arcsin(PAIR[0][1] / PAIR[1][1] ** 0.5))


#: Gaussian law -> in words, and its tolerance.
GAUSSIAN = {
    "norm-mean": ("$\\log V_{00}$ is Gaussian: its mean.", 0.015),
    "norm-variance": ("$\\log V_{00}$ is Gaussian: its variance.", 0.03),
    "log-det-mean": ("$\\log \\det V$ of three tokens is Gaussian: its mean.", 0.05),
    "log-det-variance": ("$\\log \\det V$ of three tokens is Gaussian: its variance.", 0.1),
}


def _scaled(name: str, factor: float) -> ex.Rival[Config, str]:
    """A wrong sigma^2."""
    return ex.Rival(name, lambda found, law: _gaussian(law, factor))


CLAIMS = (
    ex.Claims[Config, str](
        "{law}",
        lambda found, law: GAUSSIAN[law][0],
        estimate=_measured,
        prediction=lambda found, law: _gaussian(law),
        tol=lambda config, law: GAUSSIAN[law][1],
        over=lambda c: tuple(GAUSSIAN),
        rivals=(
            _scaled("sigma^2 times 1.1", 1.1),
            _scaled("sigma^2 without gamma^4", _FIRST),
            _scaled("sigma^2 halved", 0.5),
            ex.Rival(
                "m^2 for m (m + 1)",
                lambda found, law: 0.75 * _gaussian(law),
                when=lambda c, law: law == "log-det-mean",
            ),
        ),
    ),
    ex.claim(
        "cross-moment",
        "$E\\,V_{01}^2$ solves a linear system.",
        lambda found: found(PAIRS).mean(1),
        lambda found: _cross(linear_block()),
        0.12,
        rivals=(
            ex.Rival("it does not move", PAIR[0][1] ** 2),
            ex.Rival("without the norms in it", PAIR[0][1] ** 2 * float(np.exp(_VARIANCE * T1))),
            ex.Rival(
                "sigma^2 with a projection", lambda found, at: _cross(linear_block(projection=True))
            ),
        ),
    ),
    ex.claim(
        "arcsine-martingale",
        "$E \\arcsin \\rho$ does not move.",
        lambda found: found(PAIRS).mean(2),
        _ARCSINE,
        0.012,
        rivals=(
            ex.Rival(
                "the correlation is the martingale",
                float(np.sin(_ARCSINE)),
                lambda found, at: Estimate.from_samples(np.sin(found(PAIRS).arcsine)),
            ),
            ex.Rival(
                "it decays at rate sigma^2 / 2", _ARCSINE * float(np.exp(-_VARIANCE * T1 / 2))
            ),
        ),
    ),
    ex.Claims[Config, float](
        "alignment-{rho:g}",
        lambda found, rho: (
            f"Two tokens of correlation {rho:g} align with probability "
            "$1/2 + \\arcsin(\\rho_0)/\\pi$."
        ),
        estimate=lambda found, rho: Estimate.from_samples(
            (found(LONG, rho).value > 0).astype(float)
        ),
        prediction=lambda found, rho: limits.shaped.aligned_probability(rho),
        tol=0.025,
        over=lambda c: c.starts,
        rivals=(
            ex.Rival("$(1 + \\rho_0) / 2$", lambda found, rho: (1 + rho) / 2),
            ex.Rival("either way alike", 0.5),
        ),
    ),
)


def _medians(found: ex.Found[Config]) -> Iterator[figures.Row]:
    exact = _gaussian("log-det-mean")
    for (scheme, step), three in found.each(THREE):
        kept = three.value[np.isfinite(three.value)]
        error = float(kept.std() / len(kept) ** 0.5)
        clipped = len(three.value) - len(kept)
        yield (scheme, step, float(np.median(three.value)), 1.2533 * error, clipped, float(exact))


def _alignments(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for rho in np.linspace(-1, 1, 101).tolist():
        yield ("law", rho, limits.shaped.aligned_probability(rho), None, None)
    for rho, end in found.each(LONG):
        p = float((end.value > 0).mean())
        error = float((p * (1 - p) / end.value.size) ** 0.5)
        yield ("paths", rho, limits.shaped.aligned_probability(rho), p, error)


FIGURES = (
    ex.Figure(
        name="log-det",
        title="Log determinant by scheme and step",
        caption="Median over {paths} paths of the linear SDE of three tokens from $V = I$, bars of "
        "one standard error; $-\\infty$ where Euler-Maruyama clipped an eigenvalue: the table says "
        "how often. Dimensionless.",
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
        columns=("kind", "rho_0", "law", "paths", "stderr"),
        rows=_alignments,
        x="rho_0",
        layers=(
            figures.line(
                "law", label="$1/2 + \\arcsin(\\rho_0) / \\pi$", where={"kind": "law"}, series=None
            ),
            figures.points("paths", "stderr", label="paths", where={"kind": "paths"}),
        ),
        xlabel="initial correlation $\\rho_0$",
        ylabel="probability of $\\rho \\to 1$",
    ),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/exact-facts",
    title="Exact laws of the linear covariance SDE",
    question="Without attention, does the covariance SDE have its exact laws?",
    summary="Without attention the covariance SDE is linear: norms and determinants are "
    "log-normal, second moments solve a linear system, and the arcsine of a correlation is a "
    "martingale that ends at $\\pm\\pi/2$. Paths are compared with all of it.",
    citations=("noci2023", "jax"),
    presets={
        "demo": Config(
            paths=30_000, steps=(0.08, 0.005), step=0.02, starts=(-0.5, 0.5), horizon=20.0
        ),
        "standard": Config(),
        "paper": Config(paths=100_000, steps=(0.08, 0.04, 0.02, 0.01, 0.005, 0.0025)),
    },
    reference=core.reference("noci2023"),
    parts=PARTS,
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding("Paths have $\\log V_{{00}}$ of variance {0}", ("norm-variance",)),
)
