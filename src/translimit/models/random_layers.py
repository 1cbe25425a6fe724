r"""One layer of drawn weights: tokens forward, and a gradient back by automatic differentiation.

    x <- post(a x + b out(sum_r branch_r(in(x))))

for every sub-block. The weights are drawn inside the compiled program, one network after the other,
so that those of one layer of one network are held at a time.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.core import Key
from translimit.describe import Attention, FeedForward, LatentAttention, Layer, SubBlock
from translimit.models.random_mixers import attend
from translimit.models.random_units import experts, feed_forward
from translimit.models.random_weights import LayerWeights, Weights, draw, scaled, squares
from translimit.models.token_norms import normalise


def pass_layer(
    layer: Layer, causal: bool, weights: LayerWeights, x: Float[Array, "n dim"]
) -> tuple[Float[Array, "n dim"], Float[Array, " heads"]]:
    """The tokens that leave a layer, and the entropy of every head of it.

    Args:
        layer: its sub-blocks.
        causal: whether a token sees only itself and the tokens before it.
        weights: the matrices of all branches.
        x: the tokens that enter.
    """
    entropies = []
    for block, of in zip(layer, weights, strict=True):
        x, entropy = _pass_block(block, causal, of, x)
        entropies.append(entropy)
    return x, jnp.concatenate(entropies)


def _pass_block(
    block: SubBlock, causal: bool, weights: tuple[Weights, ...], x: Array
) -> tuple[Array, Array]:
    read = normalise(block.norm_in, x)
    added, entropies = jnp.zeros_like(x), [jnp.zeros(0, x.dtype)]
    for branch, of in zip(block.branches, weights, strict=True):
        if isinstance(branch, (Attention, LatentAttention)):
            mixed = attend(branch, causal, of, read)
            added = added + mixed.out
            entropies.append(mixed.attention_entropy)
        elif isinstance(branch, FeedForward):
            added = added + feed_forward(branch, of, read)
        else:
            added = added + experts(branch, of, read)
    total = block.residual * x + block.branch * normalise(block.norm_out, added)
    return normalise(block.norm_post, total), jnp.concatenate(entropies)


@functools.partial(jax.jit, static_argnums=(0, 1))
def forward(
    layer: Layer, causal: bool, x: Array, keys: Array, index: Array
) -> tuple[Array, Float[Array, "replicas 2"]]:
    """Tokens that leave a layer; mean entropy of its heads, and deviation over them.

    Args:
        layer: its sub-blocks.
        causal: whether a token sees only itself and the tokens before it.
        x: the tokens that enter, of every network [replicas, n, dim].
        keys: of the networks.
        index: of the layer.
    """

    def one(argument: tuple[Array, Key]) -> tuple[Array, Array]:
        x, key = argument
        normals = draw(layer, x.shape[1], key, index, x.dtype)
        x, heads = pass_layer(layer, causal, scaled(layer, x.shape[1], normals), x)
        if heads.size == 0:
            return x, jnp.zeros(2, x.dtype)
        return x, jnp.stack([jnp.mean(heads), jnp.std(heads)])

    return jax.lax.map(one, (x, keys))


@functools.partial(jax.jit, static_argnums=(0, 1))
def backward(
    layer: Layer, causal: bool, x: Array, g: Array, keys: Array, index: Array
) -> tuple[Array, Float[Array, "replicas groups"]]:
    """The gradient below a layer, and sigma_W^2 |dW|^2 by group.

    Args:
        layer: its sub-blocks.
        causal: whether a token sees only itself and the tokens before it.
        x: the tokens that entered, of every network [replicas, n, dim].
        g: the gradient above.
        keys: of the networks.
        index: of the layer.
    """

    def one(argument: tuple[Array, Array, Key]) -> tuple[Array, Array]:
        x, g, key = argument
        dim = x.shape[1]

        def passed(normals: LayerWeights, x: Array) -> Array:
            return pass_layer(layer, causal, scaled(layer, dim, normals), x)[0]

        _, pull = jax.vjp(passed, draw(layer, dim, key, index, x.dtype), x)
        of_normals, below = pull(g)
        return below, squares(layer, dim, of_normals)

    return jax.lax.map(one, (x, g, keys))
