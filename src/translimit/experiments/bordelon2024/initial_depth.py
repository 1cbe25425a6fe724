r"""The stream at the start against depth: a diffusion at alpha_L = 1/2; its kernel against heads.

At the start the kernel of the stream obeys K <- K + e^2 V(K), with the attention of random heads
in V. At alpha_L = 1/2 layers are the Euler scheme of dK/dtau = beta_0^2 V(K): the stream is a
diffusion along depth, and layers reach it with an error of order 1 / L. At alpha_L = 1 nothing
moves.

Networks are measured by the quadratic variation Q of their streams along depth. At the start blocks
are uncorrelated: E tr K = tr K^x + E Q exactly, and Q scatters much less. Kernels of networks
fluctuate around the limit with squared error 1 / H.

Inputs are scaled so that scores are of order one and more, where attention matters.

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
from translimit.experiments.bordelon2024.extrapolation import extrapolated, last_exponent
from translimit.experiments.bordelon2024.limit_and_networks import (
    Networks,
    train_networks,
)
from translimit.experiments.bordelon2024.tasks import RING
from translimit.experiments.checked import (
    Count,
    Counts,
    Doubling,
    Exponent,
    Four,
    IncreasingSizes,
    Positive,
)

#: Exponents of depth at which kernels are followed in H.
EXPONENTS = (0.5, 1.0)
#: What is compared with networks of a depth: the recursion, and other theories.
UNIFORM, STILL, SHALLOW = "uniform attention", "exponent 1 of depth", "no feedback"


@dataclass(frozen=True)
class Config(RingProblem):
    """The problem, and its networks.

    Attributes:
        scale: of the inputs' kernel.
        depths: L of the networks, increasing.
        heads: H of the networks, each twice the one before.
        seeds: networks of each size.
        at_once: networks that memory holds at a time.
        followed: L, one of depths, at which kernels are followed in H, also at alpha_L = 1.
        chart: L of the recursion, each twice the one before.
        sampled: heads of the limit.
    """

    head_dim: Count = 4
    alpha_A: Exponent = 0.5
    beta0: Positive = 1.0
    steps: Count = 1
    scale: Positive = 4.0
    depths: IncreasingSizes = (4, 8, 16)
    heads: Annotated[Counts, Doubling(3)] = (8, 16, 32)
    seeds: Four = 3000
    at_once: Count = 500
    followed: Count = 8
    chart: Annotated[Counts, Doubling(4)] = (4, 8, 16, 32, 64)
    sampled: Count = 16_000

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        if self.followed not in self.depths:
            raise core.ConfigError(
                "followed", f"got {self.followed}", f"pass one of depths, {self.depths}"
            )

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """The inputs, scaled, and their targets."""
        x, y = super().data()
        return self.scale**0.5 * x, y

    def stream(
        self, layers: int | float, alpha_L: float = 0.5
    ) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "4 4"]]:
        """The kernel of the stream at the end of depth, and its standard errors."""
        return limits.dmft.initial_stream_kernel(
            self.scale * RING,
            2,
            head_dim=self.head_dim,
            layers=layers,
            alpha_A=self.alpha_A,
            alpha_L=alpha_L,
            beta0=self.beta0,
            heads=self.sampled,
        )


@dataclass(frozen=True)
class Growth(ex.Arrays):
    """What all blocks add to the mean square of the stream, over that of the embedding."""

    depth: Float[np.ndarray, " depth"]
    growth: Float[np.ndarray, " depth"]
    stderr: Float[np.ndarray, " depth"]
    still: Float[np.ndarray, " depth"]
    pooled: Float[np.ndarray, "alpha sample sample2"]


def compute_limit(config: Config, at: ex.Alone, keys: ex.Keys) -> Growth:
    """The recursion at every depth, one step of it, infinite depth, and at alpha_L = 1."""
    del at, keys
    depths = sorted({1, *config.depths, *config.chart})
    half = [config.stream(layers) for layers in (*depths, math.inf)]
    one = [config.stream(layers, 1.0)[0] for layers in depths]
    rates = [config.stream(config.followed, alpha)[0] for alpha in EXPONENTS]
    return Growth(
        depth=np.array([*depths, math.inf]),
        growth=np.array([_growth(config, kernel) for kernel, _ in half]),
        stderr=np.array([np.mean(np.diag(error)) / config.scale for _, error in half]),
        still=np.array([*(_growth(config, kernel) for kernel in one), 0.0]),
        pooled=np.array([one.reshape(2, 2, 2, 2).mean(axis=(1, 3)) for one in rates]),
    )


def _growth(config: Config, kernel: np.ndarray) -> float:
    return float(np.trace(kernel) / (4 * config.scale) - 1)


def compute_networks(config: Config, at: tuple[float, int, int], keys: ex.Keys) -> Networks:
    """Networks that do not train."""
    alpha, layers, heads = at
    sized = replace(config, alpha_L=alpha)
    return train_networks(
        sized, keys.own, heads=heads, seeds=config.seeds, layers=layers, at_once=config.at_once
    )


def _grid(config: Config) -> list[tuple[float, int, int]]:
    places = [(0.5, layers) for layers in config.depths] + [(1.0, config.followed)]
    return [(*place, heads) for place in places for heads in config.heads]


LIMIT = ex.Part(
    "limit", Growth, compute_limit, grid=ex.alone, cost=lambda c, at: ex.Cost(5e-4 * c.sampled)
)
NETWORKS = ex.Part(
    "networks/alpha={alpha:g}/L={layers}/H={heads}",
    Networks,
    compute_networks,
    grid=_grid,
    cost=lambda c, at: c.networks_cost(at[2], c.seeds, layers=at[1], at_once=c.at_once),
)


def _said(found: ex.Found[Config], layers: int | float, still: bool = False) -> Estimate:
    data = found(LIMIT)
    place = int(np.flatnonzero(data.depth == layers)[0])
    growth = data.still if still else data.growth
    return Estimate(float(growth[place]), float(data.stderr[place]))


def _measured(found: ex.Found[Config], layers: int) -> Estimate:
    """The quadratic variation of networks, extrapolated in H, over the embedding's square."""
    sizes = [(0.5, layers, heads) for heads in found.config.heads]
    nets = [found(NETWORKS, size).variation[:, 0] for size in sizes]
    return extrapolated(nets).estimate()


