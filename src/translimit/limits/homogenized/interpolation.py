"""Functions of one number from their values at Chebyshev points (barycentric formula)."""

from __future__ import annotations

from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import AnyArray

#: NumPy or JAX.
A = TypeVar("A", np.ndarray, Array)


def chebyshev(count: int) -> Float[np.ndarray, " nodes"]:
    """`count` Chebyshev points of [0, 1], increasing, both ends among them."""
    return 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / (count - 1))


def interpolate(
    x: Float[A, "*points"], values: Float[AnyArray, "*functions nodes"]
) -> Float[A, ...]:
    """The polynomials through `values` at the Chebyshev points of [0, 1], [*points, *functions].

    Args:
        x: where, in [0, 1]; a NumPy array stays one.
        values: at the points of `chebyshev(nodes)`.
    """
    xp = np if isinstance(x, np.ndarray) else jnp
    count = values.shape[-1]
    weights = (-1.0) ** np.arange(count)
    weights[[0, -1]] /= 2
    gap = x[..., None] - chebyshev(count)
    hit = xp.abs(gap) < 1e-14
    terms = weights / xp.where(hit, 1.0, gap)
    at_node = xp.any(hit, axis=-1, keepdims=True)
    terms = xp.where(at_node, hit.astype(terms.dtype), terms)
    return (terms / xp.sum(terms, axis=-1, keepdims=True)) @ values.T  # pyright: ignore[reportReturnType]
