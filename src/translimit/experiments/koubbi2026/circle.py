r"""Infinitely many tokens on the circle: their density under given heads, particles, one layer.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, describe, figures, limits
from translimit.core import Estimate
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from translimit.core import Key

#: Inverse temperature, diffusive step, layers, Fourier modes, nodes.
BETA, STEP, LAYERS, MODES, NODES = 2.0, 0.02, 30, 240, 768
#: Of the density at the start, along the cosine.
TILT = 0.6
#: Clouds that move at once.
BATCH = 50


@dataclass(frozen=True)
class Circle(ex.Arrays):
    """The density under one noise realisation, and how far clouds of particles are from it."""

    layer: Int[np.ndarray, " layer"]
    time: Annotated[Float[np.ndarray, " layer"], common.TAU]
    node: Annotated[Float[np.ndarray, " node"], "angle $\\phi$"]
    density: Annotated[Float[np.ndarray, "layer node"], "density per radian"]
    moment: Annotated[Float[np.ndarray, "part layer"], "real and imaginary part of $E e^{i\\phi}$"]
    error_few: Annotated[Float[np.ndarray, " cloud_few"], "error of $E e^{i\\phi}$"]
    error_many: Annotated[Float[np.ndarray, " cloud_many"], "error of $E e^{i\\phi}$"]


@dataclass(frozen=True)
class OneLayer(ex.Arrays):
    """How one layer moves the moments E e^{i k phi} of a density, beside the equation."""

    wave: Int[np.ndarray, " wave"]
    drift: Annotated[Float[np.ndarray, "wave part"], "mean per unit of $\\tau$"]
    drift_theory: Float[np.ndarray, "wave part"]
    noise: Annotated[Float[np.ndarray, " wave"], "mean square per unit of $\\tau$"]
    noise_theory: Annotated[Float[np.ndarray, "theory wave"], "the equation, and others"]
    step: float

    def deviation(self, name: str, factor: float = 1.0, theory: int = 0) -> Estimate:
        """The largest deviation over the largest moment, from a factor times a theory."""
        measured = self.drift if name == "drift" else self.noise
        expected = self.drift_theory if name == "drift" else self.noise_theory[theory]
        largest = np.abs(self.drift_theory if name == "drift" else self.noise_theory[0]).max()
        gap = float(np.abs(measured - factor * expected).max() / largest)
        return Estimate(gap, 0.0, 1, self.step)


def one_layer(heads: int, key: Key) -> OneLayer:
    """Moments after one layer, averaged over heads, and drift and noise of the equation.

    The values of every head are averaged out: four matrices of one entry, with both signs, have the
    second moments of a Gaussian one. The equation is evaluated by sums over the nodes.

    Args:
        heads: how many score maps.
        key: of them.
    """
    waves, step, nodes = np.arange(1, 4), 2e-4, 96
    angles = 2 * np.pi * np.arange(nodes) / nodes
    rho = 1 + TILT * np.cos(angles) + 0.3 * np.sin(2 * angles)
    A = common.generator(key).standard_normal((2, heads, 2, 2)) * 2**-0.25
    A = A[0] @ A[1].swapaxes(-1, -2)
    moved = np.zeros((heads, 8, len(waves)), complex)
    values = [s * 2**0.5 * np.eye(4)[k].reshape(2, 2) for k in range(4) for s in (1, -1)]
    for h, score in enumerate(A):
        for v, value in enumerate(values):
            maps = (one[None, None] for one in (value, score))
            flow = limits.homogenized.circle.density_flow(
                *maps, beta=BETA, step=step**0.5, initial=rho, modes=nodes // 3
            )
            moved[h, v] = [np.diff(flow.moment(int(k)))[0] for k in waves]
    drift = moved.mean(axis=(0, 1)) / step
    e, share = np.stack([np.cos(angles), np.sin(angles)], axis=1), rho / rho.sum()
    weights = share * np.exp(BETA * np.einsum("hab,ib,ja->hij", A, e, e))
    m = (weights / weights.sum(-1, keepdims=True)) @ e
    s = np.einsum("hia,hja->ij", m, m) / heads
    no_scores = np.full_like(s, float(np.sum((share @ e) ** 2)))
    turn = share * np.exp(1j * waves[:, None] * angles)
    expected = -(waves**2) / 4 * (turn @ np.diagonal(s))
    pairs = (s * (e @ e.T), no_scores * (e @ e.T), s)
    noise = [waves**2 / 2 * np.real(np.sum((turn @ k) * turn.conj(), axis=1)) for k in pairs]
    return OneLayer(
        wave=waves,
        drift=np.stack([drift.real, drift.imag], axis=1),
        drift_theory=np.stack([expected.real, expected.imag], axis=1),
        noise=np.mean(np.abs(moved) ** 2, axis=(0, 1)) / step,
        noise_theory=np.array(noise),
        step=step,
    )


def density_and_particles(
    particles: tuple[int, ...], clouds: int, *, heads: Key, starts: Key
) -> Circle:
    """The density and clouds of particles under one sequence of heads, in float64.

    Args:
        particles: tokens of the clouds, two sizes.
        clouds: independent clouds of the smaller size; half as many of the larger.
        heads: key of the heads.
        starts: key of the particles' starts.
    """
    import jax

    V, A = _heads(heads)
    angles = 2 * np.pi * np.arange(NODES) / NODES
    flow = limits.homogenized.circle.density_flow(
        V=V, A=A, beta=BETA, step=STEP**0.5, initial=1 + TILT * np.cos(angles), modes=MODES
    )
    moment = np.asarray(flow.moment(1))
    grid = np.linspace(0, 2 * np.pi, 20_001)
    law = (grid + TILT * np.sin(grid)) / (2 * np.pi)
    # The last layer at which the grid still resolves the law.
    last = int(np.isfinite(np.real(moment)).sum()) - 1
    errors = []
    for count, number in zip(particles, (clouds, clouds // 2), strict=True):
        own = core.named_key(starts, count)
        start = np.interp(np.asarray(jax.random.uniform(own, (number, count))), law, grid)
        every = np.stack([np.cos(start), np.sin(start)], axis=-1)
        means = []
        for x in np.array_split(every, -(-number // BATCH)):
            for value, score in zip(V[:last, 0], A[:last, 0], strict=True):
                x = _particle_layer(x, value, score)
            means.append(np.mean(x[..., 0] + 1j * x[..., 1], axis=-1))
        errors.append(np.abs(np.concatenate(means) - moment[last]))
    return Circle(
        layer=np.arange(LAYERS + 1),
        time=np.arange(LAYERS + 1) * STEP,
        node=angles,
        density=np.asarray(flow.density),
        moment=np.stack([np.real(moment), np.imag(moment)]),
        error_few=errors[0],
        error_many=errors[1],
    )


def _heads(stream: Key) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """The heads of one noise realisation on the circle [layers, 1, 2, 2], from its key."""
    import jax
    import jax.numpy as jnp

    law = describe.GaussianHeads(dim=2, beta=BETA, sigma_a=2**-0.25)
    keys = [core.named_key(stream, layer) for layer in range(LAYERS)]
    with jax.enable_x64(True):
        pairs = [law.sample(one, jnp.float64) for one in keys]
        V, A = (np.stack([np.asarray(pair[i]) for pair in pairs])[:, None] for i in (0, 1))
    return V, A


def _particle_layer(
    x: Float[np.ndarray, "clouds tokens 2"],
    V: Float[np.ndarray, "2 2"],
    A: Float[np.ndarray, "2 2"],
) -> Float[np.ndarray, "clouds tokens 2"]:
    """One layer of one head on clouds of particles, written out."""
    scores = BETA * (x @ A.T) @ x.swapaxes(-1, -2)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    moved = x + STEP**0.5 * (weights / weights.sum(-1, keepdims=True)) @ x @ V.T
    return core.SPHERE.project(moved)


def draw_densities(canvas: Canvas, cells: Sequence[Circle]) -> None:
    """Angle against time for every noise realisation, with the same shades."""
    top = max(float(np.nanmax(data.density)) for data in cells)
    ticks = tuple((float(angle), str(angle)) for angle in (0, 90, 180, 270, 360))
    charts = [
        figures.Chart(
            alt=f"Density under noise realisation {index + 1}",
            x=figures.ChartAxis(common.TAU),
            y=figures.ChartAxis("angle $\\phi$ (degrees)", ticks=ticks),
            marks=(
                figures.Image(
                    *(data.time, np.degrees(data.node), data.density.T),
                    label="density per radian",
                    low=0.0,
                    high=top,
                ),
            ),
            title=f"noise realisation {index + 1}",
        )
        for index, data in enumerate(cells)
    ]
    figures.draw_charts(charts, canvas)
