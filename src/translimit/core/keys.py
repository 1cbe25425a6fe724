"""Randomness by name: streams derived from words and indices, never from the order of calls.

A key for ("digits", "cloud", 3) is the same whatever ran before it, on however many workers, in
whatever chunks. Words are folded in through a stable 32-bit digest (Python's own hash changes
between processes).
"""

from __future__ import annotations

import numbers
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from translimit.core.errors import ArgumentError, ArgumentTypeError, brief

#: A word folds in its digest after this marker, which no index can equal.
WORD = 0x6E616D65
#: Indices lie below this.
LARGEST_INDEX = 2**30
#: Integer seeds lie below this: beyond it JAX's 64-bit mode would decide which key a seed means.
LARGEST_SEED = 2**32


def named_key(seed: int | np.integer | PRNGKeyArray, *path: str | int | np.integer) -> PRNGKeyArray:
    """The key at a path of names and indices below a seed.

    Args:
        seed: an integer seed in [0, 2^32), or a typed key to derive from.
        path: names and indices in [0, 2^30), folded in from left to right. An index and a word
            are folded in differently: ("3",) and (3,) give different keys.

    Returns:
        A typed JAX key.

    Raises:
        ArgumentTypeError: a seed that is neither an integer nor a key, or a path element that is
            neither a word nor an index.
        ArgumentError: a seed or an index out of range.

    >>> bool((named_key(0, "cloud", 3) == named_key(0, "cloud", 3)).all())
    True
    """
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        key = seed
    elif _is_index(seed):
        key = jax.random.key(_in_range("seed", int(seed), LARGEST_SEED))
    else:
        raise ArgumentTypeError(
            "seed", f"got {brief(seed)}", "pass an integer or jax.random.key(seed)"
        )
    for part in path:
        if isinstance(part, str):
            key = jax.random.fold_in(jax.random.fold_in(key, WORD), zlib.crc32(part.encode()))
        elif _is_index(part):
            key = jax.random.fold_in(key, _in_range("path", int(part), LARGEST_INDEX))
        else:
            raise ArgumentTypeError(
                "path", f"got {brief(part)}", "name streams with words and non-negative integers"
            )
    return key


def _is_index(value: Any) -> bool:
    """Whether a value is an integer, NumPy's included and booleans not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _in_range(name: str, value: int, end: int) -> int:
    if not 0 <= value < end:
        raise ArgumentError(name, f"got {value}", f"pass an integer from 0 to {end - 1}")
    return value
