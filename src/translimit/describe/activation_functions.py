"""What activations do to numbers."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from translimit.describe.activation import Activation


def _clamped_swish(x: Array) -> Array:
    x = jnp.minimum(x, 7.0)
    return x * jax.nn.sigmoid(1.702 * x)


#: The function of every activation, applied entrywise.
FUNCTIONS: dict[Activation, Callable[[Array], Array]] = {
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
