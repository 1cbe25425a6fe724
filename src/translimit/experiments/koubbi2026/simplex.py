r"""From orthonormal tokens: the simplex equation and the logistic law as the dimension grows.

The mean overlap of networks of one dimension along depth, simulated from Gram matrices, without
scores and with scores of deviation 2, beside the simplex equation with its exact drift and as
printed, and beside the logistic law of weak scores.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models, observe
from translimit.core import UNAVAILABLE, Estimate
from translimit.experiments.checked import CheckedConfig, Entries, IncreasingSizes, Two, Within
from translimit.experiments.koubbi2026 import common

TOKENS, T1, SAVES = 8, 3.0, 12
STEP = 0.025
#: Deviations of the scores, in words.
SCORE_STDS = {0.0: "without scores", 2.0: "with scores of deviation 2"}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dims: dimensions, increasing, at least 8; 16 and the largest carry the claims.
        replicas: networks of every dimension and temperature.
    """

    dims: Annotated[IncreasingSizes, Within(TOKENS), Entries(2)] = (16, 32, 128)
    replicas: Two = 400


@dataclass(frozen=True)
class Overlaps(ex.Arrays):
    """Mean overlaps along depth: of networks, and of both forms of the equation."""

    score_std: Float[np.ndarray, " score_std"]
    dimension: Shaped[np.ndarray, " dimension"]
    time: Annotated[Float[np.ndarray, " time"], common.TAU]
    overlap: Annotated[Float[np.ndarray, "score_std replica time"], "mean overlap of two tokens"]
    closure: Annotated[Float[np.ndarray, "score_std dimension time"], "mean overlap of two tokens"]

    def networks(self, std: float) -> Float[np.ndarray, "replica time"]:
        """The networks at a deviation of the scores."""
        return self.overlap[self.score_std.tolist().index(std)]

    def curve(self, std: float, dimension: str) -> Float[np.ndarray, " time"]:
        """A form of the equation: EXACT, or LARGE as printed."""
        place = self.dimension.tolist().index(dimension)
        return self.closure[self.score_std.tolist().index(std), place]


def compute(config: Config, dim: int, keys: ex.Keys) -> Overlaps:
    """Networks of one dimension, in single precision but for the limits."""
    ts = np.linspace(0.0, T1, SAVES + 1)
    kinds = tuple(limits.homogenized.Dimension)
    layers = round(T1 / STEP)
    overlaps, curves = [], []
    for std in SCORE_STDS:
        law = describe.WideHeads(dim=dim, score_std=std)
        chain = models.RandomHeadChain(law=law, step=STEP**0.5, heads=1, layers=layers)
        paths = chain.simulate_overlaps(
            np.eye(TOKENS, dtype=np.float32),
            replicas=config.replicas,
            key=core.named_key(keys.own, f"{std:g}"),
            save_every=layers // SAVES,
        )
        overlaps.append(observe.mean_overlap(paths.tokens))
        problems = [
            limits.homogenized.SimplexClosure(law=law, tokens=TOKENS, t1=T1, dimension=kind)
            for kind in kinds
        ]
        curves.append([core.solve(problem, save=ts).overlap for problem in problems])
    return Overlaps(
        score_std=np.array(list(SCORE_STDS)),
        dimension=np.array([kind.name for kind in kinds]),
        time=ts,
        overlap=np.array(overlaps),
        closure=np.array(curves),
    )


AT_DIM = ex.Part(
    "d={dim}",
    Overlaps,
    compute,
    grid=lambda c: c.dims,
    # Compilation, and layers times replicas.
    cost=lambda c, dim: ex.Cost(8.0 + 0.02 * c.replicas),
)


@dataclass(frozen=True)
class Followed:
    """A curve that networks may follow.

    Attributes:
        law: which equation, in the name of the claim.
        size: the smallest or the largest dimension.
        std: deviation of the scores.
        dimension: form of the equation.
        words: the claim, after "At $d = ...$".
        printed: the paper's statement.
    """

    law: Literal["exact", "printed", "logistic"]
    size: Literal["small", "large"]
    std: float
    dimension: Literal["EXACT", "LARGE"]
    words: str
    printed: str = UNAVAILABLE

    def dim(self, config: Config) -> int:
        """The dimension of the networks."""
        return config.dims[0 if self.size == "small" else -1]


