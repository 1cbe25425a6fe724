r"""The closure of Sinkhorn attention beside the expression in the authors' script.

d Sigma / dt is measured by discrete Sinkhorn on quadrature clouds, and compared with the closure
M Sigma + Sigma M^T, M = V L A, and with V (A^T)^+ Sigma^+ C Sigma of the script in the place of
M Sigma, C = (Sigma A^T Sigma A + I / 4)^(1/2) - I / 2: for invertible and for singular A and Sigma,
all scaled to strength b_max = 1; float64.

Reference: Castin et al., arXiv 2501.18322; documentation, "The variants of attention side by
side", errata of the published scripts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import attention, core, figures
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import quadrature
from translimit.experiments.checked import CheckedConfig, Count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The cases: ranks of A and of Sigma in dimension 2.
RANKS = {"invertible": (2, 2), "singular-A": (1, 2), "singular-Sigma": (2, 1)}
#: What is compared with the measured rate, as its claim says it, and in the legend.
EXPRESSIONS = {
    "corrected": "The closure $\\dot\\Sigma = M\\Sigma + \\Sigma M^T$, $M = V L A$,",
    "printed": "The expression $V (A^T)^+ \\Sigma^+ C_\\Sigma \\Sigma$ of the authors' script, in "
    "the place of $M \\Sigma$,",
}
LABELS = {"corrected": "closure $M = V L A$", "printed": "the script's expression"}
#: Nodes per dimension of the quadrature clouds, and of those that tell the error.
ORDERS = (24, 20)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        draws: random draws of A, V and Sigma for each case.
    """

    draws: Count = 32


@dataclass(frozen=True)
class Erratum(ex.Arrays):
    """Relative errors of the rate of the covariance, draw by draw."""

    case: Shaped[np.ndarray, " case"]
    corrected: Annotated[Float[np.ndarray, "case draw"], "relative error of the closure"]
    printed: Annotated[Float[np.ndarray, "case draw"], "relative error of the script's expression"]
    uncertainty: Annotated[
        Float[np.ndarray, "case draw"], "relative change with fewer quadrature nodes"
    ]

    def of(self, expression: str, case: str) -> Float[np.ndarray, " draw"]:
        """Errors of an expression in a case."""
        errors = self.corrected if expression == "corrected" else self.printed
        return errors[list(RANKS).index(case)]


def compute(config: Config, at: ex.Alone, keys: ex.Keys) -> Erratum:
    """All draws of all cases."""
    gaps = np.array(
        [
            [_gaps(core.named_key(keys.own, case, draw), *ranks) for draw in range(config.draws)]
            for case, ranks in RANKS.items()
        ]
    )
    return Erratum(np.array(list(RANKS)), *np.moveaxis(gaps, -1, 0))


def _gaps(key: core.Key, rank_a: int, rank_cov: int) -> list[float]:
    """Errors of the closure and of the script's expression, and of the measurement."""
    import jax

    with jax.enable_x64(True):
        normal = np.asarray(jax.random.normal(key, (4, 2, 2), dtype=np.float64))
    factor, values = normal[3][:, :rank_cov], normal[2]
    cov = factor @ factor.T
    query, key_map = normal[0, :rank_a], normal[1, :rank_a]
    strength = np.linalg.norm(factor.T @ query.T @ key_map @ factor, ord=2)
    layer = attention.Sinkhorn(Q=query, K=key_map, V=values, score_scale=1.0 / strength, tol=1e-12)
    rate, coarse = (_measured(layer, factor, order) for order in ORDERS)
    _, M = layer.gaussian_field(np.zeros(2), cov)
    closure = M @ cov + cov @ M.T
    # Symmetric, hence at most 2: the rate of a draw may nearly vanish.
    return [
        float(np.abs(other - rate).max() / ((np.abs(other).max() + np.abs(rate).max()) / 2))
        for other in (closure, _script_rate(np.asarray(layer.A), values, cov), coarse)
    ]


def _measured(layer: attention.Sinkhorn, factor: np.ndarray, order: int) -> np.ndarray:
    """D Sigma / dt of a quadrature cloud of N(0, factor factor^T)."""
    cloud, weights = quadrature(np.zeros(2), factor, order)
    half = np.einsum("n,ni,nj->ij", weights, layer(cloud, cloud, weights=weights), cloud)
    return half + half.T


