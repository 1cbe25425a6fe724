r"""Causal attention where two blocks of positions carry different Gaussian laws.

The first block stays Gaussian. The second sees both and moves in the field of a mixture of masses
1/2, V sum_k w_k(x) (alpha_k + Sigma_k A x) with w_k proportional to
e^{<Ax, alpha_k> + <Ax, Sigma_k A x> / 2}, in which a Gaussian does not stay one: its kurtosis is
that of the limit of many tokens, found from the nodes of a quadrature as weighted tokens. Scores
are stronger than those of the canonical parameters, so that the mixture shows.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures, limits, observe
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import V, quadrature
from translimit.experiments.castin2025.causal_flow import (
    SAVES,
    flow_clouds,
    gaussian,
    seconds,
    softmax,
)
from translimit.experiments.castin2025.pictures import Cloud, draw_clouds
from translimit.experiments.castin2025.wrong_closures import mixed
from translimit.experiments.checked import CheckedConfig, Count, Four

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

SCALE, T1 = 3.0, 1.0
MEANS = np.array(((1.0, 0.5), (-0.5, 0.0)))
COVS = np.array((((0.3, 0.1), (0.1, 0.2)), ((0.4, -0.1), (-0.1, 0.3))))
#: Points at which the field of the second block is compared, and with what.
QUERIES = 20
LAWS = (
    "the mixture",
    "weights of the blocks without the spread of the scores",
    "the two blocks in equal parts",
    "the second block alone",
    "one Gaussian with the moments of both",
    "queries and keys swapped",
)
#: Whether the flows of the limit are masked.
FLOWS = (True, False)
#: Nodes a dimension of the quadratures.
ORDERS = (28, 22)


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
    laws: Annotated[Float[np.ndarray, "law query component"], "fields of `LAWS`"]

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
        laws=np.stack([mixture_field(queries, law) for law in LAWS]),
    )


@dataclass(frozen=True)
class Limit(ex.Arrays):
    """Excess kurtosis of both blocks in the limit of many tokens, masked or not, and its error."""

    kurtosis: Annotated[Float[np.ndarray, "flow block time"], "excess kurtosis"]
    discretisation: float


def compute_limit(config: Config, at: ex.Alone, keys: ex.Keys) -> Limit:
    """The flow of the nodes of a quadrature, with their weights, at two orders."""
    del config, at, keys
    fine, coarse = (np.stack([_limit(masked, order) for masked in FLOWS]) for order in ORDERS)
    return Limit(fine, float(np.abs(fine - coarse).max()))


def _limit(masked: bool, order: int) -> Float[np.ndarray, "block time"]:
    nodes, mass = zip(
        *(quadrature(m, np.linalg.cholesky(c), order) for m, c in zip(MEANS, COVS, strict=True)),
        strict=True,
    )
    problem = limits.meanfield.ParticleFlow(
        attention=softmax(SCALE),
        initial=np.concatenate(nodes),
        t1=T1,
        weights=np.concatenate(mass) / 2,
        positions=np.repeat([0.25, 0.75 if masked else 0.25], order**2),
    )
    method = limits.meanfield.FixedODE(steps=24)
    tokens = np.asarray(core.solve(problem, method, save=np.linspace(0.0, T1, SAVES)).tokens)
    parts = np.stack([tokens[:, : order**2], tokens[:, order**2 :]])
    return observe.excess_kurtosis(parts, mass[0])[..., 0]


def mixture_field(
    x: Float[np.ndarray, "*batch 2"], law: str = "the mixture"
) -> Float[np.ndarray, "*batch 2"]:
    """The field of the mixture of the two blocks, equal masses; or that of a rival.

    Args:
        x: where.
        law: one of `LAWS`.
    """
    A = np.asarray(softmax(SCALE).A)
    scores = x @ (A if law == "queries and keys swapped" else A.T)
    means, covs = MEANS, COVS
    if law == "one Gaussian with the moments of both":
        means, covs = (np.stack([part] * 2) for part in mixed(MEANS, COVS))
    spread = np.einsum("kij,...j->k...i", covs, scores)
    logits = np.stack(
        [
            scores @ mean + (0.5 - 0.5 * (law == LAWS[1])) * np.sum(scores * shift, axis=-1)
            for mean, shift in zip(means, spread, strict=True)
        ]
    )
    weights = np.exp(logits - logits.max(axis=0))
    if law == "the two blocks in equal parts":
        weights = np.ones_like(weights)
    if law == "the second block alone":
        weights[0] = 0.0
    weights /= weights.sum(axis=0)
    shifted = means.reshape(2, *(1,) * (x.ndim - 1), 2) + spread
    return np.sum(weights[..., None] * shifted, axis=0) @ V.T


LIMIT = ex.Part("limit", Limit, compute_limit, grid=ex.alone, cost=lambda c, at: ex.Cost(25.0, 6e8))
BLOCKS = ex.Part(
    "blocks",
    Blocks,
    compute_blocks,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(seconds(4 * c.clouds * c.tokens**2), 6e8),
)


def _field_error(found: ex.Found[Config], law: int = 0) -> Estimate:
    """Of the mean over clouds, relative rms over the queries, without the bias of the noise."""
    blocks = found(BLOCKS)
    error = blocks.field - blocks.laws[law]
    scale = float(np.sqrt((blocks.laws[0] ** 2).mean()))

    def relative(kept: np.ndarray) -> float:
        return float(np.sqrt(np.mean(error[kept].mean(axis=0) ** 2)) / scale)

    return core.jackknife(relative, len(error))


def _change(found: ex.Found[Config], block: int) -> Estimate:
    """In the clouds; the error of the limit with it."""
    samples = found(BLOCKS).change[block, :, -1]
    return Estimate.from_samples(samples, discretisation=found(LIMIT).discretisation)


def _unmasked(found: ex.Found[Config], at: ex.Alone) -> float:
    """The change in the first block if it saw the second."""
    kurtosis = found(LIMIT).kurtosis[1, 0]
    return float(kurtosis[-1] - kurtosis[0])


CLAIMS = (
    ex.claim(
        "mixture-field",
        "At the start the second block moves in the field of the Gaussian mixture, "
        "$V \\sum_k \\omega_k(x) (\\alpha_k + \\Sigma_k A x)$ (relative rms).",
        _field_error,
        0.0,
        0.03,
        rivals=tuple(
            ex.Rival(name, estimate=lambda found, at, law=law: _field_error(found, law))
            for law, name in enumerate(LAWS)
            if law
        ),
    ),
    ex.claim(
        "first-block-gaussian",
        "The first block stays Gaussian: the excess kurtosis along its first principal axis does "
        "not change.",
        lambda found: _change(found, 0),
        0.0,
        0.06,
        rivals=(ex.Rival("no mask", _unmasked),),
    ),
    ex.claim(
        "second-block-not-gaussian",
        "The second block does not: its excess kurtosis falls by at least 0.1.",
        lambda found: _change(found, 1),
        -0.1,
        0.02,
        one_sided=True,
        rivals=(ex.Rival("it stays Gaussian, in an affine field", 0.0),),
    ),
)


def _moments(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Of both blocks at the start and at the end."""
    for block, tokens in zip((1, 2), found(BLOCKS).tokens, strict=True):
        for t, cloud in ((0.0, tokens[0]), (T1, tokens[-1])):
            yield (block, t, *map(float, observe.moment_vector(*observe.moments(cloud))))


