r"""Networks of finite depth against the flow of their tokens.

A residual network of L layers with step 1 / L is Euler's scheme for the flow to t = 1: its distance
to the flow x falls like 1 / L, and to leading order it is e / L with

    e' = DF(x) (e - F(x) / 2),    e(0) = 0,

F being the velocities of all tokens. Clouds are uniform on [-1, 1]^2, in float64, the same at
every L.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, limits
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import CLOSED, canonical_attention, depth_errors
from translimit.experiments.castin2025.pictures import RATE, RATE_COLUMNS, rate_rows, said_rate
from translimit.experiments.checked import CheckedConfig, Count, Doubled, OneOf, Two

if TYPE_CHECKING:
    from jaxtyping import Array

#: Clouds of which the leading error is found, and Runge-Kutta steps of it.
LEADING_CLOUDS, LEADING_STEPS = 6, 48
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
    layers: Doubled = (16, 32, 64, 128)
    tokens: Count = 64
    clouds: Two = 24


@dataclass(frozen=True)
class Leading(ex.Arrays):
    """Shares of the leading error in that of the deepest network, cloud by cloud.

    The tokens of a layer are updated at once, or one after another.
    """

    at_once: Float[np.ndarray, " cloud"]
    in_turn: Float[np.ndarray, " cloud"]


@dataclass(frozen=True)
class Errors(ex.Arrays):
    """Rms distance over the tokens of a cloud between the network's output and the flow."""

    layers: Annotated[Int[np.ndarray, " layers"], "layers $L$"]
    error: Annotated[Float[np.ndarray, "layers cloud"], "rms distance to the flow"]


def compute(config: Config, at: ex.Alone, keys: ex.Keys) -> Errors:
    """All networks, in float64."""
    errors = depth_errors(keys.own, config.layers, config.tokens, config.clouds, config.variant)
    return Errors(np.array(config.layers), np.asarray(errors))


def compute_leading(config: Config, at: ex.Alone, keys: ex.Keys) -> Leading:
    """Flow and leading error by steps of their own; both networks, in float64."""
    import jax
    import jax.numpy as jnp

    del at
    softened, layers = canonical_attention(config.variant), config.layers[-1]
    field = limits.meanfield.cloud_field(softened)

    def layer(x: Array, _: None) -> tuple[Array, None]:
        def token(i: Array, x: Array) -> Array:
            return x.at[i].add(field(x)[i] / layers)

        return jax.lax.fori_loop(0, config.tokens, token, x), None

    def shares(cloud: Array) -> tuple[Array, Array]:
        flow, leading = limits.meanfield.depth_error(softened, cloud, steps=LEADING_STEPS)
        in_turn = jax.lax.scan(layer, cloud, length=layers)[0]
        at_once = jax.lax.fori_loop(0, layers, lambda _, x: x + field(x) / layers, cloud)
        one, other = (layers * jnp.sum((x - flow) * leading) for x in (at_once, in_turn))
        size = jnp.sum(leading**2)
        return one / size, other / size

    with jax.enable_x64(True):
        shape = (LEADING_CLOUDS, config.tokens, 2)
        clouds = jax.random.uniform(keys.own, shape, minval=-1.0, dtype=np.float64)
        return Leading(*map(np.asarray, jax.jit(lambda x: jax.lax.map(shares, x))(clouds)))


def _cost(config: Config, at: ex.Alone) -> ex.Cost:
    """Compilation, pairs of tokens in the networks, and about 500 evaluations of each flow."""
    pairs = config.tokens**2 * config.clouds * (sum(config.layers) + 500)
    return ex.Cost(5.0 + SECONDS_PER_PAIR * pairs, 6e8)


DEPTH = ex.Part("depth", Errors, compute, grid=ex.alone, cost=_cost)


LEADING = ex.Part(
    "leading",
    Leading,
    compute_leading,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(8.0 + 1e-8 * LEADING_CLOUDS * c.tokens**3 * c.layers[-1], 6e8),
)


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
        rivals=(
            ex.Rival("$L^{-1/2}$, of noise in the layers", -0.5),
            ex.Rival("$L^{-2}$, of a symmetric scheme", -2.0),
            ex.Rival("$L^{-9/10}$", -0.9),
        ),
    ),
    ex.claim(
        "depth-leading",
        "The leading error is $e/L$ with $e' = DF(x) (e - F(x)/2)$: its share in that of the "
        "deepest network is 1.",
        lambda found: Estimate.from_samples(found(LEADING).at_once),
        1.0,
        0.03,
        rivals=(
            ex.Rival(
                "tokens updated one after another",
                estimate=lambda found, at: Estimate.from_samples(found(LEADING).in_turn),
            ),
            ex.Rival("without the factor 1/2", 2.0),
            ex.Rival("times 1.1", 1.1),
        ),
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
        rivals=(
            ex.Rival("$L^{-1/2}$", 2**0.5),
            ex.Rival("$L^{-9/10}$", 2**0.9),
            ex.Rival("$L^{-2}$", 4.0),
        ),
    ),
)


def _caption(found: ex.Found[Config]) -> str:
    config = found.config
    return (
        "Root mean square over tokens and clouds of the distance between the output of a residual "
        f"{config.variant} network of $L$ layers with step $1/L$ and the flow at $t = 1$, from the "
        f"same tokens; {config.clouds} clouds of {config.tokens} tokens uniform on $[-1, 1]^2$, "
        "bars of one standard error over clouds. Dashed: the fitted rate "
        f"{said_rate(found.once(_rate))}, solid: the predicted rate -1. Dimensionless."
    )


RATE_FIGURE = ex.Figure(
    name="depth",
    title="From finite depth to the flow",
    caption=_caption,
    columns=("layers", *RATE_COLUMNS),
    rows=lambda found: rate_rows(found(DEPTH).layers, found(DEPTH).error, found.once(_rate), -1.0),
    x="layers",
    layers=RATE,
    xlabel="layers $L$",
    ylabel="rms distance to the flow at $t = 1$",
    log="xy",
    shown=lambda found, table: len(table.rows) * found.config.clouds,
)

EXPERIMENT = ex.Experiment(
    name="castin2025/finite-depth",
    title="Networks of finite depth and the flow of their tokens",
    question="How many layers until a network follows the flow of infinite depth?",
    summary="Tokens in a residual network of $L$ layers of attention, each with step $1/L$, move "
    "by Euler's scheme for the flow of infinite depth. Networks are set beside the flow of the "
    "same tokens, and their distance is fitted against $L$.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(layers=(16, 32, 64, 128, 256), clouds=64),
        "paper": Config(layers=(16, 32, 64, 128, 256, 512), clouds=256),
    },
    reference=core.reference("castin2025"),
    parts=(DEPTH, LEADING),
    claims=CLAIMS,
    figures=(RATE_FIGURE,),
    finding=ex.Finding(
        "The distance of an $L$-layer network to the flow of its tokens goes with the exponent "
        "{0} in $L$; the predicted leading error explains {1} of it",
        ("depth-rate", "depth-leading"),
    ),
)
