r"""Feed-forward blocks and mixtures of them, token by token, with given weights.

    W_2 phi(W_1 x),     W_2 (phi(W_1 x) * (W_up x + shift)),     sum_e omega_e(x) expert_e(x)

A router's logits are ranked, and omega_e vanishes for all but the chosen experts. Every expert is
computed for every token, one expert at a time; what a gradient needs of it is computed again.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.describe import Experts, FeedForward
from translimit.models.random_weights import Weights


def feed_forward(
    block: FeedForward, weights: Weights, x: Float[Array, "n dim"]
) -> Float[Array, "n dim"]:
    """What a block returns.

    Args:
        block: the block.
        weights: "in", "out", and "up" where it is gated.
        x: what it reads.
    """
    hidden = block.activation(x @ weights["in"])
    if block.gated:
        hidden = hidden * (x @ weights["up"] + block.shift)
    return hidden @ weights["out"]


def experts(block: Experts, weights: Weights, x: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
    """What a mixture returns.

    Args:
        block: the mixture.
        weights: "router", "router_bias", those of the experts, and those of the shared block and
            its gate.
        x: what it reads.
    """
    logits = x @ weights["router"] + weights.get("router_bias", 0.0)
    omega = routing_weights(block, logits)
    each = {name: weights[name] for name in ("in", "out", "up") if name in weights}

    @jax.checkpoint
    def one(total: Array, at: tuple[Array, dict[str, Array]]) -> tuple[Array, None]:
        share, own = at
        return total + share[:, None] * feed_forward(block.expert, own, x), None

    total, _ = jax.lax.scan(one, jnp.zeros_like(x), (omega.T, each))
    if block.shared is None:
        return total
    mark = "shared_"
    shared = {name[len(mark) :]: one for name, one in weights.items() if name.startswith(mark)}
    beside = feed_forward(block.shared, shared, x)
    if block.shared_gate_std is not None:
        beside = jax.nn.sigmoid(x @ weights["shared_gate"]) * beside
    return total + beside


def routing_weights(block: Experts, logits: Float[Array, "n experts"]) -> Float[Array, "n experts"]:
    """The weight omega_e of every expert for every token: 0 for those that are not chosen.

    Args:
        block: the mixture.
        logits: of the router.
    """
    scores = jax.nn.sigmoid(logits) if block.routing in ("sigmoid", "sigmoid_kept") else logits
    if block.groups > 1:
        rows = scores.reshape(len(scores), block.groups, -1)
        best, _ = jax.lax.top_k(rows, min(2, rows.shape[2]))
        _, opened = jax.lax.top_k(best.sum(axis=2), block.open_groups)
        is_open = jax.nn.one_hot(opened, block.groups).sum(axis=1) > 0
        scores = jnp.where(is_open[:, :, None], rows, -jnp.inf).reshape(scores.shape)
    values, chosen = jax.lax.top_k(scores, block.active)
    if block.routing == "softmax_top":
        kept = jax.nn.softmax(values, axis=1)
    elif block.routing == "sigmoid":
        kept = values / jnp.sum(values, axis=1, keepdims=True)
    elif block.routing == "sigmoid_kept":
        kept = values
    else:
        kept = jnp.take_along_axis(jax.nn.softmax(logits, axis=1), chosen, axis=1)
        if block.routing == "softmax_renormalised":
            kept = kept / jnp.sum(kept, axis=1, keepdims=True)
    at = jax.nn.one_hot(chosen, block.count, dtype=kept.dtype)
    return block.factor * jnp.einsum("nk,nke->ne", kept, at)
