r"""Sigmoid attention leaves the Gaussians: moments stay close to a projection, the shape does not.

Gaussian clouds flow under sigmoid attention of several sharpnesses (Q and K multiplied by m),
beside the moment closure started from each cloud's own moments, and wrong ones. The excess kurtosis
of the clouds, zero at the start, becomes that of the limit of many tokens, which is found from the
nodes of a quadrature as weighted tokens.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import core, figures, limits, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import (
    COV,
    MEAN,
    K,
    Q,
    V,
    canonical_attention,
    closures,
    flow_clouds,
    gaussian_clouds,
    quadrature,
)
from translimit.experiments.castin2025.pictures import Cloud, draw_clouds
from translimit.experiments.castin2025.wrong_closures import carried
from translimit.experiments.checked import CheckedConfig, Four, Positives, Two

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T1 = 1.0
STEPS = 10
#: Over the square of the sharpness, the largest distance of moments that counts as agreement of the
#: projection; the largest difference of excess kurtoses that does.
MOMENT_TOLERANCE = 0.003
KURTOSIS_TOLERANCE = 0.03
#: The largest sharpness at which the linearised sigmoid has not blown up by t = 1, and the largest
#: at which the projection itself is nearer than scores that are a tenth larger.
LINEAR, TENTH = 2.0, 1.0
#: Nodes a dimension of the quadratures.
ORDERS = (32, 26)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        sharpnesses: factors m of Q and K.
        tokens: tokens of a cloud.
        clouds: independent clouds.
    """

    sharpnesses: Positives = (1.0, 2.0, 3.5)
    tokens: Two = 600
    clouds: Four = 24


@dataclass(frozen=True)
class Departure(ex.Arrays):
    """Clouds of one sharpness at t = 1, beside moment closures; the tokens of the first."""

    moment: Shaped[np.ndarray, " moment"]
    difference: Annotated[Float[np.ndarray, "law cloud moment"], "to `LAWS`"]
    kurtosis_change: Float[np.ndarray, "cloud axis"]
    tokens: Float[np.ndarray, "token component"]
    closure_mean: Float[np.ndarray, " component"]
    closure_cov: Float[np.ndarray, "component component2"]

    def kurtosis(self, axis: int) -> Estimate:
        """Mean change of the excess kurtosis along a principal axis, the largest first."""
        return Estimate.from_samples(self.kurtosis_change[:, axis])

    def distance(self, law: int = 0) -> Estimate:
        """Of the five mean moments to those of a law, without the bias of their noise."""
        difference = self.difference[law]
        return core.jackknife(
            lambda kept: float(np.linalg.norm(difference[kept].mean(axis=0))), len(difference)
        )


@dataclass(frozen=True)
class Limit(ex.Arrays):
    """Excess kurtosis at t = 1 in the limit of many tokens, the first axis first."""

    kurtosis: Float[np.ndarray, " axis"]
    discretisation: float


def compute(config: Config, sharpness: float, keys: ex.Keys) -> Departure:
    """Clouds in float32, the same at every sharpness; closures in float64."""
    import jax

    initial = gaussian_clouds(keys.shared("clouds"), config.clouds, config.tokens)
    final = np.asarray(flow_clouds(T1, STEPS, "sigmoid", sharpness)(initial))
    start = observe.moments(initial.astype(float))
    A = sharpness**2 * K.T @ Q
    with jax.enable_x64(True):
        laws = [
            tuple(map(np.asarray, closures(T1, "sigmoid", factor * sharpness, swapped)(*start)))
            for factor, swapped in (
                (1.0, False),
                (1.0, True),
                (1.1**0.5, False),
                (1.25**0.5, False),
            )
        ]
    laws.append(carried(lambda A, V, m, c: (0.5 * m @ V.T, 0 * c), A, V, *start, T1))
    if sharpness <= LINEAR:
        laws.append(carried(_linearised, A, V, *start, T1))
    predicted = np.stack([observe.moment_vector(*law) for law in laws])
    first, last = (observe.excess_kurtosis(cloud.astype(float)) for cloud in (initial, final))
    return Departure(
        moment=np.array(observe.moment_names(2)),
        difference=observe.moment_vector(*observe.moments(final)) - predicted,
        kurtosis_change=last - first,
        tokens=final[0],
        closure_mean=predicted[0, :, :2].mean(axis=0),
        closure_cov=predicted[0][:, [2, 3, 3, 4]].mean(axis=0).reshape(2, 2),
    )


