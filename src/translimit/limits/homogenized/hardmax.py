r"""Infinite scores: how often two queries attend to the same key.

Every query attends to one key, so that f = E sum_k pi_k^2 = 1 and

    g = P[argmax_k u_k = argmax_k v_k],

(u_k, v_k) independent over keys, normal with correlation rho. With rho = cos theta, as the sum of
the probabilities that key k is the best for both,

    g = n int int phi_2(u, v; rho) Phi_2(u, v; rho)^{n-1} du dv,

phi_2 and Phi_2 the density and the distribution function of the pair. In u = cos(theta/2) z +
sin(theta/2) z' and v with the other sign the integrand is smooth at every theta, and g is a smooth
function of theta on [0, pi] (1 - theta / pi for two keys), though not of rho at 1: it is tabulated
in theta. Where the head dimension d_k is finite, rho is the cosine of two queries, and g averages
over their Wishart law.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import functools
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from translimit.limits.homogenized.interpolation import chebyshev, interpolate
from translimit.limits.homogenized.queries import sample_angles, wishart

#: Chebyshev points in theta; the interpolation is accurate to 1e-9 up to 512 keys.
ANGLES = 33
#: Standard normals are summed over [-WIDTH, WIDTH] at this many points.
WIDTH, NODES = 9.0, 161
#: Below this head dimension the law of the angle is summed, from it on Bartlett's factor by Gauss
#: nodes, so many of each variable.
FEW, BARTLETT = 16, 12


class HardAgreement(eqx.Module):
    """g as a function of the overlap of two queries; differentiable inside (-1, 1).

    Attributes:
        tokens: n, the number of keys.
        key_dim: d_k, columns of W and W', or infinity.
    """

    tokens: int = eqx.field(static=True)
    key_dim: int | float = eqx.field(static=True)

    def __call__(self, overlap: Array) -> Array:
        """G at an overlap in [-1, 1]."""
        values = jnp.asarray(_table(self.tokens, self.key_dim))
        return interpolate(jnp.arccos(overlap) / np.pi, values)


@functools.cache
def _table(tokens: int, key_dim: int | float) -> np.ndarray:
    """G at the Chebyshev points of theta / pi."""
    theta = np.pi * chebyshev(ANGLES)
    if tokens == 1:
        return np.ones(ANGLES)
    if key_dim == 1:
        # Queries are numbers: of one sign they agree, of two signs best and worst change places.
        return 1.0 - theta / np.pi
    if not math.isinf(key_dim):
        return _over_queries(theta, tokens, int(key_dim))
    inner = [_same_best_key(angle, tokens) for angle in theta[1:-1]]
    return np.array([1.0, *inner, 0.0])


def _same_best_key(theta: float, tokens: int) -> float:
    z = np.linspace(-WIDTH, WIDTH, NODES)
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    along, across = math.cos(theta / 2) * z[:, None], math.sin(theta / 2) * z[None, :]
    below = _bivariate_cdf(along + across, along - across, math.cos(theta))
    return float(tokens * (weights @ below ** (tokens - 1) @ weights))


def _bivariate_cdf(h: np.ndarray, k: np.ndarray, rho: float) -> np.ndarray:
    """P[u < h, v < k] of a normal pair of correlation rho in (-1, 1), by Owen's T function."""
    from scipy.special import ndtr, owens_t

    side = math.sqrt(1.0 - rho**2)
    # Owen's formula divides by h and k; a shift far below its accuracy keeps them off zero.
    h, k = (np.where(np.abs(x) < 1e-12, 1e-12, x) for x in (h, k))
    found = 0.5 * (ndtr(h) + ndtr(k) - (h * k < 0))
    found -= owens_t(h, (k - rho * h) / (h * side)) + owens_t(k, (h - rho * k) / (k * side))
    return np.clip(found, 0.0, 1.0)


def _over_queries(theta: np.ndarray, tokens: int, degrees: int) -> np.ndarray:
    """The mean of g over pairs of queries in R^degrees with correlation cos(theta)."""
    if degrees < FEW:
        angles, weights = sample_angles(theta[1:-1], degrees)
        inner = np.sum(interpolate(angles / np.pi, _table(tokens, math.inf)) * weights, axis=-1)
        return np.array([1.0, *inner, 0.0])
    grid, weights = wishart(degrees, BARTLETT)
    cos, sin = np.cos(theta)[:, None], np.sin(theta)[:, None]
    angles = np.arctan2(sin * grid[:, 2], cos * grid[:, 0] + sin * grid[:, 1])
    return interpolate(angles / np.pi, _table(tokens, math.inf)) @ weights
