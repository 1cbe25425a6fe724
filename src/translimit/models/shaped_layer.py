r"""One layer of the shaped Transformer: its sizes, its weights, and what it does to the tokens.

One layer is one block: attention with heads, with or without an output projection, and then the
shaped MLP where the block has one. All weights are N(0, 1), every scale is explicit.

Reference: Noci et al., arXiv 2306.17759; symbols in `translimit.describe`.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention import shaped_attention
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    Key,
    lower_factor,
    named_key,
    psd_sqrt,
    require_count,
)
from translimit.describe import Block, ShapedMLP

#: A number of a block, traced where a program is compiled.
Scale = float | Float[Array, ""]


class ShapedSizes(eqx.Module):
    """The finite sizes of a shaped Transformer; all static.

    Attributes:
        dim: width n.
        layers: blocks.
        head_dim: n_k, keys and queries of one head.
        value_dim: n_v, values of one head.
        hidden_dim: n_h, hidden width of the MLP; 0 without one.
        standard_temperature: tau0 sqrt(n_k) in place of tau0 sqrt(n n_k).
    """

    dim: int = eqx.field(static=True)
    layers: int = eqx.field(static=True)
    head_dim: int = eqx.field(static=True)
    value_dim: int = eqx.field(static=True)
    hidden_dim: int = eqx.field(static=True)
    standard_temperature: bool = eqx.field(static=True)

    def __init__(
        self,
        block: Block,
        dim: int,
        layers: int,
        head_dim: int | None,
        standard_temperature: bool,
    ):
        if not isinstance(block, Block):
            raise ArgumentTypeError("block", f"got {type(block).__name__}", "pass a Block")
        for name, value in (("dim", dim), ("layers", layers), ("head_dim", head_dim)):
            if value is not None:
                require_count(value, name)
        values = block.value_ratio * dim
        if not _whole(values) or round(values) % block.heads:
            raise ArgumentError(
                "heads",
                f"{block.heads} heads do not divide {values:g} value dimensions",
                "change dim or the number of heads, so that every head has equally many",
            )
        hidden = 0.0 if block.mlp is None else block.mlp.hidden_ratio * dim
        if not _whole(hidden):
            raise ArgumentError(
                "mlp.hidden_ratio",
                f"gives {hidden:g} hidden units at dim = {dim}",
                "change dim or the ratio, so that the number is whole",
            )
        self.dim, self.layers = int(dim), int(layers)
        self.value_dim = round(values) // block.heads
        self.head_dim = max(1, self.dim // block.heads) if head_dim is None else int(head_dim)
        self.hidden_dim = round(hidden)
        self.standard_temperature = bool(standard_temperature)

    def temperature(self, block: Block) -> Scale:
        """What divides the products of queries and keys."""
        shaping = 1.0 if self.standard_temperature else math.sqrt(self.dim)
        return block.tau0 * shaping * math.sqrt(self.head_dim)


class ShapedWeights(eqx.Module):
    """The weights of one layer, all N(0, 1).

    Attributes:
        query: W_Q of every head [heads, dim, head_dim].
        key: W_K of every head [heads, dim, head_dim].
        value: W_V of every head [heads, dim, value_dim].
        output: W_O [heads * value_dim, dim], or None without projection.
        hidden: W_1 [dim, hidden_dim], or None without MLP.
        readout: W_2 [hidden_dim, dim], or None without MLP.
    """

    query: Float[Array, "heads dim head_dim"]
    key: Float[Array, "heads dim head_dim"]
    value: Float[Array, "heads dim value_dim"]
    output: Float[Array, "values dim"] | None
    hidden: Float[Array, "dim hidden_dim"] | None
    readout: Float[Array, "hidden_dim dim"] | None


def draw_weights(
    key: Key, block: Block, sizes: ShapedSizes, dtype: np.dtype | type[float]
) -> ShapedWeights:
    """Fresh weights of one layer."""

    def normal(name: str, *shape: int) -> Array:
        return jax.random.normal(named_key(key, name), shape, dtype)

    heads, dim, values = block.heads, sizes.dim, sizes.value_dim
    has_mlp = block.mlp is not None
    return ShapedWeights(
        query=normal("query", heads, dim, sizes.head_dim),
        key=normal("key", heads, dim, sizes.head_dim),
        value=normal("value", heads, dim, values),
        output=normal("output", heads * values, dim) if block.projection else None,
        hidden=normal("hidden", dim, sizes.hidden_dim) if has_mlp else None,
        readout=normal("readout", sizes.hidden_dim, dim) if has_mlp else None,
    )


def apply_block(
    block: Block,
    sizes: ShapedSizes,
    lams: tuple[Scale, Scale],
    weights: ShapedWeights,
    tokens: Float[Array, "tokens dim"],
) -> Float[Array, "tokens dim"]:
    """One layer: attention, then the MLP where there is one."""
    width = math.sqrt(sizes.dim)
    queries = tokens @ weights.query / width  # [heads, tokens, head_dim]
    keys = tokens @ weights.key / width
    scores = queries @ keys.swapaxes(-1, -2) / sizes.temperature(block)
    matrix = shaped_attention(scores, block.shaped_gains, block.causal)
    heads = matrix @ (tokens @ weights.value / width)  # [heads, tokens, value_dim]
    branch = heads.swapaxes(0, 1).reshape(tokens.shape[0], -1)
    if weights.output is not None:
        branch = branch @ weights.output / math.sqrt(weights.output.shape[0])
    tokens = lams[0] * tokens + block.gamma * branch
    mlp = block.mlp
    if mlp is None or weights.hidden is None or weights.readout is None:
        return tokens
    hidden = shaped_relu(mlp, sizes.dim, tokens @ weights.hidden / width)
    scale = mlp.gamma * jnp.sqrt(relu_normaliser(mlp, sizes.dim) / sizes.hidden_dim)
    return lams[1] * tokens + scale * (hidden @ weights.readout)


def relu_slopes(mlp: ShapedMLP, dim: int) -> tuple[Scale, Scale]:
    """The slopes s_+ and s_- at this width."""
    return 1 + mlp.c_plus / math.sqrt(dim), 1 + mlp.c_minus / math.sqrt(dim)


def relu_normaliser(mlp: ShapedMLP, dim: int) -> Scale:
    """C = 2 / (s_+^2 + s_-^2), or 1 without normalisation."""
    plus, minus = relu_slopes(mlp, dim)
    return 2 / (plus**2 + minus**2) if mlp.normalised else jnp.asarray(1.0)


def shaped_relu(mlp: ShapedMLP, dim: int, x: Float[Array, ...]) -> Float[Array, ...]:
    """phi_s(x) = s_+ max(x, 0) + s_- min(x, 0)."""
    plus, minus = relu_slopes(mlp, dim)
    return plus * jnp.maximum(x, 0) + minus * jnp.minimum(x, 0)


def tokens_of(
    cov: Float[Array, "tokens tokens"], block: Block, sizes: ShapedSizes
) -> Float[Array, "tokens dim"]:
    """Tokens with this covariance: a factor in the first columns, zeros behind.

    Concatenated heads own a slice of the width each, and every slice that is wide enough gets the
    same covariance; all other blocks do not see where in the width the tokens lie.
    """
    tokens = cov.shape[0]
    factor = lower_factor(psd_sqrt(cov))
    slices = 1 if block.projection or sizes.dim // block.heads < tokens else block.heads
    width = sizes.dim // slices
    padded = jnp.zeros((tokens, width), cov.dtype).at[:, :tokens].set(factor)
    return jnp.tile(padded * math.sqrt(width), slices)


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-9 * max(1.0, abs(value))


def skip_weights(block: Block, dim: int) -> tuple[float, float]:
    """Weights of the skip connections around attention and around the MLP at this width."""
    return block.lam_at(dim), 0.0 if block.mlp is None else block.mlp.lam_at(dim)


def covariance(tokens: Float[Array, "tokens dim"]) -> Float[Array, "tokens tokens"]:
    """V = X X^T / n."""
    return tokens @ tokens.T / tokens.shape[1]
