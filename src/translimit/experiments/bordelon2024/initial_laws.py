r"""Networks that did not train: logits over heads, and kernels of the residual stream.

With independent Gaussian keys and queries a logit of a head is N^(-alpha_A) times a sum of N
products x y of independent Gaussians. E (x y)^2 = 1 and E (x y)^4 = 9, so its excess kurtosis over
heads is (9 - 3) / N = 6 / N. Kernels are means over H heads: their squared distance from the limit
H to infinity falls like 1 / H.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", head statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import Networks
from translimit.experiments.checked import Count, Entries, IncreasingSizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from translimit.describe import TransformerShape
    from translimit.train import AbstractObservable, History

#: Bins of a logit over its standard deviation.
EDGES = np.linspace(-4.5, 4.5, 46)


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the networks that do not train.

    Attributes: those of `Networks`, and
        law_head_dims: N of the laws.
        law_width: N H of the networks of the laws.
        law_seeds: independent networks of each law.
        kernel_heads: H of the kernels; the last is the reference, not fitted.
        kernel_head_dim: N of the kernels.
        kernel_seeds: independent networks of each H.
    """

    law_head_dims: IncreasingSizes = (1, 4, 16)
    law_width: Count = 256
    law_seeds: Count = 64
    kernel_heads: Annotated[IncreasingSizes, Entries(3)] = (4, 8, 16, 32, 128)
    kernel_head_dim: Count = 4
    kernel_seeds: Count = 32

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if any(self.law_width % n for n in self.law_head_dims):
            raise core.ConfigError(
                "law_width", f"got {self.law_width}", "pass a multiple of each of law_head_dims"
            )

    @property
    def reference_heads(self) -> int:
        """H of the reference."""
        return self.kernel_heads[-1]


@dataclass(frozen=True)
class Law(ex.Arrays):
    """Logits of networks with one head dimension, head by head."""

    score: Float[np.ndarray, "seed head place"]


@dataclass(frozen=True)
class Kernels(ex.Arrays):
    """Residual-stream kernels, pooled over tokens, of networks with one number of heads."""

    kernel: Float[np.ndarray, "seed sample sample_2"]


def compute_law(config: Config, head_dim: int, keys: ex.Keys) -> Law:
    """Logits at 8 entries of the attention of networks of one block without an MLP."""
    shape = replace(
        networks.base_shape(config),
        head_dim=head_dim,
        heads=config.law_width // head_dim,
        layers=1,
        mlp_ratio=0.0,
    )
    tokens = shape.tokens
    law = train.AttentionLaw(tuple((s, s % tokens, (s + 3) % tokens) for s in range(8)))
    history = _at_start(config, shape, config.law_seeds, law, keys)
    return Law(history["score"][0, :, 0, 0])


def compute_kernels(config: Config, heads: int, keys: ex.Keys) -> Kernels:
    """Kernels of 16 images after the last block."""
    shape = replace(networks.base_shape(config), head_dim=config.kernel_head_dim, heads=heads)
    history = _at_start(config, shape, config.kernel_seeds, train.StreamKernel(), keys)
    return Kernels(history["stream_kernel"][0, :, 0, -1])


def _at_start(
    config: Config,
    shape: TransformerShape,
    seeds: int,
    observable: AbstractObservable,
    keys: ex.Keys,
) -> History:
    """Observations of networks that do not train, in the standard parameterization."""
    optimizer = networks.optimizer("sgd")
    return train.train(
        shape,
        networks.standard(shape),
        networks.images(config.images),
        train.Training(steps=0, rates=(1.0,), seeds=seeds, batch=1, optimizer=optimizer),
        key=keys.shared("starts"),
        observe=(observable,),
        observe_at=(0,),
        probe=16,
    )


def kurtosis(law: Law, head_dim: int) -> Estimate:
    """Fourth over squared second moment, divided by 3 + 6 / N; groups of seeds, jackknifed."""
    logits = law.score.astype(np.float64)
    groups = np.array_split(logits, min(16, len(logits)))
    second = np.array([np.mean(g**2, axis=(0, 1)) for g in groups])
    fourth = np.array([np.mean(g**4, axis=(0, 1)) for g in groups])

    def ratio(chosen: np.ndarray) -> float:
        moments = fourth[chosen].mean(axis=0) / second[chosen].mean(axis=0) ** 2
        return float(moments.mean() / (3 + 6 / head_dim))

    return core.jackknife(ratio, len(groups))


def kernel_errors(kernels: Sequence[Kernels]) -> Float[np.ndarray, "heads groups"]:
    """Squared errors against the mean of the last kernels; means over four groups of networks.

    Args:
        kernels: by growing H.
    """
    limit = kernels[-1].kernel.mean(axis=0)
    errors = np.array([np.mean((one.kernel - limit) ** 2, axis=(1, 2)) for one in kernels[:-1]])
    return errors.reshape(len(errors), 4, -1).mean(axis=-1)


def plot_laws(canvas: Canvas, laws: Sequence[tuple[Law, str]]) -> None:
    """Histograms of logits over their standard deviations, with the Gaussian.

    Args:
        canvas: an empty figure.
        laws: with their words in the legend.
    """
    ax = canvas.subplots()
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    for series, (law, label) in enumerate(laws):
        logits = law.score.ravel()
        counts, _ = np.histogram(logits / logits.std(), EDGES)
        style = {"color": figures.COLOURS[series], "linestyle": figures.DASHES[series]}
        density = counts / (len(logits) * np.diff(EDGES))
        ax.step(middle, density, where="mid", label=label, **style)
    normal = np.exp(-(middle**2) / 2) / (2 * np.pi) ** 0.5
    ax.plot(middle, normal, color=figures.LIMIT, label="$N$ to infinity: Gaussian")
    ax.set_yscale("log")
    figures.finish(ax, xlabel="logit over its standard deviation", ylabel="density")
