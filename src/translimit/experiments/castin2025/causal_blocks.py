r"""Causal attention where two blocks of positions carry different Gaussian laws.

The first block stays Gaussian. The second sees both and moves in the field of a mixture of masses
1/2, V sum_k w_k(x) (alpha_k + Sigma_k A x) with w_k proportional to
e^{<Ax, alpha_k> + <Ax, Sigma_k A x> / 2}, in which a Gaussian does not stay one. Scores are
stronger than those of the canonical parameters, so that the mixture shows.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import V
from translimit.experiments.castin2025.causal_flow import (
    SAVES,
    flow_clouds,
    gaussian,
    seconds,
    softmax,
)
from translimit.experiments.checked import CheckedConfig, Count, Four

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

SCALE, T1 = 3.0, 1.0
MEANS = np.array(((1.0, 0.5), (-0.5, 0.0)))
COVS = np.array((((0.3, 0.1), (0.1, 0.2)), ((0.4, -0.1), (-0.1, 0.3))))
#: Points at which the field of the second block is compared.
QUERIES = 20


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        tokens: tokens of each of the two blocks.
        clouds: how many clouds of two blocks.
    """

    tokens: Count = 400
    clouds: Four = 48


@dataclass(frozen=True)
class Blocks(ex.Arrays):
    """Both blocks along depth, and the field of the second at the start."""

    block: Int[np.ndarray, " block"]
    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    kurtosis: Annotated[Float[np.ndarray, "block cloud time"], "excess kurtosis"]
    tokens: Annotated[Float[np.ndarray, "block time token component"], "of the first cloud"]
    field: Annotated[Float[np.ndarray, "cloud query component"], "at the start"]
    mixture: Annotated[Float[np.ndarray, "query component"], "field of the mixture"]

    @property
    def change(self) -> Float[np.ndarray, "block cloud time"]:
        """Of the excess kurtosis since the start."""
        return self.kurtosis - self.kurtosis[..., :1]


def compute_blocks(config: Config, at: ex.Alone, keys: ex.Keys) -> Blocks:
    """Clouds of two blocks along depth, in float64."""
    import jax

    del at
    n, clouds = config.tokens, config.clouds
    positions = np.repeat([0.25, 0.75], n)
    with jax.enable_x64(True):
        initial = np.concatenate(
            [
                gaussian(core.named_key(keys.own, "block", block), clouds, n, mean, cov)
                for block, (mean, cov) in enumerate(zip(MEANS, COVS, strict=True))
            ],
            axis=1,
        )
        tokens = flow_clouds(initial, positions, T1, SCALE)
        key = core.named_key(keys.own, "queries")
        queries = gaussian(key, 1, QUERIES, MEANS[1], COVS[1])[0]
        field, places = softmax(SCALE), np.full(QUERIES, 0.75)
        fields = [
            np.asarray(field(queries, cloud, x_positions=places, positions=positions))
            for cloud in initial
        ]
    parts = np.stack([tokens[:, :, :n], tokens[:, :, n:]])
    return Blocks(
        block=np.array([1, 2]),
        time=np.linspace(0.0, T1, SAVES),
        kurtosis=observe.excess_kurtosis(parts)[..., 0],
        tokens=parts[:, 0],
        field=np.array(fields),
        mixture=mixture_field(queries),
    )


