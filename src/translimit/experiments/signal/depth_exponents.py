r"""Exponents of deep post-LN stacks: order and chaos, gradients, and networks of 12 and 24 layers.

A layer multiplies 1 - R between nearly equal tokens by (1 + mu') / ((1 + gamma_A)(1 + mu)), and so
it does gradients; but what gradients of all tokens have in common, the share 1 / n of independent
ones, attention passes on, and it remains. With gates mu' > mu, and weak attention leaves the
stack chaotic. The map over the gains of attention and of the feed-forward block shows both phases;
networks with GELU blocks say how far exponents reach at finite width.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, limits
from translimit.core import Estimate
from translimit.experiments.checked import (
    CheckedConfig,
    Distinct,
    IncreasingSizes,
    MultipleOf,
    Positives,
    Two,
)
from translimit.experiments.signal import stacks

if TYPE_CHECKING:
    from translimit.describe import Stack

#: Layers of the map, between which slopes are taken, and 1 - R at its start.
FIRST, LAST, DISTANCE = 2, 6, 1e-3
#: Entries of a head.
HEAD = 16
#: Other theories of the slopes.
UNMIXED, REPEATED = "attention that does not mix", "one layer's factor, repeated"
COMMON = "nothing in common: gradients pass like angles"


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        gains: gamma_A, of attention.
        variances: w_1 = w_up, of the inputs of SiLU gates.
        tokens: n.
        depths: layers of networks with GELU blocks.
        dim: their width.
        networks: with drawn weights, at least 2.
    """

    gains: Positives = (0.1, 0.6, 1.2)
    variances: Positives = (0.5, 1.0, 3.0)
    tokens: Two = 12
    depths: Annotated[IncreasingSizes, Distinct()] = (12, 24)
    dim: Annotated[int, MultipleOf(64)] = 256
    networks: Two = 48


