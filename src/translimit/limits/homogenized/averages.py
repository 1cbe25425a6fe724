r"""The averages f and g of softmax weights at the simplex, and their table over overlaps.

Given a = W'^T x of the queries, the logits of query i are independent over keys with standard
deviation score_std (1 - gamma)^{1/2} |a_i| / (sigma_a d_k^{1/2}), those of two queries correlated
by cos(a_i, a_j); (a_i, a_j) is Wishart with d_k degrees of freedom and correlation gamma. Infinite
scores give f = 1 and the g of `hardmax`.

For a finite d_k few Gauss nodes average over the queries. They resolve laws of many columns, and
of few ones where scores are mild; with d_k = 1 and score_std = 1.5, g is off by 4 %. So the error
is estimated from a rule with one node less in every variable (`quadrature_error`), solutions carry
it, and beyond `LARGEST_ERROR` the averages are refused.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from translimit.core import ArgumentError, Number, in_float64, is_traced
from translimit.describe import AbstractIsotropicHeads
from translimit.limits.homogenized.hardmax import HardAgreement
from translimit.limits.homogenized.interpolation import chebyshev, interpolate
from translimit.limits.homogenized.one_key import (
    Resolution,
    coefficients,
    double_sum,
    log_times,
    resolution_of,
    single_sum,
)
from translimit.limits.homogenized.queries import chi, wishart

#: Overlaps at which f and g are tabulated; between them they are interpolated.
TABLE = 33
#: Nodes of each radius and of the angle where the head dimension is finite.
RADIAL = 4
#: An estimate beyond this is refused; the error is a few times smaller.
LARGEST_ERROR = 0.05


class AveragesTable(eqx.Module):
    """f and g as functions of the overlap: values at Chebyshev points of [low, 1]."""

    low: Number
    f: Array
    g: Array

    def __call__(self, overlap: Array) -> tuple[Array, Array]:
        """F and g at an overlap in [low, 1], interpolated (barycentric formula)."""
        f, g = interpolate((overlap - self.low) / (1.0 - self.low), jnp.stack([self.f, self.g]))
        return f, g


class HardAverages(eqx.Module):
    """f = 1 and g of infinite scores as functions of the overlap."""

    g: HardAgreement

    def __call__(self, overlap: Array) -> tuple[Array, Array]:
        """F and g at an overlap in [-1, 1]."""
        return jnp.ones_like(overlap), self.g(overlap)


def tabulate(
    low: Number, score_std: Number, sizes: AverageSizes
) -> Callable[[Array], tuple[Array, Array]]:
    """F and g between an overlap and one, for traced float64 numbers."""
    if sizes.hard:
        return HardAverages(HardAgreement(sizes.tokens, sizes.key_dim))
    points = low + (1.0 - low) * jnp.asarray(chebyshev(TABLE))
    # At overlap one there are no logits: both averages are 1 / tokens.
    f, g = jax.lax.map(lambda gamma: averages(gamma, jnp.asarray(score_std), sizes), points[:-1])
    end = jnp.full((1,), 1.0 / sizes.tokens)
    return AveragesTable(low, jnp.concatenate([f, end]), jnp.concatenate([g, end]))


class AverageSizes(eqx.Module):
    """What the averages depend on besides numbers."""

    tokens: int = eqx.field(static=True)
    key_dim: int | float = eqx.field(static=True)
    resolution: Resolution = eqx.field(static=True)
    hard: bool = eqx.field(static=True)
    radial: int = eqx.field(static=True, default=RADIAL)


def sizes_of(law: AbstractIsotropicHeads, tokens: int) -> AverageSizes:
    """The static part of the averages of a law; the longest query decides the resolution."""
    longest = 1.0
    if not math.isinf(law.key_dim):
        longest = max(1.0, float(chi(int(law.key_dim), RADIAL + 2)[0].max()))
    resolution = resolution_of(law.score_std * longest)
    return AverageSizes(tokens, law.key_dim, resolution, law.hard)


def quadrature_error(overlap: Number, score_std: Number, sizes: AverageSizes) -> Number:
    """The larger relative error of f and g at an overlap, estimated; least overlaps have most.

    For a finite d_k the change with one node less in every variable, which exceeds the error. Else
    what the series of `one_key` leaves out, read off at correlation one, where g is f.

    Args:
        overlap: gamma, float64.
        score_std: of the law, float64.
        sizes: of the averages.

    Returns:
        The error; no derivative passes through it.
    """
    if sizes.hard:
        return np.float64(0.0)
    if is_traced(overlap, score_std):
        overlap, score_std = jax.lax.stop_gradient((overlap, score_std))
    if math.isinf(sizes.key_dim):
        return in_float64(_left_out, overlap, score_std, sizes)
    coarse = AverageSizes(sizes.tokens, sizes.key_dim, sizes.resolution, sizes.hard, RADIAL - 1)
    fine = in_float64(averages, overlap, score_std, sizes)
    rough = in_float64(averages, overlap, score_std, coarse)
    xp = jnp if is_traced(fine) else np
    return xp.maximum(abs(rough[0] / fine[0] - 1.0), abs(rough[1] / fine[1] - 1.0))


@eqx.filter_jit
def _left_out(overlap: Array, score_std: Array, sizes: AverageSizes) -> Array:
    spread = jnp.asarray(score_std * jnp.sqrt(1.0 - overlap))
    y = log_times(spread, sizes.tokens, sizes.resolution)
    query = coefficients(spread, y, sizes.resolution)
    f = single_sum(spread, sizes.tokens, sizes.resolution)
    gap = double_sum(query, query, jnp.ones(()), y, sizes.tokens) - f
    g = double_sum(query, query, overlap, y, sizes.tokens)
    return jnp.abs(gap * overlap ** sizes.resolution.value[2] / g)


def require_resolved(error: Number) -> None:
    """Refuse concrete averages whose error is too large; traced ones carry it.

    Raises:
        ArgumentError: a relative error beyond `LARGEST_ERROR`.
    """
    if not is_traced(error) and not error <= LARGEST_ERROR:
        raise ArgumentError(
            "score_std",
            f"f and g are known to {float(error):.0%} only: few columns, strong scores and a small "
            "overlap are beyond the quadrature",
            "pass a smaller score_std or a larger head_dim, or sample with attention_overlap",
        )


@eqx.filter_jit
def averages(overlap: Array, score_std: Array, sizes: AverageSizes) -> tuple[Array, Array]:
    """F and g; for finite key_dim averaged over the Wishart law of the queries."""
    if sizes.hard:
        return HardAverages(HardAgreement(sizes.tokens, sizes.key_dim))(overlap)
    spread = jnp.asarray(score_std * jnp.sqrt(1.0 - overlap))
    tokens, resolution = sizes.tokens, sizes.resolution
    if math.isinf(sizes.key_dim):
        y = log_times(spread, tokens, resolution)
        query = coefficients(spread, y, resolution)
        f = single_sum(spread, tokens, resolution)
        return f, double_sum(query, query, overlap, y, tokens)
    radius, weights = chi(int(sizes.key_dim), sizes.radial + 2)
    singles = jax.lax.map(lambda r: single_sum(spread * r, tokens, resolution), jnp.asarray(radius))
    f = jnp.asarray(weights) @ singles

    # Bartlett: a_i = c e_1, a_j = gamma a_i + (1 - gamma^2)^{1/2} (w e_1 + c' e_2).
    side = jnp.sqrt(1.0 - overlap**2)
    grid, weights = wishart(int(sizes.key_dim), sizes.radial)
    along = overlap * grid[:, 0] + side * grid[:, 1]
    length = jnp.sqrt(along**2 + (side * grid[:, 2]) ** 2)
    y = log_times(spread * jnp.maximum(jnp.max(length), grid[:, 0].max()), tokens, resolution)

    # The first query has few lengths, and they come in blocks of the grid.
    block = len(grid) // sizes.radial
    lengths = jnp.asarray(grid[::block, 0])
    lefts = jax.lax.map(lambda r: coefficients(spread * r, y, resolution), lengths)

    def one(node: tuple[Array, Array, Array]) -> Array:
        first, second, cosine = node
        left = jax.tree.map(lambda leaf: leaf[first], lefts)
        right = coefficients(spread * second, y, resolution)
        return double_sum(left, right, cosine, y, tokens)

    index = jnp.arange(len(grid)) // block
    cosine = along / jnp.where(length > 0, length, 1.0)
    doubles = jax.lax.map(one, (index, length, cosine))
    return f, jnp.asarray(weights) @ doubles
