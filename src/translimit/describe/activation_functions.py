"""What activations do to numbers."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array


def _clamped_swish(x: Array) -> Array:
    x = jnp.minimum(x, 7.0)
    return x * jax.nn.sigmoid(1.702 * x)


def _xielu(x: Array) -> Array:
    below = jnp.minimum(x, 0.0)
    return 0.8 * jnp.where(x > 0, x**2, jnp.expm1(below) - below) + 0.5 * x


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
    "sigmoid": jax.nn.sigmoid,
    "xielu": _xielu,
}
