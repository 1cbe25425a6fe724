r"""How fast Sinkhorn's iteration contracts.

The error of the column marginals, round by round, for scores of strength b (the largest singular
value of Sigma^(1/2) A Sigma^(1/2)), on a quadrature cloud of a Gaussian that is not centred and on
clouds of random tokens; float64. Late in the iteration a round multiplies the error by d_max^2,
the squared top canonical correlation of the Gaussian coupling, d = b (1 - d^2).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import attention, core, figures
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import COV, MEAN, K, Q, V, quadrature
from translimit.experiments.checked import CheckedConfig, Count, Positives, Within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Tolerances at which rounds are counted, and errors below which rounding is seen, or begins to.
TOLERANCES = (1e-3, 1e-6, 1e-9)
ROUNDING, LATE = 1e-13, 1e-10
#: Nodes per dimension of the quadrature cloud.
ORDER = 24


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        strengths: largest singular values b of Sigma^(1/2) A Sigma^(1/2).
        rounds: rounds of the iteration that are watched.
        tokens: tokens of the random clouds.
        clouds: how many of them for each strength.
    """

    strengths: Positives = (0.32, 1.05, 3.2)
    rounds: Annotated[int, Within(2)] = 90
    tokens: Count = 300
    clouds: Count = 4


@dataclass(frozen=True)
class Contraction(ex.Arrays):
    """Errors of the marginals, round by round."""

    round: Annotated[Int[np.ndarray, " round"], "round"]
    exact: Annotated[Float[np.ndarray, " round"], "error of the marginals, Gaussian"]
    random: Annotated[Float[np.ndarray, "cloud round"], "error, random clouds"]
    predicted: Annotated[float, "squared top canonical correlation"]
    late: Annotated[float, "late contraction factor"]
    late_uncertainty: float


def compute(config: Config, strength: float, keys: ex.Keys) -> Contraction:
    """Single rounds, each from the potential of the one before."""
    import jax

    canonical = attention.Sinkhorn(Q=Q, K=K, V=V)
    d = float(core.canonical_correlations(canonical.A, COV)[0])
    scale = strength * (1 - d**2) / d
    one_round = attention.Sinkhorn(Q=Q, K=K, V=V, score_scale=scale, tol=1e-30, max_iterations=1)

    def history(cloud: np.ndarray, weights: np.ndarray) -> np.ndarray:
        g, errors = np.zeros(len(cloud)), []
        for _ in range(config.rounds):
            step = one_round.potentials(cloud, weights=weights, initial=g, throw=False)
            g = step.g
            errors.append(float(step.error))
        return np.array(errors)

    root = np.linalg.cholesky(COV)
    exact = history(*quadrature(MEAN, root, ORDER))
    with jax.enable_x64(True):
        shape = (config.clouds, config.tokens, 2)
        noise = np.asarray(jax.random.normal(keys.own, shape, dtype=np.float64))
    equal = np.full(config.tokens, 1.0 / config.tokens)
    # The last two rounds above rounding, and what one round earlier would have said.
    late = exact[exact > LATE]
    ratios = late[1:] / late[:-1]
    return Contraction(
        round=np.arange(1, config.rounds + 1),
        exact=exact,
        random=np.stack([history(MEAN + cloud @ root.T, equal) for cloud in noise]),
        predicted=float(core.canonical_correlations(one_round.A, COV)[0]) ** 2,
        late=float(ratios[-1]),
        late_uncertainty=float(abs(ratios[-1] - ratios[-2])),
    )


CONTRACTION = ex.Part(
    "contraction/b={strength:g}",
    Contraction,
    compute,
    grid=lambda c: c.strengths,
    # Compilation, and pairs of tokens, twice a round.
    cost=lambda c, strength: ex.Cost(6.0 + 6e-9 * c.rounds * c.clouds * c.tokens**2),
)


def _late(found: ex.Found[Config], strength: float) -> Estimate:
    """The factor of the last round above rounding over the predicted one."""
    data = found(CONTRACTION, strength)
    share = 1.0 / data.predicted
    return Estimate(share * data.late, 0.0, 1, share * data.late_uncertainty)


def _times_d(power: int) -> Callable[[ex.Found[Config], float], float]:
    """A rival factor over d_max^2: another power of d_max."""
    return lambda found, strength: found(CONTRACTION, strength).predicted ** (power / 2 - 1)


