r"""The residual stream along depth: Brownian at the start, and what training makes of it.

With D = <(h^L - h^0)^2> and the quadratic variation Q = sum over blocks of <(h^(l + 1) - h^l)^2>,
blocks that add independent increments have D = Q. So they do at the start, at every depth; in
closed form, at infinite width, D = Q = ((1 + e^2)^L - 1) Kbar, e = beta_0 L^(-alpha_L).

Training adds a drift that is coherent from block to block. At alpha_L = 1 it is all that is left:
D tends to a limit, Q falls like 1 / L, the Brownian part is suppressed. At 1/2 D / Q tends to a
constant, and between them it grows like L^(2 alpha_L - 1).

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.bordelon2024.dmft_problem import RingProblem
from translimit.experiments.bordelon2024.extrapolation import last_exponent
from translimit.experiments.bordelon2024.limit_and_networks import (
    Networks,
    train_networks,
)
from translimit.experiments.bordelon2024.tasks import RING
from translimit.experiments.checked import Count, Counts, Doubling, Four, IncreasingSizes, Positive

#: Exponents of the branches at which the limit is solved; networks are trained at the ends.
EXPONENTS = (1.0, 0.75, 0.5)
ENDS = (1.0, 0.5)


@dataclass(frozen=True)
class Config(RingProblem):
    """The problem, the depths, and the networks.

    Attributes:
        depths: L of the limit, each twice the one before.
        trained: L of the networks, of those of the limit.
        heads: H of the networks.
        seeds: networks of each depth.
        slower: by what the learning rate is divided at alpha_L = 1/2, where training is faster.
    """

    head_dim: Count = 16
    beta0: Positive = 1.0
    gamma0: Positive = 2.0
    eta0: Positive = 0.05
    steps: Count = 13
    depths: Annotated[Counts, Doubling(4)] = (4, 8, 16, 32)
    trained: IncreasingSizes = (4, 8, 16)
    heads: Count = 16
    seeds: Four = 100
    slower: Positive = math.e

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        if not set(self.trained) < set(self.depths):
            raise core.ConfigError(
                "trained", f"got {self.trained}", f"pass some of depths, {self.depths}"
            )

    def sized(self, alpha_L: float, layers: int) -> Config:
        """The problem at one exponent and depth."""
        rate = self.eta0 / (self.slower if alpha_L == 0.5 else 1.0)
        return replace(self, alpha_L=alpha_L, layers=layers, eta0=rate)

    def started(self, alpha_L: float, layers: int) -> float:
        """D = Q at the start and infinite width, mean over inputs."""
        return float(
            limits.dmft.uniform_attention_motion(
                RING, 2, layers=layers, beta0=self.beta0, alpha_L=alpha_L
            ).mean()
        )


@dataclass(frozen=True)
class Motion(ex.Arrays):
    """D and Q of the limit, means over fields."""

    motion: Float[np.ndarray, " step"]
    variation: Float[np.ndarray, " step"]

    @property
    def ratio(self) -> float:
        """D / Q at the end."""
        return float(self.motion[-1] / self.variation[-1])


def compute_limit(config: Config, at: tuple[float, int], keys: ex.Keys) -> Motion:
    """Infinitely many heads of infinite dimension."""
    del keys
    solution = core.solve(config.sized(*at).limit(head_dim=math.inf))
    return Motion(*(one.mean(axis=(1, 2)) for one in solution.stream_motion()))


def compute_networks(config: Config, at: tuple[float, int], keys: ex.Keys) -> Networks:
    """Networks of one exponent and depth."""
    return train_networks(config.sized(*at), keys.own, heads=config.heads, seeds=config.seeds)


LIMIT = ex.Part(
    "limit/alpha={alpha:g}/L={layers}",
    Motion,
    compute_limit,
    grid=lambda c: [(alpha, layers) for layers in c.depths for alpha in EXPONENTS],
    cost=lambda c, at: ex.Cost(3 + 2e-5 * (at[1] * c.steps) ** 2),
)
NETWORKS = ex.Part(
    "networks/alpha={alpha:g}/L={layers}",
    Networks,
    compute_networks,
    grid=lambda c: [(alpha, layers) for layers in c.trained for alpha in ENDS],
    cost=lambda c, at: c.networks_cost(c.heads, c.seeds, layers=at[1]),
)


def _trained_ratio(found: ex.Found[Config], at: tuple[float, int], step: int) -> Estimate:
    """D / Q of networks, mean over them."""
    net = found(NETWORKS, at)
    return Estimate.from_samples(net.motion[:, step] / net.variation[:, step])


def _to_limit(found: ex.Found[Config], at: tuple[float, int]) -> Estimate:
    ratio, said = _trained_ratio(found, at, -1), found(LIMIT, at).ratio
    return Estimate(ratio.value / said - 1, ratio.stderr / said, ratio.count)


def _start(found: ex.Found[Config], at: tuple[float, int]) -> Estimate:
    """Q of networks at the start over the closed form."""
    variation = Estimate.from_samples(found(NETWORKS, at).variation[:, 0])
    said = found.config.started(*at)
    return Estimate(variation.value / said, variation.stderr / said, variation.count)


def _power(found: ex.Found[Config], alpha: float) -> Estimate:
    """Exponent of D / Q in L."""
    limits_of = (found(LIMIT, (alpha, layers)) for layers in found.config.depths)
    return last_exponent(np.array([one.ratio for one in limits_of]))


def _trained(config: Config) -> list[tuple[float, int]]:
    return [(alpha, layers) for layers in config.trained for alpha in ENDS]


def _in_size(alpha: float) -> str:
    return f"At $\\alpha_L = {alpha:g}$"


BROWNIAN = ex.Claims(
    "start-alpha={alpha:g}-L={layers}",
    lambda found, at: (
        f"{_in_size(at[0])} the {at[1]} blocks of networks that did not train add independent "
        "increments: $D / Q$ is 1."
    ),
    estimate=lambda found, at: _trained_ratio(found, at, 0),
    prediction=1.0,
    tol=0.1,
    over=_trained,
    rivals=(
        ex.Rival("the drift of training from the start", lambda found, at: found(LIMIT, at).ratio),
        ex.Rival("blocks that add alike in pairs", 2.0),
        ex.Rival("blocks that all add alike", lambda found, at: float(at[1])),
    ),
)
SIZE = ex.Claims(
    "variation-alpha={alpha:g}-L={layers}",
    lambda found, at: (
        f"{_in_size(at[0])} their quadratic variation over {at[1]} blocks is that of the closed "
        "form (ratio)."
    ),
    estimate=_start,
    prediction=1.0,
    tol=0.08,
    over=_trained,
    rivals=(
        ex.Rival(
            "the other exponent",
            lambda found, at: found.config.started(1.5 - at[0], at[1]) / found.config.started(*at),
        ),
        ex.Rival(
            "blocks that see the embedding alone",
            lambda found, at: _without_feedback(found.config, at),
            when=lambda config, at: at[0] == 0.5,
        ),
    ),
)
TRAINED = ex.Claims(
    "end-alpha={alpha:g}-L={layers}",
    lambda found, at: (
        f"{_in_size(at[0])} training makes increments of {at[1]} blocks coherent as the limit "
        "says: $D / Q$ of networks relative to that of the limit."
    ),
    estimate=_to_limit,
    prediction=0.0,
    tol=0.04,
    over=_trained,
    rivals=(
        ex.Rival("still Brownian", lambda found, at: 1 / found(LIMIT, at).ratio - 1),
        ex.Rival(
            "the other exponent",
            lambda found, at: found(LIMIT, (1.5 - at[0], at[1])).ratio / found(LIMIT, at).ratio - 1,
        ),
        ex.Rival(
            "twice the depth",
            lambda found, at: found(LIMIT, (at[0], 2 * at[1])).ratio / found(LIMIT, at).ratio - 1,
            when=lambda config, at: 2 * at[1] in config.depths,
        ),
    ),
)
POWER = ex.Claims(
    "power-alpha={alpha:g}",
    lambda found, alpha: (
        f"{_in_size(alpha)}, after training, $D / Q$ of the limit grows like "
        "$L^{2 \\alpha_L - 1}$ (exponent, extrapolated in $1/L$)."
    ),
    estimate=_power,
    prediction=lambda found, alpha: 2 * alpha - 1,
    tol=0.08,
    over=lambda c: EXPONENTS,
    rivals=(
        ex.Rival("exponent larger by 1/4", lambda found, alpha: 2 * alpha - 0.75),
        ex.Rival("exponent smaller by 1/4", lambda found, alpha: 2 * alpha - 1.25),
        ex.Rival("still Brownian", 0.0, when=lambda config, alpha: alpha > 0.5),
        ex.Rival("as at $\\alpha_L = 1$", 1.0, when=lambda config, alpha: alpha < 1),
    ),
)


def _without_feedback(config: Config, at: tuple[float, int]) -> float:
    """L e^2 over (1 + e^2)^L - 1."""
    alpha, layers = at
    added = layers ** (1 - 2 * alpha) * config.started(1.0, 1)
    return added / config.started(alpha, layers)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for when, step in (("at the start", 0), ("after training", -1)):
        for alpha in EXPONENTS:
            for layers in found.config.depths:
                said = found(LIMIT, (alpha, layers))
                limit = float(said.motion[step] / said.variation[step])
                mean, error = None, None
                if alpha in ENDS and layers in found.config.trained:
                    one = _trained_ratio(found, (alpha, layers), step)
                    mean, error = one.value, 2 * one.stderr
                yield (when, alpha, layers, limit, mean, error)


RATIO = ex.Figure(
    name="motion",
    title="Coherence of the stream along depth",
    caption="$D / Q$: the square of what all blocks add, over the sum of the squares of what each "
    "adds. Lines: the limit; points: {seeds} networks with {heads} heads of dimension {head_dim}, "
    "two standard errors.",
    columns=("when", "alpha_L", "layers", "limit", "networks", "two standard errors"),
    rows=_rows,
    x="layers",
    by="alpha_L",
    panels="when",
    layers=(
        figures.line("limit", label="$\\alpha_L$ = {}"),
        figures.points("networks", "two standard errors", label="", where={"alpha_L": ENDS}),
    ),
    ylabel="$D / Q$",
    log="xy",
    ticks=True,
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-stream",
    title="The Brownian motion of the stream along depth, suppressed by training",
    question="Does training suppress the Brownian motion of the stream along depth?",
    summary="Before training the residual stream is a random walk along depth. At "
    "$\\alpha_L = 1$ training turns it into a smooth path: what all blocks add is $L$ times what "
    "independent ones would. At $\\alpha_L = 1/2$ it stays a diffusion with a drift.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(trained=(4, 8), head_dim=8),
        "standard": Config(),
        "paper": Config(depths=(4, 8, 16, 32, 64), trained=(4, 8, 16, 32)),
    },
    parts=(LIMIT, NETWORKS),
    claims=(BROWNIAN, SIZE, TRAINED, POWER),
    figures=(RATIO,),
    finding=ex.Finding(
        "After training, $D / Q$ of the limit grows with the depth with the exponent {0} at "
        "$\\alpha_L = 1$ and {1} at $\\alpha_L = 1/2$",
        ("power-alpha=1", "power-alpha=0.5"),
    ),
)
