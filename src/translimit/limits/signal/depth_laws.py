r"""What a stack does to nearly equal tokens, sub-block by sub-block, and over many layers.

Where tokens are nearly equal, R -> 1, attention mixes them by its mask and biases alone (weights w)
and a sub-block multiplies 1 - R and the gradient by numbers. With q the mean square that enters,
s_C, s_U, s_Z the scales of the three norms, k = s_C^2 q what branches read, and at that k

    u = sum of U over branches,      mu' = dU_ij / dK_ij of feed-forward blocks,
    gamma_A of attention,            Z = a^2 q + b^2 s_U^2 u,

the factors are

    (1 - R') / (1 - R)        = (a^2 q + b^2 s_U^2 k mu') / Z
    tr B below / above        = s_Z^2 [a^2 + b^2 s_U^2 s_C^2 (mu' + gamma_A n^-1 sum w_ij^2)]
    sum B below / above       = s_Z^2 [a^2 + b^2 s_U^2 s_C^2 (mu' + gamma_A)]

The second holds for independent gradients of the tokens, the third for one that all share. Without
a mask n^-1 sum w^2 = 1 / n; of independent gradients the share 1 / n is common to all tokens and
passes by the third, the rest by the first, so that over many layers what is common remains
(`Exponents.log_gradient`). Post-LN stacks stand still, and repeat their factors: *exponents* per
layer. Pre-LN and peri-LN stacks grow, q ~ v l, and give *powers* of q:

    1 - R ~ q^{p - 1},   |g|^2 ~ q^{-p_g},
    v = sum b^2 s_U^2 u,   p v = sum b^2 s_U^2 k mu',
    p_g v = sum b^2 s_U^2 k (mu' + gamma_A n^-1 sum w_ij^2)       (sums over a layer's sub-blocks).

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    POSITIVE,
    NoSuchLimitError,
    in_float64,
    kept_jit,
    require_count,
    require_real,
)
from translimit.describe import (
    Attention,
    Experts,
    FeedForward,
    Layer,
    Scores,
    Stack,
    SubBlock,
)
from translimit.limits.signal.feed_forward import units
from translimit.limits.signal.heads import Mixer, value_gain, visible
from translimit.limits.signal.norms import square_scale


@dataclass(frozen=True)
class Rates:
    """Factors, exponents or powers of the three measures.

    Attributes:
        angle: of 1 - R.
        gradient: of tr B on its way down, for independent gradients of the tokens.
        coherent: of sum B on its way down, for a gradient that all tokens share.
    """

    angle: float
    gradient: float
    coherent: float


@dataclass(frozen=True)
class Factors(Rates):
    """What one sub-block multiplies.

    Attributes:
        angle: (1 - R') / (1 - R).
        gradient: of tr B, below over above.
        coherent: of sum B, below over above.
        mean_square: the mean square of a token's entries that leaves it.
    """

    mean_square: float


@dataclass(frozen=True)
class Exponents:
    """The laws of a stack of equal layers in depth.

    Attributes:
        kind: whether the mean square stands still ("stationary", exponents), grows without end
            ("growing", powers), or does neither for all widths ("other", no law).
        exponents: logarithms of the factors of one layer where it stands still.
        powers: of the mean square q at a level where it grows: 1 - R ~ q^angle, and the gradients
            of levels |g|^2 ~ q^gradient, negative where they are larger below.
        growth: v, what a layer adds to the mean square where it grows.
    """

    kind: Literal["stationary", "growing", "other"]
    exponents: Rates | None = None
    powers: Rates | None = None
    growth: float | None = None

    @property
    def phase(self) -> Literal["ordered", "chaotic"] | None:
        """Ordered where nearly equal tokens approach one another; None without a law."""
        law = self.exponents or self.powers
        return None if law is None else "ordered" if law.angle < 0 else "chaotic"

    def log_gradient(self, layers: int, n: int) -> float | None:
        """Log of tr B below over above so many layers, for independent gradients and no mask.

        Args:
            layers: how many.
            n: tokens.

        Returns:
            The logarithm; None where the mean square does not stand still.
        """
        count, n = require_count(layers, "layers", 0), require_count(n, "n", 1)
        if self.exponents is None:
            return None
        apart, common = count * self.exponents.angle, count * self.exponents.coherent
        more = max(apart, common)  # a power may be too large for a float
        total = (n - 1) * math.exp(apart - more) + math.exp(common - more)
        return more + math.log(total / n)


def collapse_factors(
    block: SubBlock, dim: int, n: int, mean_square: float | int, *, causal: bool
) -> Factors:
    """The factors of a sub-block between nearly equal tokens.

    Args:
        block: the sub-block.
        dim: of the tokens.
        n: tokens.
        mean_square: q, mean square of the entries that enter.
        causal: whether a token sees only itself and the tokens before it.

    Raises:
        NoSuchLimitError: experts, which send nearly equal tokens to different blocks.
        ArgumentError: a count below 1, a mean square that is not positive.
    """
    n, q = require_count(n, "n", 1), require_real(mean_square, "mean_square", POSITIVE)
    a, b = block.residual**2, block.branch**2
    s_in = square_scale(block.norm_in, q)
    k = s_in * q
    out = mu = gain = mixed = shared = 0.0
    for branch in block.branches:
        if isinstance(branch, Experts):
            raise NoSuchLimitError(
                "block",
                "has experts, between which a router parts nearly equal tokens: 1 - R does not "
                "pass by a factor",
                "solve SignalPropagation instead",
            )
        if isinstance(branch, FeedForward):
            more, slope = _of_units(branch, dim, k)
            out, mu = out + more, mu + slope
            continue
        weight = mixing(branch, n, causal=causal)
        gamma = value_gain(branch, dim) / (1.0 if isinstance(branch, Attention) else k)
        out, gain = out + gamma * k * weight.kept, gain + gamma
        mixed, shared = mixed + gamma * weight.squares, shared + gamma * weight.shared
    s_out = square_scale(block.norm_out, out)
    total = a * q + b * s_out * out
    s_post = square_scale(block.norm_post, total)
    branch = b * s_out * s_in
    return Factors(
        angle=(a * q + b * s_out * k * mu) / total,
        gradient=s_post * (a + branch * (mu + mixed)),
        coherent=s_post * (a + branch * (mu + shared)),
        mean_square=s_post * total,
    )


def stack_factors(stack: Stack, n: int, mean_square: float | int) -> tuple[Factors, ...]:
    """The factors of all sub-blocks, from the first to the last, between nearly equal tokens.

    Args:
        stack: the stack.
        n: tokens.
        mean_square: q_0, mean square of the entries that enter the first layer.

    Raises:
        NoSuchLimitError: a stack with experts.
        ArgumentError: see `collapse_factors`.
    """
    return _through(stack.sub_blocks, stack, n, require_real(mean_square, "mean_square", POSITIVE))


def exponents(stack: Stack, n: int) -> Exponents:
    """The laws in depth of a stack that repeats its first layer.

    Args:
        stack: the stack; layers beyond the first are not looked at.
        n: tokens.

    Raises:
        NoSuchLimitError: a layer with experts.
        ArgumentError: a count below 1.

    Examples:
        >>> from translimit import describe
        >>> attention = describe.Attention(4, 16, *(64**-0.5,) * 4)
        >>> law = exponents(describe.pre_norm_stack(64, 12, attention), 48)
        >>> law.kind, law.phase, law.powers.angle
        ('growing', 'ordered', -1.0)
    """
    layer = stack.layers[0]
    if all(block.norm_post is not None for block in layer):
        q = layer[-1].norm_post.gain ** 2  # pyright: ignore[reportOptionalMemberAccess]
        found = _through(layer, stack, n, q)
        return Exponents("stationary", exponents=_rates(found))
    pre = all(b.norm_in and not b.norm_post and b.residual == 1.0 for b in layer)
    if not pre:
        return Exponents("other")
    # Where q is so large that one layer changes nothing, logarithms are v / q and its likes.
    far = 1e8
    found = _through(layer, stack, n, far)
    growth = found[-1].mean_square - far
    law = _rates(found)
    if growth <= 0:
        return Exponents("other")
    scale = far / growth
    powers = Rates(scale * law.angle, -scale * law.gradient, -scale * law.coherent)
    return Exponents("growing", powers=powers, growth=growth)


@dataclass(frozen=True)
class Mixing:
    """How attention mixes tokens where scores do not matter, by mask, biases and sink.

    Attributes:
        squares: n^-1 sum w_ij^2.
        kept: the mean of (sum_j w_ij)^2, 1 without a sink.
        shared: (n^-1 sum w_ij)^2.
    """

    squares: float
    kept: float
    shared: float


def mixing(mixer: Mixer, n: int, *, causal: bool) -> Mixing:
    """Attention weights without scores, averaged over heads; a drawn table of biases counts as 0.

    Args:
        mixer: the attention.
        n: tokens.
        causal: whether a token sees only itself and the tokens before it.
    """
    return _mixing(mixer.scores, require_count(n, "n", 1), causal)


@functools.lru_cache(maxsize=64)
def _mixing(scores: Scores, n: int, causal: bool) -> Mixing:
    seen = visible(scores, causal, n)
    distance = np.arange(n)[None, :] - np.arange(n)[:, None]
    slopes, found = sorted(set(scores.slopes)) or [0.0], []
    for slope in slopes:
        w = np.where(seen, np.exp(slope * np.where(seen, distance, 0)), 0.0)
        w = w / (w.sum(axis=1, keepdims=True) + scores.sink)
        rows = w.sum(axis=1)
        found.append(((w**2).sum() / n, (rows**2).mean(), rows.mean() ** 2))
    return Mixing(*(float(one) for one in np.mean(found, axis=0)))


def _through(layer: Layer, stack: Stack, n: int, mean_square: float) -> tuple[Factors, ...]:
    found, q = [], mean_square
    for block in layer:
        found.append(collapse_factors(block, stack.dim, n, q, causal=stack.causal))
        q = found[-1].mean_square
    return tuple(found)


def _rates(factors: tuple[Factors, ...]) -> Rates:
    """Logarithms of the product."""
    angle = sum(math.log(one.angle) if one.angle > 0 else -math.inf for one in factors)
    gradient = sum(math.log(one.gradient) for one in factors)
    return Rates(angle, gradient, sum(math.log(one.coherent) for one in factors))


def _of_units(block: FeedForward, dim: int, mean_square: float) -> tuple[float, float]:
    """U and dU_ij / dK_ij of a feed-forward block between equal tokens of this mean square."""
    told = functools.partial(_units, block, dim)
    out, slope = in_float64(told, np.array([[mean_square]]))
    return float(out), float(slope)


@kept_jit(static=2)
def _units(block: FeedForward, dim: int, cov: Float[Array, "1 1"]) -> tuple[Array, Array]:
    found = units(block, dim, cov)
    return found.out[0, 0], jnp.sum(found.through_in + found.through_up)
