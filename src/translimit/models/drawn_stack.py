r"""Networks of a described stack with all weights drawn, forward, and backward by differentiation.

A layer is x <- post(a x + b out(sum_r branch_r(in(x)))), sub-block by sub-block, on tokens of
width D. Nothing of the limit enters: matrices are drawn, and gradients come from JAX.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import ArgumentError, Key, require_count
from translimit.describe import (
    Attention,
    FeedForward,
    Norm,
    Normalisation,
    QueryKeyNorm,
    Stack,
    SubBlock,
)

#: What arrives above the last layer: an independent Gaussian gradient, or that of half the sum of
#: all squares of the tokens.
Top = Literal["independent", "squares"]


class Signals(NamedTuple):
    """Inner products of the tokens and of their gradients in networks.

    Attributes:
        covs: <x_i, x_j> / D at every level, of centred tokens where norms centre them.
        grad_grams: <g_i, g_j> at every level.
    """

    covs: Float[np.ndarray, "networks levels n n"]
    grad_grams: Float[np.ndarray, "networks levels n n"]


@dataclass(frozen=True)
class DrawnStack:
    """Networks of a stack of attention and feed-forward blocks.

    Attributes:
        stack: the stack.

    Raises:
        ArgumentError: branches of other kinds, or scores with windows, chunks, biases or sinks.

    Examples:
        >>> import jax
        >>> import numpy as np
        >>> from translimit import describe
        >>> attention = describe.Attention(2, 8, *(0.2,) * 4)
        >>> drawn = DrawnStack(describe.pre_norm_stack(32, 2, attention))
        >>> drawn.simulate(np.eye(3), networks=4, key=jax.random.key(0)).covs.shape
        (4, 3, 3, 3)
    """

    stack: Stack

    def __post_init__(self) -> None:
        for branch in (one for block in self.stack.sub_blocks for one in block.branches):
            if not isinstance(branch, Attention | FeedForward):
                raise ArgumentError("stack", f"has {branch}", "use attention and feed-forward")
            shape = branch.scores if isinstance(branch, Attention) else None
            if shape and (shape.window or shape.chunk or shape.slopes or shape.bias_std):
                raise ArgumentError("scores", "have a window, a chunk or a bias", "leave them out")
            if shape and shape.sink:
                raise ArgumentError("scores", "have a sink", "leave it out")

    def simulate(
        self, cov: Float[np.ndarray, "n n"], *, networks: int, key: Key, top: Top = "independent"
    ) -> Signals:
        """Draw Gaussian tokens of a covariance, and networks, and pass them both ways.

        Args:
            cov: <x_i, x_j> / D of the tokens that enter, in infinite width.
            networks: how many.
            key: of tokens and weights.
            top: the gradient above the last layer.
        """
        values, basis = np.linalg.eigh(np.asarray(cov, dtype=float))
        root = jnp.asarray(basis * np.sqrt(np.maximum(values, 0.0)), jnp.float32)
        start, weights, above = jax.random.split(key, 3)
        shape = (require_count(networks, "networks", 1), len(cov), self.stack.dim)
        levels, passed = [root @ jax.random.normal(start, shape)], []
        for number, layer in enumerate(self.stack.layers):
            x = levels[-1]
            for place, block in enumerate(layer):
                own = jax.random.fold_in(jax.random.fold_in(weights, number), place)
                at = (block, self.stack.causal, jax.random.split(own, networks), x)
                x = _forward(*at)
                passed.append(at)
            levels.append(x)
        g = levels[-1]
        if top == "independent":
            g = jax.random.normal(above, shape) / self.stack.dim**0.5
        grads = [g]
        for layer in reversed(self.stack.layers):
            for _ in layer:
                g = _backward(*passed.pop(), g)
            grads.insert(0, g)
        if self.stack.centred:
            levels = [x - x.mean(axis=-1, keepdims=True) for x in levels]
        return Signals(_grams(levels) / self.stack.dim, _grams(grads))


def _grams(levels: list[Array]) -> Float[np.ndarray, "networks levels n n"]:
    return np.stack([np.asarray(x @ jnp.swapaxes(x, 1, 2)) for x in levels], axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _forward(block: SubBlock, causal: bool, keys: Array, x: Array) -> Array:
    return jax.vmap(functools.partial(_sub_block, block, causal))(keys, x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _backward(block: SubBlock, causal: bool, keys: Array, x: Array, g: Array) -> Array:
    """The gradient below a sub-block, whose weights are drawn again."""

    def one(key: Array, x: Array, g: Array) -> Array:
        _, back = jax.vjp(functools.partial(_sub_block, block, causal, key), x)
        return back(g)[0]

    return jax.vmap(one)(keys, x, g)


def _sub_block(block: SubBlock, causal: bool, key: Key, x: Array) -> Array:
    y = _norm(block.norm_in, x)
    added = jnp.zeros_like(x)
    for number, branch in enumerate(block.branches):
        own = jax.random.split(jax.random.fold_in(key, number), 4)
        if isinstance(branch, Attention):
            added = added + _attend(branch, causal, own, y)
        elif isinstance(branch, FeedForward):
            added = added + _feed(branch, own, y)
    return _norm(block.norm_post, block.residual * x + block.branch * _norm(block.norm_out, added))


def _attend(branch: Attention, causal: bool, keys: Array, y: Array) -> Array:
    n, dim = y.shape
    heads, shared, d, values = branch.heads, branch.key_heads, branch.head_dim, branch.values
    q = y @ _matrix(keys[0], branch.query_std, dim, heads * d)
    k = y @ _matrix(keys[1], branch.key_std, dim, shared * d)
    v = (y @ _matrix(keys[2], branch.value_std, dim, shared * values)).reshape(n, shared, values)
    norm = branch.qk_norm
    if norm is not None and norm.over == "all":
        q, k = _norm(norm, q), _norm(norm, k)
    q, k = q.reshape(n, heads, d), k.reshape(n, shared, d)
    if norm is not None and norm.over == "head":
        q, k = _norm(norm, q), _norm(norm, k)
    if branch.rotary is not None:
        q, k = (_turned(np.array(branch.rotary.thetas), branch.rotary.factor, a) for a in (q, k))
    k, v = (jnp.repeat(a, heads // shared, axis=1) for a in (k, v))
    scores = branch.score_scale * jnp.einsum("ihd,jhd->hij", q, k)
    if branch.scores.softcap is not None:
        scores = branch.scores.softcap * jnp.tanh(scores / branch.scores.softcap)
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones((n, n), bool)), scores, -jnp.inf)
    mixed = jnp.einsum("hij,jhv->ihv", jax.nn.softmax(scores, axis=-1), v)
    out = _matrix(keys[3], branch.out_std, heads * values, dim)
    return mixed.reshape(n, heads * values) @ out


def _turned(thetas: np.ndarray, factor: float, x: Array) -> Array:
    """Rotary positions by rotations of pairs of the first entries [tokens, heads, entries]."""
    half = len(thetas)
    angle = (np.arange(len(x))[:, None] * thetas)[:, None, :]
    cos, sin = factor * np.cos(angle), factor * np.sin(angle)
    one, two, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return jnp.concatenate([one * cos - two * sin, one * sin + two * cos, rest], axis=-1)


def _feed(branch: FeedForward, keys: Array, y: Array) -> Array:
    dim = y.shape[1]
    hidden = branch.activation(y @ _matrix(keys[0], branch.in_std, dim, branch.width))
    if branch.gated:
        std = branch.in_std if branch.up_std is None else branch.up_std
        hidden = hidden * (y @ _matrix(keys[1], std, dim, branch.width) + branch.shift)
    return hidden @ _matrix(keys[2], branch.out_std, branch.width, dim)


def _norm(of: Normalisation | QueryKeyNorm | None, x: Array) -> Array:
    if of is None:
        return x
    if of.kind is Norm.LAYER:
        x = x - x.mean(axis=-1, keepdims=True)
    return of.gain * x / jnp.sqrt((x**2).mean(axis=-1, keepdims=True) + of.eps)


def _matrix(key: Key, std: float, rows: int, columns: int) -> Array:
    return std * jax.random.normal(key, (rows, columns))
