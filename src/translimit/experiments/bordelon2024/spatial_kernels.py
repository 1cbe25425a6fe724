r"""Kernels over the tokens of one sample, before and after training, over N, H and L.

<h_s h_t> over the tokens s, t of one digit, after the last block, and the same of the gradient
before the first. The spatial kernel of one network has a limit along H and N as the pooled ones do:
its variance over networks is of order 1 / H and 1 / N, before and after training. At alpha_L = 1
its mean has one along L: a doubling of L moves it less and less.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, data, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import kernel_rates as rates
from translimit.experiments.bordelon2024 import size_charts as charts
from translimit.experiments.bordelon2024 import vit_and_lm as common
from translimit.experiments.checked import CheckedConfig, Count, Four, Positive, Within
from translimit.experiments.ensembles import ensemble_bytes


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes and training.

    Attributes:
        sizes: base and axes.
        beta0: factor of the branches.
        gamma0: richness.
        eta0: base rate of SGD with momentum 0.9.
        steps: updates.
        seeds: networks of each size, at least 4.
        batch: images of an update.
        sample: which image of the probe.
    """

    sizes: common.Sizes = field(
        default_factory=lambda: common.Sizes(
            head_dims=(2, 4, 8, 16), heads=(2, 4, 8, 16), layers=(2, 4, 8)
        )
    )
    beta0: Positive = 4.0
    gamma0: Positive = 1.0
    eta0: Positive = 0.05
    steps: Count = 300
    seeds: Four = 16
    batch: Count = 32
    sample: Annotated[int, Within(0, data.DIGITS - 1)] = 0


@dataclass(frozen=True)
class Kernels(common.Losses):
    """Kernels over the tokens of one sample, before every block and after the last."""

    spatial_kernel: Float[np.ndarray, "observation seed level token token_2"]
    spatial_gradient_kernel: Float[np.ndarray, "observation seed level token token_2"]

    def of(self, kind: str, word: str) -> Float[np.ndarray, "seed token token_2"]:
        """The stream's after the last block, or the gradient's before the first."""
        when = common.WHEN.index(word)
        if kind == "stream":
            return self.spatial_kernel[when, :, -1].astype(float)
        return self.spatial_gradient_kernel[when, :, 0].astype(float)


def compute(config: Config, size: common.Size, keys: ex.Keys) -> Kernels:
    """Train all seeds of one size."""
    training = train.Training(
        steps=config.steps,
        rates=(config.eta0,),
        seeds=config.seeds,
        batch=config.batch,
        optimizer=train.Optimizer("momentum"),
    )
    history = train.train(
        common.bare_shape(size, tokens=8, outputs=10, patch_dim=8),
        common.numbers(size, "momentum", 1.0, 1.0, config.beta0, config.gamma0, 8),
        data.digit_patches(),
        training,
        key=keys.own,
        observe=tuple(
            train.StreamKernel(pooled=False, sample=config.sample, gradient=gradient)
            for gradient in (False, True)
        ),
        observe_at=(0, config.steps),
        probe=config.sample + 1,
    )
    return Kernels(**common.recorded(history))


def _cost(config: Config, size: common.Size) -> ex.Cost:
    """Compilation, and floating-point operations at 10 a nanosecond."""
    N, H, L = size
    tokens = config.seeds * config.steps * config.batch * 8
    memory = ensemble_bytes(
        size, members=config.seeds, batch=config.batch, tokens=8, outputs=10, features=8, slots=1
    )
    return ex.Cost(8 + 36 * L * (N * H) ** 2 * tokens / 1e10, memory)


NETWORKS = ex.Part("{N}-{H}-{L}", Kernels, compute, grid=lambda c: c.sizes.all(), cost=_cost)


def _along(found: ex.Found[Config], axis: str) -> list[Kernels]:
    return [found(NETWORKS, size) for size in found.config.sizes.along(axis)]


def _fluctuations(found: ex.Found[Config], axis: str, kind: str, word: str) -> rates.Rows:
    return [rates.fluctuations(one.of(kind, word)) for one in _along(found, axis)]


