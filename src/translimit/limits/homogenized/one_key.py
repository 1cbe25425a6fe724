r"""How concentrated random attention is: the averages f and g of softmax weights, by quadrature.

For n keys with independent Gaussian logits u of standard deviation sigma, pi = softmax(u), and a
second query whose logits v have the correlation rho with u key by key,

    F_n(sigma) = E sum_k pi_k^2 = n int_0^inf t E[e^{2u - t e^u}] (E e^{-t e^u})^{n-1} dt,
    G_n(sigma; rho) = E sum_k pi_k pi'_k = n int int psi_st psi^{n-1} ds dt,
    psi(s, t) = E e^{-s e^u - t e^v},    psi_st = E e^{u + v - s e^u - t e^v}.

The integrals over log s and log t, and over standard normals, are sums over equal spacings, which
converge exponentially; the bivariate normal enters by its Hermite (Mehler) series
sum_k rho^k h_k(z) h_k(z'), so that psi is a product of matrices. The spacing resolves the width
1 / sigma of e^{-t e^{sigma z}}; F is accurate to 1e-9 up to `LARGEST_STD`, and so is G up to
|rho| = 0.9. What the series leaves out grows with |rho|: at |rho| = 1 it is 1e-7 at sigma = 4 and
7e-4 at 16. At sigma = infinity one key takes all, and the averages are those of `hardmax`.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import ArgumentError, in_float64, is_traced
from translimit.describe import require_cosine, require_count, require_strength
from translimit.limits.homogenized.hardmax import HardAgreement

#: Beyond this the sums do not resolve the logits.
LARGEST_STD = 16.0
#: Standard normals are summed over [-WIDTH, WIDTH].
WIDTH = 9.0


class Resolution(enum.Enum):
    """Nodes of a standard normal, nodes of log t, and terms of the Hermite series."""

    MILD = (256, 288, 96)
    SHARP = (640, 640, 160)


#: Up to this the milder sums are as accurate.
MILD_STD = 4.0


def concentration(score_std: Any, tokens: int) -> Any:
    """F_n(sigma) = E sum_k pi_k^2 of n independent logits; 1 / n at sigma = 0, 1 at infinity.

    Args:
        score_std: sigma, in [0, 16] or infinite.
        tokens: n, at least 1.

    Raises:
        ArgumentError: outside these ranges.
        PrecisionError: traced with 64-bit mode off.

    Examples:
        >>> from translimit.limits.homogenized import concentration
        >>> round(float(concentration(1.5, 4)), 5)
        0.49223
    """
    sigma = require_score_std(score_std)
    sizes = resolution_of(sigma), require_count(tokens, "tokens", 1)
    if is_infinite(sigma):
        return np.float64(1.0)
    return in_float64(_compiled_F(*sizes), sigma)


def agreement(score_std: Any, correlation: Any, tokens: int) -> Any:
    """G_n(sigma; rho) = E sum_k pi_k pi'_k of two queries.

    Accurate to 1e-9 up to |rho| = 0.9; at |rho| = 1 to 2e-7 at sigma = 4, and to 1e-3 at 16.

    Args:
        score_std: sigma, in [0, 16] or infinite.
        correlation: rho of the two logits of a key, in [-1, 1].
        tokens: n, at least 1.

    Raises:
        ArgumentError: outside these ranges.
        PrecisionError: traced with 64-bit mode off.
    """
    sigma = require_score_std(score_std)
    rho = require_cosine(correlation, "correlation")
    count = require_count(tokens, "tokens", 1)
    if is_infinite(sigma):
        return in_float64(_compiled_hard(count), rho)
    return in_float64(_compiled_G(resolution_of(sigma), count), sigma, rho)


def resolution_of(score_std: Any) -> Resolution:
    """The sums that resolve scores of this size; the sharper ones where it is traced."""
    mild = not is_traced(score_std) and score_std <= MILD_STD
    return Resolution.MILD if mild else Resolution.SHARP


def require_score_std(score_std: Any) -> Any:
    """A standard deviation of scores that the quadrature resolves, or infinity.

    Raises:
        ArgumentError: negative, NaN, or finite and beyond 16.
    """
    sigma, infinite = require_strength(score_std, "score_std")
    if not infinite and not is_traced(sigma) and sigma > LARGEST_STD:
        raise ArgumentError(
            "score_std",
            f"got {float(sigma):g}, beyond what the quadrature resolves",
            f"pass at most {LARGEST_STD:g} or infinity, or sample with attention_overlap",
        )
    return sigma


def is_infinite(score_std: Any) -> bool:
    """Whether scores are infinite; traced ones count as finite."""
    return not is_traced(score_std) and bool(np.isinf(score_std))


@functools.cache
def _hermite(resolution: Resolution) -> tuple[np.ndarray, np.ndarray]:
    """Nodes z [nodes], and weights h_k(z) phi(z) dz [terms, nodes] of orthonormal h_k."""
    nodes, _, terms = resolution.value
    z = np.linspace(-WIDTH, WIDTH, nodes)
    # Hermite functions h_k phi^{1/2}, whose recurrence does not overflow.
    root = np.exp(-(z**2) / 4) / (2 * np.pi) ** 0.25
    rows = [root, z * root]
    for k in range(2, terms):
        rows.append((z * rows[-1] - np.sqrt(k - 1) * rows[-2]) / np.sqrt(k))
    return z, np.stack(rows) * root * (z[1] - z[0])


def log_times(sigma: Array, tokens: int, resolution: Resolution) -> Float[Array, " times"]:
    """Nodes of log t that hold the integrand."""
    unit = jnp.linspace(0.0, 1.0, resolution.value[1])
    low = -6.0 * sigma - jnp.log(float(tokens)) - 24.0
    return low + unit * (6.0 * sigma + 6.0 - low)


def coefficients(
    sigma: Array, y: Float[Array, " times"], resolution: Resolution
) -> tuple[Float[Array, "times terms"], Float[Array, "times terms"]]:
    """Hermite coefficients of e^{-x} and x e^{-x}, x = e^{y + sigma z}."""
    z, weights = _hermite(resolution)
    x = jnp.exp(jnp.minimum(y[:, None] + sigma * z, 700.0))
    decay = jnp.exp(-x)
    return decay @ weights.T, jnp.where(decay > 0, x * decay, 0.0) @ weights.T


def single_sum(sigma: Array, tokens: int, resolution: Resolution) -> Float[Array, ""]:
    """F_n(sigma)."""
    z, weights = _hermite(resolution)
    y = log_times(sigma, tokens, resolution)
    x = jnp.exp(jnp.minimum(y[:, None] + sigma * z, 700.0))
    decay = jnp.exp(-x)
    psi = decay @ weights[0]
    second = jnp.where(decay > 0, x**2 * decay, 0.0) @ weights[0]
    return tokens * jnp.sum(second * psi ** (tokens - 1)) * (y[1] - y[0])


def double_sum(
    first: tuple[Array, Array], second: tuple[Array, Array], rho: Array, y: Array, tokens: int
) -> Float[Array, ""]:
    """G_n of two queries with these coefficients, their logits correlated by rho."""
    powers = rho ** jnp.arange(first[0].shape[1])
    psi = jnp.clip((first[0] * powers) @ second[0].T, 0.0, 1.0)
    both = (first[1] * powers) @ second[1].T
    return tokens * jnp.sum(both * psi ** (tokens - 1)) * (y[1] - y[0]) ** 2


@functools.cache
def _compiled_F(resolution: Resolution, tokens: int) -> Callable[..., Array]:
    return jax.jit(lambda sigma: single_sum(sigma, tokens, resolution))


@functools.cache
def _compiled_G(resolution: Resolution, tokens: int) -> Callable[..., Array]:
    def both(sigma: Array, rho: Array) -> Array:
        y = log_times(sigma, tokens, resolution)
        one = coefficients(sigma, y, resolution)
        return double_sum(one, one, rho, y, tokens)

    return jax.jit(both)


@functools.cache
def _compiled_hard(tokens: int) -> Callable[..., Array]:
    return jax.jit(HardAgreement(tokens, np.inf))
