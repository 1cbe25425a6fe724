r"""What keeps loss curves of growing networks from collapsing on one curve is a trend in 1/n.

R_n(u) = l_n(u T) / l_n(T) of encoders of digits, whose loss has no floor. If log losses are
y_inf(t) + a(t) / n, then log R_n = log R_inf + (a(u T) - a(T)) / n: curves collapse where a does
not change, and about their trend in 1/n they always do, to within the spread of seeds.

Reference: Qiu et al., arXiv 2507.02119; documentation, "From small runs to the infinite network".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

import translimit.experiments as ex
from translimit import extrapolate, figures
from translimit.core import ConfigError, Estimate
from translimit.experiments.checked import Counts, Entries, Increasing
from translimit.experiments.extrapolate import ladders
from translimit.experiments.extrapolate.ladders import Log2Rate, Losses


@dataclass(frozen=True)
class Config(ladders.Ladder):
    """The networks.

    Attributes:
        heads: increasing.
        log2_rate: the learning rate of the base.
    """

    heads: Annotated[Counts, Increasing(), Entries(3)] = (2, 4, 8, 16)
    log2_rate: Log2Rate = -7.0
    times: Annotated[tuple[ladders.Count, ...], Increasing(), Entries(3)] = (
        *(4, 8, 16, 24, 32, 48, 64),
    )

    def shape(self, heads: int) -> tuple[int, int, int]:
        """Head dimension, heads and layers."""
        return self.base[0], heads, self.base[2]


def compute(config: Config, heads: int, keys: ex.Keys) -> Losses:
    """Networks of one number of heads; all share starts' keys and batches."""
    key = keys.shared("ladder")
    return ladders.losses(config, config.shape(heads), (config.log2_rate,), config.seeds, key)


RUNGS = ex.Part(
    "H={heads}",
    Losses,
    compute,
    grid=lambda c: c.heads,
    cost=lambda c, heads: ladders.cost(c, c.shape(heads), c.seeds),
)


def _losses(found: ex.Found[Config]) -> np.ndarray:
    """Losses [heads, seed, time]."""
    told = np.array([found(RUNGS, heads).loss[:, 0] for heads in found.config.heads])
    if not np.isfinite(told).all():
        raise ConfigError("log2_rate", "networks diverged", "pass a smaller one")
    return told


def _collapse(config: Config, losses: np.ndarray) -> extrapolate.Collapse:
    runs = extrapolate.Curves.from_arrays({"heads": config.heads}, losses, config.times)
    return extrapolate.collapse(runs)


def _about_trend(config: Config, told: extrapolate.Collapse) -> np.ndarray:
    """The same ratio of what is left of mean curves about their least-squares line in 1/n."""
    x = 1 / np.array(config.heads, float)
    lines = np.stack([np.ones_like(x), x], axis=1)
    left = told.curves - lines @ np.linalg.lstsq(lines, told.curves, rcond=None)[0]
    spread = np.sqrt((left**2).sum(axis=0) / (len(x) - 2))
    return told.ratio * spread / told.curves.std(axis=0, ddof=1)


def _bootstrapped(found: ex.Found[Config], trend: bool) -> Estimate:
    """The mean ratio over times, with a bootstrap over seeds, the same draw at all sizes."""
    losses, config = _losses(found), found.config

    def ratio(rows: np.ndarray) -> float:
        told = _collapse(config, losses[:, rows])
        return float(np.nanmean(_about_trend(config, told) if trend else told.ratio))

    seeds = losses.shape[1]
    drawn = [ratio(rows) for rows in ladders.resamples(seeds, 200)]
    widen = math.sqrt(seeds / (seeds - 1))
    return Estimate(ratio(np.arange(seeds)), widen * float(np.nanstd(drawn)), seeds)


CLAIMS = (
    ex.claim(
        "trend",
        "About their trend in 1/n, curves divided by their last loss differ between sizes at most "
        "as much as seeds do (ratio of standard deviations, mean over the course).",
        estimate=lambda found: _bootstrapped(found, True),
        prediction=1.0,
        tol=0.2,
        one_sided=True,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "they collapse without a trend",
                estimate=lambda found, at: _bootstrapped(found, False),
            ),
        ),
        decided_by="standard",
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    losses = _losses(found)
    told = _collapse(found.config, losses)
    left = _about_trend(found.config, told)
    for place, part in enumerate(told.parts):
        yield part, told.ratio[place], left[place], told.trend[place], told.trend_error[place]


def _curve_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    logs = np.log(_losses(found))
    away = logs - logs[..., -1:]
    for place, heads in enumerate(found.config.heads):
        for step, time in enumerate(found.config.times):
            own = away[place, :, step]
            yield (
                f"{heads} heads",
                time / found.config.times[-1],
                math.exp(own.mean()),
                math.exp(own.mean()) * own.std(ddof=1) / len(own) ** 0.5,
            )


CURVES = ex.Figure(
    name="curves",
    title="Loss over its last value",
    caption="Mean over {seeds} networks of encoders of digits, against the part of the updates; "
    "bars of one standard error.",
    columns=("heads", "part", "ratio", "stderr"),
    rows=_curve_rows,
    x="part",
    by="heads",
    layers=(figures.points("ratio", "stderr", joined=True),),
    xlabel="part of the updates",
    ylabel="loss over the last loss",
    log="y",
)
RATIOS = ex.Figure(
    name="ratios",
    title="Spread over sizes over that over seeds",
    caption="Of log losses divided by the last one, as they are and about their trend in 1/n, "
    "against the part of the updates; below 1 sizes differ less than seeds. The table has the "
    "trend that breaks the collapse.",
    columns=("part", "as they are", "about the trend", "trend", "trend error"),
    rows=_rows,
    x="part",
    layers=(
        figures.points("as they are", label="as they are", joined=True),
        figures.points("about the trend", label="about the trend", joined=True, series=1),
        figures.level(1.0, label="as seeds"),
    ),
    xlabel="part of the updates",
    ylabel="ratio of standard deviations",
)

EXPERIMENT = ex.Experiment(
    name="extrapolate/collapse",
    title="Loss curves of all sizes differ by a trend in 1/n, or collapse",
    question="Are loss curves of all sizes one curve, up to a trend in 1/n?",
    summary="Divided by their last value, loss curves of networks of all sizes would be one curve "
    "if the coefficient of $1/n$ did not change with time. Encoders of digits with a growing "
    "number of heads show by which trend they miss it, and that nothing else is left.",
    citations=("digits", "jax", "qiu2025"),
    reference='documentation, "From small runs to the infinite network"',
    presets={
        "demo": Config(heads=(2, 4, 8), times=(4, 8, 16, 24, 32)),
        "standard": Config(seeds=192),
        "paper": Config(heads=(2, 4, 8, 16, 32), seeds=384),
    },
    parts=(RUNGS,),
    claims=CLAIMS,
    figures=(CURVES, RATIOS),
    finding=ex.Finding(
        "Curves divided by their last loss differ between sizes {0} times as much as between "
        "seeds, their trend in $1/n$ taken out",
        ("trend",),
    ),
)