def mixture_field(x: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
    """The field of the mixture of the two blocks, equal masses."""
    scores = x @ np.asarray(softmax(SCALE).A).T
    spread = np.einsum("kij,...j->k...i", COVS, scores)
    logits = np.stack(
        [
            scores @ mean + 0.5 * np.sum(scores * shift, axis=-1)
            for mean, shift in zip(MEANS, spread, strict=True)
        ]
    )
    weights = np.exp(logits - logits.max(axis=0))
    weights /= weights.sum(axis=0)
    means = MEANS.reshape(2, *(1,) * (x.ndim - 1), 2) + spread
    return np.sum(weights[..., None] * means, axis=0) @ V.T


BLOCKS = ex.Part(
    "blocks",
    Blocks,
    compute_blocks,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(seconds(4 * c.clouds * c.tokens**2), 6e8),
)


def _field_error(found: ex.Found[Config]) -> Estimate:
    """Of the mean over clouds, relative rms over the queries, without the bias of the noise."""
    blocks = found(BLOCKS)
    error = blocks.field - blocks.mixture
    scale = float(np.sqrt((blocks.mixture**2).mean()))

    def relative(kept: np.ndarray) -> float:
        return float(np.sqrt(np.mean(error[kept].mean(axis=0) ** 2)) / scale)

    return core.jackknife(relative, len(error))


def _departure(found: ex.Found[Config]) -> Estimate:
    change = Estimate.from_samples(found(BLOCKS).change[1, :, -1])
    return Estimate(-abs(change.value), change.stderr, change.count)


CLAIMS = (
    ex.claim(
        "mixture-field",
        "At the start the second block moves in the field of the Gaussian mixture, "
        "$V \\sum_k \\omega_k(x) (\\alpha_k + \\Sigma_k A x)$ (relative rms).",
        _field_error,
        0.0,
        0.03,
    ),
    ex.claim(
        "first-block-gaussian",
        "The first block stays Gaussian: the excess kurtosis along its first principal axis does "
        "not change.",
        lambda found: Estimate.from_samples(found(BLOCKS).change[0, :, -1]),
        0.0,
        0.05,
    ),
    ex.claim(
        "second-block-not-gaussian",
        "The second block does not: its excess kurtosis changes by at least 0.1 (minus the size of "
        "the change lies below -0.1).",
        _departure,
        -0.1,
        0.02,
        one_sided=True,
    ),
)


def _moments(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Of both blocks at the start and at the end."""
    for block, tokens in zip((1, 2), found(BLOCKS).tokens, strict=True):
        for t, cloud in ((0.0, tokens[0]), (T1, tokens[-1])):
            yield (block, t, *map(float, observe.moment_vector(*observe.moments(cloud))))


def _draw_blocks(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    """Both blocks at the start and at the end."""
    import xarray

    tokens = found(BLOCKS).tokens
    panels = [(block, end) for block in (0, 1) for end in (0, -1)]
    for ax, (block, end) in zip(canvas.subplots(1, 4), panels, strict=True):
        mean, cov = observe.moments(tokens[block, end])
        figures.plot_cloud(
            xarray.DataArray(tokens[block, end], dims=("token", "component")),
            xarray.DataArray(mean, dims="component"),
            xarray.DataArray(cov, dims=("component", "component2")),
            ax,
            title=f"block {block + 1}, $t = {0.0 if end == 0 else T1:g}$",
        )


def _changes(found: ex.Found[Config]) -> Iterator[figures.Row]:
    blocks = found(BLOCKS)
    mean = blocks.change.mean(axis=1)
    stderr = blocks.change.std(axis=1, ddof=1) / np.sqrt(blocks.change.shape[1])
    for block, *columns in zip((1, 2), mean, stderr, strict=True):
        for row in zip(blocks.time, *columns, strict=True):
            yield (block, *map(float, row))


CLOUDS = ex.Figure(
    name="blocks",
    title="Two blocks of positions with different laws",
    caption="One cloud: the tokens of each block at the start and at the end (points), and the "
    "Gaussian of their own mean and covariance (ellipses of one and two standard deviations).",
    columns=("block", "t", "alpha_1", "alpha_2", "Sigma_11", "Sigma_12", "Sigma_22"),
    rows=_moments,
    draw=_draw_blocks,
    shown=lambda found, table: 1,
    size=(10.0, 3.0),
)
KURTOSIS = ex.Figure(
    name="kurtosis",
    title="Only the first block stays Gaussian",
    caption="Change since the start of the excess kurtosis along the first principal axis of each "
    "block, over {clouds} clouds of two blocks of {tokens} tokens, bars of one standard error.",
    columns=("block", "t", "change of kurtosis", "stderr"),
    rows=_changes,
    x="t",
    by="block",
    layers=(
        figures.level(0.0),
        figures.points("change of kurtosis", "stderr", label="block {}", joined=True),
    ),
    xlabel="depth $t$",
    ylabel="change of the excess kurtosis",
    shown=lambda found, table: found.config.clouds,
)

EXPERIMENT = ex.Experiment(
    name="castin2025/causal-blocks",
    title="Causal attention: blocks of positions with different laws",
    summary="Under a causal mask a token sees only what came before it. If the laws differ by "
    "position, the prefix is a mixture, and Gaussianity is lost: in the second of two blocks, not "
    "in the first.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={
        "demo": Config(),
        "standard": Config(tokens=800, clouds=192),
        "paper": Config(tokens=2000, clouds=512),
    },
    parts=(BLOCKS,),
    claims=CLAIMS,
    figures=(CLOUDS, KURTOSIS),
)
