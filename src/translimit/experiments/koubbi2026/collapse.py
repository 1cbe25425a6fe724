r"""When representations collapse: predicted and measured depth, and what postpones it.

Cells:

- `case/<label>`: chains of one dimension, number of tokens, temperature, number of heads and step,
  from orthonormal tokens until the mean overlap crosses one half; the predicted depth, the spread
  of single networks and the size of the first correction stand beside the measured ones.
- `trade-off`: at a fixed mean square update of a token, the predicted depth over temperatures; and
  chains at three of them.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits, models
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Count, Distinct, Step, Within
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    import xarray as xr

THRESHOLD = 0.5
#: The trade-off: dimension, tokens, mean square update, temperatures of the curve and of chains.
DIM, TOKENS, UPDATE = 64, 16, 0.02
CURVE = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
SIMULATED = (0.0, 2.0, 4.0)
#: How many predicted depths a chain is followed; what has not collapsed then is counted.
PATIENCE = 5
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


class Collapse(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, shared by cases of one shape, and heads times layers times replicas."""
        shapes = {(dim, tokens, heads) for dim, tokens, _, heads, _ in config.cases}
        if cell.name == "trade-off":
            return Cost(2.0 + 0.2 * len(CURVE))
        _, tokens, _, heads, step = cell.parameters["case"]
        work = heads**2 / step**2 * (1 + (tokens / 8) ** 2)
        return Cost(0.2 + 4.0 * len(shapes) / len(config.cases) + 2e-5 * config.replicas * work)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One a case, and the trade-off."""
        cases = [Cell(f"case/{_label(case)}", {"case": list(case)}) for case in config.cases]
        return (*cases, Cell("trade-off"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return ("depth", "depth-worst", "spread", "low-temperature-postpones")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell, chains in single precision."""
        if cell.name == "trade-off":
            return _compute_trade_off(config, key)
        dim, tokens, std, heads, step = cell.parameters["case"]
        law = describe.WideHeads(dim=int(dim), score_std=float(std))
        return _compute_case(config, law, int(tokens), int(heads), float(step), key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Depths and spreads, and the gain at a fixed update."""
        cases = [results[f"case/{_label(case)}"] for case in config.cases]
        # Cases that the prediction itself warns of are drawn, not claimed.
        comfortable = [_relative(one) for one in cases if not one.attrs["warnings"]]
        comfortable = comfortable or [Estimate(float("nan"))]
        values = np.array([one.value for one in comfortable])
        errors = np.array([one.stderr for one in comfortable])
        worst = int(np.argmax(np.abs(values - 1.0)))
        depths = [
            Claim(
                name="depth",
                statement="The mean overlap crosses one half at the predicted depth (measured over "
                "predicted, mean over the cases without a warning).",
                prediction=1.0,
                estimate=Estimate(
                    float(values.mean()),
                    float(np.sqrt(np.sum(errors**2)) / len(values)),
                    len(values) * config.replicas,
                ),
                tol=0.2,
                reference=common.REFERENCE,
            ),
            Claim(
                name="depth-worst",
                statement="So it does in the worst of these cases.",
                prediction=1.0,
                estimate=comfortable[worst],
                tol=0.2,
                reference=common.REFERENCE,
            ),
        ]
        ratios = np.array([np.std(_layers(one), ddof=1) / one.attrs["spread"] for one in cases])
        scatter = float(core.standard_error(ratios)) if len(ratios) > 1 else np.nan
        trade = results["trade-off"]
        gains = (
            trade["layers"].sel(simulated=4.0).values
            / trade["layers"].sel(simulated=0.0).values.mean()
        )
        predicted = trade["predicted"].sel(score_std=4.0) / trade["predicted"].sel(score_std=0.0)
        return [
            *depths,
            Claim(
                name="spread",
                statement="The spread of single networks is the predicted one (mean ratio over the "
                "cases).",
                prediction=1.0,
                estimate=Estimate(float(ratios.mean()), scatter, len(ratios)),
                tol=0.3,
                reference=common.REFERENCE,
            ),
            Claim(
                name="low-temperature-postpones",
                statement="At a fixed mean square update, scores of deviation 4 postpone collapse "
                "by the predicted factor against no scores (relative).",
                prediction=1.0,
                estimate=Estimate(
                    float(np.mean(gains) / float(predicted)),
                    float(np.std(gains, ddof=1) / np.sqrt(gains.size) / float(predicted)) * 1.5,
                    gains.size,
                ),
                tol=0.25,
                reference=common.REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Measured against predicted depth, and the trade-off."""
        return [_figure_depths(config, results), _figure_trade_off(config, results["trade-off"])]


def _label(case: Any) -> str:
    dim, tokens, std, heads, step = case
    return f"d={dim}-n={tokens}-std={std:g}-H={heads}-step={step:g}"


def _crossings(
    law: Any, tokens: int, heads: int, step: float, layers: int, replicas: int, key: Any
) -> np.ndarray:
    """The layer after which the mean overlap exceeds the threshold; NaN where it never does."""
    chain = models.RandomHeadChain(law=law, step=step, heads=heads, layers=layers)
    start = np.eye(tokens, dtype=np.float32)
    return chain.first_crossing(start, THRESHOLD, replicas=replicas, key=key)


def _compute_case(
    config: Config, law: Any, tokens: int, heads: int, step: float, key: Any
) -> xr.Dataset:
    import xarray as xr

    predicted = limits.homogenized.collapse_depth(
        law, tokens=tokens, step=step, heads=heads, threshold=THRESHOLD
    )
    layers = int(PATIENCE * float(predicted.layers))
    measured = _crossings(law, tokens, heads, step, layers, config.replicas, key)
    return xr.Dataset(
        {"layers": ("replica", measured, {"long_name": "collapse depth", "units": "layers"})},
        attrs={
            "predicted": float(predicted.layers),
            "spread": float(predicted.spread),
            "error": float(predicted.error),
            "warnings": "; ".join(predicted.warnings),
            "reference": common.REFERENCE,
        },
    )


def _designs() -> dict[float, tuple[Any, float, Any]]:
    """Law, step and predicted depth at the update of the trade-off, by score deviation."""
    found = {}
    for std in CURVE:
        law = describe.WideHeads(dim=DIM, score_std=std)
        unit = float(limits.homogenized.designs.token_update(law, tokens=TOKENS, step=1.0, heads=1))
        step = (UPDATE / unit) ** 0.5
        depth = limits.homogenized.collapse_depth(
            law, tokens=TOKENS, step=step, heads=1, threshold=THRESHOLD
        )
        found[std] = law, step, depth
    return found


def _compute_trade_off(config: Config, key: Any) -> xr.Dataset:
    import xarray as xr

    designs, rows = _designs(), []
    for std in SIMULATED:
        law, step, depth = designs[std]
        layers = int(PATIENCE * float(depth.layers))
        rows.append(
            _crossings(
                law, TOKENS, 1, step, layers, config.replicas, core.named_key(key, f"{std:g}")
            )
        )
    depths = [depth for _, _, depth in designs.values()]
    coords = {"long_name": "standard deviation of the scores"}
    return xr.Dataset(
        {
            "layers": (("simulated", "replica"), np.array(rows), {"units": "layers"}),
            "predicted": ("score_std", [float(one.layers) for one in depths]),
            "spread": ("score_std", [float(one.spread) for one in depths]),
            "step": ("score_std", [step for _, step, _ in designs.values()]),
        },
        coords={"simulated": list(SIMULATED), "score_std": ("score_std", list(CURVE), coords)},
        attrs={"update": UPDATE, "reference": common.REFERENCE},
    )


def _layers(data: xr.Dataset) -> np.ndarray:
    values = data["layers"].values
    return values[np.isfinite(values)]


def _relative(data: xr.Dataset) -> Estimate:
    """Mean depth over its prediction; NaN, and so underpowered, where a chain never crossed."""
    return common.estimate(data["layers"].values / data.attrs["predicted"])


def _figure_depths(config: Config, results: Results) -> FigureSpec:
    rows = []
    for case in config.cases:
        data = results[f"case/{_label(case)}"]
        mean, stderr = common.mean_and_stderr(_layers(data))
        rows.append((case, data.attrs, float(mean), float(stderr), np.std(_layers(data), ddof=1)))
    absent = sum(
        int(np.isnan(results[f"case/{_label(case)}"]["layers"].values).sum())
        for case in config.cases
    )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (case, attrs, mean, stderr, _) in enumerate(rows):
            dim, tokens, std, heads, step = case
            label = f"$d={dim}$, $n={tokens}$, std {std:g}, $H={heads}$, $\\eta={step:g}$"
            common.points(ax, attrs["predicted"], mean, stderr, series, label)
        span = np.array([0.7, 1.5]) * [
            min(r[1]["predicted"] for r in rows),
            max(r[1]["predicted"] for r in rows),
        ]
        common.line(ax, span, span, None, "predicted")
        ax.set_xscale("log")
        ax.set_yscale("log")
        figures.finish(ax, xlabel="predicted depth (layers)", ylabel="measured depth (layers)")

    table = tuple(
        (*case, attrs["predicted"], attrs["spread"], attrs["error"], mean, stderr, float(spread))
        for case, attrs, mean, stderr, spread in rows
    )
    columns = (
        *("dim", "tokens", "score std", "heads", "step"),
        *("predicted", "predicted spread", "first correction", "measured", "stderr", "spread"),
    )
    return FigureSpec(
        name="depths",
        title="Predicted and measured collapse depths",
        caption=f"Layer at which the mean overlap crosses {THRESHOLD:g}: mean over "
        f"{config.replicas} chains of each case, bars of one standard error, against the "
        f"prediction of the simplex equation. Chains that had not crossed after {PATIENCE} "
        f"predicted depths are left out: {absent}.",
        draw=draw,
        table=Table(columns, table),
        shown=len(rows) * config.replicas - absent,
        excluded=absent,
        size=(7.5, 5.0),
    )


def _figure_trade_off(config: Config, trade: xr.Dataset) -> FigureSpec:
    rows = []
    for std in SIMULATED:
        values = trade["layers"].sel(simulated=std).values
        rows.append(common.mean_and_stderr(values[np.isfinite(values)]))
    means, stderrs = np.array(rows).T
    absent = int(np.isnan(trade["layers"].values).sum())

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        curve, spread = trade["predicted"].values, trade["spread"].values
        common.line(ax, trade["score_std"], curve, None, "predicted")
        ax.fill_between(
            trade["score_std"],
            curve - spread,
            curve + spread,
            color=figures.LIMIT,
            alpha=0.12,
            linewidth=0,
            label="spread of single networks",
        )
        common.points(ax, SIMULATED, means, stderrs, 0, "chains")
        figures.finish(
            ax, xlabel="standard deviation of the scores", ylabel="collapse depth (layers)"
        )

    return FigureSpec(
        name="trade-off",
        title="At a fixed update, low temperature postpones collapse",
        caption=f"Depth at which the mean overlap of {TOKENS} tokens in dimension {DIM} crosses "
        f"{THRESHOLD:g}, the step chosen so that a layer moves a token by the mean square "
        f"{UPDATE:g}: prediction (line), and {config.replicas} chains at three temperatures (bars "
        f"of one standard error; left out because they never crossed: {absent}).",
        draw=draw,
        table=Table(
            ("score std", "step", "predicted", "predicted spread"),
            tuple(
                zip(
                    CURVE,
                    trade["step"].values.tolist(),
                    trade["predicted"].values.tolist(),
                    trade["spread"].values.tolist(),
                    strict=True,
                )
            ),
        ),
        shown=len(SIMULATED) * config.replicas - absent,
        excluded=absent,
    )


EXPERIMENT = Collapse(
    name="koubbi2026/collapse",
    title="When representations collapse, and what postpones it",
    summary="The depth at which random attention has drawn all tokens together is predicted by one "
    "integral and proportional to heads over the squared step. Chains of up to thousands of layers "
    "measure it over dimension, tokens, temperature, heads and step, with the spread of single "
    "networks; at a fixed update of a token, low temperature postpones it.",
    citations=("koubbi2026", "jax"),
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
)