def _relative(found: ex.Found[Config], layers: int, said: Estimate) -> Estimate:
    """Networks over a theory, minus one."""
    one, value = _measured(found, layers), found.config.scale * said.value
    error = math.hypot(one.stderr, found.config.scale * said.stderr) / value
    return Estimate(one.value / value - 1, error, one.count)


def _uniform(found: ex.Found[Config], layers: int) -> Estimate:
    config = found.config
    motion = limits.dmft.uniform_attention_motion(
        RING, 2, layers=layers, beta0=config.beta0, alpha_L=0.5
    )
    return Estimate(float(motion.mean()))


def _order(found: ex.Found[Config]) -> Estimate:
    """Exponent in L of the distance of the recursion from infinite depth."""
    whole = _said(found, math.inf).value
    gaps = [whole - _said(found, layers).value for layers in found.config.chart]
    return last_exponent(np.array(gaps))


def _kernel_rate(found: ex.Found[Config], alpha: float) -> Estimate:
    """Exponent in H of the distance of one network's pooled kernel from the limit."""
    heads, layers = found.config.heads, found.config.followed
    limit = found(LIMIT).pooled[EXPONENTS.index(alpha)]
    kernels = [found(NETWORKS, (alpha, layers, one)).kernel[:, 0] for one in heads]
    errors = [np.sqrt(np.mean((one - limit) ** 2, axis=(1, 2))) for one in kernels]
    return core.fit_rate(heads, errors).estimate()


