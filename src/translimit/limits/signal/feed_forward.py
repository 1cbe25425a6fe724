r"""Feed-forward blocks as terms, plain and gated, and their gradients.

With gamma_1 = d_m sigma_2^2 and kernels kappa, kappa' of the inputs' covariance w_1 K,

    U = gamma_1 kappa                      Y = gamma_1 w_1 kappa' * B                  (plain)
    U = gamma_1 kappa * (w_up K + shift^2)
    Y = gamma_1 [w_1 kappa' * (w_up K + shift^2) + w_up kappa] * B                     (gated)

for a gradient with Gram matrix B at the output and Y below the block (products entry by entry).

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.describe import FeedForward
from translimit.limits.signal.kernels import kernel_slopes, kernels


class Units(NamedTuple):
    """A block's average output and the factors of its gradient.

    Attributes:
        out: U [n, n].
        through_in: what B is multiplied with on its way through W_1 [n, n].
        through_up: likewise through W_up; zeros where there is none.
    """

    out: Array
    through_in: Array
    through_up: Array


def units(block: FeedForward, dim: int, cov: Float[Array, "n n"]) -> Units:
    """The average of a block over its weights.

    Args:
        block: the block.
        dim: of the tokens.
        cov: K, of what it reads.
    """
    gain = block.width * block.out_std**2
    w_in = dim * block.in_std**2
    kernel, derivative = kernels(block.activation, w_in * cov)
    if not block.gated:
        return Units(gain * kernel, gain * w_in * derivative, jnp.zeros_like(cov))
    w_up = w_in if block.up_std is None else dim * block.up_std**2
    up = w_up * cov + block.shift**2
    return Units(gain * kernel * up, gain * w_in * derivative * up, gain * w_up * kernel)


def pull_units(
    block: FeedForward, dim: int, cov: Float[Array, "n n"], slopes: Float[Array, "m n n"]
) -> Float[Array, "m n n"]:
    """Derivatives of tr(S U) with respect to K for matrices S.

    Args:
        block: the block.
        dim: of the tokens.
        cov: K, of what it reads.
        slopes: the matrices S, symmetric.
    """
    gain = block.width * block.out_std**2
    w_in = dim * block.in_std**2
    kernel, derivative, of_variance = kernel_slopes(block.activation, w_in * cov)
    up, w_up = jnp.ones_like(cov), 0.0
    if block.gated:
        w_up = w_in if block.up_std is None else dim * block.up_std**2
        up = w_up * cov + block.shift**2
    whole = gain * (w_in * derivative * up + w_up * kernel) * slopes
    by_token = 2 * gain * w_in * jnp.sum(slopes * up * of_variance, axis=2)
    return whole + by_token[:, :, None] * jnp.eye(len(cov))
