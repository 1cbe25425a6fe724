r"""From orthonormal tokens: the simplex equation and the logistic law as the dimension grows.

Cells `d=...`: the mean overlap of networks of one dimension along depth, simulated from Gram
matrices, without scores and with scores of deviation 2, beside the simplex equation with its exact
drift and as printed, and beside the logistic law of weak scores.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits, models, observe
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Entries, IncreasingSizes, Two, Within
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    import xarray as xr

TOKENS, T1, SAVES = 8, 3.0, 12
STEP = 0.025
SCORE_STDS = (0.0, 2.0)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dims: dimensions, increasing, at least 8; 16 and the largest carry the claims.
        replicas: networks of every dimension and temperature.
    """

    dims: Annotated[IncreasingSizes, Within(TOKENS), Entries(2)] = (16, 32, 128)
    replicas: Two = 400


class Simplex(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """Compilation, and layers times replicas."""
        return Cost(seconds=len(config.dims) * (8.0 + 0.02 * config.replicas))

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One a dimension."""
        return tuple(Cell(f"d={dim}", {"dim": dim}) for dim in config.dims)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return (
            "exact-at-small-dim",
            "printed-at-small-dim",
            "exact-at-large-dim",
            "logistic-at-large-dim",
            "logistic-at-small-dim",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell, in single precision but for the limits."""
        import xarray as xr

        dim = int(cell.parameters["dim"])
        ts = np.linspace(0.0, T1, SAVES + 1)
        layers = round(T1 / STEP)
        overlaps, curves = [], []
        for std in SCORE_STDS:
            law = describe.WideHeads(dim=dim, score_std=std)
            chain = models.RandomHeadChain(law=law, step=STEP**0.5, heads=1, layers=layers)
            paths = chain.simulate_overlaps(
                np.eye(TOKENS, dtype=np.float32),
                replicas=config.replicas,
                key=core.named_key(key, f"{std:g}"),
                save_every=layers // SAVES,
            )
            overlaps.append(observe.mean_overlap(paths.tokens))
            curves.append(
                [
                    core.solve(
                        limits.homogenized.SimplexClosure(
                            law=law, tokens=TOKENS, t1=T1, dimension=kind
                        ),
                        save=ts,
                    ).overlap
                    for kind in limits.homogenized.Dimension
                ]
            )
        about = {"long_name": "mean overlap of two tokens"}
        return xr.Dataset(
            {
                "overlap": (("score_std", "replica", "time"), np.array(overlaps), about),
                "closure": (("score_std", "dimension", "time"), np.array(curves), about),
            },
            coords={
                "score_std": list(SCORE_STDS),
                "dimension": [kind.name for kind in limits.homogenized.Dimension],
                "time": ("time", ts, {"long_name": common.TAU}),
            },
            attrs={"dim": dim, "reference": common.REFERENCE},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The closures at half time, small and large dimension; the logistic law."""
        small, large = results[f"d={config.dims[0]}"], results[f"d={config.dims[-1]}"]
        printed = "$\\dot\\gamma = s_{ij} - \\gamma s_{ii}$, stated as exact"

        def gap(data: xr.Dataset, kind: str, std: float) -> Estimate:
            """Mean over times of the gap to the closure, averaged per replica."""
            chosen = data.sel(score_std=std)
            curve = chosen["closure"].sel(dimension=kind)
            difference = (chosen["overlap"] - curve).transpose("replica", "time").values[:, 1:]
            # The chain's own step: weak error of order one, measured at 0.07 per unit.
            return common.estimate(difference.mean(axis=1), discretisation=0.08 * STEP)

        def claim(
            name: str, statement: str, measured: Estimate, printed: str = core.UNAVAILABLE
        ) -> Claim:
            return Claim(
                name=name,
                statement=statement,
                prediction=0.0,
                estimate=measured,
                tol=0.05,
                reference=common.REFERENCE,
                printed=printed,
            )

        first, last = config.dims[0], config.dims[-1]
        return [
            claim(
                "exact-at-small-dim",
                f"At $d = {first}$ the simplex equation with its exact drift follows the mean "
                "overlap (mean gap along depth, score deviation 2).",
                gap(small, "EXACT", 2.0),
            ),
            claim(
                "printed-at-small-dim",
                f"At $d = {first}$ the printed equation does.",
                gap(small, "LARGE", 2.0),
                printed=printed,
            ),
            claim(
                "exact-at-large-dim",
                f"At $d = {last}$ the equation with its exact drift does.",
                gap(large, "EXACT", 2.0),
            ),
            claim(
                "logistic-at-large-dim",
                f"At $d = {last}$, without scores, the logistic law does.",
                gap(large, "LARGE", 0.0),
                printed="$\\dot u = u(1 - u)$ as $d \\to \\infty$",
            ),
            claim(
                "logistic-at-small-dim",
                f"At $d = {first}$, without scores, the logistic law does.",
                gap(small, "LARGE", 0.0),
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Overlaps along depth for every dimension, at both temperatures."""
        return [_figure(config, results, std) for std in SCORE_STDS]


def _figure(config: Config, results: Results, std: float) -> FigureSpec:
    rows = {}
    for dim in config.dims:
        chosen = results[f"d={dim}"].sel(score_std=std)
        rows[dim] = (
            common.mean_and_stderr(chosen["overlap"].transpose("replica", "time")),
            chosen["closure"].sel(dimension="EXACT").values,
        )
    limit = results[f"d={config.dims[0]}"]["closure"].sel(score_std=std, dimension="LARGE")
    ts = limit["time"].values

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (dim, ((mean, stderr), curve)) in enumerate(rows.items()):
            common.points(ax, ts, mean, stderr, series, f"networks, $d = {dim}$")
            common.line(ax, ts, curve, series, "")
        common.line(ax, ts, limit, None, "$d \\to \\infty$, as printed", "--")
        figures.finish(ax, xlabel=common.TAU, ylabel="mean overlap of two tokens")

    table = tuple(
        (dim, float(t), float(m), float(s), float(c))
        for dim, ((mean, stderr), curve) in rows.items()
        for t, m, s, c in zip(ts, mean, stderr, curve, strict=True)
    )
    what = "without scores" if std == 0 else f"with scores of deviation {std:g}"
    law = "logistic law" if std == 0 else "printed simplex equation"
    return FigureSpec(
        name="logistic" if std == 0 else "simplex",
        title=f"Overlaps as the dimension grows, {what}",
        caption=f"{TOKENS} orthonormal tokens {what}: mean overlap of {config.replicas} networks "
        "of each dimension (points, bars of one standard error), the simplex equation with its "
        f"exact drift at that dimension (lines of the same colour), and the {law} (dashed).",
        draw=draw,
        table=Table(("dim", "tau", "mean overlap", "stderr", "simplex equation"), table),
        shown=len(config.dims) * config.replicas,
    )


EXPERIMENT = Simplex(
    name="koubbi2026/simplex",
    title="The simplex equation and the logistic law as the dimension grows",
    summary="From orthonormal tokens all overlaps stay nearly equal in large dimension and follow "
    "a scalar equation, logistic for weak scores. The printed equation is its form for "
    "$d \\to \\infty$; the exact drift has terms of order $1/d$ that are seen at $d = 16$.",
    citations=("koubbi2026", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(dims=(16, 32, 64, 256), replicas=3000),
        "paper": Config(dims=(16, 32, 64, 256, 1024), replicas=30_000),
    },
)
