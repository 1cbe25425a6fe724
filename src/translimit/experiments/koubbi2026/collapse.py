r"""When representations collapse: predicted and measured depth, and what postpones it.

From orthonormal tokens a network's mean overlap is nearly a diffusion of its own; its first passage
through one half gives the mean depth and the spread of single networks, proportional to heads over
the squared step. Chains measure both over dimension, tokens, temperature, heads and step. At a
fixed mean square update of a token low temperature postpones collapse: the predicted depth over
temperatures, and chains at three of them.

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
    SIMULATED,
    THRESHOLD,
    TOKENS,
    UPDATE,
    Depths,
    designs,
    measured_depths,
    own_noise_spread,
    predicted_depth,
)

#: Dimension, tokens, deviation of the scores, heads, step.
Case = tuple[Count, Count, Annotated[float, Within(0)], Count, Step]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        cases: (dim, tokens, score deviation, heads, step) of every case; cases of one dimension
            and numbers of tokens and heads share a compilation.
        replicas: chains of a case, at least 8; in smaller dimensions, where depths scatter more
            (as d^(-1/2)), as many more as keep the error.
    """

    cases: Annotated[tuple[Case, ...], Distinct()] = (
        (64, 16, 0.0, 1, 0.2),
        (64, 16, 4.0, 1, 0.15),
        (32, 8, 2.0, 2, 0.28),
    )
    replicas: Annotated[int, Within(8)] = 700

    def chains(self, case: Case) -> int:
        """How many chains a case has."""
        return self.replicas * max(1, DIM // case[0])

    @property
    def designed(self) -> int:
        """How many chains are followed at the fixed update, for each temperature."""
        return max(self.replicas // 3, 8)


@dataclass(frozen=True)
class Curve(ex.Arrays):
    """Predicted depths at a fixed update over temperatures."""

    score_std: Annotated[Float[np.ndarray, " score_std"], "standard deviation of the scores"]
    predicted: Float[np.ndarray, " score_std"]
    spread: Float[np.ndarray, " score_std"]
    step: Float[np.ndarray, " score_std"]


def compute_case(config: Config, case: Case, keys: ex.Keys) -> Depths:
    """Chains of one case."""
    dim, tokens, std, heads, step = case
    law = describe.WideHeads(dim=dim, score_std=float(std))
    return measured_depths(law, tokens, heads, float(step), config.chains(case), keys.own)


def compute_design(config: Config, std: float, keys: ex.Keys) -> Depths:
    """Chains at the fixed update."""
    law, step = designs((std,))[std]
    return measured_depths(law, TOKENS, 1, step, config.designed, keys.own)


def compute_curve(config: Config, at: ex.Alone, keys: ex.Keys) -> Curve:
    """Depths at the fixed update over temperatures."""
    del config, at, keys
    chosen = designs(CURVE)
    depths = [predicted_depth(law, TOKENS, 1, step) for law, step in chosen.values()]
    return Curve(
        score_std=np.array(CURVE),
        predicted=np.array([float(one.layers) for one in depths]),
        spread=np.array([float(one.spread) for one in depths]),
        step=np.array([step for _, step in chosen.values()]),
    )


def _cost(config: Config, case: Case) -> ex.Cost:
    """Compilation, and heads times layers times replicas."""
    _, tokens, _, heads, step = case
    work = heads**2 / step**2 * (1 + (tokens / 8) ** 2)
    return ex.Cost(4.0 + 1e-4 * config.chains(case) * work)


CASE = ex.Part(
    "case/d={dim}-n={tokens}-std={std:g}-H={heads}-step={step:g}",
    Depths,
    compute_case,
    grid=lambda c: c.cases,
    cost=_cost,
)
DESIGN = ex.Part(
    "design/{std:g}",
    Depths,
    compute_design,
    grid=lambda c: SIMULATED,
    cost=lambda c, std: ex.Cost(3.0 + 6e-3 * c.designed * (1 + std**2)),
)
CURVES = ex.Part(
    "designs", Curve, compute_curve, grid=ex.alone, cost=lambda c, at: ex.Cost(2.0 * len(CURVE))
)

DEPTH = ex.Claims(
    "depth/d={dim}-n={tokens}-std={std:g}-H={heads}-step={step:g}",
    "The mean overlap of chains crosses one half at the predicted depth (mean, relative).",
    estimate=lambda found, case: found(CASE, case).relative,
    prediction=1.0,
    # Layers take longer than the limit, to first order as predicted; a quarter of it for the rest.
    tol=lambda c, case: 0.03 + 0.25 * case[4] ** 2 / case[3],
    over=lambda c: c.cases,
    rivals=(
        ex.Rival("times 1.1", 1.1),
        ex.Rival("times 0.9", 0.9),
        ex.Rival[Config, Case](
            "by the printed drift, for d to infinity",
            lambda found, case: found(CASE, case).large / found(CASE, case).predicted,
            printed=True,
            when=lambda c, case: case[0] <= 32,
        ),
        ex.Rival[Config, Case](
            "without scores",
            lambda found, case: found(CASE, case).plain / found(CASE, case).predicted,
            when=lambda c, case: case[2] >= 4,
        ),
    ),
    printed="$\\tau^* = \\int d\\gamma / (s_{ij} - \\gamma s_{ii})$, by the printed equation",
)


def _spread(found: ex.Found[Config]) -> Estimate:
    """Ratio of measured and predicted spread, mean over the cases."""
    cases = [data.relative_spread for _, data in found.each(CASE)]
    error = float(np.linalg.norm([one.stderr for one in cases])) / len(cases)
    mean = float(np.mean([one.value for one in cases]))
    return Estimate(mean, error, sum(one.count for one in cases))


SPREAD = ex.claim(
    "spread",
    "The spread of single networks is the predicted one (mean ratio over the cases).",
    _spread,
    1.0,
    tol=0.1,
    rivals=(
        ex.Rival("times 1.25", 1.25),
        ex.Rival(
            "every overlap with a noise of its own",
            lambda found, at: float(
                np.mean([own_noise_spread(d, n) for d, n, *_ in found.config.cases])
            ),
        ),
    ),
)


def _gain(found: ex.Found[Config]) -> Estimate:
    """Depth at the lowest temperature over that without scores, relative to the prediction."""
    cold, hot = found(DESIGN, SIMULATED[-1]).relative, found(DESIGN, SIMULATED[0]).relative
    gain = cold.value / hot.value
    error = gain * float(np.hypot(cold.stderr / cold.value, hot.stderr / hot.value))
    return Estimate(gain, error, cold.count)


def _share(found: ex.Found[Config], at: ex.Alone) -> float:
    """The gain that a smaller step alone would bring, relative to the prediction."""
    del at
    cold, hot = found(DESIGN, SIMULATED[-1]), found(DESIGN, SIMULATED[0])
    return (cold.plain / hot.predicted) / (cold.predicted / hot.predicted)


POSTPONED = ex.claim(
    "low-temperature-postpones",
    "At a fixed mean square update, scores of deviation 4 postpone collapse by the predicted "
    "factor against no scores (relative).",
    _gain,
    1.0,
    tol=0.08,
    rivals=(
        ex.Rival("the smaller step alone", _share),
        ex.Rival(
            "no effect",
            lambda found, at: (
                found(DESIGN, SIMULATED[0]).predicted / found(DESIGN, SIMULATED[-1]).predicted
            ),
        ),
        ex.Rival("times 1.2", 1.2),
    ),
)


def _depths(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case, data in found.each(CASE):
        dim, tokens, std, heads, step = case
        crossed = data.layers[np.isfinite(data.layers)]
        mean, stderr = common.mean_and_stderr(crossed)
        measured = (float(mean), float(stderr), float(np.std(crossed, ddof=1)))
        name = f"$d={dim}$, $n={tokens}$, std {std:g}, $H={heads}$, $\\eta={step:g}$"
        yield (*case, data.predicted, data.large, data.spread, *measured, name)


def _designs(found: ex.Found[Config]) -> Iterator[figures.Row]:
    curve, chains = found(CURVES), dict(found.each(DESIGN))
    columns = (curve.score_std, curve.step, curve.predicted, curve.spread)
    for std, step, depth, spread in zip(*(one.tolist() for one in columns), strict=True):
        measured: tuple[float | None, float | None] = (None, None)
        if std in chains:
            mean, error = common.mean_and_stderr(chains[std].layers)
            measured = float(mean), float(error)
        yield (std, step, depth, spread, depth - spread, depth + spread, *measured)


def _absent(found: ex.Found[Config], table: figures.Table) -> int:
    del table
    return sum(int(np.isnan(one.layers).sum()) for _, one in found.each(CASE))


DEPTHS = ex.Figure(
    name="depths",
    title="Predicted and measured collapse depths",
    caption=lambda found: (
        f"Layer at which the mean overlap crosses {THRESHOLD:g}: mean over "
        f"{found.config.replicas} chains of each case (in dimension $d < {DIM}$ times "
        f"${DIM} / d$), bars of one standard error, against the "
        "predicted mean of the first passage. Chains that had not crossed after "
        f"{PATIENCE} predicted depths are left out."
    ),
    columns=(
        *("dim", "tokens", "score std", "heads", "step"),
        *("predicted", "printed", "predicted spread", "measured", "stderr", "spread", "case"),
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
    excluded=_absent,
    size=(7.5, 5.0),
)
DESIGNS = ex.Figure(
    name="trade-off",
    title="At a fixed update, low temperature postpones collapse",
    caption=f"Depth at which the mean overlap of {TOKENS} tokens in dimension {DIM} crosses "
    f"{THRESHOLD:g}, the step chosen so that a layer moves a token by the mean square "
    f"{UPDATE:g}: prediction (line), and chains at three temperatures (bars of one standard "
    "error).",
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
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/collapse",
    title="When representations collapse, and what postpones it",
    question="In which layer do tokens collapse, and what postpones it?",
    summary="The depth at which random attention has drawn all tokens together is the first "
    "passage of a diffusion, in mean and in spread over networks, and proportional to heads over "
    "the squared step. Chains measure it over dimension, tokens, temperature, heads and step; at a "
    "fixed update of a token, low temperature postpones it.",
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
            ),
            # As many as 1500 in dimension 32.
            replicas=750,
        ),
        "paper": Config(
            cases=tuple(
                (dim, tokens, std, heads, step)
                for dim in (64, 512)
                for tokens in (8, 32)
                for std in (0.0, 2.0, 6.0)
                for heads, step in ((1, 0.05), (4, 0.1), (16, 0.2))
            ),
            replicas=2000,
        ),
    },
    parts=(CASE, DESIGN, CURVES),
    claims=(DEPTH, SPREAD, POSTPONED),
    figures=(DEPTHS, DESIGNS),
    finding=ex.Finding(
        "Networks collapse at {0} of the predicted depth; the spread of single networks is {1} "
        "of the predicted one",
        ("depth/*", "spread"),
    ),
)
