r"""One layer: how heads, head dimension, temperature and residual weights enter the SDE.

Given the attention matrices of a layer of width n, n times the mean change of their average
(1 / H) sum_h A_h V A_h^T is the drift over gamma^2, and n times its covariance the attention's part
of the diffusion over gamma^4: both without the noise of the values, which would hide them. Layers
of the exact chain tell all of it, and two MLP chains that (gamma, T) is the law of (1, gamma^2 T).

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, core, describe, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Count, Two
from translimit.experiments.noci2023.starts import UNEQUAL, generator

COV = UNEQUAL["four unequal"]
#: Final times of the MLP chains by gamma: one law.
CLOCKS: Mapping[float, float] = {1.0: 0.25, 0.5: 1.0}
NO_ATTENTION = float("inf")


@dataclass(frozen=True)
class Scores:
    """Heads, head dimension (0 for infinity) and temperature."""

    heads: int
    head_dim: int
    tau0: float


@dataclass(frozen=True)
class Layer:
    """A whole layer: residual weight, heads (with a projection where several), temperature."""

    square: float
    heads: int
    tau0: float

    def block(self, tau0: float | None = None, square: float | None = None) -> describe.Block:
        """The block; with another tau0 or gamma^2 where one is given."""
        gamma, heads = (square or self.square) ** 0.5, self.heads
        temperature = tau0 or self.tau0
        return describe.Block(gamma=gamma, tau0=temperature, heads=heads, projection=heads > 1)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the measurement.

    Attributes:
        dim: width of the layers.
        draws: of the attention matrices, each with its negative scores.
        layer_dim: width of whole layers.
        layers: how many of them.
        clock_dim: width of the MLP chains.
        chains: how many of them.
    """

    dim: Count = 10_000
    draws: Two = 100_000
    layer_dim: Count = 10_000
    layers: Two = 100_000
    clock_dim: Count = 96
    chains: Two = 40_000


@dataclass(frozen=True)
class Ratios(ex.Arrays):
    """Drift and covariance over what is predicted, draw by draw."""

    drift: Float[np.ndarray, " draw"]
    noise: Float[np.ndarray, " draw"]


@dataclass(frozen=True)
class Values(ex.Arrays):
    """One number a chain: covariance over what is predicted, or the log norm of a token."""

    values: Float[np.ndarray, " chain"]


def _attention_noise(block: describe.Block) -> np.ndarray:
    """The attention's part of the diffusion."""
    linear = describe.Block(
        gamma=block.gamma, tau0=NO_ATTENTION, heads=block.heads, projection=block.projection
    )
    return np.asarray(limits.shaped.diffusion(block, COV) - limits.shaped.diffusion(linear, COV))


