r"""Regimes of random heads and their error rates: ballistic, modified, diffusive.

Cells:

- `drift`: heads with a fixed mean and no noise, from three tokens in R^3 to paper time 1: the chain
  at several steps against X' = b(X), the modified equation as printed and as corrected, at the
  times of the layers and halfway between them; the same for the tangent chain.
- `noise/step=...`: two orthogonal tokens without scores in R^6 at unit diffusive time 1, at one
  diffusive step: E R^2 of the chain against the backward equation, both retractions.
- `clock`: chains at (step, heads) and (2 step, 4 heads): one diffusive step, one law.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from translimit import core, describe, figures, limits, models
from translimit.core import Claim, Estimate, Retraction
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Steps, Two
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    import xarray as xr

#: Tokens (rows are normalised), values and scores of the heads with a mean effect.
ROWS = ((1.0, 0.2, 0.0), (0.3, 1.0, 0.4), (-0.2, 0.1, 1.0))
VALUES = ((1.0, 0.3, 0.0), (-0.2, 0.8, 0.1), (0.0, 0.4, 0.6))
EQUATIONS = ("ballistic", "modified, as printed", "modified, corrected")
#: Two tokens without scores.
DIM = 6


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        steps: residual steps of the chain with a mean effect, 1 over an integer, decreasing.
        diffusive_steps: of the chains without one, dividing 1, decreasing.
        replicas: of these chains.
    """

    steps: Steps = (0.1, 0.05, 0.025, 0.0125)
    diffusive_steps: Steps = (0.5, 0.25)
    replicas: Two = 40_000