def _steps(found: ex.Found[Config], at: tuple[str, str]) -> Estimate:
    """Squared distance of mean kernels at the last doubling of L over that at the first.

    What networks scatter is taken off; seeds are left out one after the other.
    """
    kernels = [one.of(*at) for one in _along(found, "L")]

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        noise = (a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)).sum() / len(a)
        return float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() - noise)

    def statistic(chosen: np.ndarray) -> float:
        first, second, *_, before, last = (one[chosen] for one in (*kernels[:2], *kernels[-2:]))
        return distance(before, last) / distance(first, second)

    return core.jackknife(statistic, found.config.seeds)


def _concentrate(axis: str) -> tuple[ex.Claims[Config, tuple[str, str]], ...]:
    def rows(found: ex.Found[Config], kind: str, word: str) -> rates.Rows:
        return _fluctuations(found, axis, kind, word)

    return rates.kernels_concentrate(
        f"{{kind}}-{axis}-{{word}}",
        "spatial {kind} kernel",
        common.KERNELS,
        lambda c: c.sizes.values(axis),
        rows,
        along=axis,
    )


CLAIMS = (
    *_concentrate("H"),
    *_concentrate("N"),
    ex.Claims(
        "{kind}-L-{word}",
        lambda found, at: (
            f"Along $L$ at $\\alpha_L = 1$ the mean spatial {at[0]} kernel has a limit {at[1]} "
            "training: the square of what the last doubling of $L$ moves is at most half of that "
            "of the first."
        ),
        estimate=_steps,
        prediction=0.5,
        tol=0.0,
        over=lambda c: (
            [(kind, word) for word in common.WHEN for kind in common.KERNELS]
            if len(c.sizes.layers) > 2
            else []
        ),
        rivals=(ex.Rival("every doubling moves it alike: no limit", 1.0),),
        one_sided=True,
        decided_by="standard",
    ),
)


def _kernels(found: ex.Found[Config]) -> list[charts.Kernel]:
    """Of one network with few heads, and of one with many."""
    heads, along = found.config.sizes.values("H"), _along(found, "H")
    return [
        charts.Kernel(kind, heads[end], word, along[end].of(kind, word)[0])
        for kind in common.KERNELS
        for end in (0, -1)
        for word in common.WHEN
    ]


def _rates(found: ex.Found[Config]) -> list[charts.Rates]:
    return [
        charts.Rates(
            kind,
            axis,
            found.config.sizes.values(axis),
            {word: _fluctuations(found, axis, kind, word) for word in common.WHEN},
            f"variance over networks, {kind} kernel",
            -1.0,
        )
        for axis in ("H", "N")
        for kind in common.KERNELS
        if len(found.config.sizes.values(axis)) > 1
    ]


FIGURES = (
    charts.kernel_figure(
        _kernels,
        title="Spatial kernels of one digit",
        caption="$\\langle h_s h_t \\rangle$ over the tokens of one image after the last block, "
        "and that of the gradient of output 0 before the first, for one network. A scale for each "
        "panel.",
    ),
    charts.rate_figure(
        _rates,
        title="Convergence of spatial kernels",
        caption="Mean square of the deviation of the log of a spatial kernel from its mean over "
        "seeds, in the leading modes of the mean kernel. Error bars: standard errors "
        "over seeds; rates with 95 % intervals by bootstrap over seeds.",
        columns=("kernel", "axis", "size", "training", "variance", "stderr"),
        size=lambda c: (16.0 if len(c.sizes.head_dims) > 1 else 10.0, 4.2),
    ),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/spatial-kernels",
    title="Spatial kernels of one sample, before and after training",
    question="Do kernels over the tokens of one image have a limit?",
    summary="Kernels over the tokens of one digit in networks of growing $N$, $H$ and $L$, in the "
    "paper's parameterization: they concentrate like $1/H$ and $1/N$ before and after training, "
    "and their mean has a limit along $L$.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            sizes=common.Sizes(head_dims=(4,), heads=(2, 4, 16), layers=(2,)), steps=60, seeds=32
        ),
        "standard": Config(seeds=128, steps=200),
        "paper": Config(
            sizes=common.Sizes(
                base=(16, 16, 4),
                head_dims=(4, 8, 16, 32),
                heads=(4, 8, 16, 32, 64),
                layers=(4, 8, 16),
            ),
            gamma0=0.1,
            steps=2000,
        ),
    },
    parts=(NETWORKS,),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "The variance of the spatial stream kernel over networks goes with the exponent {0} in "
        "$H$ before training and {1} after",
        ("stream-H-before", "stream-H-after"),
    ),
)
