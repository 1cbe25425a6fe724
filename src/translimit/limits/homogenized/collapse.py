r"""The depth at which representations collapse, and its error.

From equal overlaps the mean overlap crosses a threshold at

    tau* = int dgamma / D(gamma),        L* = tau* / diffusive_step,

D the drift of the simplex closure. One network differs from another: to leading order in 1 / dim
the crossing time has the variance int Q / D^3 dgamma and its mean moves by int Q D' / (2 D^3)
dgamma, where Q is the quadratic variation of the mean overlap at the simplex. Both are given: the
first as the spread of single networks, the second as the error of the closure.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArrayInput,
    Number,
    Numbers,
    in_float64,
    is_traced,
    require_number,
)
from translimit.describe import AbstractIsotropicHeads, diffusive_step, require_cosine
from translimit.limits.homogenized.averages import (
    AverageSizes,
    quadrature_error,
    require_resolved,
    sizes_of,
    tabulate,
)
from translimit.limits.homogenized.dimension import Dimension, dimension_of
from translimit.limits.homogenized.simplex import (
    mean_overlap_variation,
    require_simplex,
    simplex_velocity,
)

#: Nodes of the integral over the overlap (on a logarithmic scale, Gauss-Legendre).
NODES = 48
#: Relative corrections beyond which the closure is a guess.
LARGE_CORRECTION = 0.15


class CollapseDepth(eqx.Module):
    """When the mean overlap crosses a threshold.

    Attributes:
        layers: L*, a real number.
        diffusive_time: tau*.
        spread: standard deviation of the depth of one network, in layers, to leading order.
        error: size of the first correction to the closure, in layers.
        quadrature_error: relative error of the averages f and g, estimated where it is largest,
            and of the integral over the overlap.
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
        dimension: EXACT by default; LARGE for the closure with d to infinity.
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
    sizes, dim = sizes_of(law, tokens), dimension_of(law, dimension)
    dims = dim, np.float64(law.dim)
    of_averages = quadrature_error(start, law.score_std, sizes)
    require_resolved(of_averages)
    times = in_float64(_crossing, start, level, law.score_std, dims, sizes)
    time, coarse, variance, correction, lowest = times
    if is_traced(time):
        time = eqx.error_if(time, lowest <= 0, "collapse_depth: the threshold is not reached")
    elif not lowest > 0:
        raise ArgumentError(
            "threshold",
            f"{float(level):g} is not reached: the mean drift vanishes before it",
            "pass a smaller threshold, or solve OverlapSDE",
        )
    return CollapseDepth(
        layers=time / each,
        diffusive_time=time,
        spread=variance**0.5 / each,
        error=abs(correction) / each,
        quadrature_error=of_averages + abs(coarse / time - 1.0),
        threshold=level,
        warnings=_warnings(law, tokens, time, correction, each),
    )


def _warnings(
    law: AbstractIsotropicHeads, tokens: int, time: Number, correction: Number, each: Number
) -> tuple[str, ...]:
    found = []
    if law.dim < 16:
        found.append(f"dim = {law.dim}: the closure was not checked below 16")
    if law.dim < 4 * tokens:
        found.append("fewer than four dimensions a token: the closure was seen off by up to 30 %")
    if not is_traced(time, correction) and abs(correction) > LARGE_CORRECTION * time:
        found.append("the first correction in 1 / dim is not small")
    if law.hard and tokens > 128:
        found.append("infinite scores were checked up to 128 tokens only")
    if not is_traced(each) and each > 0.05:
        found.append(f"one layer advances the diffusive time by {float(each):.3g}: no small step")
    return tuple(found)


@eqx.filter_jit
def _crossing(
    initial: Array,
    threshold: Array,
    score_std: Array,
    dims: tuple[Array, Array],
    sizes: AverageSizes,
) -> tuple[Array, Array, Array, Array, Array]:
    """tau* by all nodes and by half of them, the variance of one network, the correction, the
    lowest drift on the way.

    Dimensions, of the drift and of the noise, are data: all of them share one compilation.
    """
    dim, noise_dim = dims
    table = tabulate(initial, score_std, sizes)

    def velocity(overlap: Array) -> Numbers:
        return simplex_velocity(overlap, *table(overlap), dim)

    def variation(overlap: Array) -> Numbers:
        averages = table(overlap)
        return mean_overlap_variation(overlap, *averages, sizes.tokens, noise_dim)

    gamma, measure = _nodes(initial, threshold, sizes.tokens, NODES)
    coarse, coarse_measure = _nodes(initial, threshold, sizes.tokens, NODES // 2)
    D, slope = jax.vmap(jax.value_and_grad(velocity))(gamma)
    Q = jax.vmap(variation)(gamma)
    return (
        measure @ (1.0 / D),
        coarse_measure @ (1.0 / jax.vmap(velocity)(coarse)),
        measure @ (Q / D**3),
        measure @ (0.5 * Q * slope / D**3),
        jnp.min(D),
    )


def _nodes(initial: Array, threshold: Array, tokens: int, count: int) -> tuple[Array, Array]:
    """Overlaps between the two, and the weights of an integral over them.

    Near the start D is of order 1 / n and grows like the overlap: a logarithmic scale.
    """
    shift = 1.0 / tokens - initial
    unit, weights = np.polynomial.legendre.leggauss(count)
    low, high = jnp.log(initial + shift), jnp.log(threshold + shift)
    logs = low + (high - low) * jnp.asarray(0.5 * (unit + 1.0))
    return jnp.exp(logs) - shift, jnp.asarray(0.5 * weights) * (high - low) * jnp.exp(logs)
