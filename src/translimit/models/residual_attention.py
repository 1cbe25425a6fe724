r"""Finite depth: residual attention layers.

    x_i^{l+1} = x_i^l + (t1 / L) Gamma_{mu^l}(x_i^l),    l = 0, ..., L - 1,

all tokens updated simultaneously, mu^l the empirical measure of the tokens at layer l. The layers
share their parameters, or with `Layered` attention layer l has those of depth l t1 / L. For fixed
smooth parameters the distance to the flow at t1 is const / L + O(1 / L^2).

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from translimit.attention import (
    AbstractAttention,
    Layered,
    attentions_of_layers,
    log_of_weights,
    require_positions,
    require_scores,
    require_tokens,
)
from translimit.core import (
    POSITIVE,
    AnyArray,
    ArgumentError,
    ArrayInput,
    Module,
    Number,
    as_float,
    as_float64,
    following_inputs,
    require_count,
    require_kept,
    require_number,
    require_weights,
)
from translimit.models.token_path import TokenPath


class ResidualAttention(Module):
    """A network of `layers` residual attention layers with step t1 / layers.

    Args:
        attention: the layer's attention, the same in every layer; or `Layered` ones, of which
            layer l takes the one at depth l t1 / layers.
        layers: number of layers, at least 1.
        t1: the depth that the layers divide, positive; 1 gives the step 1 / layers.

    Raises:
        ArgumentError: layers below 1 or t1 not positive.
    """

    attention: AbstractAttention | Layered
    layers: int = eqx.field(static=True)
    t1: Number

    def __init__(self, attention: AbstractAttention | Layered, layers: int, t1: ArrayInput = 1.0):
        self.attention, self.layers = attention, require_count(layers, "layers")
        self.t1 = as_float64(require_number(t1, "t1", POSITIVE), "t1")

    def simulate(
        self,
        initial: ArrayInput,
        *,
        weights: ArrayInput | None = None,
        positions: ArrayInput | None = None,
        save_every: int | None = None,
    ) -> TokenPath:
        """Run the tokens through the layers.

        Args:
            initial: tokens [tokens, dim]; decides the precision.
            weights: non-negative, summing to one [tokens]; equal weights by default.
            positions: positions [tokens], in increasing order, ties allowed; required when the
                attention is causal.
            save_every: keep every so many layers, a divisor of `layers`; by default only the input
                and the output are kept.

        Returns:
            Tokens at the depths of the layers kept; the first is the input, the last the output of
            the last layer.

        Raises:
            ArgumentError: shapes that do not match, NaN or infinite tokens, tokens whose scores are
                beyond their precision, bad weights, positions that are not sorted, or a
                `save_every` that does not divide `layers`.
            ArgumentTypeError: positions missing where the attention is causal, or given where not.
            MemoryLimitError: the tokens that are kept do not fit into memory.
        """
        tokens = require_tokens(as_float(initial, "initial"), "initial", self.attention.dim)
        count = tokens.shape[0]
        weights = require_weights(weights, count)
        positions = require_positions(positions, (count,), self.attention.causal, "positions")
        require_scores(self.attention, tokens, "initial")
        save_every = self.layers if save_every is None else save_every
        if save_every < 1 or self.layers % save_every:
            raise ArgumentError(
                "save_every",
                f"{save_every} does not divide {self.layers} layers",
                f"pass a divisor of {self.layers}",
            )
        each = 2.0 * tokens.size * tokens.dtype.itemsize  # as computed, and as joined
        require_kept(each, self.layers // save_every + 1, "initial", "tokens")
        numbers = attentions_of_layers(self.attention, self.layers, self.t1)
        kept = following_inputs(
            _simulate,
            (tokens, weights, positions),
            (self.attention, self.t1, _Sizes(self, save_every), numbers),
        )
        depths = self.t1 * (np.arange(0, self.layers + 1, save_every) / self.layers)
        return TokenPath(ts=depths, tokens=kept, samples=1)


class _Sizes(eqx.Module):
    """The static sizes of a simulation."""

    layers: int = eqx.field(static=True)
    save_every: int = eqx.field(static=True)

    def __init__(self, model: ResidualAttention, save_every: int):
        self.layers, self.save_every = model.layers, save_every


@eqx.filter_jit
def _simulate(
    data: tuple[Array, Array | None, Array | None],
    parameters: tuple[AbstractAttention | Layered, Number, _Sizes, Int[AnyArray, " layers"]],
) -> Float[Array, "saves tokens dim"]:
    initial, weights, positions = data
    attention, t1, sizes, numbers = parameters
    log_weights = log_of_weights(weights, initial)
    step = jnp.asarray(t1 / sizes.layers, dtype=initial.dtype)

    def layer(tokens: Array, number: Array) -> tuple[Array, None]:
        here = attention.layer(number) if isinstance(attention, Layered) else attention
        velocity = here.velocity(tokens, tokens, log_weights, positions, positions)
        return tokens + step * velocity, None

    def block(tokens: Array, numbers: Array) -> tuple[Array, Array]:
        tokens, _ = jax.lax.scan(layer, tokens, numbers)
        return tokens, tokens

    blocks = jnp.asarray(numbers).reshape(-1, sizes.save_every)
    _, kept = jax.lax.scan(block, initial, blocks)
    return jnp.concatenate([initial[None], kept])
