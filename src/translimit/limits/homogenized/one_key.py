r"""How concentrated random attention is: the averages f and g of softmax weights, by quadrature.

For n keys with independent Gaussian logits u of standard deviation sigma, pi = softmax(u), and a
second query whose logits v have the correlation rho with u key by key,

    F_n(sigma) = E sum_k pi_k^2 = n int_0^inf t E[e^{2u - t e^u}] (E e^{-t e^u})^{n-1} dt,
    G_n(sigma; rho) = E sum_k pi_k pi'_k = n int int psi_st psi^{n-1} ds dt,
    psi(s, t) = E e^{-s e^u - t e^v},    psi_st = E e^{u + v - s e^u - t e^v}.

The integrals over log s and log t, and over standard normals, are sums over equal spacings, which
converge exponentially. The spacing resolves the width 1 / sigma of e^{-t e^{sigma z}} up to
`LARGEST_STD`. Two ways lead to psi:

- The part that two logits share: u = m + a, v = +-m + b with m, a and b independent, of the
  variances |rho| sigma^2 and (1 - |rho|) sigma^2. Given m the two factor, psi(s, t) =
  E_m[L(s e^m) L(t e^{+-m})], L(s) = E e^{-s e^a}: one function of log s + m, on one grid.
- The Hermite (Mehler) series of the bivariate normal, sum_k rho^k h_k(z) h_k(z'), which makes psi a
  product of matrices, and many of them from the coefficients of few functions (`averages`). What it
  leaves out grows with |rho|: at |rho| = 1 it is 1e-7 at sigma = 4 and 7e-4 at 16.

`agreement` goes the first way, and the second one where little is shared, which the grid would not
resolve and where the series is exact. F and G are accurate to 1e-9 at every sigma up to
`LARGEST_STD` and every rho; traced beyond, they are NaN. At sigma = infinity one key takes all, and
the averages are those of `hardmax`.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    ArgumentError,
    ArrayInput,
    Number,
    in_float64,
    is_traced,
    require_count,
)
from translimit.describe import require_cosine, require_strength
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
#: The least standard deviation of the shared part of two logits, in spacings of log t, that is
#: summed over that grid: the sum over a normal then errs by e^{-2 pi^2 2^2} at most.
LEAST_SHARED = 2.0


def concentration(tokens: int, score_std: ArrayInput) -> Number:
    """F_n(sigma) = E sum_k pi_k^2 of n independent scores; 1 / n at sigma = 0, 1 at infinity.

    Args:
        tokens: n, at least 1.
        score_std: sigma, in [0, 16] or infinite; may be traced.

    Raises:
        ArgumentError: outside these ranges.
        PrecisionError: traced with 64-bit mode off.

    Examples:
        >>> from translimit.limits.homogenized import concentration
        >>> round(float(concentration(4, 1.5)), 5)
        0.49223
    """
    sigma = require_score_std(score_std)
    sizes = resolution_of(sigma), require_count(tokens, "tokens", 1)
    if is_infinite(sigma):
        return np.float64(1.0)
    return in_float64(_compiled_F(*sizes), sigma)


def agreement(score_std: ArrayInput, correlation: ArrayInput, tokens: int) -> Number:
    """G_n(sigma; rho) = E sum_k pi_k pi'_k of two queries.

    Accurate to 1e-9 at every correlation, and differentiable there.

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


def resolution_of(score_std: Number) -> Resolution:
    """The sums that resolve scores of this size; the sharper ones where it is traced."""
    mild = not is_traced(score_std) and score_std <= MILD_STD
    return Resolution.MILD if mild else Resolution.SHARP