WRONG = (
    ex.Rival[Config, int](
        UNIFORM, estimate=lambda found, layers: _relative(found, layers, _uniform(found, layers))
    ),
    ex.Rival[Config, int](
        STILL,
        estimate=lambda found, layers: _relative(found, layers, _said(found, layers, still=True)),
    ),
    ex.Rival[Config, int](
        SHALLOW, estimate=lambda found, layers: _relative(found, layers, _said(found, 1))
    ),
)
GROWTH = ex.Claims(
    "growth-L={layers}",
    lambda found, layers: (
        f"At $\\alpha_L = 1/2$ what {layers} blocks of networks add to the mean square of the "
        "stream is what the recursion of its kernel says (relative difference)."
    ),
    estimate=lambda found, layers: _relative(found, layers, _said(found, layers)),
    prediction=0.0,
    tol=0.04,
    over=lambda c: c.depths,
    rivals=WRONG,
    # By 3000 networks of 8, 16 and 32 heads to 0.009: the extrapolation has (8/3)^2 of the variance
    # 0.45 / 32 of one network of 32 heads, and 4 of 0.45 / 16.
    decided_by="standard",
)
DIFFUSION = ex.Claims(
    "diffusion",
    lambda found, layers: (
        f"With {layers} blocks it is what the diffusion along infinite depth says, within its "
        "error of order $1/L$ (relative difference)."
    ),
    estimate=lambda found, layers: _relative(found, layers, _said(found, math.inf)),
    prediction=0.0,
    tol=lambda config, layers: 2.0 / layers,
    over=lambda c: c.depths[-1:],
    rivals=WRONG,
    decided_by="standard",
)
ORDER = ex.claim(
    "order",
    "The recursion reaches the diffusion with an error of order $1/L$ (exponent in $L$, "
    "extrapolated in $1/L$).",
    _order,
    prediction=-1.0,
    tol=0.05,
    rivals=(
        ex.Rival("exponent -1/2", -0.5),
        ex.Rival("exponent -2", -2.0),
        ex.Rival("exponent -0.8", -0.8),
    ),
)
KERNEL = ex.Claims(
    "kernel-alpha={alpha:g}",
    lambda found, alpha: (
        f"At $\\alpha_L = {alpha:g}$ the kernel of one network with {found.config.followed} "
        "layers is as far from the limit as $H^{-1/2}$: its squared error is of order $1/H$."
    ),
    estimate=_kernel_rate,
    prediction=-0.5,
    tol=0.08,
    over=lambda c: EXPONENTS,
    rivals=(
        ex.Rival("squared error of order $H^{-1/2}$", -0.25),
        ex.Rival("squared error of order $H^{-3/2}$", -0.75),
        ex.Rival("squared error of order $H^{-2}$", -1.0),
    ),
    # Terms of order 1 / H^2 make it steeper, half as much from 8 to 32 heads as from 4 to 16.
    decided_by="standard",
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    config, limit = found.config, _said(found, math.inf).value
    for layers in sorted({*config.depths, *config.chart}):
        mean, error = None, None
        if layers in config.depths:
            one = _measured(found, layers)
            mean, error = one.value / config.scale, 2 * one.stderr / config.scale
        said = (_said(found, layers).value, _uniform(found, layers).value)
        yield (layers, *said, limit, mean, error)


DEPTH = ex.Figure(
    name="growth",
    title="What blocks add to the stream, against depth",
    caption="Sum over blocks of the mean squares that they add, over the mean square of the "
    "embedding, at $\\alpha_L = 1/2$. Points: networks, extrapolated in $H$, with two standard "
    "errors.",
    columns=("layers", "recursion", "uniform", "diffusion", "networks", "two standard errors"),
    rows=_rows,
    x="layers",
    layers=(
        figures.line("recursion", label="recursion", series=None),
        figures.line("uniform", label="uniform attention", series=1),
        figures.level("diffusion", label="infinite depth", dash="1.5 2"),
        figures.points("networks", "two standard errors", label="networks"),
    ),
    ylabel="growth of the mean square",
    log="x",
    ticks=True,
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/initial-depth",
    title="The stream before training: a diffusion along depth, kernels against heads",
    question="Before training, is the stream a diffusion along depth?",
    summary="At $\\alpha_L = 1/2$ the stream of a network that did not train is a diffusion along "
    "depth, whose strength feeds on itself through attention. Kernels of single networks are "
    "$H^{-1/2}$ away from it.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            depths=(8, 16), heads=(4, 8, 16), seeds=1000, chart=(4, 8, 16, 32), sampled=4000
        ),
        "standard": Config(),
        "paper": Config(depths=(4, 8, 32), heads=(8, 16, 32, 64), at_once=200, sampled=64_000),
    },
    parts=(LIMIT, NETWORKS),
    claims=(GROWTH, DIFFUSION, ORDER, KERNEL),
    figures=(DEPTH,),
    finding=ex.Finding(
        "The recursion of the stream's kernel reaches its diffusion along depth with the "
        "exponent {0} in $L$; at $\\alpha_L = 1/2$ the kernel of one network leaves the limit "
        "with {1} in $H$",
        ("order", "kernel-alpha=0.5"),
    ),
)
