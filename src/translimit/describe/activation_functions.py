"""What activations do to numbers."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array


def _clamped_swish(x: Array) -> Array:
    x = jnp.minimum(x, 7.0)
    return x * jax.nn.sigmoid(1.702 * x)


#: The function of every activation by its name (the value of `Activation`), applied entrywise.
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "linear": lambda x: x,
    "relu2": lambda x: jax.nn.relu(x) ** 2,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "clamped_swish": _clamped_swish,
}