def _script_rate(A: np.ndarray, values: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """D Sigma / dt of the authors' script: V (A^T)^+ Sigma^+ C_Sigma Sigma, and its transpose."""
    from scipy.linalg import sqrtm

    identity = np.eye(len(cov))
    C = np.real(sqrtm(cov @ A.T @ cov @ A + identity / 4)) - identity / 2
    half = values @ np.linalg.pinv(A.T, 1e-10) @ np.linalg.pinv(cov, 1e-10) @ C @ cov
    return half + half.T


ERRATUM = ex.Part(
    "erratum",
    Erratum,
    compute,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(6.0 + 0.1 * c.draws),
)


def _error(found: ex.Found[Config], at: tuple[str, str]) -> Estimate:
    """Mean over draws."""
    erratum = found(ERRATUM)
    step = float(erratum.uncertainty[list(RANKS).index(at[1])].max())
    return Estimate.from_samples(erratum.of(*at), discretisation=step)


def _statement(found: ex.Found[Config], at: tuple[str, str]) -> str:
    expression, case = at
    rank_a, rank_cov = RANKS[case]
    return (
        f"{EXPRESSIONS[expression]} is the measured rate of the covariance (rank of $A$: {rank_a}, "
        f"of $\\Sigma$: {rank_cov}; $d = 2$); mean over draws, all of strength $b_{{\\max}} = 1$, "
        "of the largest error of an entry, relative to the mean of the largest entries of both."
    )


RATES = ex.Claims(
    "{expression}-{case}",
    _statement,
    estimate=_error,
    prediction=0.0,
    tol=1e-6,
    over=lambda c: [(expression, case) for case in RANKS for expression in EXPRESSIONS],
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case in RANKS:
        for expression in EXPRESSIONS:
            errors = found(ERRATUM).of(expression, case)
            yield (case, expression, float(errors.mean()), float(errors.min()), float(errors.max()))


def _draw(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Every draw as a point, beside one another in each case."""
    ax = canvas.subplots()
    spread = np.linspace(-0.15, 0.15, found.config.draws)
    for series, (expression, label) in enumerate(LABELS.items()):
        for place, case in enumerate(RANKS):
            ax.plot(
                place + 0.4 * (series - 0.5) + spread,
                np.maximum(found(ERRATUM).of(expression, case), 1e-17),
                figures.MARKERS[series],
                color=figures.COLOURS[series],
                markersize=4,
                label="_" if place else label,
            )
    ax.set_yscale("log")
    ax.set_xticks(range(len(RANKS)), list(RANKS))
    figures.finish(ax, xlabel="ranks of $A$ and $\\Sigma$", ylabel="relative error of the rate")


DRAWS = ex.Figure(
    name="erratum",
    title="The rate of the covariance, measured and claimed",
    caption="Largest error of an entry of $\\dot\\Sigma$, relative to the mean of the largest "
    "entries of both, against discrete Sinkhorn attention on quadrature clouds; every random draw "
    "of $A$, $V$ and $\\Sigma$, scaled to $b_{{\\max}} = 1$, is a point (exact zeros at "
    "$10^{{-17}}$). The script's pseudo-inverses are right for invertible matrices alone; the "
    "closure holds for all.",
    columns=("case", "expression", "mean", "smallest", "largest"),
    rows=_rows,
    draw=_draw,
    shown=lambda found, table: len(table.rows) * found.config.draws,
)

EXPERIMENT = ex.Experiment(
    name="castin2025/sinkhorn-erratum",
    title="The closure of Sinkhorn attention, and an erratum",
    summary="The covariance of a Gaussian under Sinkhorn attention moves at a rate that holds for "
    "singular matrices too. It is measured on quadrature clouds and set beside the expression in "
    "the authors' script, whose pseudo-inverses are right for invertible matrices alone.",
    citations=("castin2025", "jax"),
    reference=core.reference("castin2025"),
    presets={"demo": Config(), "standard": Config(draws=64), "paper": Config(draws=256)},
    parts=(ERRATUM,),
    claims=(RATES,),
    figures=(DRAWS,),
)
