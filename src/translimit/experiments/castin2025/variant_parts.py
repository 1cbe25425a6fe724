r"""Cells of every variant of attention: small clouds, networks of L layers, pairs of clouds.

- `bias/<variant>/n=...`: thousands of small clouds. The difference between a cloud's final moments
  and the closure started from its own initial moments has a mean of order 1/n, too small to be
  seen on large clouds: n times it is a number that must not depend on n. The mean of the tokens
  has no such bias, and linear attention has none at all: its moments are closed for any law.
- `depth/<variant>`: networks of L layers against the flow, which is first order for all.
- `growth/<variant>`: W_2 between a cloud and the same cloud with noise, along depth; the ratio to
  that at the start stays bounded as the noise goes to zero.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped

import translimit.experiments as ex
from translimit import core, limits, observe
from translimit.experiments.castin2025.canonical import (
    CLOSED,
    canonical_attention,
    closures,
    depth_errors,
    flow_clouds,
    gaussian_clouds,
)
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Distinct,
    Doubled,
    OneOf,
    Two,
    Within,
)

if TYPE_CHECKING:
    from jaxtyping import Array

    from translimit.core import AnyArray

T1 = 0.8
STEPS = 8
MOMENTS = observe.moment_names(2)

#: Sizes of the noise, depths that are kept, and Runge-Kutta steps to the last, of the pairs.
EPSILONS = (0.1, 0.05, 0.025, 0.0125)
GROWTH_TS = np.linspace(0.0, 2.0, 6)
GROWTH_STEPS = 20


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        variants: which variants, each with an exact closure.
        tokens: two numbers of tokens n of the small clouds.
        clouds: how many clouds at the first of them; the second has half as many.
        sinkhorn_share: Sinkhorn iterates, and gets this share of the clouds.
        layers: numbers of layers, each twice the one before.
        depth_tokens: tokens of the networks' clouds.
        depth_clouds: how many such clouds.
        growth_tokens: tokens of the pairs of clouds, uniform on [-1, 1]^2.
        growth_clouds: how many pairs at each size of the noise.
    """

    variants: Annotated[tuple[str, ...], OneOf(CLOSED), Distinct()] = CLOSED
    tokens: Annotated[tuple[Count, Count], Distinct()] = (25, 50)
    clouds: Count = 3000
    sinkhorn_share: Annotated[float, Within(0, 1, above=True)] = 0.2
    layers: Doubled = (8, 16, 32, 64)
    depth_tokens: Count = 48
    depth_clouds: Two = 6
    growth_tokens: Count = 100
    growth_clouds: Two = 8

    def clouds_of(self, variant: str, tokens: int) -> int:
        """Clouds of a variant at one of the numbers of tokens."""
        share = self.sinkhorn_share if variant == "sinkhorn" else 1.0
        return max(32, int(share * self.clouds / (self.tokens.index(tokens) + 1)))


@dataclass(frozen=True)
class Bias(ex.Arrays):
    """Final moments of small clouds, less those of their closures."""

    moment: Shaped[np.ndarray, " moment"]
    difference: Float[np.ndarray, "cloud moment"]
    discretisation: float


@dataclass(frozen=True)
class Depth(ex.Arrays):
    """Networks of L layers, cloud by cloud."""

    layers: Annotated[Int[np.ndarray, " layers"], "layers $L$"]
    error: Annotated[Float[np.ndarray, "layers cloud"], "rms distance to the flow"]


@dataclass(frozen=True)
class Growth(ex.Arrays):
    """Distances of pairs of clouds, relative to those at the start."""

    epsilon: Annotated[Float[np.ndarray, " epsilon"], "size of the noise"]
    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    ratio: Annotated[Float[np.ndarray, "epsilon cloud time"], "W2(t) / W2(0)"]


