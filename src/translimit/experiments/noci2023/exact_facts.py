r"""The exact laws of the linear part of the covariance SDE, measured on its paths.

- `pair`: two tokens to t1: log norms, second moments, arcsin of the correlation.
- `three/<scheme>/step=...`: log det of three tokens, by the structure-preserving step and by
  Euler-Maruyama.
- `long`: two tokens to a long horizon: the arcsine law of alignment.

Reference: documentation, "The shaped Transformer"; alignment: Koubbi, Geshkovski and Rigollet,
arXiv 2604.01978, find the same law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Decreasing, Distinct, Step, Two, Within
from translimit.experiments.noci2023.starts import REFERENCE

if TYPE_CHECKING:
    import xarray as xr

PAIR = ((1.0, 0.3), (0.3, 1.2))
T1 = 0.8


def linear_block() -> describe.Block:
    """Infinite temperature: the skip connection and the values alone."""
    return describe.Block(gamma=0.6, lam=0.8, tau0=float("inf"))


Correlation = Annotated[float, Within(-1, 1, above=True, below=True)]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the measurement.

    Attributes:
        paths: of every cell.
        steps: step sizes at which log det is measured, decreasing.
        step: of the pair.
        starts: correlations from which alignment is measured.
        horizon: time by which pairs have aligned.
    """

    paths: Two = 20_000
    steps: Annotated[tuple[Step, ...], Decreasing()] = (0.08, 0.04, 0.02, 0.01)
    step: Step = 0.005
    starts: Annotated[tuple[Correlation, ...], Distinct()] = (-0.8, -0.5, 0.0, 0.5, 0.8)
    horizon: Annotated[float, Within(0.05, 1e4)] = 30.0


