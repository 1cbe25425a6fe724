r"""Cells of every variant of attention: clouds, networks of L layers, pairs of clouds, sub-clouds.

- `closure/<variant>`: final moments of Gaussian clouds beside those of the closure started from
  each cloud's own moments, and of wrong closures. For linear attention they agree on every cloud:
  its moments are closed for any law. So do means under Sinkhorn attention.
- `depth/<variant>`: networks of L layers against the flow, which is first order for all.
- `growth/<variant>`: W_2 between a cloud and the same cloud with noise (see `tangents`).
- `compact/<variant>`: n tokens alone beside the same n among many, for a law on a square.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped

import translimit.experiments as ex
from translimit import observe
from translimit.core import ConfigError
from translimit.experiments.castin2025.canonical import (
    CLOSED,
    VARIANTS,
    V,
    canonical_attention,
    depth_errors,
    flow_clouds,
    gaussian_clouds,
)
from translimit.experiments.castin2025.tangents import Growth, measure_growth
from translimit.experiments.castin2025.wrong_closures import LAWS, carried, variant_field
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Distinct,
    Doubled,
    Four,
    OneOf,
    Two,
    Within,
)

#: Final depth and Runge-Kutta steps of the Gaussian clouds; and of the clouds on the square.
T1, STEPS = 0.8, 8
COMPACT_T1, COMPACT_STEPS = 1.0, 8
MOMENTS = observe.moment_names(2)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        variants: which variants.
        tokens: tokens n of the Gaussian clouds, of those that have a closure.
        clouds: how many Gaussian clouds.
        sinkhorn_share: Sinkhorn iterates, and gets this share of tokens and clouds.
        layers: numbers of layers, each twice the one before.
        depth_tokens: tokens of the networks' clouds.
        depth_clouds: how many such clouds.
        growth_tokens: tokens of the pairs of clouds, uniform on [-1, 1]^2.
        growth_clouds: how many pairs at each size of the noise.
        compact_tokens: numbers n of tokens alone, each twice the one before.
        compact_all: tokens of the whole cloud, at least twice as many as the most alone.
        compact_clouds: how many such clouds.
    """

    variants: Annotated[tuple[str, ...], OneOf(VARIANTS), Distinct()] = VARIANTS
    tokens: Count = 400
    clouds: Four = 128
    sinkhorn_share: Annotated[float, Within(0, 1, above=True)] = 0.25
    layers: Doubled = (16, 32, 64, 128)
    depth_tokens: Count = 48
    depth_clouds: Four = 6
    growth_tokens: Count = 64
    growth_clouds: Two = 24
    compact_tokens: Doubled = (8, 16, 32)
    compact_all: Count = 256
    compact_clouds: Four = 128

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.compact_all < 2 * self.compact_tokens[-1]:
            raise ConfigError(
                "compact_all", f"got {self.compact_all}", f"pass at least {self.alone}"
            )

    @property
    def alone(self) -> int:
        """How many tokens of a cloud on the square are also followed without the others."""
        return max(2 * self.compact_tokens[-1], self.compact_all // 2)

    @property
    def closed(self) -> tuple[str, ...]:
        """The variants with a closure."""
        return tuple(one for one in self.variants if one in CLOSED)

    def share(self, variant: str) -> float:
        """Of tokens and clouds that a variant gets."""
        return self.sinkhorn_share if variant == "sinkhorn" else 1.0


@dataclass(frozen=True)
class Moments(ex.Arrays):
    """Final moments of clouds, less those of closures, right and wrong."""

    moment: Shaped[np.ndarray, " moment"]
    difference: Float[np.ndarray, "law cloud moment"]
    discretisation: float


@dataclass(frozen=True)
class Depth(ex.Arrays):
    """Networks of L layers, cloud by cloud."""

    layers: Annotated[Int[np.ndarray, " layers"], "layers $L$"]
    error: Annotated[Float[np.ndarray, "layers cloud"], "rms distance to the flow"]


@dataclass(frozen=True)
class Compact(ex.Arrays):
    """Mean square distance of n tokens alone to the same n among all, of a law on a square."""

    tokens: Annotated[Int[np.ndarray, " tokens"], "tokens $n$"]
    square: Annotated[Float[np.ndarray, "tokens cloud"], "over the share $1 - n / N$"]


def compute_closure(config: Config, variant: str, keys: ex.Keys) -> Moments:
    """Clouds and closures to t1, in float64."""
    import jax

    share = config.share(variant)
    clouds, tokens = max(16, int(share * config.clouds)), max(8, int(share * config.tokens))
    initial = gaussian_clouds(keys.own, clouds, tokens, np.float64)
    with jax.enable_x64(True):
        final = np.asarray(flow_clouds(T1, STEPS, variant)(initial))
        few = slice(0, 4)
        fine = np.asarray(flow_clouds(T1, 2 * STEPS, variant)(initial[few]))
    start = observe.moments(initial)
    laws = [
        observe.moment_vector(*carried(variant_field(variant, law), V, V, *start, T1))
        for law in LAWS
    ]
    particles = observe.moment_vector(*observe.moments(final))
    step_error = np.abs(observe.moment_vector(*observe.moments(fine)) - particles[few]).max()
    return Moments(np.array(MOMENTS), particles - np.stack(laws), float(step_error))


def compute_depth(config: Config, variant: str, keys: ex.Keys) -> Depth:
    """Networks and flow to t = 1, in float64."""
    errors = depth_errors(
        keys.own, config.layers, config.depth_tokens, config.depth_clouds, variant
    )
    return Depth(np.array(config.layers), errors)


def compute_growth(config: Config, variant: str, keys: ex.Keys) -> Growth:
    """The same clouds for all variants."""
    shape = (config.growth_clouds, config.growth_tokens)
    return measure_growth(canonical_attention(variant), keys.shared("clouds"), shape)


def compute_compact(config: Config, variant: str, keys: ex.Keys) -> Compact:
    """All tokens of a cloud, and parts of it alone, in float64."""
    import jax

    clouds = max(16, int(config.share(variant) * config.compact_clouds))
    with jax.enable_x64(True):
        shape = (clouds, config.compact_all, 2)
        cloud = jax.random.uniform(keys.own, shape, minval=-1.0, dtype=np.float64)
        flow = flow_clouds(COMPACT_T1, COMPACT_STEPS, variant)
        cloud, together = np.asarray(cloud), np.asarray(flow(np.asarray(cloud)))
        squares = []
        for n in config.compact_tokens:
            count = config.alone // n * n
            alone = np.asarray(flow(cloud[:, :count].reshape(-1, n, 2)))
            apart = alone.reshape(clouds, count, 2) - together[:, :count]
            squares.append((apart**2).sum(axis=-1).mean(axis=-1) / (1 - n / config.compact_all))
    return Compact(np.array(config.compact_tokens), np.array(squares))


def _pairs_cost(pairs: float, variant: str) -> ex.Cost:
    """Compilation, and pairs of tokens in evaluations of the field; Sinkhorn iterates."""
    return ex.Cost(6.0 + 8e-9 * pairs * (20 if variant == "sinkhorn" else 1))


CLOSURE = ex.Part(
    "closure/{variant}",
    Moments,
    compute_closure,
    grid=lambda c: c.closed,
    cost=lambda c, v: _pairs_cost(c.share(v) ** 3 * c.clouds * c.tokens**2 * 4.0 * STEPS, v),
)
DEPTH = ex.Part(
    "depth/{variant}",
    Depth,
    compute_depth,
    grid=lambda c: c.variants,
    cost=lambda c, variant: ex.Cost(7.5),
)
GROWTH = ex.Part(
    "growth/{variant}",
    Growth,
    compute_growth,
    grid=lambda c: c.variants,
    cost=lambda c, v: _pairs_cost(c.growth_clouds * c.growth_tokens**2 * 1000.0, v),
)
COMPACT = ex.Part(
    "compact/{variant}",
    Compact,
    compute_compact,
    grid=lambda c: c.variants,
    cost=lambda c, v: _pairs_cost(
        c.share(v) * c.compact_clouds * c.compact_all**2 * 6.0 * COMPACT_STEPS, v
    ),
)
