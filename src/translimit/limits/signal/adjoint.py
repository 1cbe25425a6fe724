r"""A sub-block's adjoint: the derivative of a scalar of the last covariance, passed downwards.

For f of the covariance that leaves, Lambda = df / dC at every place by reverse mode through

    K = N_in(C),   U = sum_r U_r(K),   Z = a^2 C + b^2 N_out(U),   C <- N_post(Z),

with the sampled heads held fixed. Routers choose experts, and a fixed choice has no derivative: of
the routings' overlap A, a function of the angle t = arccos R and of the variance v of the logits,
the derivatives are those of a Chebyshev series in the angle.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import Key
from translimit.describe import (
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    Normalisation,
    SubBlock,
)
from translimit.limits.signal.attention import pull_average
from translimit.limits.signal.experts import routing, routing_overlap, shared_units
from translimit.limits.signal.feed_forward import pull_units, units
from translimit.limits.signal.norms import overlaps, pull_norm, scaled, scales
from translimit.limits.signal.sub_blocks import ROUTERS, Passed

#: Nodes of the Chebyshev series in the angle, and pairs of logits drawn at each.
NODES, DRAWS = 9, 2048
#: Half the relative difference of variances of logits for the derivative with respect to them.
STEP = 0.05
#: The sine of the angle below which two tokens are equal: their overlap has no noise.
LEAST_SINE = 1e-6


class Adjoint(NamedTuple):
    """Derivatives of scalars at the places of a sub-block, symmetric.

    Attributes:
        below: with respect to C that entered [m, n, n].
        out: to U of the branches, before the norm of the output.
        sum: to Z.
    """

    below: Array
    out: Array
    sum: Array


def adjoint(
    block: SubBlock,
    dim: int,
    causal: bool,
    share: float,
    passed: Passed,
    above: Float[Array, "m n n"],
    key: Key,
    pairs: Array,
    joined: Array | int | None = None,
) -> Adjoint:
    """Pass a sub-block downwards.

    Args:
        block: the sub-block, of no latent attention.
        dim: of the tokens.
        causal: whether a token sees only itself and the tokens before it.
        share: what is left of an output whose mean is removed.
        passed: the way forward.
        above: derivatives with respect to C that leaves.
        key: of the way forward.
        pairs: antithetic pairs of heads of the way forward.
        joined: how many of the derivatives are wanted, the first; all by default.
    """
    of_sum = pull_norm(block.norm_post, passed.sum, above)
    of_out = jnp.asarray(pull_norm(block.norm_out, passed.out, block.branch**2 * of_sum))
    read = scaled(passed.before, scales(block.norm_in, passed.before))
    of_read = jnp.zeros_like(of_out)
    for number, branch in enumerate(block.branches):
        own = jax.random.fold_in(key, number)
        if isinstance(branch, Attention):
            pulled = pull_average(branch, dim, causal, read, of_out, own, pairs, joined)
        elif isinstance(branch, FeedForward):
            pulled = pull_units(branch, dim, read, of_out)
        else:
            assert not isinstance(branch, LatentAttention)  # refused by `spread`
            pulled = _experts(branch, dim, read, of_out, own, ROUTERS * pairs)
        of_read = of_read + share * pulled
    below = block.residual**2 * of_sum + pull_norm(block.norm_in, passed.before, of_read)
    return Adjoint(*map(jnp.asarray, (below, of_out, of_sum)))


def _experts(
    block: Experts, dim: int, read: Array, above: Float[Array, "m n n"], key: Key, draws: Array
) -> Float[Array, "m n n"]:
    chosen = routing_overlap(block, dim, read, key, draws)
    expert = units(block.expert, dim, read).out
    below = pull_units(block.expert, dim, read, above * chosen)
    below = below + _routing(block, dim, read, above * expert, jax.random.fold_in(key, 1))
    beside = shared_units(block, dim, read)
    if beside is None or block.shared is None:
        return below
    shared, weight = beside
    below = below + pull_units(block.shared, dim, read, above * weight.out)
    gate = block.shared_gate
    return below if gate is None else below + pull_units(gate, dim, read, above * shared.out)


def _routing(
    block: Experts, dim: int, read: Array, above: Float[Array, "m n n"], key: Key
) -> Float[Array, "m n n"]:
    """Derivatives through the overlap of routings."""
    squares = jnp.diagonal(read)
    seen = squares > 0
    mean = jnp.sum(squares) / jnp.maximum(jnp.sum(seen), 1)
    series = [_series(block, dim, mean * (1 + one), key) for one in (-STEP, 0.0, STEP)]
    angle = jnp.arccos(jnp.clip(overlaps(read), -1.0, 1.0))
    x = 2 * angle / jnp.pi - 1
    slope = _chebyshev(np.polynomial.chebyshev.chebder, series[1], x) * 2 / jnp.pi
    sine = jnp.sin(angle)
    apart = (sine > LEAST_SINE) & seen[:, None] & seen[None, :]
    of_overlap = jnp.where(apart, -slope / jnp.where(apart, sine, 1.0), 0.0)
    below = jnp.asarray(pull_norm(Normalisation(), read, above * of_overlap))
    # With respect to the logarithm of a token's variance: half of each of the two.
    of_log = _chebyshev(lambda c: c, (series[2] - series[0]) / (2 * STEP), x)
    total = jnp.sum(above * of_log * seen[:, None] * seen[None, :], axis=2)
    by_token = total / jnp.where(seen, squares, 1.0)
    return below + by_token[:, :, None] * jnp.eye(len(read))


def _series(block: Experts, dim: int, square: Array, key: Key) -> Float[Array, " nodes"]:
    """Chebyshev coefficients of A in the angle, for logits of tokens of this mean square."""
    place = np.pi * (np.arange(NODES) + 0.5) / NODES
    angles = np.pi * (np.cos(place) + 1) / 2
    first, second, bias = jax.random.split(key, 3)
    shape = (DRAWS, block.count)
    u, w = jax.random.normal(first, shape), jax.random.normal(second, shape)
    common = block.bias_std * jax.random.normal(bias, shape)
    std = jnp.sqrt(dim * square) * block.router_std
    omega = routing(block, std * u + common)

    def overlap(angle: Array) -> Array:
        other = routing(block, std * (jnp.cos(angle) * u + jnp.sin(angle) * w) + common)
        return jnp.mean(jnp.sum(omega * other, axis=1))

    values = jax.lax.map(overlap, jnp.asarray(angles))
    table = np.cos(place[:, None] * np.arange(NODES)) * np.where(np.arange(NODES) > 0, 2, 1) / NODES
    return values @ table


def _chebyshev(
    change: Callable[[np.ndarray], np.ndarray], coefficients: Array, x: Array
) -> Float[Array, "n n"]:
    """A Chebyshev series whose coefficients are changed linearly, at x in [-1, 1]."""
    table = np.stack([np.pad(row := change(one), (0, NODES - len(row))) for one in np.eye(NODES)])
    angle = jnp.arccos(jnp.clip(x, -1.0, 1.0))
    return jnp.cos(angle[:, :, None] * np.arange(NODES)) @ (coefficients @ table)
