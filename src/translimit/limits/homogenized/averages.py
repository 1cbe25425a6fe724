r"""The averages f and g of softmax weights at the simplex, and their table over overlaps.

Given a = W'^T x of the queries, the logits of query i are independent over keys with standard
deviation score_std (1 - gamma)^{1/2} |a_i| / (sigma_a d_k^{1/2}), those of two queries correlated
by cos(a_i, a_j); (a_i, a_j) is Wishart with d_k degrees of freedom and correlation gamma.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from translimit.describe import AbstractIsotropicHeads
from translimit.limits.homogenized.one_key import (
    Resolution,
    coefficients,
    double_sum,
    log_times,
    resolution_of,
    single_sum,
)

#: Overlaps at which f and g are tabulated; between them they are interpolated.
TABLE = 33
#: Nodes of each radius and of the angle where the head dimension is finite.
RADIAL = 4


class AveragesTable(eqx.Module):
    """f and g as functions of the overlap: values at Chebyshev points of [low, 1]."""

    low: Any
    f: Array
    g: Array

    def __call__(self, overlap: Array) -> tuple[Array, Array]:
        """F and g at an overlap in [low, 1], interpolated (barycentric formula)."""
        points, weights = chebyshev(self.low)
        gap = overlap - points
        hit = jnp.abs(gap) < 1e-14
        terms = weights / jnp.where(hit, 1.0, gap)
        terms = jnp.where(jnp.any(hit), hit.astype(terms.dtype), terms)
        total = jnp.sum(terms)
        return terms @ self.f / total, terms @ self.g / total


def chebyshev(low: Any) -> tuple[Array, Array]:
    """Chebyshev points of [low, 1], and their barycentric weights."""
    index = np.arange(TABLE)
    unit = jnp.asarray(0.5 - 0.5 * np.cos(np.pi * index / (TABLE - 1)))
    weights = (-1.0) ** index
    weights[[0, -1]] /= 2
    return low + (1.0 - low) * unit, jnp.asarray(weights)


def tabulate(low: Any, score_std: Any, sizes: AverageSizes) -> AveragesTable:
    """F and g between an overlap and one, for traced float64 numbers."""
    points, _ = chebyshev(low)
    # At overlap one there are no logits: both averages are 1 / tokens.
    f, g = jax.lax.map(lambda gamma: averages(gamma, score_std, sizes), points[:-1])
    end = jnp.full((1,), 1.0 / sizes.tokens)
    return AveragesTable(low, jnp.concatenate([f, end]), jnp.concatenate([g, end]))


class AverageSizes(eqx.Module):
    """What the averages depend on besides numbers."""

    tokens: int = eqx.field(static=True)
    key_dim: int | float = eqx.field(static=True)
    resolution: Resolution = eqx.field(static=True)


def sizes_of(law: AbstractIsotropicHeads, tokens: int) -> AverageSizes:
    """The static part of the averages of a law."""
    return AverageSizes(tokens, law.key_dim, resolution_of(law.score_std))


@eqx.filter_jit
def averages(overlap: Array, score_std: Array, sizes: AverageSizes) -> tuple[Array, Array]:
    """F and g; for finite key_dim averaged over the Wishart law of the queries."""
    spread = jnp.asarray(score_std * jnp.sqrt(1.0 - overlap))
    tokens, resolution = sizes.tokens, sizes.resolution
    if math.isinf(sizes.key_dim):
        y = log_times(spread, tokens, resolution)
        query = coefficients(spread, y, resolution)
        f = single_sum(spread, tokens, resolution)
        return f, double_sum(query, query, overlap, y, tokens)
    radius, weights = _chi(int(sizes.key_dim), RADIAL + 2)
    singles = jax.lax.map(lambda r: single_sum(spread * r, tokens, resolution), jnp.asarray(radius))
    f = jnp.asarray(weights) @ singles

    # Bartlett: a_i = c e_1, a_j = gamma a_i + (1 - gamma^2)^{1/2} (w e_1 + c' e_2).
    side = jnp.sqrt(1.0 - overlap**2)
    grid, weights = _wishart(int(sizes.key_dim))
    along = overlap * grid[:, 0] + side * grid[:, 1]
    length = jnp.sqrt(along**2 + (side * grid[:, 2]) ** 2)
    y = log_times(spread * jnp.maximum(jnp.max(length), grid[:, 0].max()), tokens, resolution)

    def one(node: tuple[Array, Array, Array]) -> Array:
        first, second, cosine = node
        left = coefficients(spread * first, y, resolution)
        right = coefficients(spread * second, y, resolution)
        return double_sum(left, right, cosine, y, tokens)

    doubles = jax.lax.map(one, (jnp.asarray(grid[:, 0]), length, along / length))
    return f, jnp.asarray(weights) @ doubles


@functools.cache
def _chi(degrees: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes of chi_degrees / key_dim^{1/2}, key_dim = degrees, and their weights."""
    from scipy.special import roots_genlaguerre

    x, weights = roots_genlaguerre(count, degrees / 2 - 1)
    return np.sqrt(2 * x / degrees), weights / weights.sum()


@functools.cache
def _wishart(degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes (c, w, c') of Bartlett's factor over key_dim^{1/2} [nodes, 3], and weights."""
    from scipy.special import roots_hermitenorm

    c, c_weights = _chi(degrees, RADIAL)
    w, w_weights = roots_hermitenorm(RADIAL)
    if degrees == 1:
        last, last_weights = np.zeros(1), np.ones(1)
    else:
        last, last_weights = _chi(degrees - 1, RADIAL)
        last = last * math.sqrt((degrees - 1) / degrees)
    mesh = np.meshgrid(c, w / math.sqrt(degrees), last, indexing="ij")
    weights = np.einsum("i,j,k->ijk", c_weights, w_weights / w_weights.sum(), last_weights)
    return np.stack([axis.ravel() for axis in mesh], axis=1), weights.ravel()
