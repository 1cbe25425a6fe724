r"""Kernels over the tokens of one sample, before and after training, with few heads and with many.

<h_s h_t> over the tokens s, t of one digit, after the last block, and the same of the gradient
before the first. The spatial kernel of one network has a limit along H as the pooled ones do:
its variance over networks is of order 1 / H, before and after training.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, data, train
from translimit.experiments.bordelon2024 import kernel_rates as rates
from translimit.experiments.bordelon2024 import size_charts as charts
from translimit.experiments.bordelon2024 import vit_and_lm as common
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Entries,
    Four,
    IncreasingSizes,
    Positive,
    Within,
)
from translimit.experiments.ensembles import ensemble_bytes


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes and training.

    Attributes:
        head_dim: N.
        heads: values of H, increasing; the last is the reference.
        layers: L.
        beta0: factor of the branches.
        gamma0: richness.
        eta0: base rate of SGD with momentum 0.9.
        steps: updates.
        seeds: networks of each size, at least 4.
        batch: images of an update.
        sample: which image of the probe.
    """

    head_dim: Count = 4
    heads: Annotated[IncreasingSizes, Entries(3)] = (2, 4, 8, 16, 32)
    layers: Count = 2
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


def compute(config: Config, heads: int, keys: ex.Keys) -> Kernels:
    """Train all seeds of one number of heads."""
    size = (config.head_dim, heads, config.layers)
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


def _cost(config: Config, heads: int) -> ex.Cost:
    """Compilation, and floating-point operations at 10 a nanosecond."""
    tokens = config.seeds * config.steps * config.batch * 8
    memory = ensemble_bytes(
        (config.head_dim, heads, config.layers),
        members=config.seeds,
        batch=config.batch,
        tokens=8,
        outputs=10,
        slots=1,
    )
    return ex.Cost(8 + 36 * config.layers * (config.head_dim * heads) ** 2 * tokens / 1e10, memory)


NETWORKS = ex.Part("H={heads}", Kernels, compute, grid=lambda c: c.heads, cost=_cost)


def _fluctuations(found: ex.Found[Config], kind: str, word: str) -> rates.Rows:
    return [rates.fluctuations(one.of(kind, word)) for _, one in found.each(NETWORKS)]


CONCENTRATE = rates.kernels_concentrate(
    "{kind}-{word}", "spatial {kind} kernel", common.KERNELS, lambda c: c.heads, _fluctuations
)


def _kernels(found: ex.Found[Config]) -> list[charts.Kernel]:
    """Of one network with few heads, and of one with many."""
    heads = found.config.heads
    return [
        charts.Kernel(kind, few_or_many, word, found(NETWORKS, few_or_many).of(kind, word)[0])
        for kind in common.KERNELS
        for few_or_many in (heads[0], heads[-1])
        for word in common.WHEN
    ]


def _rates(found: ex.Found[Config]) -> list[charts.Rates]:
    return [
        charts.Rates(
            kind,
            "H",
            found.config.heads,
            {word: _fluctuations(found, kind, word) for word in common.WHEN},
            f"variance over networks, {kind} kernel",
            -1.0,
        )
        for kind in common.KERNELS
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
        caption="Relative squared distance (Frobenius) of one network's spatial kernel from the "
        "mean over seeds of its size. Error bars: standard errors over seeds; rates with 95 % "
        "intervals by bootstrap over seeds.",
        columns=("kernel", "training", "H", "variance", "stderr"),
        order=(0, 3, 2, 4, 5),
        size=(10.0, 4.2),
    ),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/spatial-kernels",
    title="Spatial kernels of one sample, before and after training",
    summary="Kernels over the tokens of one digit in networks of growing $H$, in the paper's "
    "parameterization: they concentrate like $1/H$ before and after training.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(heads=(2, 4, 16), steps=60),
        "standard": Config(seeds=48),
        "paper": Config(
            head_dim=16,
            heads=(4, 8, 16, 32, 64),
            layers=4,
            gamma0=0.1,
            steps=2000,
        ),
    },
    parts=(NETWORKS,),
    claims=(CONCENTRATE,),
    figures=FIGURES,
)
