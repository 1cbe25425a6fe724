r"""Kernels of activations and of their derivatives, for two correlated centred Gaussians u, v.

    kappa = E phi(u) phi(v),      kappa' = E phi'(u) phi'(v) = d kappa / d cov(u, v)   (Price),
    kappa_a = E phi''(u) phi(v) / 2 = d kappa / d var(u).

ReLU, its square and GELU have closed forms. For the others phi(s z) = sum_k a_k(s) h_k(z) in
normalised Hermite polynomials (Mehler's formula). By parts E phi'(s z) h_k = (k + 1)^{1/2} a_{k+1}
/ s =: b_k, and likewise c_k for phi'' / 2, so that

    kappa = sum_k a_k(s_u) a_k(s_v) rho^k,     kappa' = sum_k b_k b_k rho^k,
    kappa_a = sum_k c_k(s_u) a_k(s_v) rho^k,

with coefficients by Gauss-Hermite quadrature, and as many terms as these inputs need. What the
series leaves out is largest at rho = 1, where E phi(u)^2 is known by plain quadrature
(`kernel_error`).

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import ArgumentError, in_float64, kept_jit, nearest, require_real
from translimit.describe import Activation
from translimit.limits.signal.norms import lengths, mirrored, row_blocks

#: Kernel, derivative kernel, and the derivative of the kernel to the variance of u.
_Three: TypeAlias = tuple[Array, Array, Array]

#: Nodes of the quadrature, and terms of the series at most.
NODES, TERMS = 120, 60
#: Terms beyond which less than this share of E phi(u)^2 and E phi'(u)^2 is left are not summed, in
#: double and in single precision: below what the latter rounds.
LEFT_OUT, LEFT_OUT_SINGLE = 1e-10, 1e-8
#: Deviations below this count as this one, in what is divided by them.
LEAST_STD = 1e-4
#: A kernel whose relative error exceeds this is refused.
LARGEST_ERROR = 0.01


def activation_kernel(
    name: str | Activation, a: float | int, b: float | int, c: float | int
) -> tuple[float, float]:
    """Kernel and derivative kernel of an activation for covariance ((a, c), (c, b)), in float64.

    Args:
        name: of the activation, as configurations have it.
        a: variance of u.
        b: variance of v.
        c: their covariance.

    Raises:
        ArgumentError: an unknown name; no covariance matrix.

    Examples:
        >>> kernel, derivative = activation_kernel("gelu", 0.3, 0.5, 0.2)
        >>> round(kernel, 8), round(derivative, 8)
        (0.07385666, 0.31800372)
    """
    a, b, c = (require_real(x, word) for x, word in ((a, "a"), (b, "b"), (c, "c")))
    if a < 0 or b < 0 or c * c > a * b * (1 + 1e-12):
        raise ArgumentError("c", f"got {c:g} with a = {a:g}, b = {b:g}", "pass |c| <= (a b)^(1/2)")
    activation = _activation(name)
    cov = np.array([[a, c], [c, b]])
    kernel, derivative = in_float64(kernels, activation, cov)
    return float(kernel[0, 1]), float(derivative[0, 1])


def _activation(name: str | Activation) -> Activation:
    if isinstance(name, Activation):
        return name
    known = {one.value: one for one in Activation}
    if name not in known:
        raise ArgumentError("name", f"unknown activation {name!r}", nearest(name, known))
    return known[name]


@functools.partial(jax.jit, static_argnums=0)
def kernels(
    activation: Activation, cov: Float[Array, "tokens tokens"]
) -> tuple[Float[Array, "tokens tokens"], Float[Array, "tokens tokens"]]:
    """Kernel and derivative kernel for all pairs of u ~ N(0, cov).

    Args:
        activation: phi.
        cov: covariance of the inputs; the diagonal may vary, and may vanish.
    """
    stds, rho = _stds_and_overlaps(cov)
    closed = _CLOSED.get(activation)
    if closed is None:
        a, b, _ = _coefficients(activation, stds)
        kernel, derivative = _series(((a, a), (b, b)), rho, symmetric=True)
        return kernel, derivative
    return closed(stds[:, None], stds[None, :], rho)[:2]


def kernel_slopes(
    activation: Activation, cov: Float[Array, "tokens tokens"]
) -> tuple[
    Float[Array, "tokens tokens"], Float[Array, "tokens tokens"], Float[Array, "tokens tokens"]
]:
    """Kernel, derivative kernel and the kernel's derivative to the variance of u (rows).

    Args:
        activation: phi.
        cov: covariance of the inputs; the diagonal may vary, and may vanish.
    """
    stds, rho = _stds_and_overlaps(cov)
    closed = _CLOSED.get(activation)
    if closed is None:
        a, b, c = _coefficients(activation, stds)
        kernel, derivative, slope = _series(((a, a), (b, b), (c, a)), rho, symmetric=False)
        return kernel, derivative, slope
    return closed(stds[:, None], stds[None, :], rho)


def _stds_and_overlaps(cov: Array) -> tuple[Array, Array]:
    stds = lengths(cov)
    safe = jnp.where(stds > 0, stds, 1.0)
    rho = jnp.clip(cov / (safe[:, None] * safe[None, :]), -1.0, 1.0)
    return stds, jnp.where((stds[:, None] > 0) & (stds[None, :] > 0), rho, 0.0)


def _series(
    factors: tuple[tuple[Array, Array], ...], rho: Array, *, symmetric: bool
) -> list[Array]:
    """sum_k f_k(s_i) g_k(s_j) rho^k for pairs of coefficients [tokens, terms], by Horner.

    Of many tokens in blocks of rows, which stay near the processor, and of symmetric sums (f = g)
    the lower half. One loop for each sum: what nobody reads is not computed.
    """
    tails = [jnp.cumsum(jnp.max(f**2, axis=0)[::-1])[::-1] for f, _ in factors[:2]]
    left_out = LEFT_OUT_SINGLE if rho.dtype == jnp.float32 else LEFT_OUT
    terms = jnp.max(jnp.stack([jnp.sum(tail > left_out * tail[0]) for tail in tails]))
    blocks = row_blocks(True, len(rho))

    def rows(f: Array, g: Array, low: int, high: int) -> Array:
        last = high if symmetric else len(rho)
        own = rho[low:high, :last]
        left, right = (one.T.astype(rho.dtype) for one in (f[low:high], g[:last]))

        def body(step: Array, total: Array) -> Array:
            at = terms - 1 - step
            return total * own + left[at][:, None] * right[at][None, :]

        total = jax.lax.fori_loop(0, terms, body, jnp.zeros_like(own))
        return jnp.pad(total, ((0, 0), (0, len(rho) - last)))

    def whole(f: Array, g: Array) -> Array:
        total = jnp.concatenate([rows(f, g, low, high) for low, high in blocks])
        if not symmetric or len(blocks) == 1:
            return total
        return mirrored(total, terms > 0)

    return [whole(f, g) for f, g in factors]


def _coefficients(activation: Activation, stds: Array) -> _Three:
    """Coefficients of phi, phi' and phi'' / 2 for every standard deviation [tokens, terms]."""
    nodes, projection = _hermite()
    s = jnp.maximum(stds, LEAST_STD)
    # phi(0) apart: what is divided by a small s keeps its digits.
    zero = activation(jnp.zeros(()))
    a = (activation(s[:, None] * nodes) - zero) @ projection
    k = jnp.arange(TERMS)
    b = jnp.sqrt(k + 1) * a[:, 1 : TERMS + 1] / s[:, None]
    c = jnp.sqrt((k + 1) * (k + 2)) / 2 * a[:, 2 : TERMS + 2] / s[:, None] ** 2
    of_phi = jnp.where(stds[:, None] > 0, a[:, :TERMS], 0.0).at[:, 0].add(zero)
    return of_phi, b, c


