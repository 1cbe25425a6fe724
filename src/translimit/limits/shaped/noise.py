r"""The random numbers of a step of the covariance SDE, and those of several steps taken as one.

A step of size h needs normal matrices, or the Bartlett factor of a Wishart matrix with
1 / (sigma^2 h) degrees of freedom. A coarser step on the same noise takes the sums of the normals
of its parts; a chi-square takes the sum of their normal scores, by the transformation of Wilson
and Hilferty,

    chi^2_k = k (1 - 2 / (9 k) + z (2 / (9 k))^{1/2})^3,

whose first two moments are right up to O(k^-3): it moves no mean to the order of the step's error.
The noise of a single step is drawn exactly.

Reference: Wilson and Hilferty, Proc. Natl. Acad. Sci. 17, 1931; documentation, "The shaped
Transformer".
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from translimit.core import normals, wishart_factor


class StepNoise(eqx.Module):
    """What a step draws.

    Attributes:
        scores: standard normals of the attention scores; of no size where there is no attention.
        linear: standard normals of the linear noise, or a Bartlett factor [tokens, tokens].
    """

    scores: Float[Array, "*scores"]
    linear: Float[Array, "tokens tokens"]


def normal_noise(tokens: int, key: PRNGKeyArray, dtype: jnp.dtype) -> StepNoise:
    """Two normal matrices: what an Euler-Maruyama step draws."""
    first, second = jax.random.split(key)
    linear = jax.random.normal(first, (tokens, tokens), dtype)
    return StepNoise(jax.random.normal(second, (tokens, tokens), dtype), linear)


def wishart_noise(
    scores: tuple[int, ...], degrees: Array, tokens: int, key: PRNGKeyArray, dtype: jnp.dtype
) -> StepNoise:
    """Normals of the scores, and a Bartlett factor.

    Args:
        scores: shape of the normals of the scores.
        degrees: degrees of freedom of the Wishart matrix.
        tokens: its rows.
        key: randomness.
        dtype: of the factor; normals of scores are float32.
    """
    mixing, wishart = jax.random.split(key)
    return StepNoise(normals(mixing, scores), wishart_factor(wishart, degrees, tokens, dtype))


def summed(
    draw: Callable[[Array], StepNoise], parts: Array, degrees: Array | None = None
) -> StepNoise:
    """The noise of one step from that of its parts, in units of the step.

    Args:
        draw: from the number of a part to its noise.
        parts: how many there are; with one of them the result is its noise.
        degrees: degrees of freedom of the whole step, where `linear` is a Bartlett factor.
    """
    freedom = 1.0 if degrees is None else degrees

    def to_normal(factor: Array) -> Array:
        return _on_diagonal(factor, lambda d, rows: _normal(d**2, freedom * parts - rows))

    def from_normal(normal: Array) -> Array:
        return _on_diagonal(normal, lambda z, rows: _chi_square(z, freedom - rows) ** 0.5)

    def unless_one(change: Callable[[Array], Array], linear: Array) -> Array:
        if degrees is None:
            return linear
        return jax.lax.cond(parts > 1, change, lambda same: same, linear)

    def add(part: Array, total: StepNoise) -> StepNoise:
        noise = draw(part)
        noise = StepNoise(noise.scores, unless_one(to_normal, noise.linear))
        return jax.tree.map(jnp.add, total, noise)

    shapes = jax.eval_shape(draw, jnp.zeros_like(parts))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    # A loop even for one part, so that drawing is compiled once.
    total = jax.lax.fori_loop(jnp.zeros_like(parts), parts, add, nothing)
    total = jax.tree.map(lambda leaf: leaf / jnp.sqrt(parts.astype(leaf.dtype)), total)
    return StepNoise(total.scores, unless_one(from_normal, total.linear))


def _on_diagonal(matrix: Array, change: Callable[[Array, Array], Array]) -> Array:
    """The matrix with `change(diagonal, row numbers)` on its diagonal."""
    rows = jnp.arange(matrix.shape[0])
    return matrix.at[rows, rows].set(change(jnp.diagonal(matrix), rows))


def _normal(squares: Array, degrees: Array) -> Array:
    variance = 2 / (9 * degrees)
    return (jnp.cbrt(squares / degrees) - 1 + variance) / jnp.sqrt(variance)


def _chi_square(normal: Array, degrees: Array) -> Array:
    variance = 2 / (9 * degrees)
    # Below zero once in thirty thousand with four degrees of freedom, and hardly ever with more.
    root = jnp.maximum(1 - variance + normal * jnp.sqrt(variance), 1e-3)
    return degrees * root**3
