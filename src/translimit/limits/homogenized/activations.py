r"""The kernel of an activation: E phi(u) phi(v) for two correlated centred Gaussians u, v.

With phi(s z) = sum_k a_k(s) h_k(z) in normalised Hermite polynomials (Mehler's formula),

    E phi(u) phi(v) = sum_k a_k(s_u) a_k(s_v) rho^k,      rho the correlation of u and v,

the a_k by Gauss-Hermite quadrature. The ReLU, whose series converges slowly, has a closed form:
s_u s_v ((1 - rho^2)^{1/2} + rho (pi - arccos rho)) / (2 pi).

The wider the inputs, the slower the series: phi(s z) turns into a function with a corner or a jump.
What it leaves out is largest at rho = 1, where the whole sum is known: E phi(u)^2. The relative
difference there, `kernel_error`, is below 1e-4 for deviations up to 2 and below 1e-3 at every one
for GELU and SiLU; for tanh it is 5e-3 at a deviation of 5, and 5e-2 at 100.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import functools

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from translimit.core import ArgumentError, in_float64
from translimit.describe import Activation

#: Nodes of the quadrature, and terms of the series.
NODES, TERMS = 120, 40
#: A kernel whose relative error exceeds this is refused.
LARGEST_ERROR = 0.01


def activation_kernel(
    activation: Activation, cov: Float[Array, "tokens tokens"]
) -> Float[Array, "tokens tokens"]:
    """E phi(u_i) phi(u_j) for u ~ N(0, cov), for all pairs.

    Args:
        activation: phi.
        cov: covariance of the inputs; the diagonal may vary.
    """
    stds = jnp.sqrt(jnp.diagonal(cov))
    safe = jnp.where(stds > 0, stds, 1.0)
    rho = jnp.clip(cov / (safe[:, None] * safe[None, :]), -1.0, 1.0)
    if activation is Activation.RELU:
        angle = jnp.sqrt(1.0 - rho**2) + rho * (jnp.pi - jnp.arccos(rho))
        return stds[:, None] * stds[None, :] * angle / (2.0 * jnp.pi)
    coefficients = _hermite_coefficients(activation, stds)
    total = jnp.zeros_like(cov)
    for row in reversed(range(TERMS)):  # Horner's scheme in rho
        a = coefficients[:, row]
        total = total * rho + a[:, None] * a[None, :]
    return total


@functools.cache
def kernel_error(activation: Activation, std: float) -> float:
    """The relative error of E phi(u)^2, the largest of the kernel, for inputs of this deviation.

    Against a sum of 40,001 equal spacings.
    """
    if activation is Activation.RELU or std == 0.0:
        return 0.0
    return float(abs(in_float64(_share_of_the_series, activation, np.float64(std)) - 1.0))


@functools.partial(jax.jit, static_argnums=0)
def _share_of_the_series(activation: Activation, std: Float[Array, ""]) -> Float[Array, ""]:
    """The series of E phi(u)^2 over its value."""
    z = np.linspace(-9.0, 9.0, 40_001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    return jnp.sum(_hermite_coefficients(activation, std[None]) ** 2) / (
        density @ activation(std * z) ** 2
    )


def require_kernel(activation: Activation, std: float) -> float:
    """The relative error of the kernel for inputs of deviations up to this, if it is small.

    Raises:
        ArgumentError: it exceeds `LARGEST_ERROR`.
    """
    error = kernel_error(activation, std)
    if not error <= LARGEST_ERROR:
        raise ArgumentError(
            "in_std",
            f"gives inputs of deviation {std:.3g} to {activation.value}, whose kernel is known "
            f"to {error:.0%} there",
            "pass a smaller in_std, or run GramChain, which draws the hidden units",
        )
    return error


def _hermite_coefficients(
    activation: Activation, stds: Float[Array, " tokens"]
) -> Float[Array, "tokens terms"]:
    """a_k(s) = E phi(s z) h_k(z) for every standard deviation s."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    table = np.ones((TERMS, NODES))
    table[1] = nodes
    for k in range(1, TERMS - 1):
        table[k + 1] = (nodes * table[k] - np.sqrt(k) * table[k - 1]) / np.sqrt(k + 1)
    projection = (table * (weights / weights.sum())).T
    return activation(stds[:, None] * nodes) @ projection
