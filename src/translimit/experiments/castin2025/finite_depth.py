r"""Networks of finite depth against the flow of their tokens.

A residual network of L layers with step 1 / L is Euler's scheme for the flow to t = 1: its distance
to the flow falls like 1 / L. Clouds are uniform on [-1, 1]^2, in float64, the same at every L.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import CLOSED, depth_errors
from translimit.experiments.castin2025.pictures import draw_rate
from translimit.experiments.checked import CheckedConfig, Count, Doubled, OneOf, Two

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: One pair of tokens in one evaluation of the field, on one core.
SECONDS_PER_PAIR = 2e-9


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        variant: the attention of the networks.
        layers: numbers of layers L, each twice the one before.
        tokens: tokens of a cloud.
        clouds: independent clouds.
    """

    variant: Annotated[str, OneOf(CLOSED)] = "softmax"
    layers: Doubled = (8, 16, 32, 64, 128)
    tokens: Count = 64
    clouds: Two = 32


@dataclass(frozen=True)
class Errors(ex.Arrays):
    """Rms distance over the tokens of a cloud between the network's output and the flow."""

    layers: Annotated[Int[np.ndarray, " layers"], "layers $L$"]
    error: Annotated[Float[np.ndarray, "layers cloud"], "rms distance to the flow"]


def compute(config: Config, at: ex.Alone, keys: ex.Keys) -> Errors:
    """All networks, in float64."""
    errors = depth_errors(keys.own, config.layers, config.tokens, config.clouds, config.variant)
    return Errors(np.array(config.layers), np.asarray(errors))


def _cost(config: Config, at: ex.Alone) -> ex.Cost:
    """Compilation, pairs of tokens in the networks, and about 500 evaluations of each flow."""
    pairs = config.tokens**2 * config.clouds * (sum(config.layers) + 500)
    return ex.Cost(5.0 + SECONDS_PER_PAIR * pairs, 6e8)


DEPTH = ex.Part("depth", Errors, compute, grid=ex.alone, cost=_cost)


def _rate(found: ex.Found[Config]) -> core.RateFit:
    depth = found(DEPTH)
    return core.fit_rate(depth.layers, depth.error, paired=True)


def _halving(found: ex.Found[Config], layers: tuple[int, ...]) -> Estimate:
    *_, before, last = found(DEPTH).error
    return Estimate.from_samples(before / last)


CLAIMS = (
    ex.claim(
        "depth-rate",
        "The distance of an L-layer network to the flow falls like $1/L$.",
        lambda found: found.once(_rate).estimate(),
        -1.0,
        0.05,
    ),
    ex.Claims(
        "depth-halving",
        lambda found, layers: (
            f"Twice the layers, half the error: error({layers[0]}) / error({layers[1]}) is 2."
        ),
        estimate=_halving,
        prediction=2.0,
        tol=0.1,
        over=lambda c: [c.layers[-2:]],
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    depth = found(DEPTH)
    squares = depth.error**2
    rms = np.sqrt(squares.mean(axis=1))
    stderr = squares.std(axis=1, ddof=1) / np.sqrt(squares.shape[1]) / (2 * rms)
    yield from zip(depth.layers.tolist(), rms.tolist(), stderr.tolist(), strict=True)


def _draw(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    words = ("layers $L$", "rms distance to the flow at $t = 1$", "networks of $L$ layers")
    fit = found.once(_rate)
    draw_rate(canvas.subplots(), table, ("layers", "rms distance", "stderr"), fit, -1.0, words)


RATE = ex.Figure(
    name="depth",
    title="From finite depth to the flow",
    caption="Root mean square over tokens and clouds of the distance between the output of a "
    "residual {variant} network of $L$ layers with step $1/L$ and the flow at $t = 1$, from the "
    "same tokens; {clouds} clouds of {tokens} tokens uniform on "
    "$[-1, 1]^2$, bars of one standard error over clouds. Dimensionless.",
    columns=("layers", "rms distance", "stderr"),
    rows=_rows,
    draw=_draw,
    shown=lambda found, table: len(table.rows) * found.config.clouds,
)

EXPERIMENT = ex.Experiment(
    name="castin2025/finite-depth",
    title="Networks of finite depth and the flow of their tokens",
    summary="Tokens in a residual network of $L$ layers of attention, each with step $1/L$, move "
    "by Euler's scheme for the flow of infinite depth. Networks are set beside the flow of the "
    "same tokens, and their distance is fitted against $L$.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(layers=(8, 16, 32, 64, 128, 256), clouds=64),
        "paper": Config(layers=(8, 16, 32, 64, 128, 256, 512), clouds=256),
    },
    reference=core.reference("castin2025"),
    parts=(DEPTH,),
    claims=CLAIMS,
    figures=(RATE,),
)
