r"""Without scores: tokens are moved by random Moebius maps of the sphere, and sampled exactly.

With s_ij = m, the mean of all overlaps, one Brownian motion moves all tokens: dx_i = P_{x_i} dW.
That is a random flow of Moebius maps, so

    1 - R_ij(tau) = (1 - R_ij(0)) / (lambda_i lambda_j),        lambda_i = Y_0 - <x_i(0), Y>,

with (Y_0, Y) a Brownian motion on the hyperboloid Y_0^2 - |Y|^2 = 1 of dimension d, from (1, 0), on
the inner clock d varsigma = m dtau / d. All cross-ratios of separations

    (1 - R_ij) (1 - R_kl) / ((1 - R_ik) (1 - R_jl))

are conserved on every path, which tests any chain or integrator of the overlaps. Paths are geodesic
steps, whose law on the inner clock has errors of order one in the step; the clock is summed by
trapezoids.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention import gram_factor, require_gram
from translimit.core import (
    POSITIVE,
    AnyArray,
    ArgumentError,
    ArrayInput,
    Key,
    Numbers,
    as_float64,
    in_float64,
    require_count,
    require_number,
)


def sample_overlaps(
    initial: ArrayInput,
    ts: ArrayInput,
    *,
    dim: int,
    replicas: int,
    key: Key,
    max_step: float = 0.01,
    means: bool = False,
) -> Float[np.ndarray, "replicas times *pair"]:
    """Overlaps of independent networks without scores, [replicas, times, tokens, tokens].

    Args:
        initial: overlaps of unit tokens at time 0 [tokens, tokens].
        ts: increasing unit diffusive times, from 0 on [times].
        dim: dimension of the tokens, at least the rank of `initial`.
        replicas: independent networks.
        key: of the noise.
        max_step: largest step of diffusive time, about.
        means: give the mean overlap of different tokens alone, [replicas, times].

    Raises:
        ArgumentError: overlaps that are no correlation matrix or have a rank beyond the dimension,
            times that do not increase from 0 on.
    """
    dim = require_count(dim, "dim", 2)
    overlaps = np.asarray(require_gram(initial, "initial", dim), dtype=np.float64)
    times = np.atleast_1d(np.asarray(as_float64(ts, "ts")))
    if times.ndim != 1 or times[0] < 0 or not (np.diff(times) > 0).all():
        raise ArgumentError("ts", f"got {times}", "pass increasing times from 0 on")
    largest = float(require_number(max_step, "max_step", POSITIVE))
    count = require_count(replicas, "replicas", 1)
    spans = np.diff(times, prepend=0.0)
    steps = np.maximum(np.ceil(spans / largest - 1e-9).astype(int), 1)
    targets = np.concatenate(
        [
            start + span * np.arange(1, many + 1) / many
            for start, span, many in zip(times - spans, spans, steps, strict=True)
        ]
    )
    keys = jax.random.split(key, count)
    kept = np.cumsum(steps) - 1
    scales, overall = in_float64(_walk, overlaps, targets, kept, dim, means, keys)
    if scales is None:
        n = len(overlaps)
        return (n * np.asarray(overall) - 1.0) / (n - 1)
    return 1.0 - (1.0 - overlaps) / (scales[..., :, None] * scales[..., None, :])


def cross_ratio(
    separations: Float[AnyArray, "*batch tokens tokens"], i: int, j: int, k: int, l: int
) -> Numbers:
    """(1 - R_ij) (1 - R_kl) / ((1 - R_ik) (1 - R_jl)), conserved without scores.

    Args:
        separations: 1 - R of every pair.
        i: a token, and so j, k and l.
        j: another.
        k: another.
        l: another.

    Returns:
        The ratio [...].
    """
    S = separations
    return S[..., i, j] * S[..., k, l] / (S[..., i, k] * S[..., j, l])


@eqx.filter_jit
def _walk(
    overlaps: Array, targets: Array, kept: Array, dim: int, means: bool, keys: Array
) -> tuple[Float[Array, "replicas times tokens"] | None, Float[Array, "replicas times"]]:
    """The lambda_i at the kept steps, None for means, and the mean of all overlaps."""
    tokens = gram_factor(overlaps, dim)
    width, separations = tokens.shape[1], 1.0 - overlaps

    def scales(top: Array, space: Array) -> Array:
        return top - tokens @ space[:width]

    def mean(scale: Array) -> Array:
        return 1.0 - jnp.mean(separations / (scale[:, None] * scale))

    def one(key: Key) -> tuple[Array | None, Array]:
        def step(
            carry: tuple[Array, ...], this: tuple[Array, Array]
        ) -> tuple[tuple[Array, ...], tuple[Array | None, Array]]:
            top, space, time, m = carry
            target, own = this
            # What is missing on the outer clock, so that errors of the clock do not add up.
            inner = jnp.maximum(target - time, 0.0) * m / dim
            size = jnp.sqrt(inner) * jax.random.normal(own, (dim,), jnp.float32)
            length = jnp.sqrt(jnp.sum(size**2))
            along = space @ size
            ratio = jnp.where(
                length > 0, jnp.sinh(length) / jnp.where(length > 0, length, 1.0), 1.0
            )
            tangent = size + along * space / (1.0 + top)
            space = jnp.cosh(length) * space + ratio * tangent
            top = jnp.sqrt(1.0 + jnp.sum(space**2))
            scale = scales(top, space)
            after = mean(scale)
            time = time + 0.5 * dim * inner * (1.0 / m + 1.0 / after)
            return (top, space, time, after), (None if means else scale, after)

        start = jnp.ones(()), jnp.zeros(dim), jnp.zeros(()), mean(jnp.ones(len(tokens)))
        _, found = jax.lax.scan(step, start, (targets, jax.random.split(key, len(targets))))
        every, overall = found
        return None if every is None else every[kept], overall[kept]

    return jax.lax.map(one, keys, batch_size=4096)
