r"""Random numbers of signal propagation: a seed for every sub-block of every copy, numbers by draw.

Seeds are hashed outside of JAX, and every draw takes its numbers in one piece: each call of a
generator is a program's largest part.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from translimit.core import Key, normals_of_seed


def words_of(key: Key) -> list[int]:
    """The words of a key, from which seeds are hashed.

    Args:
        key: of the whole.
    """
    return np.asarray(jax.random.key_data(key)).ravel().tolist()


def copy_seeds(words: list[int], copies: int, *path: int) -> list[UInt32[np.ndarray, " 2"]]:
    """A seed for every copy of what lies at a path.

    Args:
        words: of the key of the whole.
        copies: how many.
        path: whole numbers, at least 0.
    """
    sequence = np.random.SeedSequence([*words, *path])
    return list(sequence.generate_state(2 * copies).reshape(copies, 2))


def key_of(seed: UInt32[Array, " 2"]) -> Key:
    """The key of a seed.

    Args:
        seed: one of `copy_seeds`.
    """
    return jax.random.wrap_key_data(seed, impl="threefry2x32")


def normals(
    key: Key, index: Array | int, shape: tuple[int, int], dtype: Any = float
) -> Float[Array, "rows columns"]:
    """Independent standard normal numbers of a draw.

    Args:
        key: of all draws.
        index: of the draw.
        shape: of the result.
        dtype: of the result.
    """
    seed = jax.random.key_data(key)[:2] + jnp.array([0, 1], jnp.uint32) * jnp.uint32(index)
    return normals_of_seed(seed, shape).astype(dtype)
