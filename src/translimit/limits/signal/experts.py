r"""Mixtures of experts as a term: overlaps of routings, and the router's gradient.

Experts are independent and centred, so that

    U = A * U_expert(K) + G * U_shared(K),     A_ij = E sum_e omega_e(i) omega_e(j),

with omega the weights that a drawn router gives, and G_ij = E sigmoid(u_i) sigmoid(u_j) where a
gate u of its own weighs the shared block (1 otherwise). Gradients pass an expert as a feed-forward
block with B replaced by A * B, and the router by pulling a d omega of covariance B * U_expert on
the chosen experts back to its logits. The gate is a hidden unit, and the shared block and it pass
what the product rule says: G * B and U_shared * B.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.core import Key
from translimit.describe import Experts
from translimit.limits.signal.feed_forward import Units, units
from translimit.limits.signal.norms import factor
from translimit.limits.signal.seeds import normals


def routing(block: Experts, logits: Float[Array, "n experts"]) -> Float[Array, "n experts"]:
    """The weights of experts, zero for those that are not chosen.

    Args:
        block: the mixture.
        logits: of the router.
    """
    if block.routing in ("sigmoid", "sigmoid_kept"):
        scores = jax.nn.sigmoid(logits)
        chosen = _largest(_open(block, scores), block.active)
        kept = jnp.where(chosen, scores, 0.0)
        if block.routing == "sigmoid_kept":
            return block.factor * kept
        return block.factor * kept / jnp.sum(kept, axis=1, keepdims=True)
    chosen = _largest(_open(block, logits), block.active)
    if block.routing == "softmax_top":
        return block.factor * jax.nn.softmax(jnp.where(chosen, logits, -jnp.inf), axis=1)
    kept = jnp.where(chosen, jax.nn.softmax(logits, axis=1), 0.0)
    if block.routing == "softmax_renormalised":
        kept = kept / jnp.sum(kept, axis=1, keepdims=True)
    return block.factor * kept


def route(
    block: Experts, dim: int, root: Float[Array, "n rank"], key: Key, index: Array | int = 0
) -> Float[Array, "n experts"]:
    """The weights that one drawn router gives.

    Args:
        block: the mixture.
        dim: of the tokens.
        root: F, with F F^T the covariance of what the router reads.
        key: of all routers.
        index: of this one.
    """
    drawn = normals(key, index, (root.shape[1] + 1, block.count), root.dtype)
    return routing(block, _logits(block, dim, root, drawn))


def routing_overlap(
    block: Experts, dim: int, cov: Float[Array, "n n"], key: Key, draws: Array | int
) -> Float[Array, "n n"]:
    """A, averaged over drawn routers.

    Args:
        block: the mixture.
        dim: of the tokens.
        cov: K, of what the router reads.
        key: of the routers.
        draws: how many.
    """
    root = factor(cov)

    def body(index: Array, total: Array) -> Array:
        omega = route(block, dim, root, key, index)
        return total + omega @ omega.T

    return jax.lax.fori_loop(0, draws, body, jnp.zeros_like(cov)) / draws


def shared_units(
    block: Experts, dim: int, cov: Float[Array, "n n"], single: bool = False
) -> tuple[Units, Units] | None:
    """The shared block and its gate, whose output is 1 where there is none; None without a block.

    Args:
        block: the mixture.
        dim: of the tokens.
        cov: K, of what they read.
        single: whether kernels are computed in float32.
    """
    if block.shared is None:
        return None
    cov = cov.astype(jnp.float32) if single else cov
    gate, zero = block.shared_gate, jnp.zeros_like(cov)
    weight = Units(zero + 1.0, zero, zero) if gate is None else units(gate, dim, cov)
    return units(block.shared, dim, cov), weight


def pull_router(
    block: Experts, dim: int, cov: Array, changes: Float[Array, "n n"], key: Key, draws: Array | int
) -> Float[Array, "n n"]:
    """Gram matrix of the gradient below the router.

    Args:
        block: the mixture.
        dim: of the tokens.
        cov: K, of what the router reads.
        changes: covariance of d omega of a chosen expert, B * U_expert.
        key: of the routers.
        draws: how many.
    """
    root, above = factor(cov), factor(changes)
    n = len(cov)

    def body(index: Array, total: Array) -> Array:
        drawn = normals(key, index, (root.shape[1] + 1 + n, block.count), root.dtype)
        logits = _logits(block, dim, root, drawn[:-n])
        omega, back = jax.vjp(lambda r: routing(block, r), logits)
        change = above @ drawn[-n:]
        (delta,) = back(jnp.where(omega > 0, change, 0.0))
        return total + delta @ delta.T

    total = jax.lax.fori_loop(0, draws, body, jnp.zeros_like(cov))
    return dim * block.router_std**2 * total / draws


def _logits(block: Experts, dim: int, root: Array, drawn: Array) -> Array:
    """Logits from standard normal numbers, of the router and then of its bias."""
    return dim**0.5 * block.router_std * root @ drawn[:-1] + block.bias_std * drawn[-1]


def _largest(scores: Array, count: int) -> Array:
    """Which are among the largest of their row."""
    least = jax.lax.top_k(scores, count)[0][:, -1:]
    return scores >= jax.lax.stop_gradient(least)


def _open(block: Experts, scores: Array) -> Array:
    """Scores of the experts in the best groups, by the sum of their two best; others at -inf."""
    if block.groups == 1:
        return scores
    rows = scores.reshape(len(scores), block.groups, -1)
    best = jnp.sum(jax.lax.top_k(rows, min(2, rows.shape[2]))[0], axis=2)
    kept = _largest(best, block.open_groups)
    return jnp.where(kept[:, :, None], rows, -jnp.inf).reshape(scores.shape)
