"""Networks with all weights drawn, forward and backward by autodiff: independent of the limit.

Written from the equations of a transformer: no function of `limits.signal` is called.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from translimit.describe import (
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    Norm,
    Normalisation,
    QueryKeyNorm,
    Stack,
)


class Weights:
    """Normal matrices, one after the other; or given ones, in the order in which they are drawn.

    Gains of norms are those that are described, or given as vectors.
    """

    def __init__(
        self, key: Array, given: list[Array] | None = None, gains: list[Array] | None = None
    ):
        self.key, self.given, self.place = key, given, 0
        self.gains, self.norms = gains, 0
        self.drawn: list[tuple[float, Array]] = []

    def __call__(self, std: float, *shape: int) -> Array:
        if self.given is not None:
            self.place += 1
            return self.given[self.place - 1]
        self.key, own = jax.random.split(self.key)
        matrix = std * jax.random.normal(own, shape)
        self.drawn.append((std, matrix))
        return matrix

    def normalised(self, x: Array, of: Normalisation | None) -> Array:
        if of is None or self.gains is None:
            return norm(x, of)
        self.norms += 1
        return self.gains[self.norms - 1] / of.gain * norm(x, of)


def norm(x: Array, of: Normalisation | QueryKeyNorm | None) -> Array:
    if of is None:
        return x
    if of.kind is Norm.LAYER:
        x = x - x.mean(axis=-1, keepdims=True)
    return of.gain * x / jnp.sqrt((x**2).mean(axis=-1, keepdims=True) + of.norm_eps)


def turn(x: Array, thetas: tuple[float, ...], factor: float) -> Array:
    """Rotary positions by complex numbers, on the first entries [tokens, heads, entries]."""
    half = len(thetas)
    pairs = x[..., :half] + 1j * x[..., half : 2 * half]
    phase = factor * jnp.exp(1j * np.arange(len(x))[:, None] * np.array(thetas))[:, None, :]
    turned = pairs * phase
    return jnp.concatenate([turned.real, turned.imag, x[..., 2 * half :]], axis=-1)


def attend(branch: Attention | LatentAttention, y: Array, causal: bool, w: Weights) -> Array:
    n, dim = y.shape
    if isinstance(branch, Attention):
        kv, d, values = branch.key_heads, branch.head_dim, branch.values
        q, k = y @ w(branch.query_std, dim, branch.heads * d), y @ w(branch.key_std, dim, kv * d)
        v = (y @ w(branch.value_std, dim, kv * values)).reshape(n, kv, values)
        v = branch.value_scale * v
        if branch.qk_norm is not None and branch.qk_norm.over == "all":
            q, k = norm(q, branch.qk_norm), norm(k, branch.qk_norm)
        q, k = q.reshape(n, branch.heads, d), k.reshape(n, kv, d)
        if branch.qk_norm is not None and branch.qk_norm.over == "head":
            q, k = norm(q, branch.qk_norm), norm(k, branch.qk_norm)
    else:
        kv, values, s = branch.heads, branch.value_dim, branch.std
        assert branch.query_rank is not None
        plain = Normalisation()
        asks = norm(y @ w(s, dim, branch.query_rank), plain)
        reads = norm(y @ w(s, dim, branch.kv_rank), plain)
        q = (asks @ w(s, branch.query_rank, kv * branch.head_dim)).reshape(n, kv, -1)
        rope = jnp.broadcast_to((y @ w(s, dim, branch.rope_dim))[:, None], (n, kv, branch.rope_dim))
        nope = (reads @ w(s, branch.kv_rank, kv * branch.nope_dim)).reshape(n, kv, -1)
        k = jnp.concatenate([rope, nope], axis=-1)
        v = (reads @ w(s, branch.kv_rank, kv * values)).reshape(n, kv, values)
    if branch.rotary is not None:
        q, k = (turn(one, branch.rotary.thetas, branch.rotary.factor) for one in (q, k))
    shape, heads = branch.scores, []
    for h in range(branch.heads):
        g = h // (branch.heads // kv)
        s = branch.score_scale * q[:, h] @ k[:, g].T
        if shape.softcap is not None:
            s = shape.softcap * jnp.tanh(s / shape.softcap)
        apart = np.arange(n)[None, :] - np.arange(n)[:, None]
        if shape.slopes:
            s = s + shape.slopes[h] * apart
        hidden = apart > 0 if causal else np.zeros((n, n), bool)
        if shape.window is not None:
            hidden = hidden | (np.abs(apart) >= shape.window)
        e = jnp.where(hidden, 0.0, jnp.exp(s))
        p = e / (e.sum(axis=1, keepdims=True) + (1.0 if shape.sink else 0.0))
        heads.append(p @ v[:, g])
    mixed = jnp.concatenate(heads, axis=-1)
    return mixed @ w(branch.out_std, mixed.shape[1], dim)


def feed(branch: FeedForward, y: Array, w: Weights) -> Array:
    hidden = branch.activation(y @ w(branch.in_std, y.shape[1], branch.width))
    if branch.gated:
        hidden = hidden * (y @ w(branch.in_std, y.shape[1], branch.width) + branch.shift)
    return hidden @ w(branch.out_std, branch.width, y.shape[1])


def expert(branch: Experts, y: Array, w: Weights) -> Array:
    """Weights of experts by sorting, not by thresholds."""
    logits = y @ w(branch.router_std, y.shape[1], branch.count) + w(branch.bias_std, branch.count)
    scores = jax.nn.sigmoid(logits) if branch.routing == "sigmoid" else logits
    rows = scores.reshape(len(y), branch.groups, -1)
    best = jnp.sort(rows, axis=2)[:, :, -2:].sum(axis=2)
    closed = jnp.argsort(jnp.argsort(-best, axis=1), axis=1) >= branch.open_groups
    rows = jnp.where(closed[:, :, None] & (branch.groups > 1), -jnp.inf, rows)
    rank = jnp.argsort(jnp.argsort(-rows.reshape(scores.shape), axis=1), axis=1)
    chosen = rank < branch.active
    if branch.routing == "sigmoid":
        omega = chosen * scores / (chosen * scores).sum(axis=1, keepdims=True)
    elif branch.routing == "softmax_top":
        e = chosen * jnp.exp(logits)
        omega = e / e.sum(axis=1, keepdims=True)
    else:
        p = jnp.exp(logits) / jnp.exp(logits).sum(axis=1, keepdims=True)
        omega = chosen * p
        if branch.routing == "softmax_renormalised":
            omega = omega / omega.sum(axis=1, keepdims=True)
    total = jnp.zeros_like(y)
    for e in range(branch.count):
        total = total + branch.factor * omega[:, e, None] * feed(branch.expert, y, w)
    if branch.shared is None:
        return total
    beside = feed(branch.shared, y, w)
    if branch.shared_gate_std is not None:
        beside = beside / (1 + jnp.exp(-y @ w(branch.shared_gate_std, y.shape[1], 1)))
    return total + beside


def layer(stack: Stack, index: int, x: Array, key: Array, w: Weights | None = None) -> Array:
    w = Weights(key) if w is None else w
    for block in stack.layers[index]:
        y = w.normalised(x, block.norm_in)
        added = jnp.zeros_like(x)
        for branch in block.branches:
            if isinstance(branch, (Attention, LatentAttention)):
                added = added + attend(branch, y, stack.causal, w)
            elif isinstance(branch, FeedForward):
                added = added + feed(branch, y, w)
            else:
                added = added + expert(branch, y, w)
        total = block.residual * x + block.branch * w.normalised(added, block.norm_out)
        x = w.normalised(total, block.norm_post)
    return x


def grams(stack: Stack, ids: np.ndarray, key: Array) -> tuple[Array, Array]:
    """C and B of one network at every level: tokens from a table, a Gaussian gradient on top."""
    of, n = stack.embedding, len(ids)
    assert of is not None
    keys = jax.random.split(key, len(stack.layers) + 2)
    w = Weights(keys[0])
    table = of.multiplier * w(of.std, int(ids.max()) + 1, stack.dim)
    x = table[ids] + w(of.position_std, n, stack.dim) + w(of.type_std, stack.dim)
    levels, backs = [norm(x, of.norm)], []
    for index in range(len(stack.layers)):
        step = functools.partial(layer, stack, index, key=keys[index + 1])
        x, back = jax.vjp(step, levels[-1])
        levels.append(x)
        backs.append(back)
    grads = [jax.random.normal(keys[-1], x.shape) / stack.dim**0.5]
    for back in reversed(backs):
        grads.insert(0, back(grads[0])[0])
    if stack.centred:
        levels = [x - x.mean(axis=1, keepdims=True) for x in levels]
    return (
        jnp.stack([x @ x.T / stack.dim for x in levels]),
        jnp.stack([g @ g.T for g in grads]),
    )


def weight_squares(stack: Stack, x: Array, index: int, key: Array, g: Array) -> Array:
    """sigma_W^2 |dW|^2 of every matrix of a layer, in the order in which it draws them.

    Args:
        stack: the stack.
        x: tokens that enter the layer.
        index: of the layer.
        key: of its weights.
        g: the gradient above it.
    """
    drawn = Weights(key)
    layer(stack, index, x, key, drawn)
    stds = jnp.array([std for std, _ in drawn.drawn])
    matrices = [matrix for _, matrix in drawn.drawn]

    def passed(given: list[Array]) -> Array:
        return jnp.sum(g * layer(stack, index, x, key, Weights(key, given)))

    grads = jax.grad(passed)(matrices)
    return stds**2 * jnp.stack([jnp.sum(one**2) for one in grads])
