r"""The depth at which representations collapse, and its error.

From equal overlaps a replica's mean overlap r is nearly a diffusion of its own: in y = log(m / (1 -
m)), m = 1 / n + (1 - 1 / n) r, drift b and variance nu of `replica_diffusion`, with the spread
within a replica as it is along the mean path. Mean T and variance V of its first passage through
the threshold follow from g = -dT/dy and h = -dV/dy, two equations along y,

    nu g' / 2 = 1 - b g,        nu h' / 2 = nu g^2 - b h,        L* = T / diffusive_step.

To first order T is the integral of 1 / D over the overlap, D the drift at the simplex; the
difference is of relative order 1 / d, and what is left out of order 1 / d^2.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArrayInput,
    Number,
    in_float64,
    is_traced,
    require_number,
)
from translimit.describe import AbstractIsotropicHeads, diffusive_step, require_cosine
from translimit.limits.homogenized.averages import (
    quadrature_error,
    require_resolved,
    sizes_of,
)
from translimit.limits.homogenized.dimension import Dimension, dimension_of
from translimit.limits.homogenized.replica_diffusion import Coordinates
from translimit.limits.homogenized.simplex import require_simplex
from translimit.limits.homogenized.simplex_kernel import (
    LARGEST_STD,
    AtSimplex,
    KernelTable,
    at_simplex,
    kernel_table,
)

#: Nodes of y from the start to the threshold, and below the start.
NODES, BELOW = 401, 201
#: Relative corrections beyond which the expansion is a guess.
LARGE_CORRECTION = 0.3


#: The values at both ends of a cell.
Pair = tuple[Array, Array]


class CollapseDepth(eqx.Module):
    """When the mean overlap crosses a threshold.

    Attributes:
        layers: L*, the mean depth of a network, a real number.
        diffusive_time: tau*.
        spread: standard deviation of the depth of one network, in layers.
        error: estimate of what is left out, in layers: the square of the relative first correction.
        quadrature_error: relative error of the averages f and g, estimated where it is largest,
            and of the sums over the overlap.
        threshold: the mean overlap of different tokens that counts as collapsed.
        warnings: what lies outside of what was checked, in words.
    """

    layers: Number
    diffusive_time: Number
    spread: Number
    error: Number
    quadrature_error: Number
    threshold: Number
    warnings: tuple[str, ...] = eqx.field(static=True)


def collapse_depth(
    law: AbstractIsotropicHeads,
    *,
    tokens: int,
    step: ArrayInput,
    heads: ArrayInput,
    threshold: ArrayInput = 0.5,
    initial: ArrayInput = 0.0,
    dimension: Dimension = Dimension.EXACT,
    causal: bool = False,
) -> CollapseDepth:
    """Predict the depth at which the mean overlap of the tokens crosses a threshold.

    Differentiable in the numbers of the law, step, heads, threshold and initial: wrap the
    derivative in `jax.enable_x64(True)`.

    Args:
        law: of the heads.
        tokens: number of tokens, at least 2 and at most dim.
        step: residual step, positive.
        heads: heads of a layer, positive (a real number, so that one can differentiate).
        threshold: mean overlap of different tokens, in (0, 1) and above `initial`.
        initial: common overlap at the start; 0, orthogonal tokens, by default.
        dimension: EXACT by default; LARGE for the mean with d to infinity.
        causal: refused: the simplex is no closure under a mask.

    Raises:
        ArgumentError: numbers outside their ranges, or a drift that does not reach the threshold
            (in two or three dimensions).
        ArgumentTypeError: a law that is not invariant under rotations.
        NoSuchLimitError: causal.

    Examples:
        Without scores and for large dimension tau* = log(n - 1) + log(m / (1 - m)), with m the
        threshold as a mean over all pairs, `observe.overlap_all(threshold, n)`:

        >>> from translimit.describe import WideHeads
        >>> from translimit.limits.homogenized import Dimension, collapse_depth
        >>> law = WideHeads(dim=512, score_std=0.0)
        >>> found = collapse_depth(
        ...     law, tokens=8, step=0.1, heads=4, dimension=Dimension.LARGE
        ... )
        >>> round(float(found.diffusive_time), 5)
        2.19722
    """
    tokens = require_simplex(law, tokens, causal)
    each = diffusive_step(
        law,
        step=require_number(step, "step", POSITIVE),
        heads=require_number(heads, "heads", POSITIVE),
    )
    start = require_cosine(initial, "initial", -1.0 / (tokens - 1), ends=False)
    level = require_cosine(threshold, "threshold", 0.0, ends=False)
    if not is_traced(level, start) and level <= start:
        raise ArgumentError(
            "threshold", f"got {float(level):g}", f"pass more than initial = {float(start):g}"
        )
    sizes = sizes_of(law, tokens)
    dims = dimension_of(law, dimension), np.float64(law.dim)
    of_averages = quadrature_error(start, law.score_std, sizes)
    require_resolved(of_averages)
    sharp = not is_traced(law.score_std) and not law.score_std <= LARGEST_STD
    table = at_simplex(law, tokens) if sharp else kernel_table(law, tokens)
    found = in_float64(_passage, start, level, table, dims, dimension is Dimension.LARGE)
    time, coarse, variance, first, lowest = found
    if is_traced(time):
        time = eqx.error_if(time, lowest <= 0, "collapse_depth: the threshold is not reached")
    elif not lowest > 0:
        raise ArgumentError(
            "threshold",
            f"{float(level):g} is not reached: the mean drift vanishes before it",
            "pass a smaller threshold, or solve OverlapSDE",
        )
    correction = time / first - 1.0
    return CollapseDepth(
        layers=time / each,
        diffusive_time=time,
        spread=variance**0.5 / each,
        error=correction**2 * time / each,
        quadrature_error=of_averages + abs(coarse / time - 1.0),
        threshold=level,
        warnings=_warnings(law, tokens, correction, each, sharp),
    )


def _warnings(
    law: AbstractIsotropicHeads, tokens: int, correction: Number, each: Number, sharp: bool
) -> tuple[str, ...]:
    found = []
    if law.dim < 16:
        found.append(f"dim = {law.dim}: the depth was not checked below 16")
    if not is_traced(correction) and abs(correction) > LARGE_CORRECTION:
        found.append("the first correction in 1 / dim is not small")
    if sharp:
        found.append("scores this strong: the spread of the overlaps of one network is left out")
    if law.hard and tokens > 128:
        found.append("infinite scores were checked up to 128 tokens only")
    if not is_traced(each) and each > 0.05:
        found.append(f"one layer advances the diffusive time by {float(each):.3g}: no small step")
    return tuple(found)


@eqx.filter_jit
def _passage(
    initial: Array,
    threshold: Array,
    table: KernelTable | AtSimplex,
    dims: tuple[Array, Array],
    large: bool,
) -> tuple[Array, Array, Array, Array, Array]:
    """Mean, its value on half of the nodes, variance, mean to first order, lowest drift.

    Dimensions, of the mean and of the noise, are data: all of them share one compilation.
    """
    dim, noise_dim = dims
    start, end = (_logit(one, table.tokens) for one in (initial, threshold))
    # What happens far below the start is forgotten on the way: noise over drift is about 2 / d.
    below = jnp.linspace(start - jnp.minimum(10.0, 40.0 / noise_dim), start, BELOW)[:-1]
    y, count = jnp.concatenate([below, jnp.linspace(start, end, NODES)]), len(below)
    here, noisy = Coordinates(y, table, dim), Coordinates(y, table, noise_dim)
    slow = jnp.asarray(here.terms.drift / (here.m * here.Q))
    W = jnp.zeros_like(y), jnp.zeros_like(y)
    if isinstance(table, KernelTable) and not large:
        W = tuple(
            _along(y, jnp.asarray(rate / slow), jnp.asarray(source / slow), count)
            for rate, source in zip(here.growth, here.source, strict=True)
        )
    variance, drift = map(jnp.asarray, noisy.noise_and_drift((W[0], W[1])))
    drift = slow if large else drift
    above = slice(count, None)
    fine, coarse = (
        _mean_and_variance(y[::k], drift[::k], variance[::k], count // k, large) for k in (1, 2)
    )
    lowest = jnp.minimum(jnp.min(drift), jnp.min(slow[above]))
    return fine[0], coarse[0], fine[1], _trapezoid(1.0 / slow[above], y[above]), lowest


def _logit(overlap: Array, tokens: int) -> Array:
    """The y = log(m / (1 - m)) of an overlap."""
    m = 1.0 / tokens + (1.0 - 1.0 / tokens) * overlap
    return jnp.log(m / (1.0 - m))


def _trapezoid(values: Array, y: Array) -> Array:
    return jnp.sum(0.5 * (values[1:] + values[:-1]) * jnp.diff(y))


def _along(y: Array, rate: Array, source: Array, start: int) -> Float[Array, " nodes"]:
    """W with dW / dy = rate W + source from zero at the start, and zero below it."""

    def step(W: Array, cell: tuple[Array, ...]) -> tuple[Array, Array]:
        h, low, high, gain = cell
        W = ((1.0 + 0.5 * h * low) * W + 0.5 * h * gain) / (1.0 - 0.5 * h * high)
        return W, W

    r, s = rate[start:], source[start:]
    cells = jnp.diff(y[start:]), r[:-1], r[1:], s[:-1] + s[1:]
    _, found = jax.lax.scan(step, jnp.zeros(()), cells)
    return jnp.concatenate([jnp.zeros(start + 1), found])


def _mean_and_variance(
    y: Array, drift: Array, variance: Array, start: int, large: bool
) -> tuple[Array, Array]:
    """Of the time from the start to the end of the grid; g and h tend to 1 / b and nu g^2 / b."""
    slow = 1.0 / drift
    if large:
        above = slice(start, None)
        return _trapezoid(slow[above], y[above]), _trapezoid((variance * slow**3)[above], y[above])

    def step(state: Array, cell: tuple[Array, Pair, Pair]) -> tuple[Array, Array]:
        x, (low, high), (nu_low, nu_high) = cell
        decay = jnp.exp(-x)
        rise = 1.0 - (1.0 - decay) / x
        g = decay * state[0] + (1.0 - decay) * low + (high - low) * rise
        below, above = nu_low * state[0] ** 2 * low, nu_high * g**2 * high
        h = decay * state[1] + (1.0 - decay) * below + (above - below) * rise
        return (new := jnp.stack([g, h])), new

    rate = 2.0 * drift / variance
    cells = (
        0.5 * (rate[1:] + rate[:-1]) * jnp.diff(y),
        (slow[:-1], slow[1:]),
        (variance[:-1], variance[1:]),
    )
    first = jnp.stack([slow[0], variance[0] * slow[0] ** 3])
    _, found = jax.lax.scan(step, first, cells)
    g, h = jnp.concatenate([first[None], found])[start:].T
    return _trapezoid(g, y[start:]), _trapezoid(h, y[start:])
