r"""Which responses matter: each is left out of the limit in turn, and networks say what is right.

The four responses say how a Gaussian source feeds back through a matrix that is used twice,
forward and transposed: R^v and R^p of a head to the sources of its outputs and inputs, R^h and
R^g of the stream to the sources that a sub-block adds to it. A limit without one of them is what a
naive mean-field argument gives, which treats the two uses as independent.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024.dmft_problem import Problem
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    Networks,
    extrapolated_gap,
    solve_limit,
    train_networks,
)
from translimit.experiments.checked import Count, Four

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: By how much predictions must change at least (rms) without each response.
MISS = {"R_v": 0.05, "R_p": 0.003, "R_h": 0.03, "R_g": 0.003}


@dataclass(frozen=True)
class Config(Problem):
    """The problem, and networks of two sizes.

    Attributes:
        heads: H of the smaller networks; the larger ones have twice as many.
        seeds: networks of each size.
    """

    heads: Count = 32
    seeds: Four = 2000

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        self.require_samples()

    @property
    def twice(self) -> int:
        """H of the larger networks."""
        return 2 * self.heads


def compute_limit(config: Config, at: ex.Alone, keys: ex.Keys) -> Limit:
    """The limit; all limits share their random numbers."""
    del at
    return solve_limit(config, keys.shared("limit"))


def compute_without(config: Config, response: str, keys: ex.Keys) -> Limit:
    """The limit without a response."""
    return solve_limit(config, keys.shared("limit"), omit=response)


def compute_networks(config: Config, heads: int, keys: ex.Keys) -> Networks:
    """Networks of one size."""
    return train_networks(config, keys.own, heads=heads, seeds=config.seeds)


def _limit_cost(config: Config) -> ex.Cost:
    return ex.Cost(config.limit_seconds(), config.limit_bytes())


LIMIT = ex.Part("limit", Limit, compute_limit, grid=ex.alone, cost=lambda c, at: _limit_cost(c))
WITHOUT = ex.Part(
    "limit-without/{response}",
    Limit,
    compute_without,
    grid=lambda c: tuple(MISS),
    cost=lambda c, response: _limit_cost(c),
)
NETWORKS = ex.Part(
    "networks/H={heads}",
    Networks,
    compute_networks,
    grid=lambda c: (c.heads, c.twice),
    cost=lambda c, heads: ex.Cost(
        c.networks_seconds(heads, c.seeds), c.networks_bytes(heads, c.seeds)
    ),
)


def _gap(found: ex.Found[Config], limit: Limit) -> Estimate:
    """Extrapolated predictions of networks minus those of a limit."""
    fine, coarse = found(NETWORKS, found.config.twice), found(NETWORKS, found.config.heads)
    return extrapolated_gap(fine, coarse, limit, "predictions")


def _change(found: ex.Found[Config], response: str) -> Estimate:
    """Rms change of predictions without a response, and its standard error at most."""
    full, wrong = found(LIMIT), found(WITHOUT, response)
    gap = wrong.predictions - full.predictions
    stderr = np.hypot(full.predictions_stderr, wrong.predictions_stderr)
    rms = float(np.sqrt(np.mean(gap**2)))
    error = float(np.sum(np.abs(gap) * stderr) / np.sum(np.abs(gap)))
    return Estimate(rms, error, found.config.populations)


def _lost(found: ex.Found[Config], source: str) -> Estimate:
    change = _change(found, f"R_{source}")
    return Estimate(-change.value, change.stderr, change.count)


ALL = ex.Claims(
    "all",
    lambda found, at: (
        "With all responses the predictions of the limit are those of networks, "
        f"extrapolated from $H = {found.config.heads}$ and {found.config.twice} (mean over "
        "evaluations and inputs)."
    ),
    estimate=lambda found, at: _gap(found, found(LIMIT)),
    prediction=0.0,
    tol=0.02,
    over=ex.alone,
)
EACH = ex.Claims(
    "R-{source}",
    lambda found, source: (
        f"Without $R^{source}$ predictions change by at least "
        f"{MISS[f'R_{source}']:g} (rms over evaluations and inputs; compared with a minus sign)."
    ),
    estimate=_lost,
    prediction=lambda found, source: -MISS[f"R_{source}"],
    tol=0.0,
    over=lambda c: [response[-1] for response in MISS],
    one_sided=True,
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    gap = _gap(found, found(LIMIT))
    yield ("nothing", 0.0, gap.value, gap.stderr)
    for response, limit in found.each(WITHOUT):
        gap = _gap(found, limit)
        yield (response, _change(found, response).value, gap.value, gap.stderr)


def _draw(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    """The first input's prediction: networks, the limit, and the limit without each response."""
    del table
    ax = canvas.subplots()
    steps = np.arange(found.config.steps)
    without = [(f"without $R^{name[-1]}$", limit) for name, limit in found.each(WITHOUT)]
    for i, (label, limit) in enumerate([("limit", found(LIMIT)), *without]):
        colour = figures.COLOURS[i] if i else figures.LIMIT
        line = limit.predictions[:, 0, 0]
        ax.plot(steps, line, ls=figures.DASHES[i], color=colour, label=label)
    coarse, fine = (data.predictions[:, :, 0, 0] for _, data in found.each(NETWORKS))
    # The error of 2 f - g, as if both sizes scattered like the larger one.
    stderr = fine.std(axis=0) / found.config.seeds**0.5 * 5**0.5
    ax.errorbar(
        steps,
        2 * fine.mean(axis=0) - coarse.mean(axis=0),
        yerr=2 * stderr,
        fmt="o",
        color=figures.COLOURS[0],
        markersize=4,
        label="networks, extrapolated in $1/H$",
    )
    figures.finish(ax, xlabel="updates", ylabel="prediction of the first input")


RESPONSES = ex.Figure(
    name="responses",
    title="The limit without each of its responses",
    caption="The first input's prediction. Points: networks, extrapolated in $1/H$ from "
    "$H = {heads}$ and {twice}, with two standard errors. Gaps in the table are signed means of "
    "networks minus limit.",
    columns=("left out", "change of f, rms", "limit to networks", "standard error"),
    rows=_rows,
    draw=_draw,
    shown=lambda found, table: len(table.rows),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-responses",
    title="What goes wrong without each response",
    summary="A matrix that is used forward and transposed remembers: four responses carry it. Each "
    "is left out of the limit in turn, and trained networks show which predictions are right.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(heads=16, steps=10, samples=2000, populations=6),
        "standard": Config(heads=32, seeds=4000, samples=16_000, populations=16),
        "paper": Config(heads=64, seeds=4000, inputs=8, layers=2, samples=20_000),
    },
    parts=(LIMIT, WITHOUT, NETWORKS),
    claims=(ALL, EACH),
    figures=(RESPONSES,),
)