def _linearised(
    A: np.ndarray, V: np.ndarray, mean: np.ndarray, cov: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The field for 1/2 + z/4 in the place of the sigmoid."""
    M = V @ (cov + mean[..., :, None] * mean[..., None, :]) @ A / 4
    return 0.5 * mean @ V.T + (M @ mean[..., None])[..., 0], M


def compute_limit(config: Config, sharpness: float, keys: ex.Keys) -> Limit:
    """The flow of the nodes, with their weights, at two orders, in float64."""
    del config, keys
    found = []
    for order in ORDERS:
        nodes, weights = quadrature(MEAN, np.linalg.cholesky(COV), order)
        chosen = canonical_attention("sigmoid", sharpness)
        flow = limits.meanfield.ParticleFlow(
            attention=chosen, initial=nodes, t1=T1, weights=weights
        )
        solution = core.solve(flow, limits.meanfield.FixedODE(steps=STEPS), save=[T1])
        found.append(observe.excess_kurtosis(np.asarray(solution.tokens[-1]), weights))
    return Limit(found[0], float(np.abs(found[0] - found[1]).max()))


def _cost(config: Config, sharpness: float) -> ex.Cost:
    """A share of compilation, and pairs of tokens in float32."""
    pairs = config.clouds * config.tokens**2 * 6 * STEPS
    return ex.Cost(40.0 / len(config.sharpnesses) + 2.5e-9 * pairs)


SHARPNESS = ex.Part("m={sharpness:g}", Departure, compute, grid=lambda c: c.sharpnesses, cost=_cost)
LIMIT = ex.Part(
    "limit/m={sharpness:g}",
    Limit,
    compute_limit,
    grid=lambda c: c.sharpnesses,
    cost=lambda c, sharpness: ex.Cost(10.0),
)


def _law(law: int, name: str, most: float = np.inf, above: float = 0.0) -> ex.Rival[Config, float]:
    """A wrong closure, above one sharpness and up to another."""
    return ex.Rival(
        name,
        estimate=lambda found, sharpness: found(SHARPNESS, sharpness).distance(law),
        when=lambda c, sharpness: above < sharpness <= most,
    )


def _kurtosis(found: ex.Found[Config], sharpness: float) -> Estimate:
    measured = found(SHARPNESS, sharpness).kurtosis(0)
    error = found(LIMIT, sharpness).discretisation
    return Estimate(measured.value, measured.stderr, measured.count, error)


CLAIMS = (
    ex.Claims[Config, float](
        "moments-{sharpness:g}",
        lambda found, sharpness: (
            "The Gaussian projection predicts the moments of sigmoid attention at $t = 1$ "
            f"(Euclidean distance of the five mean moments, sharpness {sharpness:g})."
        ),
        estimate=lambda found, sharpness: found(SHARPNESS, sharpness).distance(),
        prediction=0.0,
        tol=lambda config, sharpness: MOMENT_TOLERANCE * sharpness**2,
        over=lambda c: c.sharpnesses,
        rivals=(
            _law(1, "queries and keys swapped"),
            _law(2, "scores times 1.1", TENTH),
            _law(3, "scores times 1.25", LINEAR, above=TENTH),
            _law(4, "equal weights, one half"),
            _law(5, "the sigmoid linearised", LINEAR),
        ),
        decided_by="standard",
    ),
    ex.Claims[Config, float](
        "kurtosis-{sharpness:g}",
        lambda found, sharpness: (
            "The law does not stay Gaussian: the excess kurtosis along the first principal axis "
            f"at $t = 1$ is that of the limit of many tokens (sharpness {sharpness:g})."
        ),
        estimate=_kurtosis,
        prediction=lambda found, sharpness: float(found(LIMIT, sharpness).kurtosis[0]),
        tol=KURTOSIS_TOLERANCE,
        over=lambda c: [one for one in c.sharpnesses if one > 1],
        rivals=(
            ex.Rival("it stays Gaussian", 0.0),
            ex.Rival(
                "half of it",
                lambda found, sharpness: float(found(LIMIT, sharpness).kurtosis[0] / 2),
            ),
            ex.Rival(
                "times 1.25",
                lambda found, sharpness: float(1.25 * found(LIMIT, sharpness).kurtosis[0]),
                when=lambda c, sharpness: sharpness > 3,
            ),
        ),
        decided_by="standard",
    ),
)


def _covariances(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for sharpness, one in found.each(SHARPNESS):
        yield (sharpness, *map(float, one.closure_cov[np.triu_indices(2)]))


def _draw_clouds(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    clouds = [
        Cloud(f"sharpness {sharpness:g}", one.tokens, one.closure_mean, one.closure_cov)
        for sharpness, one in found.each(SHARPNESS)
    ]
    axes = canvas.subplots(1, len(clouds), squeeze=False)[0]
    draw_clouds(canvas, list(axes), clouds, (-3.0, 4.0, -4.0, 3.0))


def _departures(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for sharpness, one in found.each(SHARPNESS):
        limit = found(LIMIT, sharpness).kurtosis.tolist()
        estimates = (one.kurtosis(0), one.kurtosis(1), one.distance())
        yield (sharpness, *(part for e in estimates for part in (e.value, e.stderr)), *limit)


FIGURES = (
    ex.Figure(
        name="clouds",
        title="Sigmoid attention and its Gaussian projection",
        caption="One cloud of {tokens} tokens at $t = 1$ and the moment closure (ellipses "
        "of one and two standard deviations), canonical parameters with $Q$ and $K$ multiplied by "
        f"the sharpness, from the Gaussian of mean ({MEAN[0]:g}, {MEAN[1]:g}) and variances "
        f"{COV[0, 0]:g} and {COV[1, 1]:g}. Dimensionless.",
        columns=("sharpness", "Sigma_11", "Sigma_12", "Sigma_22"),
        rows=_covariances,
        draw=_draw_clouds,
        shown=lambda found, table: len(table.rows),
        size=(10.0, 3.7),
    ),
    ex.Figure(
        name="kurtosis",
        title="The shape changes, the moments hardly notice",
        caption="Means over {clouds} clouds of {tokens} tokens at $t = 1$, bars of one standard "
        "error. Left: change of the excess kurtosis along the principal axes, lines: the limit of "
        "many tokens. Right: distance of the five moments to the moment closure. Dimensionless.",
        columns=(
            *("sharpness", "kurtosis, first axis", "stderr"),
            *("kurtosis, second axis", "stderr (second)"),
            *("distance of the moments", "stderr (moments)", "limit, first", "limit, second"),
        ),
        rows=_departures,
        x="sharpness",
        layers=(
            figures.panel(
                "excess kurtosis",
                figures.points("kurtosis, first axis", "stderr", label="first principal axis"),
                figures.line("limit, first", label="limit, first axis"),
                figures.points(
                    "kurtosis, second axis", "stderr (second)", label="second axis", series=1
                ),
                figures.line("limit, second", label="limit, second axis", series=1),
                figures.level(0.0, label="Gaussian", dash="1.5 2"),
                ylabel="change of the excess kurtosis",
            ),
            figures.panel(
                "moments",
                figures.points(
                    "distance of the moments", "stderr (moments)", label="clouds", series=2
                ),
                figures.level(0.0, label="moment closure"),
                ylabel="distance of the moments",
            ),
        ),
        xlabel="sharpness $m$",
        shown=lambda found, table: len(table.rows) * found.config.clouds,
        size=(9.0, 3.8),
    ),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/sigmoid",
    title="Sigmoid attention leaves the Gaussians",
    question="How far from Gaussian does sigmoid attention drive tokens?",
    summary="Sigmoid attention has no exact Gaussian closure. Projecting its field on affine ones "
    "gives an approximate closure of the moments. Gaussian clouds flow beside it: the moments "
    "stay close, while the excess kurtosis shows that the law is Gaussian no longer.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(tokens=1000, clouds=128),
        "paper": Config(sharpnesses=(1.0, 2.0, 3.5), tokens=4000, clouds=96),
    },
    reference=core.reference("castin2025"),
    parts=(SHARPNESS, LIMIT),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "At sharpness 2 the tokens have an excess kurtosis of {0}; at sharpness 1 the Gaussian "
        "projection misses their moments by {1}",
        ("kurtosis-2", "moments-1"),
    ),
)
