r"""The closure of Sinkhorn attention beside the expression in the authors' script.

d Sigma / dt is measured by discrete Sinkhorn on quadrature clouds, and compared with the closure
M Sigma + Sigma M^T, M = V L A, and with V (A^T)^+ Sigma^+ C Sigma of the script in the place of
M Sigma, C = (Sigma A^T Sigma A + I / 4)^(1/2) - I / 2: for invertible and for singular A and Sigma,
all scaled to strength b_max = 1; float64.

Reference: Castin et al., arXiv 2501.18322; documentation, "The variants of attention side by
side", errata of the published scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import attention, core, figures
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import quadrature
from translimit.experiments.checked import CheckedConfig, Two

#: The cases: ranks of A and of Sigma in dimension 2.
RANKS = {"invertible": (2, 2), "singular-A": (1, 2), "singular-Sigma": (2, 1)}
#: What is compared with the measured rate: the closure, the script, and plausible wrong theories.
EXPRESSIONS = ("closure", "script", "softmax", "transposed")
#: Nodes per dimension of the quadrature clouds, and of those that tell the error.
ORDERS = (24, 20)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        draws: random draws of A, V and Sigma for each case.
    """

    draws: Two = 96


@dataclass(frozen=True)
class Erratum(ex.Arrays):
    """Relative errors of the rate of the covariance, draw by draw."""

    case: Shaped[np.ndarray, " case"]
    expression: Shaped[np.ndarray, " expression"]
    error: Annotated[Float[np.ndarray, "case draw expression"], "relative error of the rate"]
    uncertainty: Annotated[
        Float[np.ndarray, "case draw"], "relative change with fewer quadrature nodes"
    ]

    def of(self, expression: str, case: str) -> Float[np.ndarray, " draw"]:
        """Errors of an expression in a case."""
        return self.error[list(RANKS).index(case), :, EXPRESSIONS.index(expression)]


def compute(config: Config, at: ex.Alone, keys: ex.Keys) -> Erratum:
    """All draws of all cases."""
    gaps = np.array(
        [
            [_gaps(core.named_key(keys.own, case, draw), *ranks) for draw in range(config.draws)]
            for case, ranks in RANKS.items()
        ]
    )
    return Erratum(np.array(list(RANKS)), np.array(EXPRESSIONS), gaps[..., :-1], gaps[..., -1])


def _gaps(key: core.Key, rank_a: int, rank_cov: int) -> list[float]:
    """Errors of all expressions, and of the measurement."""
    import jax

    with jax.enable_x64(True):
        normal = np.asarray(jax.random.normal(key, (4, 2, 2), dtype=np.float64))
    factor, values = normal[3][:, :rank_cov], normal[2]
    cov = factor @ factor.T
    query, key_map = normal[0, :rank_a], normal[1, :rank_a]
    strength = np.linalg.norm(factor.T @ query.T @ key_map @ factor, ord=2)
    layer = attention.Sinkhorn(Q=query, K=key_map, V=values, score_scale=1.0 / strength, tol=1e-12)
    rate, coarse = (_measured(layer, factor, order) for order in ORDERS)
    halves = [
        np.asarray(field.gaussian_field(np.zeros(2), cov)[1]) @ cov
        for field in (
            layer,
            attention.Softmax(Q=query, K=key_map, V=values, score_scale=1.0 / strength),
            attention.Sinkhorn(Q=key_map, K=query, V=values, score_scale=1.0 / strength),
        )
    ]
    halves.insert(1, _script(np.asarray(layer.A), values, cov))
    told = [half + half.T for half in halves]
    # Symmetric, hence at most 2: the rate of a draw may nearly vanish.
    return [
        float(np.abs(other - rate).max() / ((np.abs(other).max() + np.abs(rate).max()) / 2))
        for other in (*told, coarse)
    ]


def _measured(layer: attention.Sinkhorn, factor: np.ndarray, order: int) -> np.ndarray:
    """D Sigma / dt of a quadrature cloud of N(0, factor factor^T)."""
    cloud, weights = quadrature(np.zeros(2), factor, order)
    half = np.einsum("n,ni,nj->ij", weights, layer(cloud, cloud, weights=weights), cloud)
    return half + half.T