FACTOR = ex.Claims(
    "contraction-b={strength:g}",
    lambda found, strength: (
        "Late in the iteration the error of the marginals falls by $d_{\\max}^2$ a round (ratio to "
        f"it; Gaussian off centre, $b_{{\\max}} = {strength:g}$)."
    ),
    estimate=_late,
    prediction=1.0,
    tol=0.01,
    over=lambda c: c.strengths,
    rivals=(
        ex.Rival("d_max a round", _times_d(1)),
        ex.Rival("d_max^4, as for centred symmetric clouds", _times_d(4)),
        # d = b (1 - d^2): b / (1 + b) is a first guess of d.
        ex.Rival(
            "(b / (1 + b))^2",
            lambda found, b: (b / (1.0 + b)) ** 2 / found(CONTRACTION, b).predicted,
        ),
        ex.Rival("times 1.1", 1.1),
    ),
)


def _rounds(errors: np.ndarray, tolerance: float) -> float:
    """Rounds until the error is below the tolerance; infinity if that was not seen."""
    below = np.flatnonzero(errors < tolerance)
    return float(below[0] + 1) if below.size else float("inf")


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for strength, data in found.each(CONTRACTION):
        rounds = ([_rounds(row, tol) for row in data.random] for tol in TOLERANCES)
        yield (strength, data.predicted, data.late, *(float(np.mean(one)) for one in rounds))


def _draw(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """The Gaussian as markers, random clouds as thin lines, the predicted factor in black."""
    ax = canvas.subplots()
    for series, (strength, data) in enumerate(found.each(CONTRACTION)):
        colour = figures.COLOURS[series % len(figures.COLOURS)]
        for row in data.random:
            kept = row > ROUNDING
            ax.plot(data.round[kept], row[kept], color=colour, linewidth=0.5, alpha=0.6)
        kept = data.exact > ROUNDING
        ax.plot(
            data.round[kept],
            data.exact[kept],
            figures.MARKERS[series % len(figures.MARKERS)],
            color=colour,
            markersize=4,
            label=f"$b_{{\\max}} = {strength:g}$, $d_{{\\max}}^2 = {data.predicted:.3f}$",
        )
        anchor = np.flatnonzero(data.exact > LATE)[-1]
        line = data.exact[anchor] * data.predicted ** (np.arange(len(data.exact)) - anchor)
        ax.plot(data.round[kept], line[kept], color=figures.LIMIT, linewidth=0.9, zorder=0)
    ax.set_yscale("log")
    ax.set_ylim(bottom=ROUNDING)
    figures.finish(ax, xlabel="round", ylabel="error of the column marginals")


HISTORIES = ex.Figure(
    name="contraction",
    title="Rounds of Sinkhorn's iteration",
    caption="Error of the column marginals after a row update, for three strengths of the scores. "
    "Markers: a Gaussian off centre, by quadrature; thin lines: {clouds} random clouds of {tokens} "
    "tokens each; black: the predicted factor $d_{{\\max}}^2$ a round, anchored at the end. "
    "Nothing below $10^{{-13}}$, which is rounding, is drawn. Table: mean rounds of the random "
    "clouds to three tolerances (infinity: not within the rounds watched). The first rounds of the "
    "quadrature clouds show their outermost nodes. No error bars: deterministic.",
    columns=("b_max", "d_max^2", "late factor", *(f"rounds to {tol:g}" for tol in TOLERANCES)),
    rows=_rows,
    draw=_draw,
    shown=lambda found, table: len(table.rows) * (1 + found.config.clouds),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/sinkhorn-contraction",
    title="How many rounds Sinkhorn attention takes",
    question="How many rounds of normalisation does Sinkhorn attention need?",
    summary="Sinkhorn attention normalises rows and columns in turn until every token is attended "
    "to equally. How fast the error falls is predicted by the canonical correlations of its "
    "Gaussian coupling, for weak and for strong scores.",
    citations=("castin2025", "jax"),
    reference=core.reference("castin2025"),
    presets={
        "demo": Config(),
        "standard": Config(tokens=500, clouds=8),
        "paper": Config(tokens=2000, clouds=16),
    },
    parts=(CONTRACTION,),
    claims=(FACTOR,),
    figures=(HISTORIES,),
    finding=ex.Finding(
        "A round of Sinkhorn attention shrinks the error of the marginals by {0} times "
        "$d_{{\\max}}^2$ at $b_{{\\max}} = 0.32$",
        ("contraction-b=0.32",),
    ),
)