def require_score_std(score_std: ArrayInput) -> Number:
    """A standard deviation of scores that the quadrature resolves, or infinity.

    Raises:
        ArgumentError: negative, NaN, or finite and beyond 16.
    """
    if is_traced(score_std):  # beyond the quadrature the averages are NaN, at infinity as well
        traced = jnp.asarray(score_std)
        return eqx.error_if(traced, ~(traced >= 0), "score_std: pass a number of at least 0")
    sigma, infinite = require_strength(score_std, "score_std")
    if not infinite and sigma > LARGEST_STD:
        raise ArgumentError(
            "score_std",
            f"got {float(sigma):g}, beyond what the quadrature resolves",
            f"pass at most {LARGEST_STD:g} or infinity, or sample with attention_overlap",
        )
    return sigma


def is_infinite(score_std: Number) -> bool:
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


def shared_sum(sigma: Array, rho: Array, tokens: int, resolution: Resolution) -> Float[Array, ""]:
    """G_n of two queries whose logits share a part, of deviation |rho|^(1/2) sigma."""
    z, weights = _hermite(resolution)
    y = log_times(sigma, tokens, resolution)
    spacing = y[1] - y[0]
    shared = sigma * jnp.sqrt(jnp.abs(rho))
    # The added square of 1e-8 keeps the derivative at |rho| = 1, where L depends on own^2 alone.
    own = jnp.sqrt(sigma**2 * (1.0 - jnp.abs(rho)) + 1e-16)
    # m = k spacing for |m| <= WIDTH shared: most where sigma is the largest, and tokens is one.
    largest = LARGEST_STD if resolution is Resolution.SHARP else MILD_STD
    most = int(WIDTH * largest * len(y) / (12.0 * largest + 30.0)) + 2
    k = np.arange(-most, most + 1)
    density = jnp.exp(-((k * spacing / shared) ** 2) / 2) * spacing / shared / np.sqrt(2 * np.pi)
    points = y[0] + spacing * np.arange(-most, len(y) + most)
    x = jnp.exp(jnp.minimum(points[:, None] + own * z, 700.0))
    decay = jnp.exp(-x)
    # E e^{-x} and E x e^{-x} at log s + m, by rows of s and columns of m.
    index = np.arange(len(y))[:, None] + np.arange(len(k))
    means = decay @ weights[0], jnp.where(decay > 0, x * decay, 0.0) @ weights[0]
    psi, both = (
        (rows * density) @ jnp.where(rho < 0, rows[:, ::-1], rows).T
        for rows in (mean[index] for mean in means)
    )
    return tokens * jnp.sum(both * jnp.clip(psi, 0.0, 1.0) ** (tokens - 1)) * spacing**2


def _or_nan(sigma: Array, value: Array) -> Array:
    """The value, or NaN where a traced sigma is beyond the quadrature."""
    return jnp.where((sigma >= 0.0) & (sigma <= LARGEST_STD), value, jnp.nan)


@functools.cache
def _compiled_F(resolution: Resolution, tokens: int) -> Callable[..., Array]:
    return jax.jit(lambda sigma: _or_nan(sigma, single_sum(sigma, tokens, resolution)))


@functools.cache
def _compiled_G(resolution: Resolution, tokens: int) -> Callable[..., Array]:
    def by_series(sigma: Array, rho: Array) -> Array:
        y = log_times(sigma, tokens, resolution)
        one = coefficients(sigma, y, resolution)
        return double_sum(one, one, rho, y, tokens)

    def agreement(sigma: Array, rho: Array) -> Array:
        y = log_times(sigma, tokens, resolution)
        shares = sigma**2 * jnp.abs(rho) > (LEAST_SHARED * (y[1] - y[0])) ** 2
        # Under vmap both are computed: the numbers of the one that is not wanted must be ordinary.
        safe = jnp.where(shares, sigma, 1.0), jnp.where(shares, rho, 1.0)
        value = jax.lax.cond(
            shares,
            lambda: shared_sum(*safe, tokens, resolution),
            lambda: by_series(sigma, rho),
        )
        return _or_nan(sigma, value)

    return jax.jit(agreement)


@functools.cache
def _compiled_hard(tokens: int) -> Callable[..., Array]:
    return jax.jit(HardAgreement(tokens, np.inf))
