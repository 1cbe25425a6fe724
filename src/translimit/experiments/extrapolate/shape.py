r"""The best shape of one number of parameters, told by runs of a quarter of it and less.

Encoders of digits over head dimension N, heads H and layers L, all small, are extrapolated over the
three sizes at once. All shapes of one larger number of parameters, kappa N^2 H^2 L, are trained;
the one with the lowest predicted loss should lose little to the best of them.

Reference: documentation, "From small runs to the infinite network".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

import translimit.experiments as ex
from translimit import extrapolate, figures
from translimit.core import ConfigError, DataError, Estimate
from translimit.experiments.checked import Count, Counts, Entries, Increasing, Two, Within
from translimit.experiments.extrapolate import ladders
from translimit.experiments.extrapolate.ladders import Log2Rate, Losses

#: Sizes that runs of a quarter of the budget may have at most.
SMALL = 4
#: Shapes of a budget that are trained at most.
MANY = 1000


@dataclass(frozen=True)
class Config(ladders.Ladder):
    """The networks.

    Attributes:
        head_dims: of small networks.
        heads: of small networks.
        layers: of small networks.
        budget: N^2 H^2 L of the large ones; small ones have a quarter or less.
        least: head dimension and heads of the large ones at least.
        most_layers: of the large ones.
        log2_rate: the learning rate of the base.
        large_seeds: networks of each large shape.
    """

    head_dims: Annotated[Counts, Increasing(), Entries(2)] = (2, 3, 4, 6, 8)
    heads: Annotated[Counts, Increasing(), Entries(2)] = (2, 3, 4, 6, 8)
    layers: Annotated[Counts, Increasing(), Entries(2)] = (1, 2, 4)
    budget: Annotated[int, Within(4, 2**24)] = 2304
    least: Count = 2
    most_layers: Annotated[int, Within(1, 1000)] = 16
    log2_rate: Log2Rate = -7.0
    seeds: Annotated[int, Within(3, 100_000)] = 48
    large_seeds: Two = 300

    def __post_init__(self) -> None:
        """Check the fields, and that there are shapes to be told apart."""
        super().__post_init__()
        if len(self.small()) < 5:
            raise ConfigError("budget", f"got {self.budget}", "leave five small shapes or more")
        for place, name in enumerate(("head_dims", "heads", "layers")):
            if len({size[place] for size in self.small()}) < 2:
                raise ConfigError(name, "small shapes have one", "pass smaller sizes")
        if not 2 <= len(self.large()) <= MANY:
            raise ConfigError("budget", f"got {self.budget}", "pass one of 2 to 1000 shapes")

    def small(self) -> list[tuple[int, int, int]]:
        """Shapes that are extrapolated."""
        if len(self.head_dims) * len(self.heads) * len(self.layers) > MANY:
            raise ConfigError("layers", f"got {self.layers}", "pass fewer shapes")
        return [
            (N, H, L)
            for L in self.layers
            for N in self.head_dims
            for H in self.heads
            if self.budget >= SMALL * (N * H) ** 2 * L
        ]

    def large(self) -> list[tuple[int, int, int]]:
        """Shapes of exactly the budget."""
        found = []
        for L in range(1, self.most_layers + 1):
            width = math.isqrt(self.budget // L)
            if width**2 * L == self.budget:
                found += [
                    (N, width // N, L)
                    for N in range(self.least, width // self.least + 1)
                    if width % N == 0
                ]
        return found

    def all_seeds(self, size: tuple[int, int, int]) -> int:
        """Networks of a shape."""
        return self.large_seeds if size in self.large() else self.seeds


def compute(config: Config, size: tuple[int, int, int], keys: ex.Keys) -> Losses:
    """Networks of one shape; all shapes share starts' keys and batches."""
    key = keys.shared("ladder")
    return ladders.losses(config, size, (config.log2_rate,), config.all_seeds(size), key)


NETWORKS = ex.Part(
    "N={head_dim}-H={heads}-L={layers}",
    Losses,
    compute,
    grid=lambda c: [*c.small(), *c.large()],
    cost=lambda c, size: ladders.cost(c, size, c.all_seeds(size)),
)


@dataclass(frozen=True)
class Ranking:
    """The large shapes by what was predicted and measured.

    Attributes:
        shapes: N, H, L.
        predicted: log losses, with their errors.
        measured: log losses by shape and seed.
        closed: the real shape of the closed form in words, or why there is none.
    """

    shapes: list[tuple[int, int, int]]
    predicted: list[Estimate]
    measured: np.ndarray
    closed: str

    @property
    def chosen(self) -> int:
        """The place of the lowest prediction."""
        return int(np.argmin([one.value for one in self.predicted]))

    @property
    def best(self) -> int:
        """The place of the lowest mean."""
        return int(np.argmin(self.measured.mean(axis=1)))

    def regret(self, place: int) -> Estimate:
        """Log loss of a shape above the best, paired over seeds."""
        return Estimate.over_seeds(self.measured[place] - self.measured[self.best])


