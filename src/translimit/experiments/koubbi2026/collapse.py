r"""When representations collapse: predicted and measured depth, and what postpones it.

From orthonormal tokens all overlaps stay nearly equal and follow the simplex equation, so that the
depth at which the mean overlap crosses one half is one integral, proportional to heads over the
squared step. Chains measure it over dimension, tokens, temperature, heads and step; the spread of
single networks and the size of the first correction stand beside it. At a fixed mean square update
of a token low temperature postpones collapse: the predicted depth over temperatures, and chains at
three of them.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Count, Distinct, Step, Within
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.depths import (
    CURVE,
    DIM,
    PATIENCE,
    THRESHOLD,
    TOKENS,
    UPDATE,
    TradeOff,
    crossings,
    predicted_depth,
    trade_off,
)

#: Dimension, tokens, deviation of the scores, heads, step.
Case = tuple[Count, Count, Annotated[float, Within(0)], Count, Step]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        cases: (dim, tokens, score deviation, heads, step) of every case; cases of one dimension
            and numbers of tokens and heads share a compilation.
        replicas: chains of every case, at least 8.
    """

    cases: Annotated[tuple[Case, ...], Distinct()] = (
        (64, 16, 0.0, 1, 0.2),
        (64, 16, 2.0, 1, 0.1),
        (64, 16, 3.0, 1, 0.2),
        (64, 16, 4.0, 1, 0.2),
    )
    replicas: Annotated[int, Within(8)] = 64


@dataclass(frozen=True)
class Depths(ex.Arrays):
    """Depths of chains of one case, NaN where one never collapsed, and what was predicted."""

    layers: Annotated[Float[np.ndarray, " replica"], "collapse depth (layers)"]
    predicted: Annotated[float, "predicted depth (layers)"]
    spread: Annotated[float, "predicted standard deviation of one network (layers)"]
    error: Annotated[float, "size of the first correction (layers)"]
    warnings: str

    @property
    def crossed(self) -> Float[np.ndarray, " crossed"]:
        """The depths of the chains that collapsed."""
        return self.layers[np.isfinite(self.layers)]

    @property
    def relative(self) -> Estimate:
        """Mean depth over its prediction; NaN, and so underpowered, where a chain never crossed."""
        return common.estimate(self.layers / self.predicted)


def compute_case(config: Config, case: Case, keys: ex.Keys) -> Depths:
    """Chains of one case, in single precision."""
    dim, tokens, std, heads, step = case
    law = describe.WideHeads(dim=dim, score_std=float(std))
    predicted = predicted_depth(law, tokens, heads, float(step))
    layers = int(PATIENCE * float(predicted.layers))
    return Depths(
        layers=crossings(law, tokens, heads, float(step), layers, config.replicas, keys.own),
        predicted=float(predicted.layers),
        spread=float(predicted.spread),
        error=float(predicted.error),
        warnings="; ".join(predicted.warnings),
    )


def compute_trade_off(config: Config, at: ex.Alone, keys: ex.Keys) -> TradeOff:
    """Depths at a fixed update over temperatures."""
    del at
    return trade_off(config.replicas, keys.own)


def _cost(config: Config, case: Case) -> ex.Cost:
    """Compilation, shared by cases of one shape, and heads times layers times replicas."""
    shapes = {(dim, tokens, heads) for dim, tokens, _, heads, _ in config.cases}
    _, tokens, _, heads, step = case
    work = heads**2 / step**2 * (1 + (tokens / 8) ** 2)
    return ex.Cost(0.2 + 4.0 * len(shapes) / len(config.cases) + 2e-5 * config.replicas * work)


CASE = ex.Part(
    "case/d={dim}-n={tokens}-std={std:g}-H={heads}-step={step:g}",
    Depths,
    compute_case,
    grid=lambda c: c.cases,
    cost=_cost,
)
TRADE_OFF = ex.Part(
    "trade-off",
    TradeOff,
    compute_trade_off,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(2.0 + 0.2 * len(CURVE)),
)


def _comfortable(found: ex.Found[Config]) -> list[Estimate]:
    """Relative depths of the cases that the prediction does not itself warn of."""
    cases = [data.relative for _, data in found.each(CASE) if not data.warnings]
    return cases or [Estimate(float("nan"))]