@functools.cache
def _hermite() -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite nodes, and the weights that project on normalised polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    table = np.ones((TERMS + 2, NODES))
    table[1] = nodes
    for k in range(1, TERMS + 1):
        table[k + 1] = (nodes * table[k] - np.sqrt(k) * table[k - 1]) / np.sqrt(k + 1)
    return nodes, (table * (weights / weights.sum())).T


def _linear(s: Array, t: Array, rho: Array) -> _Three:
    c = s * t * rho
    return c, jnp.ones_like(c), jnp.zeros_like(c)


def _relu(s: Array, t: Array, rho: Array) -> _Three:
    theta, sine = jnp.arccos(rho), jnp.sqrt(1.0 - rho**2)
    kernel = s * t * (sine + (math.pi - theta) * rho) / (2 * math.pi)
    derivative = (math.pi - theta) / (2 * math.pi) * jnp.ones_like(s * t)
    return kernel, derivative, _homogeneous(1, s, s * t * rho, kernel, derivative)


def _relu_squared(s: Array, t: Array, rho: Array) -> _Three:
    theta, sine = jnp.arccos(rho), jnp.sqrt(1.0 - rho**2)
    kernel = (s * t) ** 2 / (2 * math.pi)
    kernel = kernel * (3 * sine * rho + (math.pi - theta) * (1 + 2 * rho**2))
    derivative = 2 * s * t / math.pi * (sine + (math.pi - theta) * rho)
    return kernel, derivative, _homogeneous(2, s, s * t * rho, kernel, derivative)


