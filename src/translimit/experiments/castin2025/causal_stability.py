r"""Causal attention: clouds that start close in the conditional W_2 distance stay close.

The conditional distance of two clouds couples tokens of one position only. It grows by a factor
that stays bounded as the clouds approach each other.

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
from translimit.core import Estimate
from translimit.experiments.castin2025.causal_flow import SAVES, flow_clouds, seconds
from translimit.experiments.checked import CheckedConfig, Count, Four

#: Sizes of the perturbation, and final depth.
EPSILONS = (0.2, 0.1, 0.05, 0.025, 0.0125)
T1 = 2.0


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        positions: positions of a cloud.
        tokens_per_position: tokens at each of them.
        clouds: how many clouds.
    """

    positions: Count = 32
    tokens_per_position: Count = 8
    clouds: Four = 16


@dataclass(frozen=True)
class Growth(ex.Arrays):
    """Of the distance between a cloud and the same with noise."""

    epsilon: Annotated[Float[np.ndarray, " epsilon"], "size of the perturbation"]
    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    ratio: Annotated[Float[np.ndarray, "epsilon cloud time"], "W2(t) / W2(0)"]


def compute_growth(config: Config, at: ex.Alone, keys: ex.Keys) -> Growth:
    """Clouds uniform on [-1, 1]^2 with Gaussian noise of every size, in float64."""
    import jax

    del at
    share = config.tokens_per_position
    positions = np.repeat(np.arange(config.positions) / config.positions, share)
    shape = (config.clouds, len(positions), 2)
    with jax.enable_x64(True):
        start, noise = (
            np.asarray(
                jax.random.uniform(
                    core.named_key(keys.own, "cloud"), shape, minval=-1.0, dtype=np.float64
                )
            ),
            np.asarray(
                jax.random.normal(core.named_key(keys.own, "noise"), shape, dtype=np.float64)
            ),
        )
        base = flow_clouds(start, positions, T1)
        ratio = [
            [
                observe.stability_ratio(one, other, positions=positions)
                for one, other in zip(
                    base, flow_clouds(start + epsilon * noise, positions, T1), strict=True
                )
            ]
            for epsilon in EPSILONS
        ]
    return Growth(np.array(EPSILONS), np.linspace(0.0, T1, SAVES), np.array(ratio))


def _cost(config: Config, at: ex.Alone) -> ex.Cost:
    tokens = config.positions * config.tokens_per_position
    return ex.Cost(seconds(config.clouds * (1 + len(EPSILONS)) * tokens**2), 6e8)


STABILITY = ex.Part("stability", Growth, compute_growth, grid=ex.alone, cost=_cost)


def _power(found: ex.Found[Config]) -> Estimate:
    growth = found(STABILITY)
    return core.fit_rate(growth.epsilon, growth.ratio[:, :, -1], paired=True).estimate()


BOUNDED = ex.claim(
    "conditional-stability",
    "The conditional $W_2$ of two clouds grows by a factor that stays bounded as they approach "
    "each other: it goes with the power 0 of their distance.",
    _power,
    0.0,
    0.05,
)


def _ratios(found: ex.Found[Config]) -> Iterator[figures.Row]:
    growth = found(STABILITY)
    for epsilon, ratio in zip(growth.epsilon, growth.ratio, strict=True):
        stderr = ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))
        for row in zip(growth.time, ratio.mean(axis=0), stderr, strict=True):
            yield (float(epsilon), *map(float, row))


RATIOS = ex.Figure(
    name="stability",
    title="Stability in the conditional distance",
    caption="Growth of the conditional $W_2$ between a cloud and the same cloud with Gaussian "
    "noise of size $\\varepsilon$; {clouds} clouds of {positions} positions with "
    "{tokens_per_position} tokens each, uniform on $[-1, 1]^2$, bars of one standard error.",
    columns=("epsilon", "t", "ratio", "stderr"),
    rows=_ratios,
    x="t",
    by="epsilon",
    layers=(figures.points("ratio", "stderr", label="$\\varepsilon = {}$", joined=True),),
    xlabel="depth $t$",
    ylabel="$W_2(t) / W_2(0)$, conditional",
    shown=lambda found, table: found.config.clouds * len(EPSILONS),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/causal-stability",
    title="Causal attention: stability in the conditional distance",
    summary="Under a causal mask a token sees only what came before it. Clouds that start close in "
    "the distance that couples equal positions stay close.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={
        "demo": Config(),
        "standard": Config(),
        "paper": Config(positions=64, tokens_per_position=16, clouds=64),
    },
    parts=(STABILITY,),
    claims=(BOUNDED,),
    figures=(RATIOS,),
)