def _mean(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    cases = found.once(_comfortable)
    error = float(np.sqrt(np.sum(np.array([one.stderr for one in cases]) ** 2)))
    mean = float(np.mean([one.value for one in cases]))
    return Estimate(mean, error / len(cases), len(cases) * found.config.replicas)


def _worst(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    cases = found.once(_comfortable)
    return cases[int(np.argmax([abs(one.value - 1.0) for one in cases]))]


def _spread(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    ratios = np.array([np.std(one.crossed, ddof=1) / one.spread for _, one in found.each(CASE)])
    scatter = float(core.standard_error(ratios)) if len(ratios) > 1 else np.nan
    return Estimate(float(ratios.mean()), scatter, len(ratios))


def _gain(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    return found(TRADE_OFF).gain


DEPTH = ex.Claims(
    "depth",
    "The mean overlap crosses one half at the predicted depth (measured over predicted, mean over "
    "the cases without a warning).",
    estimate=_mean,
    prediction=1.0,
    tol=0.2,
    over=ex.alone,
)
WORST = ex.Claims(
    "depth-worst",
    "So it does in the worst of these cases.",
    estimate=_worst,
    prediction=1.0,
    tol=0.2,
    over=ex.alone,
)
SPREAD = ex.Claims(
    "spread",
    "The spread of single networks is the predicted one (mean ratio over the cases).",
    estimate=_spread,
    prediction=1.0,
    tol=0.3,
    over=ex.alone,
)
POSTPONED = ex.Claims(
    "low-temperature-postpones",
    "At a fixed mean square update, scores of deviation 4 postpone collapse by the predicted "
    "factor against no scores (relative).",
    estimate=_gain,
    prediction=1.0,
    tol=0.25,
    over=ex.alone,
)


def _depths(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case, data in found.each(CASE):
        dim, tokens, std, heads, step = case
        mean, stderr = common.mean_and_stderr(data.crossed)
        measured = (float(mean), float(stderr), float(np.std(data.crossed, ddof=1)))
        name = f"$d={dim}$, $n={tokens}$, std {std:g}, $H={heads}$, $\\eta={step:g}$"
        yield (*case, data.predicted, data.spread, data.error, *measured, name)


def _designs(found: ex.Found[Config]) -> Iterator[figures.Row]:
    return found(TRADE_OFF).rows()


def _absent(layers: Float[np.ndarray, ...]) -> int:
    return int(np.isnan(layers).sum())


DEPTHS = ex.Figure(
    name="depths",
    title="Predicted and measured collapse depths",
    caption=lambda found: (
        f"Layer at which the mean overlap crosses {THRESHOLD:g}: mean over "
        f"{found.config.replicas} chains of each case, bars of one standard error, against the "
        f"prediction of the simplex equation. Chains that had not crossed after {PATIENCE} "
        "predicted depths are left out."
    ),
    columns=(
        *("dim", "tokens", "score std", "heads", "step"),
        *("predicted", "predicted spread", "first correction", "measured", "stderr", "spread"),
        "case",
    ),
    rows=_depths,
    x="predicted",
    by="case",
    layers=(
        figures.line("predicted", by="", series=None, label="predicted"),
        figures.points("measured", "stderr"),
    ),
    xlabel="predicted depth (layers)",
    ylabel="measured depth (layers)",
    log="xy",
    shown=lambda found, _: sum(one.crossed.size for _, one in found.each(CASE)),
    excluded=lambda found, _: sum(_absent(one.layers) for _, one in found.each(CASE)),
    size=(7.5, 5.0),
)
DESIGNS = ex.Figure(
    name="trade-off",
    title="At a fixed update, low temperature postpones collapse",
    caption=lambda found: (
        f"Depth at which the mean overlap of {TOKENS} tokens in dimension {DIM} crosses "
        f"{THRESHOLD:g}, the step chosen so that a layer moves a token by the mean square "
        f"{UPDATE:g}: prediction (line), and {found.config.replicas} chains at three temperatures "
        "(bars of one standard error; those that never crossed are left out)."
    ),
    columns=(
        *("score std", "step", "predicted", "predicted spread", "less spread", "with spread"),
        *("chains", "stderr"),
    ),
    rows=_designs,
    x="score std",
    layers=(
        figures.line("predicted", series=None, label="predicted"),
        figures.band(
            *("less spread", "with spread"),
            series=None,
            label="spread of single networks",
            opacity=0.12,
        ),
        figures.points("chains", "stderr", label="chains"),
    ),
    xlabel="standard deviation of the scores",
    ylabel="collapse depth (layers)",
    shown=lambda found, _: int(np.isfinite(found(TRADE_OFF).layers).sum()),
    excluded=lambda found, _: _absent(found(TRADE_OFF).layers),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/collapse",
    title="When representations collapse, and what postpones it",
    summary="The depth at which random attention has drawn all tokens together is predicted by one "
    "integral and proportional to heads over the squared step. Chains of up to thousands of layers "
    "measure it over dimension, tokens, temperature, heads and step, with the spread of single "
    "networks; at a fixed update of a token, low temperature postpones it.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(
            cases=(
                (32, 8, 0.0, 1, 0.1),
                (32, 8, 2.0, 1, 0.1),
                (32, 8, 6.0, 1, 0.1),
                (32, 8, 2.0, 4, 0.2),
                (16, 16, 2.0, 1, 0.1),
                (128, 8, 2.0, 1, 0.1),
                (128, 32, 2.0, 1, 0.1),
                (512, 32, 2.0, 1, 0.05),
            ),
            replicas=200,
        ),
        "paper": Config(
            cases=tuple(
                (dim, tokens, std, heads, step)
                for dim in (64, 512)
                for tokens in (8, 32)
                for std in (0.0, 2.0, 6.0)
                for heads, step in ((1, 0.05), (4, 0.1), (16, 0.2))
            ),
            replicas=1000,
        ),
    },
    parts=(CASE, TRADE_OFF),
    claims=(DEPTH, WORST, SPREAD, POSTPONED),
    figures=(DEPTHS, DESIGNS),
)