def _homogeneous(degree: int, s: Array, c: Array, kernel: Array, derivative: Array) -> Array:
    """kappa_a of a function of this degree, by Euler: 2 a kappa_a + c kappa' = degree kappa."""
    a = jnp.where(s > 0, s**2, 1.0)
    return jnp.where(s > 0, (degree * kernel - c * derivative) / (2 * a), 0.0)


def _gelu(s: Array, t: Array, rho: Array) -> _Three:
    a, b, c = s**2, t**2, s * t * rho
    kernel, slope = jax.jvp(lambda a: _gelu_kernel(a, b, c), (a + 0 * c,), (jnp.ones_like(c),))
    outer = (1 + a) * (1 + b)
    r = jnp.sqrt(outer - c**2)
    share = 0.25 + jnp.arcsin(c / jnp.sqrt(outer)) / (2 * math.pi)
    top = a * b + c**2 * (1 - a * b) / outer
    inner = c + 2 * c * (1 - a * b) / outer + top * c / r**2
    return kernel, share + inner / (2 * math.pi * r), slope


def _gelu_kernel(a: Array, b: Array, c: Array) -> Array:
    outer = (1 + a) * (1 + b)
    share = 0.25 + jnp.arcsin(c / jnp.sqrt(outer)) / (2 * math.pi)
    top = a * b + c**2 * (1 - a * b) / outer
    return c * share + top / (2 * math.pi * jnp.sqrt(outer - c**2))


_CLOSED: dict[Activation, Callable[[Array, Array, Array], _Three]] = {
    Activation.LINEAR: _linear,
    Activation.RELU: _relu,
    Activation.RELU_SQUARED: _relu_squared,
    Activation.GELU: _gelu,
}


@functools.cache
def kernel_error(activation: Activation, std: float) -> float:
    """The relative error of E phi(u)^2, the largest of the kernel, for inputs of this deviation.

    Against a sum of 40,001 equal spacings.

    Args:
        activation: phi.
        std: of the inputs.
    """
    if activation in _CLOSED or std == 0.0:
        return 0.0
    nodes, projection = _hermite()
    z = np.linspace(-9.0, 9.0, 40_001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    values = in_float64(_values, activation, std * np.concatenate([nodes, z]))
    series = np.sum((values[:NODES] @ projection[:, :TERMS]) ** 2)
    return float(abs(series / (density @ values[NODES:] ** 2) - 1.0))


@kept_jit(static=1)
def _values(activation: Activation, x: Float[Array, " points"]) -> Float[Array, " points"]:
    return activation(x)
