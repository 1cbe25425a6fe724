r"""Causal attention: clouds that start close in the conditional W_2 distance stay close.

The conditional distance of two clouds couples tokens of one position only. It grows by the factor
of the tangent flow, whatever the distance at the start. In the plain distance there is no such
bound: clouds whose tokens change positions may be as close as one likes, and part at once.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, observe
from translimit.experiments.castin2025.canonical import canonical_attention
from translimit.experiments.castin2025.causal_flow import flow_clouds
from translimit.experiments.castin2025.tangents import (
    EPSILONS,
    TIMES,
    Growth,
    growth_claims,
    measure_growth,
)
from translimit.experiments.checked import CheckedConfig, Count, Distinct, Four, OneOf

CAUSAL = ("softmax", "l2", "sigmoid")
#: Sizes of the noise where positions change: small beside how far such clouds part.
PLAIN_EPSILONS = tuple(epsilon / 5 for epsilon in EPSILONS)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        variants: of attention, each with a causal form.
        positions: positions of a cloud.
        tokens_per_position: tokens at each of them.
        clouds: how many clouds.
    """

    variants: Annotated[tuple[str, ...], OneOf(CAUSAL), Distinct()] = CAUSAL
    positions: Count = 16
    tokens_per_position: Count = 8
    clouds: Four = 40

    @property
    def places(self) -> Float[np.ndarray, " tokens"]:
        """Positions of the tokens."""
        return np.repeat(np.arange(self.positions) / self.positions, self.tokens_per_position)


@dataclass(frozen=True)
class Plain(ex.Arrays):
    """Growth of the plain distance between clouds whose tokens have each other's positions."""

    epsilon: Annotated[Float[np.ndarray, " epsilon"], "size of the noise"]
    ratio: Annotated[Float[np.ndarray, "epsilon cloud"], "plain W2(t) / W2(0)"]


def compute_growth(config: Config, variant: str, keys: ex.Keys) -> Growth:
    """The causal form."""
    shape = (config.clouds, len(config.places))
    chosen = canonical_attention(variant, causal=True)
    return measure_growth(chosen, keys.shared("clouds"), shape, config.places)


def compute_unmasked(config: Config, variant: str, keys: ex.Keys) -> Growth:
    """The same clouds without a mask."""
    shape = (config.clouds, len(config.places))
    return measure_growth(canonical_attention(variant), keys.shared("clouds"), shape)


def compute_plain(config: Config, at: ex.Alone, keys: ex.Keys) -> Plain:
    """Softmax clouds beside the same with noise and with the positions in reverse order."""
    import jax

    shape = (config.clouds, len(config.places), 2)
    with jax.enable_x64(True):
        cloud, other = (core.named_key(keys.own, name) for name in ("cloud", "noise"))
        start = np.asarray(jax.random.uniform(cloud, shape, minval=-1.0, dtype=np.float64))
        noise = np.asarray(jax.random.normal(other, shape, dtype=np.float64))
        t1 = float(TIMES[-1])
        base, *others = (
            flow_clouds(one, config.places, t1)
            for one in (start, *(start[:, ::-1] + size * noise for size in PLAIN_EPSILONS))
        )
    ratio = [
        [
            observe.stability_ratio(one[[0, -1]], two[[0, -1]])[1]
            for one, two in zip(base, moved, strict=True)
        ]
        for moved in others
    ]
    return Plain(np.array(PLAIN_EPSILONS), np.array(ratio))


def _cost(config: Config, variant: str) -> ex.Cost:
    return ex.Cost(8.0 + 1e-5 * config.clouds * len(config.places) ** 2, 6e8)


STABILITY = ex.Part(
    "stability/{variant}", Growth, compute_growth, grid=lambda c: c.variants, cost=_cost
)
UNMASKED = ex.Part(
    "unmasked/{variant}", Growth, compute_unmasked, grid=lambda c: c.variants, cost=_cost
)
PLAIN = ex.Part(
    "plain", Plain, compute_plain, grid=ex.alone, cost=lambda c, at: _cost(c, CAUSAL[0])
)


def _power(found: ex.Found[Config]) -> core.Estimate:
    plain = found(PLAIN)
    return core.fit_rate(plain.epsilon, plain.ratio, paired=True).estimate()


CLAIMS = (
    *growth_claims(
        "{variant}-conditional-growth",
        "the conditional $W_2$",
        STABILITY,
        lambda found, variant: found(UNMASKED, variant),
        "no mask",
    ),
    ex.claim(
        "plain-distance",
        "In the plain $W_2$ causal flows are not stable: between clouds whose tokens change "
        "positions its growth goes with the power -1 of the distance at the start.",
        _power,
        -1.0,
        0.05,
        rivals=(
            ex.Rival("stable in the plain distance", 0.0),
            ex.Rival("Hölder, of exponent 1/2", -0.5),
        ),
    ),
)


def _ratios(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for variant, growth in found.each(STABILITY):
        for epsilon, ratio in zip(growth.epsilon.tolist(), growth.ratio, strict=True):
            columns = (growth.time, ratio.mean(axis=0), core.standard_error(ratio))
            for row in zip(*columns, strict=True):
                yield (variant, epsilon, *map(float, row))


RATIOS = ex.Figure(
    name="stability",
    title="Stability in the conditional distance",
    caption="Growth of the conditional $W_2$ between a cloud and the same cloud with Gaussian "
    "noise of size $\\varepsilon$ (mean of both signs); {clouds} clouds of {positions} positions "
    "with {tokens_per_position} tokens each, uniform on $[-1, 1]^2$, bars of one standard error.",
    columns=("variant", "epsilon", "t", "ratio", "stderr"),
    rows=_ratios,
    x="t",
    by="epsilon",
    panels="variant",
    layers=(figures.points("ratio", "stderr", label="$\\varepsilon = {}$", joined=True),),
    xlabel="depth $t$",
    ylabel="$W_2(t) / W_2(0)$, conditional",
    size=(9.5, 3.6),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/causal-stability",
    title="Causal attention: stability in the conditional distance",
    question="Under a causal mask, do nearby clouds stay close?",
    summary="Under a causal mask a token sees only what came before it. Clouds that start close in "
    "the distance that couples equal positions part by the factor of the tangent flow; in the "
    "plain distance they may part at once.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={
        "demo": Config(),
        "standard": Config(positions=32, clouds=64),
        "paper": Config(positions=64, tokens_per_position=16, clouds=128),
    },
    parts=(STABILITY, UNMASKED, PLAIN),
    claims=CLAIMS,
    figures=(RATIOS,),
    finding=ex.Finding(
        "Under softmax the conditional $W_2$ between two near clouds grows by the factor {0}; "
        "the growth of the plain $W_2$ goes with the power {1} of the distance",
        ("softmax-conditional-growth", "plain-distance"),
    ),
)
