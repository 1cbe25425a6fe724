"""Activations of feed-forward blocks, under the names that configurations use."""

from __future__ import annotations

import enum
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Activation(enum.Enum):
    """An activation; calling it applies it entrywise.

    The value is the name that `config.json` files use first. `LINEAR` is the identity, which makes
    an MLP a deep linear network. `CLAMPED_SWISH` is x sigmoid(1.702 x) of min(x, 7), the gate of
    gpt-oss.
    """

    GELU = "gelu"
    GELU_TANH = "gelu_new"
    RELU = "relu"
    SILU = "silu"
    TANH = "tanh"
    LINEAR = "linear"
    RELU_SQUARED = "relu2"
    QUICK_GELU = "quick_gelu"
    CLAMPED_SWISH = "clamped_swish"

    def __call__(self, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """The activation of every entry."""
        return _FUNCTIONS[self](x)


def _clamped_swish(x: Array) -> Array:
    x = jnp.minimum(x, 7.0)
    return x * jax.nn.sigmoid(1.702 * x)


_FUNCTIONS: dict[Activation, Callable[[Array], Array]] = {
    Activation.GELU: lambda x: jax.nn.gelu(x, approximate=False),
    Activation.GELU_TANH: lambda x: jax.nn.gelu(x, approximate=True),
    Activation.RELU: jax.nn.relu,
    Activation.SILU: jax.nn.silu,
    Activation.TANH: jnp.tanh,
    Activation.LINEAR: lambda x: x,
    Activation.RELU_SQUARED: lambda x: jax.nn.relu(x) ** 2,
    Activation.QUICK_GELU: lambda x: x * jax.nn.sigmoid(1.702 * x),
    Activation.CLAMPED_SWISH: _clamped_swish,
}
