r"""Kernels of activations and of their derivatives, for two correlated centred Gaussians u, v.

    kappa = E phi(u) phi(v),      kappa' = E phi'(u) phi'(v) = d kappa / d cov(u, v)   (Price)

ReLU, its square and GELU have closed forms. For the others phi(s z) = sum_k a_k(s) h_k(z) in
normalised Hermite polynomials, and likewise phi' with b_k (Mehler's formula), so that

    kappa = sum_k a_k(s_u) a_k(s_v) rho^k,     kappa' = sum_k b_k(s_u) b_k(s_v) rho^k,

with coefficients by Gauss-Hermite quadrature. What the series leaves out is largest at rho = 1,
where E phi(u)^2 is known by plain quadrature (`kernel_error`).

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import ArgumentError, in_float64, nearest, require_real
from translimit.describe import Activation
from translimit.limits.signal.norms import lengths

#: Nodes of the quadrature, and terms of the series.
NODES, TERMS = 120, 60
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
    stds = lengths(cov)
    safe = jnp.where(stds > 0, stds, 1.0)
    rho = jnp.clip(cov / (safe[:, None] * safe[None, :]), -1.0, 1.0)
    rho = jnp.where((stds[:, None] > 0) & (stds[None, :] > 0), rho, 0.0)
    closed = _CLOSED.get(activation)
    if closed is not None:
        return closed(stds[:, None], stds[None, :], rho)
    return (
        _series(_coefficients(activation, stds), rho),
        _series(_coefficients(jax.grad(lambda x: activation(x)), stds), rho),
    )


def _series(coefficients: Array, rho: Array) -> Array:
    total = jnp.zeros_like(rho)
    for row in reversed(range(TERMS)):  # Horner's scheme in rho
        a = coefficients[:, row]
        total = total * rho + a[:, None] * a[None, :]
    return total


def _coefficients(function: Callable[[Array], Array], stds: Array) -> Array:
    """E f(s z) h_k(z) for every standard deviation s [tokens, terms]."""
    nodes, projection = _hermite()
    values = jax.vmap(jax.vmap(function))(stds[:, None] * nodes)
    return values @ projection


@functools.cache
def _hermite() -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite nodes, and the weights that project on normalised polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    table = np.ones((TERMS, NODES))
    table[1] = nodes
    for k in range(1, TERMS - 1):
        table[k + 1] = (nodes * table[k] - np.sqrt(k) * table[k - 1]) / np.sqrt(k + 1)
    return nodes, (table * (weights / weights.sum())).T


def _linear(s: Array, t: Array, rho: Array) -> tuple[Array, Array]:
    return s * t * rho, jnp.ones_like(s * t * rho)


@jax.custom_jvp
def _first_arc(rho: Array) -> Array:
    """J_1 = sin t + (pi - t) cos t, t = arccos rho; its derivative pi - t holds at rho = 1."""
    return jnp.sqrt(1.0 - rho**2) + (math.pi - jnp.arccos(rho)) * rho


@_first_arc.defjvp
def _first_arc_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (rho,), (change,) = primals, tangents
    return _first_arc(rho), (math.pi - jnp.arccos(rho)) * change


@jax.custom_jvp
def _second_arc(rho: Array) -> Array:
    """J_2 = 3 sin t cos t + (pi - t) (1 + 2 cos^2 t), of derivative 4 J_1."""
    rest = (math.pi - jnp.arccos(rho)) * (1 + 2 * rho**2)
    return 3 * jnp.sqrt(1.0 - rho**2) * rho + rest


@_second_arc.defjvp
def _second_arc_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (rho,), (change,) = primals, tangents
    return _second_arc(rho), 4 * _first_arc(rho) * change


def _relu(s: Array, t: Array, rho: Array) -> tuple[Array, Array]:
    derivative = (math.pi - jnp.arccos(rho)) / (2 * math.pi)
    return s * t * _first_arc(rho) / (2 * math.pi), derivative * jnp.ones_like(s * t)


def _relu_squared(s: Array, t: Array, rho: Array) -> tuple[Array, Array]:
    kernel = (s * t) ** 2 * _second_arc(rho) / (2 * math.pi)
    return kernel, 2 * s * t / math.pi * _first_arc(rho)


def _gelu(s: Array, t: Array, rho: Array) -> tuple[Array, Array]:
    a, b, c = s**2, t**2, s * t * rho
    outer = (1 + a) * (1 + b)
    r = jnp.sqrt(outer - c**2)
    share = 0.25 + jnp.arcsin(c / jnp.sqrt(outer)) / (2 * math.pi)
    top = a * b + c**2 * (1 - a * b) / outer
    kernel = c * share + top / (2 * math.pi * r)
    inner = c + 2 * c * (1 - a * b) / outer + top * c / r**2
    return kernel, share + inner / (2 * math.pi * r)


_CLOSED: dict[Activation, Callable[[Array, Array, Array], tuple[Array, Array]]] = {
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
    return float(abs(in_float64(_share_of_the_series, activation, np.float64(std)) - 1.0))


@functools.partial(jax.jit, static_argnums=0)
def _share_of_the_series(activation: Activation, std: Float[Array, ""]) -> Float[Array, ""]:
    """The series of E phi(u)^2 over its value."""
    z = np.linspace(-9.0, 9.0, 40_001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    series = jnp.sum(_coefficients(activation, std[None]) ** 2)
    return series / (density @ activation(std * z) ** 2)