class Regimes(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """Compilation, and layers times replicas."""
        layers = sum(1.0 / step for step in config.diffusive_steps)
        return Cost(seconds=25.0 + 1.2e-5 * config.replicas * layers)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The mean effect, the clock, and one for every diffusive step."""
        noise = [Cell(f"noise/step={one:g}", {"step": one}) for one in config.diffusive_steps]
        return (Cell("drift"), Cell("clock"), *noise)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return (
            "ballistic-order",
            "modified-order-printed",
            "modified-order-corrected",
            "tangent-order",
            "between-layers",
            "diffusive-order",
            "one-clock",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell."""
        if cell.name == "drift":
            return _compute_drift(config)
        if cell.name == "clock":
            return _compute_clock(config, key)
        return _compute_noise(config, float(cell.parameters["step"]), key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Orders of the errors, and the clock."""
        drift, clock = results["drift"], results["clock"]

        def order(
            name: str,
            statement: str,
            errors: Any,
            prediction: float,
            printed: str = core.UNAVAILABLE,
        ) -> Claim:
            value, spread = _order(config.steps, errors)
            return Claim(
                name=name,
                statement=statement,
                prediction=prediction,
                estimate=Estimate(value, 0.0, len(config.steps), spread),
                tol=0.25,
                reference=common.REFERENCE,
                printed=printed,
            )

        at = drift["error"].sel(chain="AMBIENT", where="layers")
        rate = "$\\eta\\max(\\eta, \\alpha)$ for the modified equation $b - (\\eta/2)\\nabla_b b$"
        orders = [
            order(
                "ballistic-order",
                "The chain is within O(step) of $X' = b(X)$ at a fixed paper time.",
                at.sel(equation="ballistic"),
                1.0,
            ),
            order(
                "modified-order-printed",
                "As printed, the modified equation is of second order for the printed chain.",
                at.sel(equation="modified, as printed"),
                2.0,
                printed=rate,
            ),
            order(
                "modified-order-corrected",
                "With $-\\eta\\langle x_i, \\bar B_i\\rangle b_i$ it is of second order.",
                at.sel(equation="modified, corrected"),
                2.0,
                printed=rate,
            ),
            order(
                "tangent-order",
                "The printed equation is of second order for the tangent chain.",
                drift["error"].sel(
                    chain="TANGENT", where="layers", equation="modified, as printed"
                ),
                2.0,
            ),
            order(
                "between-layers",
                "Between the times of the layers every limit is off by O(step): order one.",
                drift["error"].sel(
                    chain="AMBIENT", where="between", equation="modified, corrected"
                ),
                1.0,
                printed="the rate at all times",
            ),
        ]
        steps, bias, stderr = _bias(config, results, "AMBIENT")
        slope = math.log(abs(bias[0]) / abs(bias[-1])) / math.log(steps[0] / steps[-1])
        error = math.hypot(stderr[0] / bias[0], stderr[-1] / bias[-1])
        difference = clock["square"].values[0] - clock["square"].values[1]
        return [
            *orders,
            Claim(
                name="diffusive-order",
                statement="The weak error of the chain against the stochastic limit is linear in "
                "the diffusive step.",
                prediction=1.0,
                estimate=Estimate(
                    slope, error / math.log(steps[0] / steps[-1]), config.replicas, 0.05
                ),
                tol=0.4,
                reference=common.REFERENCE,
            ),
            Claim(
                name="one-clock",
                statement="Chains at (step, heads) and (2 step, 4 heads) have the same mean of "
                "$R_{12}^2$.",
                prediction=0.0,
                estimate=common.estimate(difference),
                tol=0.02,
                reference=common.REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Errors against steps, with and without a mean effect."""
        return [_figure_drift(config, results["drift"]), _figure_noise(config, results)]


def _compute_drift(config: Config) -> xr.Dataset:
    import jax
    import xarray as xr

    law = describe.ShiftedHeads(mean_v=VALUES, mean_a=np.eye(3), beta=1.0)
    tokens = core.SPHERE.project(np.array(ROWS))
    flows = limits.homogenized
    retractions = list(Retraction)
    shape = (len(retractions), len(EQUATIONS), 2, len(config.steps))
    errors = np.zeros(shape)
    for s, step in enumerate(config.steps):
        last = round(1.0 / step)
        # Halfway between layers the chain still has the state of the earlier one.
        save = [(last - 0.5) * step, last * step]
        common_options = {"law": law, "initial": tokens, "t1": last * step}
        solutions = [
            core.solve(flows.BallisticFlow(**common_options), save=save).tokens,
            *(
                core.solve(
                    flows.ModifiedFlow(**common_options, step=step, retraction=one), save=save
                ).tokens
                for one in (Retraction.TANGENT, Retraction.AMBIENT)
            ),
        ]
        for r, retraction in enumerate(retractions):
            # Layer by layer, so that all steps share one compilation; the law has no noise.
            layer = models.RandomHeadChain(
                law=law, step=step, heads=1, layers=1, retraction=retraction
            )
            states = [tokens]
            for _ in range(last):
                states.append(layer.simulate(states[-1], key=jax.random.key(0)).tokens[0, 1])
            for e, solution in enumerate(solutions):
                errors[r, e, 0, s] = np.abs(states[-1] - solution[1]).max()
                errors[r, e, 1, s] = np.abs(states[-2] - solution[0]).max()
    return xr.Dataset(
        {
            "error": (
                ("chain", "equation", "where", "step"),
                errors,
                {"long_name": "largest entry of the difference of tokens"},
            )
        },
        coords={
            "chain": [one.name for one in retractions],
            "equation": list(EQUATIONS),
            "where": ["layers", "between"],
            "step": ("step", list(config.steps), {"long_name": "residual step"}),
        },
        attrs={"reference": common.REFERENCE},
    )


def _chain_squares(step: float, heads: int, replicas: int, retraction: Any, key: Any) -> np.ndarray:
    """R_12^2 of two orthogonal tokens at unit diffusive time 1 [replicas]."""
    law = describe.WideHeads(dim=DIM, score_std=0.0)
    layers = round(heads / step**2)
    chain = models.RandomHeadChain(
        law=law, step=step, heads=heads, layers=layers, retraction=retraction
    )
    start = np.eye(2, dtype=np.float32)
    paths = chain.simulate_overlaps(start, replicas=replicas, key=key)
    return np.asarray(paths.overlaps[:, -1, 0, 1], dtype=np.float64) ** 2


def _compute_noise(config: Config, step: float, key: Any) -> xr.Dataset:
    import xarray as xr

    values = [
        _chain_squares(step**0.5, 1, config.replicas, one, core.named_key(key, one.name))
        for one in Retraction
    ]
    return xr.Dataset(
        {"square": (("chain", "replica"), np.array(values), {"long_name": "$R_{12}^2$"})},
        coords={"chain": [one.name for one in Retraction]},
        attrs={"step": step, "reference": common.REFERENCE},
    )


def _compute_clock(config: Config, key: Any) -> xr.Dataset:
    import xarray as xr

    ambient = Retraction.AMBIENT
    values = [
        _chain_squares(step, heads, config.replicas, ambient, core.named_key(key, heads))
        for step, heads in ((0.5, 1), (1.0, 4))
    ]
    return xr.Dataset(
        {"square": (("chain", "replica"), np.array(values), {"long_name": "$R_{12}^2$"})},
        coords={"chain": ["step 0.5, 1 head", "step 1, 4 heads"]},
        attrs={"reference": common.REFERENCE},
    )


def exact_square() -> float:
    """E R^2 of two tokens without scores at unit diffusive time 1, by the backward equation."""
    two = limits.homogenized.two_tokens
    return two.pair_expectation(np.square, two.without_scores, initial=0.0, t1=1.0, dim=DIM)


def _bias(config: Config, results: Results, chain: str) -> tuple[Any, np.ndarray, np.ndarray]:
    exact = exact_square()
    rows = [
        common.mean_and_stderr(results[f"noise/step={one:g}"]["square"].sel(chain=chain))
        for one in config.diffusive_steps
    ]
    means, stderrs = np.array(rows).T
    return np.array(config.diffusive_steps), means - exact, stderrs


def _order(steps: tuple[float, ...], errors: Any) -> tuple[float, float]:
    """The order between the two smallest steps, and how far the one before differs."""
    logs, sizes = np.log(np.asarray(errors)), np.log(steps)
    orders = np.diff(logs) / np.diff(sizes)
    return float(orders[-1]), float(abs(orders[-1] - orders[-2]) / 2)


def _figure_drift(config: Config, drift: xr.Dataset) -> FigureSpec:
    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 3, sharey=True)
        cases = (("AMBIENT", "layers"), ("TANGENT", "layers"), ("AMBIENT", "between"))
        titles = ("printed chain, at layers", "tangent chain, at layers", "printed, between layers")
        steps = np.array(config.steps)
        for ax, (chain, where), title in zip(axes, cases, titles, strict=True):
            for series, equation in enumerate(EQUATIONS):
                error = drift["error"].sel(chain=chain, where=where, equation=equation)
                ax.plot(
                    steps,
                    error,
                    figures.MARKERS[series] + "-",
                    color=figures.COLOURS[series],
                    label=equation,
                    markersize=5,
                    linewidth=1.1,
                )
            for power, style in ((1, "--"), (2, ":")):
                ax.plot(
                    steps,
                    0.5 * steps[0] * (steps / steps[0]) ** power,
                    style,
                    color=figures.LIMIT,
                    linewidth=0.9,
                    label=f"slope {power}",
                )
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xticks(steps, [f"{one:g}" for one in steps])
            ax.minorticks_off()
            first = ax is axes[0]
            label = "largest entry of $|X_{\\rm chain} - X|$" if first else ""
            figures.finish(ax, xlabel="step $\\eta$", ylabel=label, title=title, legend=first)

    table = drift["error"].to_series().reset_index()
    return FigureSpec(
        name="deterministic",
        title="Heads with a mean effect: orders of the deterministic limits",
        caption="Error at paper time 1 against the residual step, exact. The printed modified "
        "equation is of order one for the printed chain and of order two for the tangent chain; "
        "the corrected one is of order two where the chain is printed. Halfway between two layers "
        "no limit is better than order one.",
        draw=draw,
        table=Table(tuple(map(str, table.columns)), tuple(map(tuple, table.values.tolist()))),
        shown=int(drift["error"].size),
        size=(10.5, 3.9),
    )


def _figure_noise(config: Config, results: Results) -> FigureSpec:
    rows = {chain: _bias(config, results, chain) for chain in ("AMBIENT", "TANGENT")}

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        grid = np.linspace(0.0, max(config.diffusive_steps), 2)
        for series, (chain, (steps, bias, stderr)) in enumerate(rows.items()):
            common.points(ax, steps, bias, stderr, series, f"{chain.lower()} chain")
            common.line(ax, grid, bias[-1] / steps[-1] * grid, series, "linear in the step", "--")
        ax.axhline(0.0, color=figures.LIMIT, linewidth=1.2, label="stochastic limit")
        figures.finish(
            ax,
            xlabel="diffusive step $\\Delta\\tau$ of a layer",
            ylabel="$E\\,R_{12}^2$ of the chain minus the limit's",
        )

    table = tuple(
        (chain, float(step), float(value), float(error))
        for chain, columns in rows.items()
        for step, value, error in zip(*columns, strict=True)
    )
    return FigureSpec(
        name="diffusive",
        title="Centred heads: the weak error is linear in the diffusive step",
        caption="Two orthogonal tokens in six dimensions without scores, unit diffusive time 1: "
        f"mean of $R_{{12}}^2$ over {config.replicas} chains minus that of the limit (backward "
        "equation), bars of one standard error; lines through the smallest step.",
        draw=draw,
        table=Table(("chain", "diffusive step", "bias", "stderr"), table),
        shown=len(table),
    )


EXPERIMENT = Regimes(
    name="koubbi2026/regimes",
    title="Regimes of random heads and their error rates",
    summary="A chain of random attention heads follows an ordinary differential equation where the "
    "heads have a mean, a modified one over longer times, and a stochastic one with common noise "
    "where they have none. The orders of the errors are measured, for the equations as printed and "
    "as corrected, at the times of the layers and between them.",
    citations=("koubbi2026", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(diffusive_steps=(0.5, 0.25, 0.125), replicas=400_000),
        "paper": Config(diffusive_steps=(0.5, 0.25, 0.125, 0.0625), replicas=2_000_000),
    },
)