def compute_bias(config: Config, at: tuple[str, int], keys: ex.Keys) -> Bias:
    """Clouds and closures to t1, in float64."""
    import jax

    variant, tokens = at
    clouds = config.clouds_of(variant, tokens)
    initial = gaussian_clouds(keys.own, clouds, tokens, np.float64)
    with jax.enable_x64(True):
        final = np.asarray(flow_clouds(T1, STEPS, variant)(initial))
        few = slice(0, min(32, clouds))
        fine = np.asarray(flow_clouds(T1, 2 * STEPS, variant)(initial[few]))
        start = observe.moments(initial)
        matched = observe.moment_vector(*map(np.asarray, closures(T1, variant)(*start)))
    particles = observe.moment_vector(*observe.moments(final))
    step_error = np.abs(observe.moment_vector(*observe.moments(fine)) - particles[few]).max()
    return Bias(np.array(MOMENTS), particles - matched, float(step_error))


def compute_depth(config: Config, variant: str, keys: ex.Keys) -> Depth:
    """Networks and flow to t = 1, in float64."""
    errors = depth_errors(
        keys.own, config.layers, config.depth_tokens, config.depth_clouds, variant
    )
    return Depth(np.array(config.layers), errors)


def compute_growth(config: Config, variant: str, keys: ex.Keys) -> Growth:
    """Clouds beside noisy copies of themselves, in float64, by exact assignment."""
    import jax

    with jax.enable_x64(True):
        shape = (config.growth_clouds, config.growth_tokens, 2)
        cloud, other = (core.named_key(keys.own, name) for name in ("cloud", "noise"))
        start = np.asarray(jax.random.uniform(cloud, shape, minval=-1.0, dtype=np.float64))
        noise = np.asarray(jax.random.normal(other, shape, dtype=np.float64))
        flow = _paths(variant)
        base, *others = (np.asarray(flow(start + e * noise)) for e in (0.0, *EPSILONS))
    ratio = [
        [observe.stability_ratio(one, two) for one, two in zip(base, moved, strict=True)]
        for moved in others
    ]
    return Growth(np.array(EPSILONS), GROWTH_TS, np.array(ratio))


@functools.cache
def _paths(variant: str) -> Callable[[np.ndarray], Array]:
    """Compiled: clouds [clouds, n, 2] to their paths [clouds, times, n, 2]."""
    import jax

    def flow(cloud: Array) -> AnyArray:
        problem = limits.meanfield.ParticleFlow(
            attention=canonical_attention(variant), initial=cloud, t1=GROWTH_TS[-1]
        )
        method = limits.meanfield.FixedODE(steps=GROWTH_STEPS)
        return core.solve(problem, method, save=GROWTH_TS).tokens

    return jax.jit(lambda clouds: jax.lax.map(flow, clouds))


def _bias_cost(config: Config, at: tuple[str, int]) -> ex.Cost:
    """Compilation, and pairs of tokens; an iteration of Sinkhorn is two."""
    variant, tokens = at
    pairs = config.clouds_of(variant, tokens) * tokens**2 * 6 * STEPS
    return ex.Cost(7.5 + 8e-9 * pairs * (60 if variant == "sinkhorn" else 1))


def _growth_cost(config: Config, variant: str) -> ex.Cost:
    distances = len(EPSILONS) * len(GROWTH_TS) * config.growth_clouds
    return ex.Cost(7.5 + 3e-9 * distances * config.growth_tokens**3)


BIAS = ex.Part(
    "bias/{variant}/n={tokens}",
    Bias,
    compute_bias,
    grid=lambda c: [(variant, n) for variant in c.variants for n in c.tokens],
    cost=_bias_cost,
)
DEPTH = ex.Part(
    "depth/{variant}",
    Depth,
    compute_depth,
    grid=lambda c: c.variants,
    cost=lambda c, variant: ex.Cost(7.5),
)
GROWTH = ex.Part(
    "growth/{variant}", Growth, compute_growth, grid=lambda c: c.variants, cost=_growth_cost
)