def stack(dim: int, layers: int, gain: float, variance: float, *, gated: bool) -> Stack:
    """A post-LN stack of attention of this gain, and a feed-forward block of gamma_1 = 1.

    Args:
        dim: width.
        layers: how many.
        gain: gamma_A.
        variance: w_1, of the block's inputs.
        gated: SiLU gates, or GELU.
    """
    one = dim**-0.5
    attention = describe.Attention(dim // HEAD, HEAD, one, one, one, (gain / dim) ** 0.5)
    activation = describe.Activation.SILU if gated else describe.Activation.GELU
    width = 2 * dim
    units = describe.FeedForward(
        width, activation, (variance / dim) ** 0.5, width**-0.5, gated=gated
    )
    norm = describe.Normalisation(describe.Norm.RMS)
    layer = tuple(describe.SubBlock((each,), norm_post=norm) for each in (attention, units))
    return describe.Stack(dim, (layer,) * layers, causal=False)


@dataclass(frozen=True)
class Slope(ex.Arrays):
    """Logarithms a layer of 1 - R and of tr B, by the recursion and by exponents.

    `one_layer` is that of tr B by the factor of a single layer, repeated.
    """

    angle: float
    gradient: float
    angle_exponent: float
    gradient_exponent: float
    one_layer: float


@dataclass(frozen=True)
class At:
    """One point of the map."""

    gain: float
    variance: float


def compute_slope(config: Config, at: At, keys: ex.Keys) -> Slope:
    """The recursion of a few layers from nearly equal tokens."""
    one = stack(64, LAST, at.gain, at.variance, gated=True)
    n = config.tokens
    cov = np.full((n, n), 1 - DISTANCE) + DISTANCE * np.eye(n)
    problem = limits.signal.SignalPropagation(stack=one, initial=cov)
    found = core.solve(problem, limits.signal.Recursion(pairs=2, copies=2), key=keys.own)
    span = LAST - FIRST
    found_law = limits.signal.exponents(one, n)
    law, gradient = found_law.exponents, found_law.log_gradient(span, n)
    assert law is not None and gradient is not None  # noqa: PT018  (post-LN stacks have them)
    return Slope(
        math.log((1 - found.overlap[LAST]) / (1 - found.overlap[FIRST])) / span,
        math.log(found.grad_square[FIRST] / found.grad_square[LAST]) / span,
        law.angle,
        gradient / span,
        law.gradient,
    )


@dataclass(frozen=True)
class Deep(ex.Arrays):
    """Log of tr B below over above the stack: of networks, of the recursion, and by exponents."""

    drawn: Annotated[Float[np.ndarray, " network"], "log of tr B, bottom over top"]
    overlap: Annotated[Float[np.ndarray, " network"], "mean overlap at the top"]
    recursion: float
    recursion_overlap: float
    exponent: float


def compute_deep(config: Config, layers: int, keys: ex.Keys) -> Deep:
    """Networks of GELU blocks from unrelated tokens, and the recursion."""
    one = stack(config.dim, layers, 0.5, 2.0, gated=False)
    cov = np.eye(config.tokens)
    key = core.named_key(keys.own, "networks")
    paths = stacks.networks(one, cov, config.networks, key, "identity")
    assert paths.grad_grams is not None
    problem = limits.signal.SignalPropagation(stack=one, initial=cov)
    method = limits.signal.Recursion(pairs=16, copies=4)
    found = core.solve(problem, method, key=core.named_key(keys.own, "recursion"))
    grads = stacks.mean_diagonals(np.asarray(paths.grad_grams, np.float64))
    law = limits.signal.exponents(one, config.tokens).log_gradient(layers, config.tokens)
    assert law is not None  # post-LN stacks have them
    return Deep(
        drawn=np.log(grads[:, 0] / grads[:, -1]),
        overlap=stacks.mean_overlaps(np.asarray(paths.covs[:, -1], np.float64)),
        recursion=math.log(found.grad_square[0] / found.grad_square[-1]),
        recursion_overlap=float(found.overlap[-1]),
        exponent=law,
    )


def _map(config: Config) -> tuple[At, ...]:
    return tuple(At(*one) for one in itertools.product(config.gains, config.variances))


SLOPE = ex.Part(
    "map/gain={gain},variance={variance}",
    Slope,
    compute_slope,
    grid=_map,
    cost=lambda c, at: ex.Cost(3.0),
)
DEEP = ex.Part(
    "networks/L={layers}",
    Deep,
    compute_deep,
    grid=lambda c: c.depths,
    cost=lambda c, layers: ex.Cost(8.0 + 6e-9 * c.dim**2 * layers * c.networks * c.tokens),
)


def _worst(found: ex.Found[Config], name: str, *, wrong: str = "") -> Estimate:
    """The largest distance over the map of slopes and exponents, or another theory's slopes."""
    gaps = []
    for at, data in found.each(SLOPE):
        angle, gradient = data.angle_exponent, data.gradient_exponent
        if wrong == UNMIXED:
            angle, gradient = angle + math.log1p(at.gain), gradient + math.log1p(at.gain)
        if wrong == REPEATED:
            gradient = data.one_layer
        if wrong == COMMON:
            gradient = angle
        law, slope = (angle, data.angle) if name == "angle" else (gradient, data.gradient)
        gaps.append(abs(slope - law))
    return Estimate(max(gaps))


def _depth_gap(found: ex.Found[Config], layers: int) -> Estimate:
    data = found(DEEP, layers)
    return Estimate.from_samples(data.drawn - data.recursion)


def _slope_claim(name: str, said: str, *wrong: str) -> ex.Claims[Config, ex.Alone]:
    return ex.claim(
        name,
        f"The recursion's log of {said} a layer between nearly equal tokens is that of exponents, "
        "on the whole map (largest distance).",
        lambda found: _worst(found, name),
        0.0,
        tol=5e-3,
        rivals=tuple(
            ex.Rival[Config, ex.Alone](
                one, estimate=lambda found, _, one=one: _worst(found, name, wrong=one)
            )
            for one in wrong
        ),
    )


CLAIMS = (
    _slope_claim("angle", "1 - R", UNMIXED),
    _slope_claim("gradient", "tr B", UNMIXED, REPEATED, COMMON),
    ex.Claims(
        "depth-{layers}",
        lambda found, layers: (
            f"Gradients through {layers} post-LN layers of drawn networks shrink as the recursion "
            "says (log of tr B, bottom over top)."
        ),
        estimate=_depth_gap,
        prediction=0.0,
        tol=0.25,
        over=lambda c: c.depths,
        rivals=(
            ex.Rival(
                "exponents from unrelated tokens on",
                prediction=lambda found, layers: (
                    found(DEEP, layers).exponent - found(DEEP, layers).recursion
                ),
            ),
        ),
    ),
)


def _map_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at, data in found.each(SLOPE):
        phase = "ordered" if data.angle_exponent < 0 else "chaotic"
        yield (
            *(f"w = {at.variance:g}", at.gain, data.angle, data.angle_exponent),
            *(data.gradient, data.gradient_exponent, phase),
        )


def _deep_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for layers, data in found.each(DEEP):
        error = float(core.standard_error(data.drawn))
        yield (layers, float(data.drawn.mean()), error, data.recursion, data.exponent)


MAP = ex.Figure(
    name="map",
    title="Exponents of post-LN stacks with SiLU gates",
    caption="Log a layer of 1 - R between nearly equal tokens against the gain of attention, by "
    "the variance of the gates' inputs: exponents (lines) and the recursion (points), {tokens} "
    "tokens without a mask. Above 0 the stack is chaotic, and gradients explode.",
    columns=(
        *("variance", "gain", "angle", "angle exponent", "gradient", "gradient exponent"),
        "phase",
    ),
    rows=_map_rows,
    x="gain",
    by="variance",
    layers=(
        figures.line("angle exponent", label="exponent, {}"),
        figures.points("angle", label="recursion, {}"),
    ),
    ylabel="log of 1 - R a layer",
    log="x",
)
DEPTHS = ex.Figure(
    name="depths",
    title="Gradients of deep post-LN networks",
    caption="Log of tr B, bottom over top, of {networks} networks of width {dim} with GELU blocks "
    "(bars of one standard error), the recursion, and exponents from the first layer on.",
    columns=("layers", "networks", "stderr", "recursion", "exponents"),
    rows=_deep_rows,
    x="layers",
    layers=(
        figures.line("recursion", label="recursion"),
        figures.line("exponents", label="exponents"),
        figures.points("networks", "stderr", label="networks"),
    ),
    ylabel="log of tr B, bottom over top",
)

EXPERIMENT = ex.Experiment(
    name="signal/depth-exponents",
    title="Order, chaos and gradients of deep post-LN stacks",
    question="Do deep post-LN stacks bring tokens together, and do gradients explode?",
    summary="Whether a deep post-LN stack brings tokens together or apart, and whether gradients "
    "vanish or explode, is decided by two exponents in closed form. They are compared with the "
    "recursion on a map of gains, and the recursion against networks of 12 and 24 layers.",
    citations=("jax",),
    reference='documentation, "Signal propagation"',
    presets={
        "demo": Config(),
        "standard": Config(dim=512, networks=96),
        "paper": Config(dim=1024, depths=(12, 24, 48), tokens=24, networks=96),
    },
    parts=(SLOPE, DEEP),
    claims=CLAIMS,
    figures=(MAP, DEPTHS),
    finding=ex.Finding(
        "Through 24 post-LN layers of drawn networks the log of the gradient's trace, bottom "
        "over top, lies {0} from that of the recursion, whose angles follow the exponents up to"
        " {1}",
        ("depth-24", "angle"),
    ),
)
