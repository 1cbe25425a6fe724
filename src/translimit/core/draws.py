r"""Random numbers in bulk for simulations that draw more than they multiply.

Normals are Box-Muller transforms of the two words of a Threefry-2x32 block (20 rounds), float32:
each is right to a relative 1e-6, and none is above 6.8, beyond which a normal lies once in 1e11.
They cost half of `jax.random.normal` in float32, a quarter of it in float64. Chi-squares are exact
in law for real degrees of freedom: Marsaglia and Tsang's method, all entries at once, again for all
while one of them was refused. From three degrees on a proposal is refused less than once in
twenty-five, with fifty once in nine hundred.

Reference: Salmon, Moraes, Dror and Shaw 2011 (Threefry); Box and Muller 1958; Marsaglia and Tsang,
ACM Trans. Math. Softw. 26, 2000.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, PRNGKeyArray, UInt32

#: Rotations of Threefry-2x32, and the constant that completes its key.
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)
#: Words to numbers in (0, 1), and to turns in [-1/2, 1/2).
_WORD = np.float32(2.0**-32)
#: Taylor series of the sine, to 6e-8 on [-pi/2, pi/2].
_SINE = tuple(np.float32((-1) ** k / math.factorial(2 * k + 1)) for k in range(6))


def normals(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float32[Array, "*shape"]:
    """Independent standard normal numbers, float32.

    Args:
        key: randomness.
        shape: of the result.
    """
    return normals_of_seed(seeds(key, 1)[0], shape)


def normals_of_seed(seed: UInt32[Array, " 2"], shape: tuple[int, ...]) -> Float32[Array, "*shape"]:
    """The normal numbers of one of the `seeds` of a key.

    Args:
        seed: randomness; for nothing else.
        shape: of the result.
    """
    count = math.prod(shape)
    half = -(-count // 2)
    # In a loop: outside of one XLA draws again for every operation that reads the result.
    both = jax.lax.map(lambda part: _normals(seed, half, part), jnp.arange(2, dtype=jnp.uint32))
    return both.reshape(-1)[:count].reshape(shape)


def chi_square(key: PRNGKeyArray, degrees: ArrayLike, dtype: Any = float) -> Float[Array, "*shape"]:
    """Independent chi-square numbers with these degrees of freedom, one for each entry.

    The derivative with respect to the degrees is that of the quantile.

    Args:
        key: randomness.
        degrees: degrees of freedom, real and positive.
        dtype: of the result; the decisions of the method are good to its precision.
    """
    return chi_square_of_seed(seeds(key, 1)[0], degrees, dtype)


def chi_square_of_seed(
    seed: UInt32[Array, " 2"], degrees: ArrayLike, dtype: Any = float
) -> Float[Array, "*shape"]:
    """The chi-square numbers of one of the `seeds` of a key.

    Args:
        seed: randomness; for nothing else.
        degrees: degrees of freedom, real and positive.
        dtype: of the result; the decisions of the method are good to its precision.
    """
    return 2 * _gamma(jnp.asarray(degrees, dtype) / 2, seed)


def seeds(key: PRNGKeyArray, count: int) -> UInt32[Array, "count 2"]:
    """Independent seeds of one key, in one call of its generator: each call costs compilation.

    Args:
        key: randomness; for nothing else.
        count: how many.
    """
    return jax.random.bits(key, (count, 2), jnp.uint32)


@jax.custom_jvp
def _gamma(shapes: Float[Array, "*shape"], seed: UInt32[Array, " 2"]) -> Float[Array, "*shape"]:
    """Gamma numbers of unit scale; shapes below one from those above by a power of a uniform."""
    dtype, count = shapes.dtype, shapes.size
    flat = shapes.reshape(-1)
    raised = jnp.where(flat < 1, flat + 1, flat)
    d = raised - 1 / 3
    c = 1 / jnp.sqrt(9 * d)

    def propose(attempt: Array) -> tuple[Array, Array]:
        normal = _normals(seed, count, 2 * attempt).astype(dtype)
        uniform, boost = (_unit(word, dtype) for word in _words(seed, count, 2 * attempt + 1))
        root = 1 + c * normal
        v = jnp.where(root > 0, root, 1.0) ** 3
        taken = jnp.log(uniform) < normal**2 / 2 + d * (1 - v + jnp.log(v))
        return jnp.where(flat < 1, d * v * boost ** (1 / flat), d * v), (root > 0) & taken

    def again(loop: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        attempt, kept, done = loop
        value, taken = propose(attempt)
        return attempt + 1, jnp.where(done, kept, value), done | taken

    # No proposal is ever taken for a shape that is none: its number is NaN, and nobody waits.
    proper = (raised > 0) & jnp.isfinite(raised)
    start = (jnp.uint32(0), jnp.full_like(flat, jnp.nan), ~proper)
    _, value, _ = jax.lax.while_loop(lambda loop: ~jnp.all(loop[2]), again, start)
    return value.reshape(shapes.shape)


@_gamma.defjvp
def _gamma_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    shapes, seed = primals
    value = _gamma(shapes, seed)
    slope = jax.lax.random_gamma_grad(shapes, value)  # pyright: ignore[reportCallIssue]
    return value, slope * tangents[0]


def _normals(seed: UInt32[Array, " 2"], count: int, stream: Array) -> Float32[Array, " count"]:
    """Box-Muller: sqrt(-2 log u) cos(2 pi t), with cos(2 pi t) = sin(2 pi (1/4 - |t|))."""
    first, second = _words(seed, count, stream)
    # Zero comes up once in 2^32: half a unit is added in float32, where it is lost above 2^24.
    radius = jnp.sqrt(-2 * jnp.log((first.astype(jnp.float32) + np.float32(0.5)) * _WORD))
    turn = second.astype(jnp.int32).astype(jnp.float32) * _WORD
    angle = (np.float32(0.25) - jnp.abs(turn)) * np.float32(2 * math.pi)
    square = angle * angle
    sine = jnp.full_like(square, _SINE[-1])
    for coefficient in reversed(_SINE[:-1]):
        sine = coefficient + square * sine
    return radius * angle * sine


def _unit(word: UInt32[Array, " count"], dtype: Any) -> Array:
    """Numbers in the open unit interval."""
    return (word.astype(dtype) + 0.5) * 2.0**-32


def _words(
    seed: UInt32[Array, " 2"], count: int, stream: Array
) -> tuple[UInt32[Array, " count"], UInt32[Array, " count"]]:
    """Threefry-2x32 of the blocks (0, stream), (1, stream), ..."""
    keys = (seed[0], seed[1], seed[0] ^ seed[1] ^ _PARITY)
    left = jax.lax.iota(jnp.uint32, count) + keys[0]
    right = jnp.broadcast_to(stream, (count,)) + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            left = left + right
            right = (right << np.uint32(rotation)) | (right >> np.uint32(32 - rotation))
            right = right ^ left
        left = left + keys[(group + 1) % 3]
        right = right + keys[(group + 2) % 3] + np.uint32(group + 1)
    return left, right
