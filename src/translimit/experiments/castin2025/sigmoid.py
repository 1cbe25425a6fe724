r"""Sigmoid attention leaves the Gaussians: moments stay close to a projection, the shape does not.

Gaussian clouds flow under sigmoid attention of two sharpnesses (Q and K multiplied by m), beside
the moment closure started from each cloud's own moments. The moments agree to within 0.02;
the excess kurtosis of the clouds, zero at the start, does not stay zero.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import core, figures, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import (
    COV,
    MEAN,
    closures,
    flow_clouds,
    gaussian_clouds,
)
from translimit.experiments.castin2025.pictures import Cloud, draw_clouds
from translimit.experiments.checked import CheckedConfig, Positives, Two

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T1 = 1.0
STEPS = 10
#: The largest difference of a moment that counts as agreement of the projection, and the largest
#: change of the excess kurtosis at which a law still counts as Gaussian.
MOMENT_TOLERANCE = 0.03
KURTOSIS_TOLERANCE = 0.05


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
    clouds: Two = 24


@dataclass(frozen=True)
class Departure(ex.Arrays):
    """Clouds of one sharpness at t = 1, beside the moment closure; the tokens of the first."""

    moment: Shaped[np.ndarray, " moment"]
    difference: Float[np.ndarray, "cloud moment"]
    kurtosis_change: Float[np.ndarray, "cloud axis"]
    tokens: Float[np.ndarray, "token component"]
    closure_mean: Float[np.ndarray, " component"]
    closure_cov: Float[np.ndarray, "component component2"]

    def kurtosis(self, axis: int) -> Estimate:
        """Mean change of the excess kurtosis along a principal axis, the largest first."""
        return Estimate.from_samples(self.kurtosis_change[:, axis])

    def worst(self) -> Estimate:
        """Mean difference of the moment that is furthest from the closure."""
        means = [Estimate.from_samples(moment) for moment in self.difference.T]
        return max(means, key=lambda estimate: abs(estimate.value))


def compute(config: Config, sharpness: float, keys: ex.Keys) -> Departure:
    """Clouds in float32, the same at every sharpness; closures in float64."""
    import jax

    initial = gaussian_clouds(keys.shared("clouds"), config.clouds, config.tokens)
    final = np.asarray(flow_clouds(T1, STEPS, "sigmoid", sharpness)(initial))
    with jax.enable_x64(True):
        start = observe.moments(initial)
        closed = closures(T1, "sigmoid", sharpness)(*start)
    predicted = observe.moment_vector(*map(np.asarray, closed))
    first, last = (observe.excess_kurtosis(cloud.astype(float)) for cloud in (initial, final))
    return Departure(
        moment=np.array(observe.moment_names(2)),
        difference=observe.moment_vector(*observe.moments(final)) - predicted,
        kurtosis_change=last - first,
        tokens=final[0],
        closure_mean=predicted[:, :2].mean(axis=0),
        closure_cov=predicted[:, [2, 3, 3, 4]].mean(axis=0).reshape(2, 2),
    )


def _cost(config: Config, sharpness: float) -> ex.Cost:
    """A share of compilation, and pairs of tokens in float32."""
    pairs = config.clouds * config.tokens**2 * 6 * STEPS
    return ex.Cost(20.0 / len(config.sharpnesses) + 2.5e-9 * pairs)


SHARPNESS = ex.Part("m={sharpness:g}", Departure, compute, grid=lambda c: c.sharpnesses, cost=_cost)

CLAIMS = (
    ex.Claims[Config, float](
        "moments-{sharpness:g}",
        lambda found, sharpness: (
            "The Gaussian projection predicts the moments of sigmoid attention "
            f"at $t = 1$ (largest difference of five, sharpness {sharpness:g})."
        ),
        estimate=lambda found, sharpness: found(SHARPNESS, sharpness).worst(),
        prediction=0.0,
        tol=MOMENT_TOLERANCE,
        over=lambda c: c.sharpnesses,
    ),
    ex.Claims[Config, float](
        "gaussian-{sharpness:g}",
        lambda found, sharpness: (
            "The law stays Gaussian: the excess kurtosis along the first "
            f"principal axis does not change by $t = 1$ (sharpness {sharpness:g})."
        ),
        estimate=lambda found, sharpness: found(SHARPNESS, sharpness).kurtosis(0),
        prediction=0.0,
        tol=KURTOSIS_TOLERANCE,
        over=lambda c: c.sharpnesses,
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
        estimates = (one.kurtosis(0), one.kurtosis(1), one.worst())
        yield (sharpness, *(part for e in estimates for part in (e.value, e.stderr)))


def _draw_departures(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Kurtosis on the left, moments on the right."""
    name = "sharpness"
    shape = figures.Layout(
        x=name, xlabel="sharpness $m$", ylabel="change of the excess kurtosis"
    ).charts(
        table,
        (
            figures.points(
                "kurtosis, first axis", "stderr", label="first principal axis", joined=True
            ),
            figures.points(
                "kurtosis, second axis",
                "stderr (second)",
                label="second principal axis",
                series=1,
                joined=True,
            ),
            figures.level(0.0, label="Gaussian"),
        ),
        "Excess kurtosis",
    )
    moments = figures.Layout(
        x=name, xlabel="sharpness $m$", ylabel="difference of a moment"
    ).charts(
        table,
        (
            figures.points(
                "largest moment difference",
                "stderr (moment)",
                label="largest of five moments",
                series=2,
                joined=True,
            ),
            figures.level(0.0, label="moment closure"),
        ),
        "Moments",
    )
    figures.draw_charts([*shape, *moments], canvas)


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
        caption="Means over {clouds} clouds of {tokens} tokens at $t = 1$, bars of "
        "one standard error. Left: change of the excess kurtosis along the principal axes. Right: "
        "difference of the moment that is furthest from the moment closure. Dimensionless.",
        columns=(
            *("sharpness", "kurtosis, first axis", "stderr"),
            *("kurtosis, second axis", "stderr (second)"),
            *("largest moment difference", "stderr (moment)"),
        ),
        rows=_departures,
        draw=_draw_departures,
        shown=lambda found, table: len(table.rows) * found.config.clouds,
        size=(9.0, 3.6),
    ),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/sigmoid",
    title="Sigmoid attention leaves the Gaussians",
    summary="Sigmoid attention has no exact Gaussian closure. Projecting its field on affine ones "
    "gives an approximate closure of the moments. Gaussian clouds flow beside it: the moments "
    "stay close, while the excess kurtosis shows that the law is Gaussian no longer.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(tokens=1000, clouds=96),
        "paper": Config(sharpnesses=(1.0, 2.0, 3.5), tokens=4000, clouds=96),
    },
    reference=core.reference("castin2025"),
    parts=(SHARPNESS,),
    claims=CLAIMS,
    figures=FIGURES,
)