def ranking(found: ex.Found[Config]) -> Ranking:
    """Predicted and measured losses after the last update."""
    config = found.config
    small, large = config.small(), config.large()
    losses = np.array([found(NETWORKS, size).loss[:, 0] for size in small])
    measured = np.array([found(NETWORKS, size).loss[:, 0, -1] for size in large])
    if not (np.isfinite(losses).all() and np.isfinite(measured).all()):
        raise ConfigError("log2_rate", "networks diverged", "pass a smaller one")
    columns = zip(("head_dim", "heads", "layers"), np.array(small).T, strict=True)
    sizes: dict[str, np.ndarray] = dict(columns)
    fitted = extrapolate.fit(extrapolate.Curves.from_arrays(sizes, losses, config.times), rate="1")
    answers = [fitted.series[0].at(np.array(size, float)) for size in large]
    kappa = 4 + 2 * config.mlp_ratio
    try:
        shape = fitted.shape(parameters=kappa * config.budget, mlp_ratio=config.mlp_ratio).optimum
    except DataError as error:
        closed = f"none ({error.argument}: {error.problem})"
    else:
        closed = f"N = {shape.head_dim:.1f}, H = {shape.heads:.1f}, L = {shape.layers:.1f}"
    predicted = [
        Estimate(float(a.value[-1]), float(a.seed_error[-1]), 1, float(a.misspecification[-1]))
        for a in answers
    ]
    return Ranking(large, predicted, np.log(measured), closed)


def _mean_regret(found: ex.Found[Config]) -> Estimate:
    """Of a shape drawn at random, paired over seeds."""
    told = found.once(ranking)
    return Estimate.over_seeds(told.measured.mean(axis=0) - told.measured[told.best])


def _regret(found: ex.Found[Config]) -> Estimate:
    told = found.once(ranking)
    return told.regret(told.chosen)


CLAIMS = (
    ex.claim(
        "regret",
        "The shape that small runs predict to be the best of one number of parameters loses at "
        "most 1 % of loss to the best that was trained.",
        estimate=_regret,
        prediction=0.0,
        tol=0.01,
        one_sided=True,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "a shape drawn at random from the grid",
                estimate=lambda found, at: _mean_regret(found),
            ),
        ),
        decided_by="standard",
    ),
)


def _named(size: tuple[int, int, int]) -> str:
    return "N={} H={} L={}".format(*size)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    told = found.once(ranking)
    for place, size in enumerate(told.shapes):
        mean = Estimate.over_seeds(told.measured[place])
        one = told.predicted[place]
        which = "layers: " + str(size[2])
        yield which, _named(size), one.value, one.floor, mean.value, mean.stderr


def _caption(found: ex.Found[Config]) -> str:
    told = found.once(ranking)
    return (
        f"Log loss of {len(told.shapes)} shapes of one number of parameters, measured with one "
        "standard error against its prediction from shapes of a quarter of them and less. Lowest "
        f"prediction: {_named(told.shapes[told.chosen])}; lowest measurement: "
        f"{_named(told.shapes[told.best])}; closed form: {told.closed}."
    )


SHAPES = ex.Figure(
    name="shapes",
    title="Shapes of one number of parameters, predicted and trained",
    caption=_caption,
    columns=("layers", "shape", "predicted", "error", "measured", "stderr"),
    rows=_rows,
    x="predicted",
    by="layers",
    layers=(figures.points("measured", "stderr"),),
    xlabel="predicted log loss",
    ylabel="measured log loss",
)

EXPERIMENT = ex.Experiment(
    name="extrapolate/shape",
    title="The best shape of one number of parameters, from runs of a quarter of it",
    question="Which shape of a number of parameters is best, told from smaller runs?",
    summary="Head dimension, heads and layers of small encoders of digits are extrapolated "
    "together, which ranks all shapes of a larger number of parameters; all of them are trained.",
    citations=("digits", "jax"),
    reference='documentation, "From small runs to the infinite network"',
    presets={
        "demo": Config(
            head_dims=(2, 4),
            heads=(2, 4),
            layers=(1, 2),
            budget=1024,
            most_layers=4,
            times=(16, 32),
            seeds=12,
            large_seeds=24,
        ),
        "standard": Config(),
        "paper": Config(budget=9216, seeds=96, large_seeds=600),
    },
    parts=(NETWORKS,),
    claims=CLAIMS,
    figures=(SHAPES,),
    finding=ex.Finding(
        "The shape that small runs predict to be the best loses {0} of log loss to the best "
        "that was trained",
        ("regret",),
    ),
)
