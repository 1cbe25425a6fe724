r"""Infinitely many tokens under common noise: propagation of chaos, and the density on the circle.

The density of tokens on the circle along depth for one sequence of heads, by the Fourier solver;
the same heads move independent clouds of particles of two sizes. On the sphere, the first n tokens
of a system of N against the system of these n alone, with the same heads, over several n and
independent replicas.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, describe, figures, models
from translimit.core import Estimate
from translimit.experiments.checked import (
    CheckedConfig,
    Entries,
    Four,
    IncreasingSizes,
    Two,
    Within,
)
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.circle import (
    BETA,
    Circle,
    density_and_particles,
    draw_densities,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from translimit.core import RateFit

#: Noise realisations on the circle.
NOISES = (0, 2)
#: Sphere: dimension, score deviation, diffusive time and step.
DIM, SCORE_STD, TIME, CHAOS_STEP = 8, 1.5, 1.0, 0.05


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        particles: tokens of the clouds on the circle, two sizes.
        clouds: independent clouds of the smaller size; half as many of the larger.
        largest: N, tokens of the large system.
        sizes: n, tokens of the small ones, increasing, at most a quarter of N.
        replicas: independent sequences of heads, at least 4.
    """

    particles: Annotated[IncreasingSizes, Entries(2, 2)] = (100, 400)
    clouds: Two = 200
    largest: Annotated[int, Within(8)] = 512
    sizes: IncreasingSizes = (16, 32, 64, 128)
    replicas: Four = 12

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if max(self.sizes) > self.largest // 4:
            most = f"pass at most a quarter of largest, {self.largest // 4}"
            raise core.ConfigError("sizes", f"got {self.sizes}", most)


@dataclass(frozen=True)
class Chaos(ex.Arrays):
    """Distances of tokens of small systems to the same tokens of a large one."""

    size: Annotated[Int[np.ndarray, " size"], "tokens $n$"]
    error: Annotated[Float[np.ndarray, "size replica"], "rms distance of a token"]
    largest: int

    @property
    def distances(self) -> Float[np.ndarray, "size replica"]:
        """Without the share n / N of its error that a system of n has with the large one."""
        return self.error / np.sqrt(1.0 - self.size / self.largest)[:, None]


def compute_circle(config: Config, noise: int, keys: ex.Keys) -> Circle:
    """Density and clouds of particles under one sequence of heads."""
    heads, starts = keys.shared("heads", noise), keys.shared("particles", noise)
    return density_and_particles(config.particles, config.clouds, heads=heads, starts=starts)


def compute_chaos(config: Config, at: ex.Alone, keys: ex.Keys) -> Chaos:
    """Small and large systems under the same heads, in single precision."""
    import jax

    del at
    law = describe.GaussianHeads.of_score_std(SCORE_STD, dim=DIM)
    layers = round(TIME / CHAOS_STEP)
    chain = models.RandomHeadChain(law=law, step=CHAOS_STEP**0.5, heads=1, layers=layers)
    errors = np.zeros((len(config.sizes), config.replicas))
    for replica in range(config.replicas):
        own = core.named_key(keys.own, "start", replica)
        start = np.asarray(jax.random.normal(own, (config.largest, DIM)))
        heads = core.named_key(keys.own, "heads", replica)
        large = chain.simulate(start, key=heads, normalize=True).tokens[0, -1]
        for s, size in enumerate(config.sizes):
            small = chain.simulate(start[:size], key=heads, normalize=True).tokens[0, -1]
            errors[s, replica] = np.sqrt(np.mean(np.sum((small - large[:size]) ** 2, axis=-1)))
    return Chaos(size=np.array(config.sizes), error=errors, largest=config.largest)


CIRCLE = ex.Part(
    "circle/noise={noise}",
    Circle,
    compute_circle,
    grid=lambda c: NOISES,
    cost=lambda c, noise: ex.Cost(8.0 + 0.01 * c.clouds),
)
CHAOS = ex.Part(
    "chaos",
    Chaos,
    compute_chaos,
    grid=ex.alone,
    # Compilation, and pairs of tokens.
    cost=lambda c, at: ex.Cost(14.0 + 6e-8 * c.replicas * TIME / CHAOS_STEP * 1.4 * c.largest**2),
)


def _fit(found: ex.Found[Config]) -> RateFit:
    chaos = found(CHAOS)
    return core.fit_rate(chaos.size, chaos.distances, paired=True)


