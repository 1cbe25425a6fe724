r"""The best learning rate, predicted by the limit and swept over networks.

In each cell the limit is solved at rates in steps of `factor`, from a twentieth of the edge of
stability to twice it, and networks of every size are trained at the same rates. Predictions:

- the robust rule (four small populations, minimum of mean + 2 standard deviations of the loss after
  training) gives the best rate of networks;
- the first rate at which the limit ends above its start is that of networks, to one step.

Other rules must miss: the edge of stability at the start, and the plain minimum of large
populations, which lies too high where the best rate is at the edge.

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
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024.best_rate_cells import CELLS
from translimit.experiments.bordelon2024.rate_curves import (
    STEP,
    Curves,
    compute_curves,
    curve_rows,
    curves_cost,
)
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Distinct,
    Entries,
    Four,
    IncreasingSizes,
    OneOf,
    Within,
)

#: What half of the ratios, and what all of them, may be in decades.
MEDIAN, ALL = 0.05, 0.2


#: Cells whose networks this library has.
SWEPT = tuple(name for name, problem in CELLS.items() if problem.axis != "none")


@dataclass(frozen=True)
class Cell:
    """A problem.

    Attributes:
        cell: its name.
    """

    cell: str


@dataclass(frozen=True)
class Config(CheckedConfig):
    """What is swept.

    Attributes:
        cells: problems, by the names of `best_rate_cells.CELLS`.
        heads: H of networks.
        seeds: networks of each size, at every rate.
        factor: between two rates.
        large: sampled heads and neurons of a population of the plain minimum.
    """

    cells: Annotated[tuple[str, ...], OneOf(tuple(CELLS)), Distinct(), Entries(1)] = SWEPT
    heads: IncreasingSizes = (32, 128)
    seeds: Four = 32
    factor: Annotated[float, Within(1.05, 2)] = 1.25
    large: Count = 3000

    def __post_init__(self) -> None:
        """Check the fields, and that the cells have networks."""
        super().__post_init__()
        others = [name for name in self.cells if name not in SWEPT]
        if others:
            raise ConfigError(
                "cells",
                f"has {', '.join(others)}, whose networks this library does not have",
                f"pass some of {', '.join(SWEPT)}",
            )

    def points(self) -> list[Cell]:
        """The cells."""
        return [Cell(name) for name in self.cells]


def compute(config: Config, at: Cell, keys: ex.Keys) -> Curves:
    """The limit and networks at all rates."""
    return compute_curves(
        CELLS[at.cell],
        keys,
        heads=config.heads,
        seeds=config.seeds,
        factor=config.factor,
        large=config.large,
    )


def _cost(config: Config, at: Cell) -> ex.Cost:
    return curves_cost(
        CELLS[at.cell],
        heads=config.heads,
        seeds=config.seeds,
        factor=config.factor,
        large=config.large,
    )


CURVES = ex.Part("curves/{cell}", Curves, compute, grid=lambda c: c.points(), cost=_cost)


def _largest(found: ex.Found[Config], at: Cell, predicted: float | None = None) -> Estimate:
    return found(CURVES, at).ratio(found.config.heads[-1], predicted)


def _median(found: ex.Found[Config], rule: str) -> Estimate:
    """The median over cells and sizes of |log10| of predicted over swept, by a bootstrap."""
    ratios = []
    for at in found.config.points():
        curves = found(CURVES, at)
        said = {"robust": None, "plain": curves.plain, "edge": curves.edge}[rule]
        ratios += [curves.ratio(size, said) for size in found.config.heads]
    values = np.array([one.value for one in ratios])
    errors = np.array([one.stderr for one in ratios])
    drawn = values + errors * np.random.default_rng(0).standard_normal((400, len(values)))
    stderr = float(np.median(np.abs(drawn), axis=1).std(ddof=1))
    return Estimate(float(np.median(np.abs(values))), stderr, len(values))


def _threshold(found: ex.Found[Config], at: Cell) -> Estimate:
    """log10 of the diverging rate of the limit over that of the largest networks."""
    config = found.config
    return Estimate(found(CURVES, at).divergence_gap(config.heads[-1], config.factor))


MEDIANS = ex.claim(
    "median",
    "The robust rule predicts the best rate of networks: the median over cells and sizes of "
    "|log10 of predicted over swept|.",
    estimate=lambda found: _median(found, "robust"),
    prediction=0.0,
    tol=MEDIAN,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "the plain minimum of large populations",
            estimate=lambda found, at: _median(found, "plain"),
        ),
        ex.Rival[Config, ex.Alone](
            "the edge of stability at the start", estimate=lambda found, at: _median(found, "edge")
        ),
    ),
    decided_by="standard",
)
RATIOS = ex.Claims(
    "rate-{cell}",
    lambda found, at: (
        f"In the cell {at.cell} so is that of networks of {found.config.heads[-1]} heads (log10 of "
        "predicted over swept)."
    ),
    estimate=lambda found, at: _largest(found, at),
    prediction=0.0,
    tol=ALL,
    over=lambda c: c.points(),
    rivals=(
        ex.Rival[Config, Cell](
            "the edge of stability at the start",
            estimate=lambda found, at: _largest(found, at, found(CURVES, at).edge),
            when=lambda c, at: at.cell not in ("deep", "classes"),
        ),
        ex.Rival[Config, Cell](
            "twice the rate",
            estimate=lambda found, at: _largest(found, at, 2 * found(CURVES, at).best.rate),
        ),
        ex.Rival[Config, Cell](
            "half the rate",
            estimate=lambda found, at: _largest(found, at, found(CURVES, at).best.rate / 2),
        ),
    ),
    decided_by="standard",
)
DIVERGENCE = ex.Claims(
    "divergence-{cell}",
    lambda found, at: (
        f"In the cell {at.cell} training diverges at the rate that the limit says, to one step of "
        "the grid (log10 of the first diverging rate, limit over networks)."
    ),
    estimate=_threshold,
    prediction=0.0,
    tol=lambda c, at: STEP * math.log10(c.factor),
    over=lambda c: c.points(),
    rivals=(
        ex.Rival("twice the rate", math.log10(2.0)),
        ex.Rival("half the rate", -math.log10(2.0)),
    ),
    decided_by="standard",
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at in found.config.points():
        for row in curve_rows(found(CURVES, at)):
            yield (at.cell, *row)


LOSSES = ex.Figure(
    name="losses",
    title="Loss after training against the learning rate",
    caption="The limit, in large and in small populations, and networks; two standard errors over "
    "populations and seeds.",
    columns=("cell", "who", "rate", "loss", "two standard errors"),
    rows=_rows,
    x="rate",
    by="who",
    panels="cell",
    across=4,
    layers=(figures.line("loss", label="{}"),),
    ylabel="loss after training",
    log="xy",
    size=(11.0, 7.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-best-rate",
    title="The best learning rate, predicted by the limit and swept over networks",
    question="Can the limit predict the best learning rate of networks?",
    summary="The loss after training is computed in the limit at many learning rates, and networks "
    "are trained at the same rates. The robust rule charges for the scatter of small populations, "
    "which grows at the edge of stability as that of networks does.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            cells=("squared", "momentum", "digits"),
            heads=(32, 64),
            seeds=16,
            factor=1.35,
            large=1600,
        ),
        "standard": Config(),
        "paper": Config(heads=(32, 64, 128), seeds=64, large=6000),
    },
    parts=(CURVES,),
    claims=(MEDIANS, RATIOS, DIVERGENCE),
    figures=(LOSSES,),
    finding=ex.Finding(
        "Over cells and sizes the predicted best rate of networks misses the swept one by a "
        "median of {0} decades; on digits the signed miss is {1}",
        ("median", "rate-digits"),
    ),
)
