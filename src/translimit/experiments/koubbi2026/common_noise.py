r"""Infinitely many tokens under common noise: their density on the circle is random.

The density of tokens on the circle along depth for one sequence of heads, by the Fourier solver;
the same heads move independent clouds of particles of two sizes. One layer of the same solver,
averaged over heads, has the drift and the noise of the stochastic Fokker-Planck equation. Systems
of finitely many tokens off the circle are those of `koubbi2026/chaos`.

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
from translimit.experiments.checked import CheckedConfig, Entries, IncreasingSizes, Two
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.circle import (
    BETA,
    Circle,
    OneLayer,
    density_and_particles,
    draw_densities,
    one_layer,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: Noise realisations on the circle.
NOISES = (0, 2)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        particles: tokens of the clouds on the circle, two sizes.
        clouds: independent clouds of the smaller size; half as many of the larger.
        heads: score maps of the single layer.
    """

    particles: Annotated[IncreasingSizes, Entries(2, 2)] = (50, 200)
    clouds: Two = 600
    heads: Two = 24


def compute_circle(config: Config, noise: int, keys: ex.Keys) -> Circle:
    """Density and clouds of particles under one sequence of heads."""
    heads, starts = keys.shared("heads", noise), keys.shared("particles", noise)
    return density_and_particles(config.particles, config.clouds, heads=heads, starts=starts)


PARTS = CIRCLE, LAYER = (
    ex.Part(
        "circle/noise={noise}",
        Circle,
        compute_circle,
        grid=lambda c: NOISES,
        cost=lambda c, noise: ex.Cost(8.0 + 1.5e-7 * c.clouds * c.particles[1] ** 2),
    ),
    ex.Part(
        "layer",
        OneLayer,
        lambda c, at, keys: one_layer(c.heads, keys.own),
        grid=ex.alone,
        cost=lambda c, at: ex.Cost(4.0 + 0.05 * c.heads),
    ),
)


def _ratio(found: ex.Found[Config]) -> Estimate:
    """The value depends on the heads, the ratio of the two sizes does not."""
    few, many = found.config.particles
    ratios, errors = [], []
    for _, data in found.each(CIRCLE):
        small, small_error = common.mean_and_stderr(data.error_few**2 * few)
        large, large_error = common.mean_and_stderr(data.error_many**2 * many)
        ratios.append(large / small)
        errors.append(large / small * np.hypot(small_error / small, large_error / large))
    error = float(np.hypot(*errors) / 2)
    return Estimate(float(np.mean(ratios)), error, found.config.clouds)


def _other(exponent: float, name: str) -> ex.Rival[Config, ex.Alone]:
    """N times the mean square error grows like a power of n."""
    return ex.Rival(
        name, lambda found, at: (found.config.particles[1] / found.config.particles[0]) ** exponent
    )


PARTICLES = ex.claim(
    "density-and-particles",
    "Independent particles approach the density: $n$ times the mean square error of "
    "$E\\,e^{i\\phi}$ does not depend on $n$ (ratio of two sizes).",
    _ratio,
    1.0,
    0.3,
    rivals=(
        _other(1.0, "they follow another law: the error stays"),
        _other(0.5, "the mean square error falls like $n^{-1/2}$"),
        _other(-1.0, "it falls like $n^{-2}$"),
    ),
)
#: What one layer does to the moments.
STATEMENTS = {
    "drift": "On average one layer moves the moments $E\\,e^{ik\\phi}$ of the density by the "
    "second order of the stochastic Fokker-Planck equation",
    "noise": "The heads of a layer move all tokens at once: the mean square of what a moment "
    "moves is the noise of that equation",
}
EQUATION = ex.Claims(
    "fokker-planck-{name}",
    lambda found, name: f"{STATEMENTS[name]} (largest deviation, relative).",
    estimate=lambda found, name: found(LAYER).deviation(name),
    prediction=0.0,
    tol=0.01,
    over=lambda c: tuple(STATEMENTS),
    rivals=(
        ex.Rival(
            "no second order",
            estimate=lambda found, name: found(LAYER).deviation(name, 0.0),
            when=lambda c, name: name == "drift",
        ),
        ex.Rival(
            "one law for all noise",
            estimate=lambda found, name: found(LAYER).deviation(name, 0.0),
            when=lambda c, name: name == "noise",
        ),
        ex.Rival("twice that", estimate=lambda found, name: found(LAYER).deviation(name, 2.0)),
        ex.Rival("a tenth more", estimate=lambda found, name: found(LAYER).deviation(name, 1.1)),
        ex.Rival(
            "attention removed",
            estimate=lambda found, name: found(LAYER).deviation(name, 1.0, 1),
            when=lambda c, name: name == "noise",
        ),
        ex.Rival(
            "updates not projected",
            estimate=lambda found, name: found(LAYER).deviation(name, 1.0, 2),
            when=lambda c, name: name == "noise",
        ),
    ),
)


def _moments(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for index, (_, data) in enumerate(found.each(CIRCLE)):
        for row in zip(data.time.tolist(), *data.moment.tolist(), strict=True):
            yield (index + 1, *row)


def _draw_densities(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    del table
    draw_densities(canvas, [data for _, data in found.each(CIRCLE)])


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
EXPERIMENT = ex.Experiment(
    name="koubbi2026/common-noise",
    title="Infinitely many tokens under common noise",
    question="Do infinitely many tokens stay random, because heads are drawn once for all?",
    summary="The heads of a layer act on all tokens at once, so their randomness does not average "
    "out over tokens: infinitely many tokens have a random law. On the circle its density is "
    "solved layer by layer for two sequences of heads and compared with particles, and single "
    "layers against drift and noise of the stochastic Fokker-Planck equation.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(clouds=4000, heads=100),
        "paper": Config(particles=(100, 400), clouds=8000, heads=400),
    },
    parts=PARTS,
    claims=(PARTICLES, EQUATION),
    figures=(DENSITIES,),
    finding=ex.Finding(
        "$n$ times the mean square error of independent particles is {0} times as large at one "
        "size as at another; layers move the density's moments as the equation says, up to {1}",
        ("density-and-particles", "fokker-planck-noise"),
    ),
)
