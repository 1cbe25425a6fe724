r"""Networks of finite width, seen from their tokens' inner products only: exact in law.

Every branch ends in a matrix of its own, so that given what precedes it its output is Q Z with Z
standard normal, and only Q Q^T enters the law of the tokens. Heads, hidden units, latents and
routers are drawn; the last matrices are integrated out. Norms act on the drawn tokens and outputs
row by row, in coordinates that hold all inner products (`attention.noise_update`).

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention import narrow, noise_update
from translimit.core import Key
from translimit.describe import (
    Attention,
    Embedding,
    Experts,
    FeedForward,
    LatentAttention,
    Norm,
    Normalisation,
    PatchEmbedding,
    Stack,
    SubBlock,
)
from translimit.limits.signal.attention import entropy_of
from translimit.limits.signal.experts import route
from translimit.limits.signal.heads import Mixer, entry_variances, weights
from translimit.limits.signal.norms import factor
from translimit.limits.signal.norms import root as gram_root
from translimit.limits.signal.sub_blocks import Passed

#: A standard deviation below which a matrix counts as zero.
TINY = 1e-30


def start(
    cov: Float[Array, "n n"],
    dim: int,
    total: int,
    of: Embedding | PatchEmbedding | None,
    fixed: Float[Array, "n n"] | None,
    key: Key,
) -> Float[Array, "n width"]:
    """Gaussian tokens of a covariance, in coordinates.

    Args:
        cov: C.
        dim: of the tokens that norms see.
        total: D, by which squares are divided.
        of: the embedding, whose norm acts on the drawn tokens, and whose matrix is drawn.
        fixed: the part of C that is not drawn, or None.
        key: of the tokens.
    """
    n, width = len(cov), _width(len(cov), dim)
    norm = None if of is None else of.norm
    if isinstance(of, Embedding) and of.inner is not None:
        inner = replace(of, inner=None)
        own = of.inner - 1 if norm is not None and norm.kind is Norm.LAYER else of.inner
        raw = cov / (of.inner * max(of.inner_std, TINY) ** 2)
        rows = start(raw, own, of.inner, inner, None, jax.random.fold_in(key, 1))
        _, drawn = noise_update(jnp.zeros((n, width)), of.inner_std * rows, dim, key)
        return _narrow(drawn, width)
    raw = cov if norm is None else before_norm(norm, cov)
    if fixed is None:
        _, drawn = noise_update(jnp.zeros((n, width)), factor(raw), dim, key)
        x = _narrow(drawn, width)
    else:
        at = total**0.5 * gram_root(fixed, width)
        placed, drawn = noise_update(at, factor(raw - fixed), dim, key)
        x = _narrow(placed + drawn, width)
    return x if norm is None else x * _scales(norm, x, total)


def fixed_part(stack: Stack, cov: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"] | None:
    """The part of a covariance that is not drawn; None where all is, or what is left is none.

    Args:
        stack: the stack, whose embedding may have fixed positions.
        cov: C of the tokens that enter, those of the embedding or others.
    """
    fixed = stack.fixed_cov(len(cov))
    if fixed is None:
        return None
    left = np.linalg.eigvalsh(cov - fixed).min()
    return fixed if left > -1e-9 * np.trace(cov) else None


def before_norm(norm: Normalisation, cov: Array) -> Array:
    """The covariance before a norm that gave this one: C_ii = g^2 v / (v + norm_eps) for v."""
    squares = jnp.diagonal(cov)
    missing = norm.gain**2 - squares
    known = (missing > 0) & (norm.norm_eps > 0)
    v = jnp.where(known, norm.norm_eps * squares / jnp.where(known, missing, 1.0), squares)
    s = jnp.where(squares > 0, jnp.sqrt(v / jnp.where(squares > 0, squares, 1.0)), 0.0)
    return cov * (s[:, None] * s[None, :])


def forward_drawn(
    block: SubBlock,
    dim: int,
    total: int,
    causal: bool,
    x: Float[Array, "n width"],
    key: Key,
    score_factor: Array | float = 1.0,
) -> tuple[Float[Array, "n width"], Passed]:
    """Pass a sub-block of a network.

    Args:
        block: the sub-block.
        dim: of the tokens that norms see.
        total: D, by which squares are divided.
        causal: whether a token sees only itself and the tokens before it.
        x: the tokens in coordinates.
        key: of the weights.
        score_factor: what all scores are multiplied with.
    """
    n, width = len(x), _width(len(x), dim)
    seen = x * _scales(block.norm_in, x, total) / total**0.5
    entropy, spread, squares = jnp.zeros(n), jnp.zeros(()), jnp.zeros(n)
    parts = []
    for number, branch in enumerate(block.branches):
        own = jax.random.fold_in(key, number)
        if isinstance(branch, (Attention, LatentAttention)):
            drawn = _attention(branch, total, causal, seen, own, score_factor)
            part, entropy, spread, squares = drawn
        elif isinstance(branch, FeedForward):
            part = _feed_forward(branch, total, seen, own)
        else:
            part = _experts(branch, total, seen, own)
        parts.append(part)
    root = factor(sum(parts[1:], parts[0]))
    padded, update = noise_update(x, root, dim, jax.random.fold_in(key, len(parts)))
    out = update @ update.T / total
    z = block.residual * padded + block.branch * update * _scales(block.norm_out, update, total)
    after = _narrow(z * _scales(block.norm_post, z, total), width)
    before, summed, cov = x @ x.T / total, z @ z.T / total, after @ after.T / total
    return after, Passed(before, out, summed, cov, entropy, spread, squares, tuple(parts))


def _attention(
    mixer: Mixer, total: int, causal: bool, seen: Array, key: Key, score_factor: Array | float
) -> tuple[Array, Array, Array, Array]:
    """Q Q^T of drawn heads, and the entropy of their weights."""
    query_variance, key_variance = entry_variances(mixer, total)
    keys = jax.random.split(key, 6)
    n, entries = len(seen), mixer.head_dim
    if isinstance(mixer, Attention):
        groups, values, turning = mixer.key_heads, mixer.values, 0
        asks = reads = seen
        value_std = total**0.5 * mixer.value_scale * mixer.value_std
    else:
        groups, values, turning = mixer.heads, mixer.value_dim, mixer.rope_dim
        reads = _latent(seen, mixer.kv_rank, keys[4])
        asks = seen if mixer.query_rank is None else _latent(seen, mixer.query_rank, keys[5])
        value_std = (mixer.kv_rank * mixer.std**2) ** 0.5
    shared = mixer.heads // groups
    q = asks @ jax.random.normal(keys[0], (groups, shared, asks.shape[1], entries))
    q = q * jnp.sqrt(jnp.asarray(query_variance))
    k = reads @ jax.random.normal(keys[1], (groups, reads.shape[1], entries))
    turned = seen @ jax.random.normal(keys[2], (seen.shape[1], turning))
    turned = jnp.broadcast_to(turned, (groups, n, turning))
    k = jnp.concatenate([turned, k[:, :, turning:]], axis=2) * jnp.sqrt(jnp.asarray(key_variance))
    means = jnp.mean(q**2, axis=(0, 1, 3)), jnp.mean(k**2, axis=(0, 2))

    def group(at: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        index, queries, own_k = at
        own = jax.random.fold_in(keys[3], index)
        v = value_std * reads @ jax.random.normal(own, (reads.shape[1], values))

        def head(place: Array, own_q: Array) -> tuple[Array, Array, Array]:
            number = index * shared + place
            bias = jax.random.fold_in(own, 1 + place)
            p = weights(mixer, causal, own_q, own_k, means, number, bias, score_factor)
            return p @ v, entropy_of(p), jnp.sum(p**2, axis=1)

        mixed, entropies, squares = jax.vmap(head)(jnp.arange(shared), queries)
        return jnp.einsum("hid,hjd->ij", mixed, mixed), entropies, squares

    grams, entropies, squares = jax.lax.map(group, (jnp.arange(groups), q, k))
    entropies = entropies.reshape(mixer.heads, n)
    gram = mixer.out_std**2 * jnp.sum(grams, axis=0)
    spread = jnp.std(jnp.mean(entropies, axis=1))
    return gram, jnp.mean(entropies, axis=0), spread, jnp.mean(squares, axis=(0, 1))


def _latent(seen: Array, rank: int, key: Key) -> Array:
    """A normalised latent over the root of its rank, which stands for a factor."""
    drawn = seen @ jax.random.normal(key, (seen.shape[1], rank))
    squares = jnp.sum(drawn**2, axis=1, keepdims=True)
    return drawn * jnp.where(squares > 0, 1 / jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)


def _hidden(block: FeedForward, total: int, seen: Array, key: Key) -> Array:
    """Hidden units of drawn weights times sigma_2 [n, width]."""
    first, second = jax.random.split(key)
    shape = (seen.shape[1], block.width)
    w_in = total * block.in_std**2
    hidden = block.activation(w_in**0.5 * seen @ jax.random.normal(first, shape))
    if block.gated:
        w_up = w_in if block.up_std is None else total * block.up_std**2
        hidden = hidden * (w_up**0.5 * seen @ jax.random.normal(second, shape) + block.shift)
    return block.out_std * hidden


def _feed_forward(block: FeedForward, total: int, seen: Array, key: Key) -> Array:
    hidden = _hidden(block, total, seen, key)
    return hidden @ hidden.T


def _experts(block: Experts, total: int, seen: Array, key: Key) -> Array:
    """Q Q^T of the drawn experts of one drawn router, and of the shared block."""
    router, shared, inner = jax.random.split(key, 3)
    omega = route(block, total, seen, router)

    def body(index: Array, sum_: Array) -> Array:
        hidden = _hidden(block.expert, total, seen, jax.random.fold_in(inner, index))
        hidden = omega[:, index][:, None] * hidden
        return sum_ + hidden @ hidden.T

    n = len(seen)
    gram = jax.lax.fori_loop(0, block.count, body, jnp.zeros((n, n), seen.dtype))
    if block.shared is None:
        return gram
    beside, gate = _feed_forward(block.shared, total, seen, shared), block.shared_gate
    if gate is None:
        return gram + beside
    return gram + beside * _feed_forward(gate, total, seen, jax.random.fold_in(shared, 1))


def _scales(norm: Normalisation | None, x: Array, total: int) -> Array:
    """What a norm multiplies every row with [n, 1]."""
    if norm is None:
        return jnp.ones((len(x), 1), x.dtype)
    squares = jnp.sum(x**2, axis=1, keepdims=True) / total + norm.norm_eps
    return norm.gain * jnp.where(
        squares > 0, 1 / jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0
    )


def _width(n: int, dim: int) -> int:
    return n if dim >= 2 * n else dim


def _narrow(x: Array, width: int) -> Array:
    return narrow(x, width) if x.shape[1] > width else x