def _on(predicted: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Products of changes [draw, a, b] in place of their covariance, over the predicted one."""
    flat, matrix = change.reshape(len(change), -1), predicted.reshape(change[0].size, -1)
    return np.einsum("di,di->d", flat @ matrix, flat) / np.sum(matrix**2)


def compute_attention(config: Config, at: Scores, keys: ex.Keys) -> Ratios:
    """The average of A V A^T over heads, with scores and with their negatives."""
    m = len(COV)
    factor = np.linalg.cholesky(COV)
    block = describe.Block(gamma=1.0, tau0=at.tau0, heads=at.heads)
    gains, sums = block.shaped_gains, []
    for sign in (1.0, -1.0):
        sums.append(np.zeros((config.draws, m, m)))
        rng = generator(keys)  # the same scores again
        for _ in range(at.heads):
            if at.head_dim:
                queries, others = rng.standard_normal((2, config.draws, m, at.head_dim))
                inner = queries @ others.swapaxes(1, 2) / at.head_dim**0.5
            else:
                inner = rng.standard_normal((config.draws, m, m))
            scores = sign * factor @ inner @ factor.T / (at.tau0 * config.dim**0.5)
            matrix = np.asarray(
                core.in_float64(lambda one: attention.shaped_attention(one, gains, False), scores)
            )
            sums[-1] += matrix @ COV @ matrix.swapaxes(1, 2) / at.heads
    plus, minus = sums
    drift = np.asarray(limits.shaped.covariance_drift(block, COV))
    mean = config.dim * ((plus + minus) / 2 - COV)
    change = config.dim**0.5 * (plus - minus) / 2
    ratio = np.einsum("dab,ab->d", mean, drift) / np.sum(drift**2)
    return Ratios(ratio, _on(_attention_noise(block), change))


def compute_layer(config: Config, at: Layer, keys: ex.Keys) -> Values:
    """Whole layers from one covariance."""
    chain = models.CompressedShapedTransformer(block=at.block(), dim=config.layer_dim, layers=1)
    cov = np.asarray(chain.simulate(COV, key=keys.own, seeds=config.layers).cov)[:, -1]
    change = config.layer_dim**0.5 * (cov - cov.mean(axis=0))
    return Values(_on(np.asarray(limits.shaped.diffusion(at.block(), COV)), change))


def compute_clock(config: Config, gamma: float, keys: ex.Keys) -> Values:
    """Chains of MLPs alone: an attention block of no weight stands before each."""
    mlp = describe.ShapedMLP(gamma=gamma)
    block = describe.Block(gamma=1e-6, tau0=NO_ATTENTION, mlp=mlp)
    layers = round(CLOCKS[gamma] * config.clock_dim)
    chain = models.CompressedShapedTransformer(block=block, dim=config.clock_dim, layers=layers)
    cov = chain.simulate(np.eye(2), key=keys.own, seeds=config.chains).cov
    return Values(np.log(np.asarray(cov)[:, -1, 0, 0]))


ATTENTION = ex.Part(
    "attention/H={heads}/n_k={head_dim}/tau0={tau0:g}",
    Ratios,
    compute_attention,
    grid=lambda c: [
        Scores(1, 0, 0.5),
        Scores(4, 0, 0.5),
        Scores(4, 8, 0.5),
        Scores(4, 1, 0.5),
        Scores(4, 8, 2.0),
    ],
    cost=lambda c, at: ex.Cost(1 + 4e-6 * at.heads * c.draws),
)
LAYER = ex.Part(
    "layer/gamma^2={square:g}/H={heads}",
    Values,
    compute_layer,
    grid=lambda c: [Layer(0.25, 1, 0.5), Layer(0.5, 1, 1.0), Layer(0.81, 4, 0.5)],
    cost=lambda c, at: ex.Cost(3 + 6e-6 * at.heads * c.layers),
)
CLOCK = ex.Part(
    "clock/gamma={gamma:g}",
    Values,
    compute_clock,
    grid=lambda c: list(CLOCKS),
    cost=lambda c, gamma: ex.Cost(5 + 3e-8 * CLOCKS[gamma] * c.clock_dim**2 * c.chains),
)


def _scores_rivals(*, noise: bool) -> tuple[ex.Rival[Config, Scores], ...]:
    """Other ways in which heads, head dimension and temperature could enter."""
    heads = ex.Rival[Config, Scores](
        "the noise without 1 / H" if noise else "1 / H in the drift",
        lambda found, at: float(at.heads) if noise else 1 / at.heads,
        when=lambda c, at: at.heads > 1,
    )
    return (
        heads,
        ex.Rival("1 / tau0 in place of its square", lambda found, at: at.tau0),
        ex.Rival(
            "1 / head_dim in it",
            lambda found, at: 1 / at.head_dim,
            when=lambda c, at: at.head_dim > 1,
        ),
        ex.Rival("1.1 times it", 1.1),
    )


def _overlap(block: describe.Block, other: np.ndarray) -> float:
    """What the ratio would be with another covariance in the place of the block's."""
    own = np.asarray(limits.shaped.diffusion(block, COV))
    return float(np.sum(own * other) / np.sum(own**2))


def _linear_only(at: Layer, factor: float) -> np.ndarray:
    """The diffusion with the linear part times a factor."""
    whole = np.asarray(limits.shaped.diffusion(at.block(), COV))
    return whole + (factor - 1) * (whole - _attention_noise(at.block()))


def _share(at: Layer, theta: float) -> float:
    """Sigma^2 with another theta, over the block's own."""
    two = 2 * (1 - at.square) * at.square
    own = two + (2.0 if at.heads > 1 else 1.0) * at.square**2
    return (two + theta * at.square**2) / own


LAYER_RIVALS: tuple[ex.Rival[Config, Layer], ...] = (
    ex.Rival("sigma^2 times 1.1", lambda found, at: _overlap(at.block(), _linear_only(at, 1.1))),
    ex.Rival(
        "sigma^2 without gamma^4",
        lambda found, at: _overlap(at.block(), _linear_only(at, _share(at, 0.0))),
    ),
    ex.Rival(
        "theta = 1 with a projection",
        lambda found, at: _overlap(at.block(), _linear_only(at, _share(at, 1.0))),
        when=lambda c, at: at.heads > 1,
    ),
    ex.Rival(
        "no attention in the noise",
        lambda found, at: _overlap(
            at.block(), np.asarray(limits.shaped.diffusion(at.block(NO_ATTENTION), COV))
        ),
        when=lambda c, at: at.heads == 1,
    ),
    ex.Rival(
        "gamma in place of gamma^2",
        lambda found, at: _overlap(
            at.block(), np.asarray(limits.shaped.diffusion(at.block(square=at.square**0.5), COV))
        ),
    ),
)

CLAIMS = (
    ex.Claims[Config, Scores](
        "drift-H={heads}-n_k={head_dim}-tau0={tau0:g}",
        "One layer, given its attention: n times the mean change over the SDE's drift, which knows "
        "neither heads nor head dimension (0: infinite) (ratio).",
        estimate=lambda found, at: Estimate.from_samples(found(ATTENTION, at).drift),
        prediction=1.0,
        tol=0.04,
        over=ATTENTION.points,
        rivals=_scores_rivals(noise=False),
    ),
    ex.Claims[Config, Scores](
        "attention-noise-H={heads}-n_k={head_dim}-tau0={tau0:g}",
        "One layer, given its attention: n times the covariance of the change over the SDE's, "
        "which one over the heads divides (ratio).",
        estimate=lambda found, at: Estimate.from_samples(found(ATTENTION, at).noise),
        prediction=1.0,
        tol=0.04,
        over=ATTENTION.points,
        rivals=_scores_rivals(noise=True),
    ),
    ex.Claims[Config, Layer](
        "layer-noise-gamma^2={square:g}-H={heads}",
        "One layer: n times the covariance of the change over the SDE's diffusion (ratio).",
        estimate=lambda found, at: Estimate.from_samples(found(LAYER, at).values),
        prediction=1.0,
        tol=0.03,
        over=LAYER.points,
        rivals=LAYER_RIVALS,
    ),
    ex.Claims[Config, float](
        "clock-gamma={gamma:g}",
        lambda found, gamma: (
            f"MLPs alone: $\\gamma$ only changes the clock, so that the mean $\\log V_{{00}}$ is "
            f"$-2 \\gamma^2 T$, here $\\gamma = {gamma:g}$, $T = {CLOCKS[gamma]:g}$."
        ),
        estimate=lambda found, gamma: Estimate.from_samples(found(CLOCK, gamma).values),
        prediction=lambda found, gamma: -2 * gamma**2 * CLOCKS[gamma],
        tol=0.04,
        over=CLOCK.points,
        rivals=(
            ex.Rival("no Ito drift", 0.0),
            ex.Rival("half of it", lambda found, gamma: -(gamma**2) * CLOCKS[gamma]),
            *(
                ex.Rival[Config, float](
                    f"a clock of gamma^{power}",
                    lambda found, gamma, power=power: -2 * gamma**power * CLOCKS[gamma],
                    when=lambda c, gamma: gamma < 1,
                )
                for power in (1, 4)
            ),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    named = [
        (f"{at.heads}, {at.head_dim or '∞'}, {at.tau0:g}", one) for at, one in found.each(ATTENTION)
    ]
    for place, (name, one) in enumerate(named):
        drift, noise = (Estimate.from_samples(x) for x in (one.drift, one.noise))
        yield (name, place, drift.value, drift.stderr, noise.value, noise.stderr)


RATIOS = ex.Figure(
    name="ratios",
    title="One layer over the SDE's coefficients",
    caption="Drift (left) and attention's noise (right) of {draws} layers of width {dim}, given "
    "their attention, over what the SDE says; bars of one standard error.",
    columns=("layer", "case", "drift", "drift stderr", "noise", "noise stderr"),
    rows=_rows,
    x="case",
    ticks="layer",
    xlabel="heads, head dimension, $\\tau_0$",
    layers=tuple(
        figures.panel(
            name,
            figures.points(name, f"{name} stderr"),
            figures.level(1.0, label="", dash="6 3"),
            ylabel="measured / predicted",
        )
        for name in ("drift", "noise")
    ),
    size=(9.0, 4.2),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/one-layer",
    title="One layer of the shaped Transformer against the coefficients of its SDE",
    question="Does one shaped layer have the drift and the noise of the SDE?",
    summary="How heads, head dimension, temperature and residual weights enter drift and "
    "diffusion, measured on single layers, where every other way to enter is far away: the drift "
    "knows no heads, the attention's noise is divided by them, and $\\gamma$ sets the clock.",
    citations=("noci2023", "jax"),
    presets={
        "demo": Config(draws=60_000, layers=40_000, chains=20_000),
        "standard": Config(),
        "paper": Config(draws=1_000_000, layers=1_000_000, clock_dim=192, chains=200_000),
    },
    reference=core.reference("noci2023"),
    parts=(ATTENTION, LAYER, CLOCK),
    claims=CLAIMS,
    figures=(RATIOS,),
    finding=ex.Finding("A layer has {0} of the SDE's drift", ("drift-H=4-n_k=0-tau0=0.5",)),
)
