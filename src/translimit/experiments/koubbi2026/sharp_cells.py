r"""Cells on sharp heads: cosines after one head, single layers near coincidence, chains of pairs.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import limits, models
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    from translimit.core import Key
    from translimit.models import SharpHeadChain

#: Of the kernel: dimension and the cosine of the two tokens.
KERNEL_DIM, START = 16, 0.6
#: From a lost cosine to the coefficient of R (1 - R^2) / d.
KERNEL_SCALE = KERNEL_DIM / (START * (1 - START**2))


@dataclass(frozen=True)
class Kernel(ex.Arrays):
    """Coefficients by which one head draws a cosine together: sampled, and of one layer."""

    coefficient: float
    stderr: float
    exact: float
    one: float


@dataclass(frozen=True)
class Motion(ex.Arrays):
    """Overlaps of chains at slow times from zero, and mean squares of diffusions and limits."""

    time: Annotated[Float[np.ndarray, " time"], "slow time $t = \\tau / d$"]
    overlap: Annotated[Float[np.ndarray, "replica time"], "overlap $u$"]
    diffusion: Annotated[Float[np.ndarray, " time"], "$E u^2$ at this dimension"]
    one: Annotated[Float[np.ndarray, " time"], "$E u^2$, one Gaussian layer"]

    @property
    def last(self) -> Float[np.ndarray, " replica"]:
        """Squared overlaps at the last time."""
        return self.overlap[:, -1] ** 2


@dataclass(frozen=True)
class Rate(ex.Arrays):
    """The rate of log(1 - |u|) per unit of slow time near coincidence."""

    rate: float
    stderr: float


def generator(key: Key) -> np.random.Generator:
    """NumPy's generator of a key."""
    import jax

    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def kernel(head_dim: int, samples: int, key: Key) -> Kernel:
    """Cosines after one head of two Gaussian layers.

    Args:
        head_dim: d_k.
        samples: heads.
        key: of the draws.
    """
    rng = generator(key)
    cosine = np.full(samples, START)
    pair = models.sample_cosine(cosine, np.sqrt(1.0 - cosine**2), head_dim, rng)
    mean, stderr = common.mean_and_stderr(models.sample_cosine(*pair, KERNEL_DIM, rng)[0])
    sharp = limits.homogenized.low_temperature
    return Kernel(
        coefficient=float((START - mean) * KERNEL_SCALE),
        stderr=float(stderr * KERNEL_SCALE),
        exact=(START - sharp.output_cosine(START, KERNEL_DIM, head_dim)) * KERNEL_SCALE,
        one=(START - float(sharp.mean_cosine(START, KERNEL_DIM))) * KERNEL_SCALE,
    )


def motion(chain: SharpHeadChain, times: tuple[float, ...], replicas: int, key: Key) -> Motion:
    """Chains of two tokens from orthogonal, beside their diffusion.

    Args:
        chain: of sharp heads.
        times: slow times.
        replicas: independent chains.
        key: of the draws.
    """
    dim = chain.dim
    return Motion(
        time=np.array(times),
        overlap=chain.simulate(0.0, times, replicas=replicas, key=key).overlaps,
        diffusion=np.array([mean_square(dim, chain.head_dim, time) for time in times]),
        one=np.array([mean_square(dim, math.inf, time) for time in times]),
    )


def mean_square(dim: int, head_dim: int | float, time: float) -> float:
    """E u^2 of the diffusion at a finite dimension, from orthogonal tokens.

    Args:
        dim: d.
        head_dim: d_k, or infinity.
        time: slow time.
    """
    kernel = limits.homogenized.low_temperature.sharp_kernel(dim, head_dim)
    return limits.homogenized.two_tokens.pair_expectation(
        np.square, kernel, initial=0.0, t1=dim * time, dim=dim
    )


def settling_rate(d: int, heads: int, step: float, count: int, key: Key) -> Rate:
    """Single layers on two tokens at an infinitesimal angle, d_k = d.

    With A x / |A x| the image of the separation is r times as long, r^2 a product of two ratios of
    chi-square variables; its mean over heads enters. What is of first order in the step is taken
    off by regression on variables whose means are known.

    Args:
        d: dimension of the tokens.
        heads: of a layer.
        step: diffusive step of a layer.
        count: layers.
        key: of the draws.
    """
    rng, size, ratio = generator(key), step / d, np.zeros(count)
    for _ in range(heads):
        layers = [rng.chisquare(d - 1, count) / rng.chisquare(d, count) for _ in range(2)]
        ratio += layers[0] * layers[1] / heads
    r = np.sqrt(ratio)
    # Update g of the token and h of the separation: along the token, along the separation, rest.
    g, h = rng.standard_normal((2, 2, count))
    rest_g = rng.chisquare(d - 2, count)
    cross = rng.standard_normal(count)
    rest_h = cross**2 + rng.chisquare(d - 3, count)
    total, s = np.zeros(count), math.sqrt(size)
    for sign, other in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        a, b = s * sign * g, s * other * r * h
        length = (1 + a[0]) ** 2 + a[1] ** 2 + size * rest_g
        apart = b[0] ** 2 + (1 + b[1]) ** 2 + size * ratio * rest_h
        inner = (1 + a[0]) * b[0] + a[1] * (1 + b[1])
        inner += size * r * sign * other * np.sqrt(rest_g) * cross
        total += np.log((apart - inner**2 / length) / length) / 4
    known = [g[0] ** 2 - 1, g[1] ** 2 - 1, h[0] ** 2 - 1, h[1] ** 2 - 1]
    known += [rest_g - (d - 2), rest_h - (d - 2), ratio - ((d - 1) / (d - 2)) ** 2]
    design = np.stack([np.ones(count), *known], axis=1)
    solved = np.linalg.lstsq(design, total, rcond=None)[0]
    error = float(np.std(total - design @ solved, ddof=len(solved))) / math.sqrt(count)
    return Rate(rate=float(solved[0]) / size, stderr=error / size)