def _script(A: np.ndarray, values: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """V (A^T)^+ Sigma^+ C_Sigma Sigma, which stands for M Sigma in the authors' script."""
    from scipy.linalg import sqrtm

    identity = np.eye(len(cov))
    C = np.real(sqrtm(cov @ A.T @ cov @ A + identity / 4)) - identity / 2
    return values @ np.linalg.pinv(A.T, 1e-10) @ np.linalg.pinv(cov, 1e-10) @ C @ cov


ERRATUM = ex.Part(
    "erratum", Erratum, compute, grid=ex.alone, cost=lambda c, at: ex.Cost(6.0 + 0.1 * c.draws)
)


def _error(expression: str) -> Callable[[ex.Found[Config], str], Estimate]:
    """The mean error of an expression over draws."""

    def measured(found: ex.Found[Config], case: str) -> Estimate:
        erratum = found(ERRATUM)
        step = float(erratum.uncertainty[list(RANKS).index(case)].max())
        return Estimate.from_samples(erratum.of(expression, case), discretisation=step)

    return measured


def _rate(name: str, said: str, expression: str, cases: tuple[str, ...]) -> ex.Claims[Config, str]:
    """An expression is the measured rate."""
    return ex.Claims(
        name,
        lambda found, case: (
            f"{said} is the measured rate of the covariance (ranks of $A$ and $\\Sigma$: "
            f"{RANKS[case]}; $d = 2$); mean over draws, all of strength $b_{{\\max}} = 1$, of the "
            "largest error of an entry, relative to the mean of the largest entries of both."
        ),
        estimate=_error(expression),
        prediction=0.0,
        tol=1e-6,
        over=lambda c: cases,
        rivals=(
            ex.Rival(
                "the script's pseudo-inverses",
                estimate=_error("script"),
                printed=True,
                when=lambda config, case: case != "invertible",
            ),
            ex.Rival("the rate of softmax", estimate=_error("softmax")),
            # With a singular covariance of the plane the scores are those of one number.
            ex.Rival(
                "queries and keys exchanged",
                estimate=_error("transposed"),
                when=lambda config, case: case != "singular-Sigma",
            ),
        ),
    )


CLAIMS = (
    _rate(
        "corrected-{case}",
        "The closure $\\dot\\Sigma = M\\Sigma + \\Sigma M^T$, $M = V L A$,",
        "closure",
        tuple(RANKS),
    ),
    _rate(
        "script-{case}",
        "Invertible matrices: the expression $V (A^T)^+ \\Sigma^+ C_\\Sigma \\Sigma$ of the "
        "authors' script, in the place of $M \\Sigma$,",
        "script",
        ("invertible",),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for place, case in enumerate(RANKS):
        for expression in EXPRESSIONS:
            errors = found(ERRATUM).of(expression, case)
            mean = Estimate.from_samples(errors)
            ends = float(errors.min()), float(errors.max())
            yield (case, place, expression, mean.value, mean.stderr, *ends)


DRAWS = ex.Figure(
    name="erratum",
    title="The rate of the covariance, measured and claimed",
    caption="Mean over {draws} random draws (bars: one standard error) of the largest error of an "
    "entry of $\\dot\\Sigma$, relative to the mean of the largest entries of both, against "
    "discrete Sinkhorn attention on quadrature clouds; all draws of $A$, $V$ and $\\Sigma$ have "
    "$b_{{\\max}} = 1$. The script's pseudo-inverses are right for invertible matrices "
    "alone; the closure holds for all.",
    columns=("case", "place", "expression", "mean", "stderr", "smallest", "largest"),
    rows=_rows,
    x="place",
    by="expression",
    layers=(figures.points("mean", "stderr"),),
    xlabel="matrices",
    ylabel="relative error of the rate",
    log="y",
    ticks="case",
    shown=lambda found, table: len(table.rows) * found.config.draws,
)

EXPERIMENT = ex.Experiment(
    name="castin2025/sinkhorn-erratum",
    title="The closure of Sinkhorn attention, and an erratum",
    question="Is the published closure of Sinkhorn attention right for singular matrices?",
    summary="The covariance of a Gaussian under Sinkhorn attention moves at a rate that holds for "
    "singular matrices too. It is measured on quadrature clouds and set beside the expression in "
    "the authors' script, whose pseudo-inverses are right for invertible matrices alone.",
    citations=("castin2025", "jax"),
    reference=core.reference("castin2025"),
    presets={"demo": Config(), "standard": Config(draws=192), "paper": Config(draws=512)},
    parts=(ERRATUM,),
    claims=CLAIMS,
    figures=(DRAWS,),
    finding=ex.Finding(
        "The corrected closure of Sinkhorn attention misses the measured rate of the covariance"
        " by {0} for invertible matrices, and by {1} for singular $A$",
        ("corrected-invertible", "corrected-singular-A"),
    ),
)