def _draw_blocks(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    """Both blocks at the start and at the end."""
    tokens = found(BLOCKS).tokens
    shown = [
        Cloud(f"block {block + 1}, $t = {t:g}$", cloud, *observe.moments(cloud))
        for block in (0, 1)
        for t, cloud in ((0.0, tokens[block, 0]), (T1, tokens[block, -1]))
    ]
    axes = canvas.subplots(1, len(shown), sharey=True)
    draw_clouds(canvas, list(axes), shown, figures.common_extent(*(one.tokens for one in shown)))


def _changes(found: ex.Found[Config]) -> Iterator[figures.Row]:
    blocks, limit = found(BLOCKS), found(LIMIT).kurtosis[0]
    stderr = core.standard_error(blocks.change, axis=1)
    columns = (blocks.change.mean(axis=1), stderr, limit - limit[:, :1])
    for block, *rows in zip((1, 2), *columns, strict=True):
        for row in zip(blocks.time, *rows, strict=True):
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
    "block, over {clouds} clouds of two blocks of {tokens} tokens, bars of one standard error; "
    "lines: the limit of many tokens, from which clouds of this size are still far.",
    columns=("block", "t", "change of kurtosis", "stderr", "limit"),
    rows=_changes,
    x="t",
    by="block",
    layers=(
        figures.line("limit", label="limit, block {}"),
        figures.points("change of kurtosis", "stderr", label="block {}"),
    ),
    xlabel="depth $t$",
    ylabel="change of the excess kurtosis",
    shown=lambda found, table: found.config.clouds,
)

EXPERIMENT = ex.Experiment(
    name="castin2025/causal-blocks",
    title="Causal attention: blocks of positions with different laws",
    question="Under a causal mask, do tokens stay Gaussian if their law changes with position?",
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
    parts=(BLOCKS, LIMIT),
    claims=CLAIMS,
    figures=(CLOUDS, KURTOSIS),
    finding=ex.Finding(
        "The field of the second block misses that of the Gaussian mixture by {0} (relative "
        "rms), and the excess kurtosis of the block moves by {1}",
        ("mixture-field", "second-block-not-gaussian"),
    ),
)
