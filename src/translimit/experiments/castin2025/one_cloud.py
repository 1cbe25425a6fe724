"""One cloud of tokens along depth, beside the closure of the law it was drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits, observe
from translimit.experiments.castin2025.canonical import COV, MEAN, canonical_attention
from translimit.experiments.castin2025.pictures import Cloud, draw_clouds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.core import Key

T1 = 1.5
#: Runge-Kutta steps, all of which are kept, and how many are pictured.
STEPS = 15
PICTURES = 4
#: Columns of `OneCloud.moments`.
MOMENTS = (
    *("t", "alpha_1", "alpha_2", "alpha_1 (closure)", "alpha_2 (closure)"),
    *("anisotropy", "anisotropy (closure)"),
)


@dataclass(frozen=True)
class OneCloud(ex.Arrays):
    """The cloud, and mean and covariance of the closure."""

    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    tokens: Float[np.ndarray, "time token component"]
    mean: Float[np.ndarray, "time component"]
    cov: Float[np.ndarray, "time component component2"]
    blow_up_time: float

    def pictured(self) -> list[int]:
        """The indices of the times at which the cloud is drawn."""
        return np.linspace(0, STEPS, PICTURES).astype(int).tolist()

    def laws(self) -> Iterator[figures.Row]:
        """Moments of the closure at the times that are drawn."""
        for i in self.pictured():
            law = observe.moment_vector(self.mean[i], self.cov[i])
            yield (float(self.time[i]), *law.tolist())

    def moments(self) -> Iterator[figures.Row]:
        """Mean and anisotropy of the cloud and of the closure along depth."""
        means, covs = observe.moments(self.tokens)
        shapes = observe.anisotropy(covs), observe.anisotropy(self.cov)
        columns = np.column_stack([self.time, means, self.mean, *shapes])
        yield from (tuple(row) for row in columns.tolist())


def follow(variant: str, tokens: int, key: Key) -> OneCloud:
    """A cloud of the canonical Gaussian along depth, in float64.

    Args:
        variant: of attention, one with a closure.
        tokens: of the cloud.
        key: of its draw.
    """
    import jax

    with jax.enable_x64(True):
        noise = np.asarray(jax.random.normal(key, (tokens, 2), dtype=np.float64))
    cloud = MEAN + noise @ np.linalg.cholesky(COV).T
    ts = np.linspace(0.0, T1, STEPS + 1)
    chosen = canonical_attention(variant)
    flow = limits.meanfield.ParticleFlow(attention=chosen, initial=cloud, t1=T1)
    particles = core.solve(flow, limits.meanfield.FixedODE(steps=STEPS), save=ts)
    law = limits.meanfield.GaussianFlow(attention=chosen, mean=MEAN, cov=COV, t1=T1)
    closure = core.solve(law, save=ts)
    return OneCloud(
        time=ts,
        tokens=np.asarray(particles.tokens),
        mean=np.asarray(closure.mean),
        cov=np.asarray(closure.cov),
        blow_up_time=float(closure.blow_up_time),
    )


def draw_picture(canvas: Figure, cloud: OneCloud) -> None:
    """Draw the cloud and the ellipses of the closure at a few times."""
    clouds = [
        Cloud(f"$t = {float(cloud.time[i]):g}$", cloud.tokens[i], cloud.mean[i], cloud.cov[i])
        for i in cloud.pictured()
    ]
    axes = canvas.subplots(1, len(clouds), sharey=True)
    extent = figures.common_extent(*(one.tokens for one in clouds))
    draw_clouds(canvas, list(axes), clouds, extent)


#: The mean on the left and the shape on the right.
MOMENT_PANELS = (
    figures.panel(
        "mean",
        figures.points("alpha_1", label="$\\alpha_1$, particles"),
        figures.points("alpha_2", label="$\\alpha_2$, particles", series=1),
        figures.line("alpha_1 (closure)", label="closure", series=None),
        figures.line("alpha_2 (closure)", series=None),
        ylabel="mean of the tokens",
    ),
    figures.panel(
        "shape",
        figures.points("anisotropy", label="particles"),
        figures.line("anisotropy (closure)", label="closure", series=None),
        ylabel="$\\lambda_{\\max} / \\mathrm{tr}\\,\\Sigma$",
    ),
)
