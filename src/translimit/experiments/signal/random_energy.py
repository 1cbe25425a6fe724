r"""Attention of many unrelated tokens: exact at every length, against the random energy limit.

Scores of deviation beta (log T)^(1/2) concentrate, in the limit, from beta = 2^(1/2) on, with
E sum p^2 -> 1 - 2^(1/2) / beta (the random-energy model). At the T of networks the mean F_T, an
integral, is far from it.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Distinct, Positives, Two

#: Rows of scores that are drawn at once.
AT_ONCE = 2**22


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        keys: T, each at least 2.
        strengths: beta.
        scores: numbers that are drawn at one T and beta.
    """

    keys: Annotated[tuple[Two, ...], Distinct()] = (512, 4096, 32_768)
    strengths: Positives = (0.5, 1.0, 2.0)
    scores: Two = 150_000_000


@dataclass(frozen=True)
class At:
    """So many keys, and scores so strong."""

    keys: int
    strength: float

    @property
    def std(self) -> float:
        """The deviation of scores."""
        return self.strength * math.sqrt(math.log(self.keys))

    @property
    def limit(self) -> float:
        """What the random-energy model says."""
        return max(0.0, 1.0 - math.sqrt(2.0) / self.strength)


@dataclass(frozen=True)
class Softmax(ex.Arrays):
    """Sums of squared weights of drawn rows, and their exact mean."""

    drawn: Annotated[Float[np.ndarray, " row"], "sum of squared weights"]
    exact: float


def compute(config: Config, at: At, keys: ex.Keys) -> Softmax:
    """Rows of independent normal scores, drawn in single and summed in double precision."""
    import jax

    seed = np.asarray(jax.random.key_data(keys.own)).astype(np.uint32).tolist()
    rng, rows = np.random.default_rng(seed), max(config.scores // at.keys, 2)
    found = []
    for part in np.array_split(np.arange(rows), -(-rows * at.keys // AT_ONCE)):
        scores = rng.standard_normal((len(part), at.keys), np.float32)
        weights = np.exp(np.float32(at.std) * (scores - scores.max(axis=1, keepdims=True)))
        sums = [(weights**power).sum(axis=1, dtype=np.float64) for power in (1, 2)]
        found.append(sums[1] / sums[0] ** 2)
    return Softmax(np.concatenate(found), limits.signal.concentration(at.keys, at.std))


def _grid(config: Config) -> tuple[At, ...]:
    return tuple(At(*one) for one in itertools.product(config.keys, config.strengths))


SOFTMAX = ex.Part(
    "T={keys},beta={strength}",
    Softmax,
    compute,
    grid=_grid,
    cost=lambda c, at: ex.Cost(0.5 + 1.6e-8 * c.scores),
)


def _ratio(found: ex.Found[Config], at: At) -> Estimate:
    """The drawn mean over the exact one."""
    data = found(SOFTMAX, at)
    return Estimate.from_samples(data.drawn / data.exact)


EXACT = ex.Claims(
    "T={keys},beta={strength}",
    lambda found, at: (
        f"The mean sum of squared weights over {at.keys} keys with scores of deviation "
        f"{at.strength:g} (log T)^(1/2) is the exact F_T (drawn over exact)."
    ),
    estimate=_ratio,
    prediction=1.0,
    tol=0.05,
    over=_grid,
    rivals=(
        ex.Rival(
            "the random-energy limit",
            prediction=lambda found, at: at.limit / found(SOFTMAX, at).exact,
        ),
        ex.Rival(
            "narrow scores: exp(sigma^2) / T",
            prediction=lambda found, at: (
                min(1.0, math.exp(at.std**2) / at.keys) / found(SOFTMAX, at).exact
            ),
            when=lambda c, at: at.strength >= 1,
        ),
    ),
    decided_by="standard",
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at, data in found.each(SOFTMAX):
        error = float(core.standard_error(data.drawn))
        name = f"beta = {at.strength:g}"
        yield (name, at.keys, float(data.drawn.mean()), error, data.exact, at.limit)


SIZES = ex.Figure(
    name="sizes",
    title="Concentration of softmax against the number of keys",
    caption="Mean sum of squared attention weights of {scores} drawn scores at each point (bars of "
    "one standard error) and the exact mean (lines); the table has the limit of many keys too.",
    columns=("strength", "keys", "drawn", "stderr", "exact", "limit"),
    rows=_rows,
    x="keys",
    by="strength",
    layers=(
        figures.line("exact", label="exact, {}"),
        figures.points("drawn", "stderr", label="drawn, {}"),
    ),
    ylabel="sum of squared weights",
    log="x",
)

EXPERIMENT = ex.Experiment(
    name="signal/random-energy",
    title="Softmax over many keys, and the limit of infinitely many",
    question="How far is softmax over many keys from its limit of infinitely many?",
    summary="Attention collapses to single keys where scores are wide. For infinitely many keys "
    "this is a sharp transition; the mean over the keys that there are is an integral, with "
    "which drawn scores are compared. The limit is approached like the inverse logarithm.",
    citations=("jax",),
    reference='documentation, "Signal propagation"',
    presets={
        "demo": Config(),
        "standard": Config(scores=1_000_000_000),
        "paper": Config(keys=(512, 4096, 32_768, 262_144), scores=2_000_000_000),
    },
    parts=(SOFTMAX,),
    claims=(EXACT,),
    figures=(SIZES,),
    finding=ex.Finding(
        "Over the most keys drawn the mean sum of squared weights is {0} of the exact one",
        ("T=*",),
    ),
)