def _rate(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    fit = found.once(_fit)
    return Estimate(2 * fit.rate, 2 * fit.stderr, found.config.replicas, 0.1)


def _ratio(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """The value depends on the heads, the ratio of the two sizes does not."""
    del at
    few, many = found.config.particles
    ratios, errors = [], []
    for _, data in found.each(CIRCLE):
        small, small_error = common.mean_and_stderr(data.error_few**2 * few)
        large, large_error = common.mean_and_stderr(data.error_many**2 * many)
        ratios.append(large / small)
        errors.append(large / small * np.hypot(small_error / small, large_error / large))
    error = float(np.hypot(*errors) / 2)
    return Estimate(float(np.mean(ratios)), error, found.config.clouds)


def _moment_gap(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    first, second = (data.moment[:, -1] for _, data in found.each(CIRCLE))
    return Estimate(float(np.hypot(*(first - second))), 0.0, 2, 1e-3)


RATE = ex.Claims(
    "chaos-rate",
    "Mean square distance of a token in a system of $n$ to itself in a large one with the same "
    "heads falls like $n^{-1}$ (exponent).",
    estimate=_rate,
    prediction=-1.0,
    tol=0.35,
    over=ex.alone,
    printed="$C_T n^{-1}\\sum_i |x_i^n(0) - \\bar x_i(0)|^2$ in mean square",
)
PARTICLES = ex.Claims(
    "density-and-particles",
    "Independent particles approach the density: $n$ times the mean square error of "
    "$E\\,e^{i\\phi}$ does not depend on $n$ (ratio of two sizes).",
    estimate=_ratio,
    prediction=1.0,
    tol=0.35,
    over=ex.alone,
)
ONE_LAW = ex.Claims(
    "one-law-for-all-noise",
    "Infinitely many tokens have one law, whatever the heads (difference of $E\\,e^{i\\phi}$ "
    "between two noise realisations).",
    estimate=_moment_gap,
    prediction=0.0,
    tol=0.03,
    over=ex.alone,
)


def _moments(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for index, (_, data) in enumerate(found.each(CIRCLE)):
        for row in zip(data.time.tolist(), *data.moment.tolist(), strict=True):
            yield (index + 1, *row)


def _draw_densities(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    del table
    draw_densities(canvas, [data for _, data in found.each(CIRCLE)])


def _distances(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Root mean squares with their errors, the fitted power law, and that of the predicted rate."""
    chaos, fit = found(CHAOS), found.once(_fit)
    squares = chaos.distances**2
    rms = np.sqrt(np.mean(squares, axis=1))
    stderr = np.std(squares, axis=1, ddof=1) / np.sqrt(squares.shape[1]) / (2 * rms)
    fitted = fit.constant * chaos.size**fit.rate
    predicted = fitted[0] * (chaos.size / chaos.size[0]) ** -0.5
    low, high = fit.interval
    rates = f"{fit.rate:.3f} [{low:.3f}, {high:.3f}]".replace("-", "\N{MINUS SIGN}")
    columns = (chaos.size, rms, stderr, fitted, predicted)
    for row in zip(*(one.tolist() for one in columns), strict=True):
        yield (*row, rates)


DENSITIES = ex.Figure(
    name="density",
    title="Infinitely many tokens on the circle under two noise realisations",
    caption="Density of the tokens' angle along depth from $(1 + 0.6\\cos\\phi)/2\\pi$ at "
    f"$\\beta = {BETA:g}$, one column a layer: the same equation and start, two sequences of "
    "random heads. White: the grid no longer resolves the law.",
    columns=("noise", "tau", "Re E e^{i phi}", "Im E e^{i phi}"),
    rows=_moments,
    draw=_draw_densities,
    shown=lambda found, _: len(NOISES),
    size=(9.5, 3.9),
)
DISTANCES = ex.Figure(
    name="chaos",
    title="Tokens of small and large systems under the same heads",
    caption=lambda found: (
        f"Distance of a token in a system of $n$ to itself in one of {found.config.largest}, $d = "
        f"{DIM}$, score deviation {SCORE_STD:g}, diffusive time {TIME:g}; {found.config.replicas} "
        "sequences of heads, bars of one standard error. The share $n/N$ that both systems have "
        "in common is divided out."
    ),
    columns=("tokens", "rms distance", "stderr", "fitted", "predicted", "fitted rate"),
    rows=_distances,
    x="tokens",
    layers=(
        figures.line("predicted", series=None, label="predicted rate \N{MINUS SIGN}0.5"),
        figures.line("fitted", by="fitted rate", label="fitted rate {}", dash="6 3"),
        figures.points("rms distance", "stderr", label="measured"),
    ),
    xlabel="tokens $n$",
    ylabel="rms distance of a token",
    log="xy",
    ticks=True,
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/common-noise",
    title="Infinitely many tokens under common noise",
    summary="The heads of a layer act on all tokens at once, so their randomness does not average "
    "out over tokens: infinitely many tokens have a random law. On the circle its density is "
    "solved layer by layer for two sequences of heads and held against particles; on the sphere "
    "tokens of small systems approach those of a large one with the same heads.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(clouds=1000, largest=1024, sizes=(16, 32, 64, 128, 256), replicas=40),
        "paper": Config(clouds=4000, largest=2048, sizes=(16, 32, 64, 128, 256, 512), replicas=200),
    },
    parts=(CIRCLE, CHAOS),
    claims=(RATE, PARTICLES, ONE_LAW),
    figures=(DENSITIES, DISTANCES),
)