class ExactFacts(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and steps of all paths at 2 microseconds."""
        step = cell.parameters.get("step", config.step)
        steps = config.horizon / 0.05 if cell.name.startswith("long") else T1 / step
        return Cost(60.0 / len(self.cells(config)) + 2e-6 * steps * config.paths)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The pair, log det by scheme and step, and the long horizon."""
        three = tuple(
            Cell(f"three/{scheme}/step={h:g}", {"scheme": scheme, "step": h})
            for scheme in ("structured", "euler")
            for h in config.steps
        )
        long = tuple(Cell(f"long/rho={rho:g}", {"rho": rho}) for rho in config.starts)
        return (Cell("pair"), *three, *long)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """One for each law."""
        return (
            "norm-mean",
            "norm-variance",
            "cross-moment",
            "arcsine-martingale",
            "log-det-mean",
            "log-det-variance",
            "alignment",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Paths of the linear SDE, in float64."""
        import xarray as xr

        shaped, here = limits.shaped, cell.parameters
        attrs = {"reference": REFERENCE, **here}

        def ends(initial: Any, t1: float, method: Any) -> Any:
            sde = shaped.CovarianceSDE(block=linear_block(), initial=initial, t1=t1)
            return core.solve(sde, method, key=key, save=[t1])

        if cell.name == "pair":
            solution = ends(PAIR, T1, shaped.StructurePreserving(config.paths, config.step))
            cov = solution.cov[:, 0]
            values = {
                "log_norm": np.log(cov[:, 0, 0]),
                "cross": cov[:, 0, 1] ** 2,
                "arcsine": np.arcsin(solution.correlation[:, 0, 0, 1]),
            }
            return xr.Dataset({name: (("path",), v) for name, v in values.items()}, attrs=attrs)
        if cell.name.startswith("three"):
            kind = shaped.StructurePreserving if here["scheme"] == "structured" else None
            method = (kind or shaped.EulerMaruyama)(paths=config.paths, max_step=here["step"])
            log_det = ends(np.eye(3), T1, method).log_det[:, 0]
            return xr.Dataset({"log_det": (("path",), log_det)}, attrs=attrs)
        rho = here["rho"]
        method = shaped.StructurePreserving(max(1000, config.paths // 5), 0.05)
        end = ends([[1.0, rho], [rho, 1.0]], config.horizon, method).correlation[:, 0, 0, 1]
        return xr.Dataset({"correlation": (("path",), end)}, attrs=attrs)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Every law at its tolerance."""
        shaped, pair = limits.shaped, results["pair"]
        mean, variance = shaped.linear_norm_law(linear_block(), PAIR[0][0], T1)
        log_norm = pair["log_norm"].values
        det_mean, det_variance = shaped.linear_log_det_law(linear_block(), np.eye(3), T1)
        log_det = results[f"three/structured/step={config.steps[-1]:g}"]["log_det"].values
        cross = shaped.linear_second_moments(linear_block(), PAIR, T1)[0]
        misses = [
            float(np.mean(results[f"long/rho={rho:g}"]["correlation"] > 0))
            - shaped.aligned_probability(rho)
            for rho in config.starts
        ]
        count = results[f"long/rho={config.starts[0]:g}"].sizes["path"]
        worst = max(misses, key=abs)

        def claim(name: str, statement: str, prediction: float, estimate: Any, tol: float) -> Claim:
            return Claim(name, statement, prediction, estimate, tol, reference=REFERENCE)

        return [
            claim(
                "norm-mean",
                "$\\log V_{00}$ is Gaussian: its mean.",
                mean,
                Estimate.from_samples(log_norm),
                0.05,
            ),
            claim(
                "norm-variance",
                "$\\log V_{00}$ is Gaussian: its variance.",
                variance,
                Estimate.from_samples((log_norm - log_norm.mean()) ** 2),
                0.08,
            ),
            claim(
                "cross-moment",
                "$E\\,V_{01}^2$ solves a linear system.",
                cross,
                Estimate.from_samples(pair["cross"].values),
                0.35,
            ),
            claim(
                "arcsine-martingale",
                "$E \\arcsin \\rho$ does not move.",
                float(np.arcsin(PAIR[0][1] / PAIR[1][1] ** 0.5)),
                Estimate.from_samples(pair["arcsine"].values),
                0.03,
            ),
            claim(
                "log-det-mean",
                "$\\log \\det V$ of three tokens is Gaussian: its mean.",
                det_mean,
                Estimate.from_samples(log_det),
                0.12,
            ),
            claim(
                "log-det-variance",
                "$\\log \\det V$ of three tokens is Gaussian: its variance.",
                det_variance,
                Estimate.from_samples((log_det - log_det.mean()) ** 2),
                0.3,
            ),
            claim(
                "alignment",
                "Two tokens align with probability $1/2 + \\arcsin(\\rho_0)/\\pi$ (largest "
                "difference over the starting correlations).",
                0.0,
                Estimate(worst, 0.5 / count**0.5, count),
                0.05,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Log det by scheme and step, and the arcsine law."""
        return [_figure_log_det(config, results), _figure_alignment(config, results)]


def _figure_log_det(config: Config, results: Results) -> FigureSpec:
    exact, _ = limits.shaped.linear_log_det_law(linear_block(), np.eye(3), T1)
    names = {"structured": "structure-preserving", "euler": "Euler-Maruyama, clipped"}
    rows = []
    for scheme in names:
        for h in config.steps:
            values = results[f"three/{scheme}/step={h:g}"]["log_det"].values
            clipped = int(np.sum(~np.isfinite(values)))
            kept = values[np.isfinite(values)]
            error = float(kept.std() / len(kept) ** 0.5)
            rows.append((scheme, h, float(np.median(values)), 1.2533 * error, clipped))

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (scheme, name) in enumerate(names.items()):
            here = np.array([row[1:4] for row in rows if row[0] == scheme])
            ax.errorbar(
                here[:, 0],
                here[:, 1],
                yerr=here[:, 2],
                fmt=figures.MARKERS[series] + "-",
                color=figures.COLOURS[series],
                capsize=3,
                label=name,
            )
        ax.axhline(exact, color=figures.LIMIT, label="exact median (= mean)")
        ax.set_xscale("log")
        ax.set_xticks(config.steps, [f"{h:g}" for h in config.steps])
        ax.minorticks_off()
        figures.finish(ax, xlabel="step", ylabel="median of $\\log \\det V$ at $t = 0.8$")

    lost = sum(row[4] for row in rows)
    return FigureSpec(
        name="log-det",
        title="Log determinant by scheme and step",
        caption=f"Median over {config.paths} paths of the linear SDE of three tokens from $V = I$, "
        f"bars of one standard error. {lost} values are $-\\infty$, where Euler-Maruyama "
        "clipped an "
        "eigenvalue; they count in the median. Dimensionless.",
        draw=draw,
        table=Table(("scheme", "step", "median", "stderr", "clipped"), tuple(rows)),
        shown=len(rows),
    )


def _figure_alignment(config: Config, results: Results) -> FigureSpec:
    rows = []
    for rho in config.starts:
        aligned = results[f"long/rho={rho:g}"]["correlation"].values > 0
        p = float(aligned.mean())
        rows.append(
            (
                rho,
                limits.shaped.aligned_probability(rho),
                p,
                float((p * (1 - p) / aligned.size) ** 0.5),
            )
        )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        grid = np.linspace(-1, 1, 201)
        law = [limits.shaped.aligned_probability(float(rho)) for rho in grid]
        ax.plot(grid, law, color=figures.LIMIT, label="$1/2 + \\arcsin(\\rho_0) / \\pi$")
        here = np.array(rows)
        ax.errorbar(
            here[:, 0],
            here[:, 2],
            yerr=here[:, 3],
            fmt="o",
            capsize=3,
            color=figures.COLOURS[0],
            label="paths",
        )
        figures.finish(
            ax, xlabel="initial correlation $\\rho_0$", ylabel="probability of $\\rho \\to 1$"
        )

    return FigureSpec(
        name="alignment",
        title="The arcsine law of alignment",
        caption=f"Fraction of paths whose correlation is positive at $t = "
        f"{config.horizon:g}$, bars "
        "of one standard error, and the exact law of its limit. Dimensionless.",
        draw=draw,
        table=Table(("rho_0", "law", "paths", "stderr"), tuple(rows)),
        shown=len(rows),
    )


EXPERIMENT = ExactFacts(
    name="noci2023/exact-facts",
    title="Exact laws of the linear covariance SDE",
    summary="Without attention the covariance SDE is linear: norms and determinants are "
    "log-normal, "
    "second moments solve a linear system, and the arcsine of a correlation is a martingale that "
    "ends at $\\pm\\pi/2$. Paths are held against all of it.",
    citations=("noci2023", "jax"),
    presets={
        "demo": Config(paths=4000, steps=(0.08, 0.02), step=0.01, starts=(-0.5, 0.5), horizon=20.0),
        "standard": Config(),
        "paper": Config(paths=100_000, steps=(0.08, 0.04, 0.02, 0.01, 0.005)),
    },
)
