r"""The tokens' equation by Euler-Maruyama in ambient coordinates, apart from all other solvers.

    dx_i = P_{x_i} dW_i - c s_ii x_i dtau,     Cov(dW_i, dW_j) = s_ij I dtau / d,

c = (d - 1) / (2 d), with the drift written out and no step back to the sphere; S of every step is
the mean of a few heads drawn from explicit matrices, and its Cholesky factor gives the noise. Steps
of twice the size go along on the same heads and the same noise, for an extrapolation.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from jaxtyping import Array

    from translimit.core import Key

#: Heads of a fine step; paths that run at once.
HEADS, BATCH = 2, 1000


def mean_overlaps(
    start: Float[np.ndarray, "tokens dim"],
    score_std: float,
    *,
    step: float,
    blocks: int,
    pairs: int,
    paths: int,
    key: Key,
    correction: float | None = None,
    common: bool = True,
) -> Float[np.ndarray, "solver paths saves"]:
    """The mean inner product of two tokens at the start and after every block, in single precision.

    Args:
        start: unit tokens.
        score_std: standard deviation of the scores, with as many columns as dimensions.
        step: of the fine solver.
        blocks: how many times are kept after the start.
        pairs: of fine steps in a block.
        paths: independent ones.
        key: of heads and noise.
        correction: c; that of the sphere by default.
        common: whether tokens share their noise; without, every token has its own.

    Returns:
        Of the fine solver, and of the one with twice the step.
    """
    import jax
    import jax.numpy as jnp

    tokens, dim = start.shape
    c = (dim - 1) / (2 * dim) if correction is None else correction

    def moved(x: Array, heads: Array, normal: Array, size: float) -> Array:
        left, right = x @ heads[:, 0], x @ heads[:, 1]
        scores = score_std * dim**-0.5 * left @ right.swapaxes(-1, -2)
        outputs = jax.nn.softmax(scores, axis=-1) @ x
        s = jnp.einsum("hic,hjc->ij", outputs, outputs) / len(heads)
        own = jnp.diagonal(s)[:, None]
        root = jnp.linalg.cholesky(s + 1e-6 * jnp.eye(tokens)) if common else jnp.sqrt(own)
        noise = (size / dim) ** 0.5 * (root @ normal if common else root * normal)
        inside = jnp.sum(x * noise, axis=-1, keepdims=True) / jnp.sum(x * x, -1, keepdims=True)
        return x + noise - inside * x - size * c * own * x

    def pair(states: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], None]:
        fine, coarse = states
        heads = jax.random.normal(jax.random.fold_in(key, 0), (2, HEADS, 2, dim, dim))
        normal = jax.random.normal(jax.random.fold_in(key, 1), (2, tokens, dim))
        for one in (0, 1):
            fine = moved(fine, heads[one], normal[one], step)
        both = heads.reshape(-1, 2, dim, dim)
        return (fine, moved(coarse, both, normal.sum(0) / 2**0.5, 2 * step)), None

    def overlap(x: Array) -> Array:
        return (jnp.sum(x.sum(0) ** 2) - jnp.sum(x**2)) / (tokens * (tokens - 1))

    def block(states: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], Array]:
        states, _ = jax.lax.scan(pair, states, jax.random.split(key, pairs))
        return states, jnp.stack([overlap(x) for x in states])

    first = jnp.asarray(start, jnp.float32)

    def path(index: Array) -> Array:
        own = jax.random.split(jax.random.fold_in(key, index), blocks)
        _, kept = jax.lax.scan(block, (first, first), own)
        return jnp.concatenate([jnp.full((1, 2), overlap(first)), kept]).T

    every = jax.jit(lambda index: jax.lax.map(path, index, batch_size=BATCH))(jnp.arange(paths))
    return np.asarray(every, np.float64).swapaxes(0, 1)
