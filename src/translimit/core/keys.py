"""Randomness by name: streams derived from words and indices, never from the order of calls.

A key for ("digits", "cloud", 3) is the same whatever ran before it, on however many workers, in
whatever chunks. Words are folded in through a stable 32-bit digest (Python's own hash changes
between processes).
"""

from __future__ import annotations

import numbers
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray
from jaxtyping import Key as Keys

from translimit.core.errors import ArgumentError, ArgumentTypeError, brief

#: A word folds in its digest after this marker, which no index can equal.
WORD = 0x6E616D65
#: Indices lie below this.
LARGEST_INDEX = 2**30
#: Integer seeds lie below this: beyond it JAX's 64-bit mode would decide which key a seed means.
LARGEST_SEED = 2**32

#: JAX's name of its usual generator, whose keys are computed here without it: a program for each
#: step of a path takes longer to load than a small command to compute.
THREEFRY = "threefry2x32"
#: Of Threefry: words, what they are turned by, and the constant of its key schedule.
ALL = 2**32 - 1
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


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
        key = _of_seed(_in_range("seed", int(seed), LARGEST_SEED))
    else:
        raise ArgumentTypeError(
            "seed", f"got {brief(seed)}", "pass an integer or jax.random.key(seed)"
        )
    for part in path:
        if isinstance(part, str):
            key = _folded(key, WORD, zlib.crc32(part.encode()))
        elif _is_index(part):
            key = _folded(key, _in_range("path", int(part), LARGEST_INDEX))
        else:
            raise ArgumentTypeError(
                "path", f"got {brief(part)}", "name streams with words and non-negative integers"
            )
    return key


def stack_keys(keys: Sequence[PRNGKeyArray]) -> Keys[Array, " keys"]:
    """Keys of one generator as one array [keys], for `vmap`.

    `jnp.stack` compiles a program with an operand for each, which takes minutes for thousands.

    Args:
        keys: one at least.

    >>> keys = [named_key(0, "start", seed) for seed in range(3)]
    >>> bool((jax.random.key_data(stack_keys(keys)) == jax.random.key_data(jnp.stack(keys))).all())
    True
    """
    data: Any = np.stack([np.asarray(jax.random.key_data(key)) for key in keys])
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys[0]))


def _of_seed(seed: int) -> PRNGKeyArray:
    """`jax.random.key`, without compiling a program for it."""
    if jax.config.jax_default_prng_impl != THREEFRY:  # pyright: ignore[reportAttributeAccessIssue]
        return jax.random.key(seed)
    return _of_words((0, seed))


def _folded(key: PRNGKeyArray, *steps: int) -> PRNGKeyArray:
    """`jax.random.fold_in` of one number after the other, without compiling a program for it."""
    data = jax.random.key_data(key)
    if isinstance(data, Tracer) or str(jax.random.key_impl(key)) != THREEFRY or key.ndim:
        for number in steps:
            key = jax.random.fold_in(key, number)
        return key
    words = np.asarray(data).tolist()
    for number in steps:
        words = threefry(words, (0, number))
    return _of_words(words)


def _of_words(words: Sequence[int]) -> PRNGKeyArray:
    data: Any = np.array(words, np.uint32)  # as an array of JAX it would take a program
    return jax.random.wrap_key_data(data, impl=THREEFRY)


def threefry(key: Sequence[int], counter: Sequence[int]) -> tuple[int, int]:
    """The block of Threefry-2x32 with 20 rounds, by which JAX makes keys.

    Args:
        key: two words of 32 bits.
        counter: two more.

    Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).

    >>> [hex(word) for word in threefry((0, 0), (0, 0))]
    ['0x6b200159', '0x99ba4efe']
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    x, y = (counter[0] + keys[0]) & ALL, (counter[1] + keys[1]) & ALL
    for stage in range(5):
        for turn in ROTATIONS[stage % 2]:
            x = (x + y) & ALL
            y = ((y << turn | y >> (32 - turn)) & ALL) ^ x
        x = (x + keys[(stage + 1) % 3]) & ALL
        y = (y + keys[(stage + 2) % 3] + stage + 1) & ALL
    return x, y


def _is_index(value: Any) -> bool:
    """Whether a value is an integer, NumPy's included and booleans not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _in_range(name: str, value: int, end: int) -> int:
    if not 0 <= value < end:
        raise ArgumentError(name, f"got {value}", f"pass an integer from 0 to {end - 1}")
    return value