FOLLOWED = (
    Followed(
        *("exact", "small", 2.0, "EXACT"),
        " the simplex equation with its exact drift follows the mean overlap (mean gap along depth,"
        " score deviation 2).",
    ),
    Followed(
        *("printed", "small", 2.0, "LARGE"),
        " the printed equation does.",
        "$\\dot\\gamma = s_{ij} - \\gamma s_{ii}$, stated as exact",
    ),
    Followed("exact", "large", 2.0, "EXACT", " the equation with its exact drift does."),
    Followed(
        *("logistic", "large", 0.0, "LARGE"),
        ", without scores, the logistic law does.",
        "$\\dot u = u(1 - u)$ as $d \\to \\infty$",
    ),
    Followed("logistic", "small", 0.0, "LARGE", ", without scores, the logistic law does."),
)


def _gap(found: ex.Found[Config], at: Followed) -> Estimate:
    """Mean over times of the gap to the closure, averaged per replica."""
    data = found(AT_DIM, at.dim(found.config))
    gaps = data.networks(at.std) - data.curve(at.std, at.dimension)
    # The chain's own step: weak error of order one, measured at 0.07 per unit.
    return common.estimate(gaps[:, 1:].mean(axis=1), discretisation=0.08 * STEP)


FOLLOW = ex.Claims(
    "{law}-at-{size}-dim",
    lambda found, at: f"At $d = {at.dim(found.config)}${at.words}",
    estimate=_gap,
    prediction=0.0,
    tol=0.05,
    over=lambda c: FOLLOWED,
    printed=lambda found, at: at.printed,
)


def _rows(std: float, found: ex.Found[Config]) -> Iterator[figures.Row]:
    for dim, data in found.each(AT_DIM):
        mean, stderr = common.mean_and_stderr(data.networks(std))
        curves = data.curve(std, "EXACT"), data.curve(std, "LARGE")
        columns = (data.time, mean, stderr, *curves)
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield (dim, *row)


def _figure(name: str, std: float, law: str) -> ex.Figure[Config]:
    """Overlaps along depth for every dimension, at one temperature."""
    what = SCORE_STDS[std]
    return ex.Figure(
        name=name,
        title=f"Overlaps as the dimension grows, {what}",
        caption=lambda found: (
            f"{TOKENS} orthonormal tokens {what}: mean overlap of {found.config.replicas} "
            "networks of each dimension (points, bars of one standard error), the simplex "
            "equation with its exact drift at that dimension (lines of the same colour), and the "
            f"{law} (dashed)."
        ),
        columns=("dim", "tau", "mean overlap", "stderr", "simplex equation", law),
        rows=partial(_rows, std),
        x="tau",
        by="dim",
        layers=lambda c: (
            figures.line("simplex equation", label="", dash=""),
            figures.line(
                law,
                by="",
                series=None,
                where={"dim": c.dims[0]},
                label="$d \\to \\infty$, as printed",
                dash="6 3",
            ),
            figures.points("mean overlap", "stderr", label="networks, $d = {}$"),
        ),
        xlabel=common.TAU,
        ylabel="mean overlap of two tokens",
    )


EXPERIMENT = ex.Experiment(
    name="koubbi2026/simplex",
    title="The simplex equation and the logistic law as the dimension grows",
    summary="From orthonormal tokens all overlaps stay nearly equal in large dimension and follow "
    "a scalar equation, logistic for weak scores. The printed equation is its form for "
    "$d \\to \\infty$; the exact drift has terms of order $1/d$ that are seen at $d = 16$.",
    citations=("koubbi2026", "diffrax", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(dims=(16, 32, 64, 256), replicas=3000),
        "paper": Config(dims=(16, 32, 64, 256, 1024), replicas=30_000),
    },
    parts=(AT_DIM,),
    claims=(FOLLOW,),
    figures=(
        _figure("logistic", 0.0, "logistic law"),
        _figure("simplex", 2.0, "printed simplex equation"),
    ),
)
