"""Two heads with a mean and a fluctuation: exact means of the chain, and of its equations.

The mean overlap of the chain goes over all sequences of heads; that of an equation is a tree of
three Gauss points a step, between flows, at two depths.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit import attention, core, describe, limits, observe

if TYPE_CHECKING:
    from translimit.describe import FiniteHeads

Tokens = Float[np.ndarray, "states 3 3"]

#: Tokens (rows are normalised).
ROWS = ((1.0, 0.2, 0.0), (0.3, 1.0, 0.4), (-0.2, 0.1, 1.0))
#: The heads: values MEAN + OTHER with the identity as scores, MEAN - OTHER with TURN.
MEAN = ((1.0, 0.3, 0.0), (-0.2, 0.8, 0.1), (0.0, 0.4, 0.6))
OTHER = ((1.2, -0.6, 0.2), (0.4, 0.9, -0.8), (-0.7, 0.5, 1.1))
TURN = ((1.0, 0.5, 0.0), (-0.5, 1.0, 0.3), (0.0, 0.2, -1.0))
#: Equations: weights of -step/2 nabla_b b, of the drift of the mean, of that of the noise, and
#: of the noise.
EQUATIONS = {
    "corrected": (1.0, 1.0, 1.0, 1.0),
    "as printed": (1.0, 0.0, 0.0, 1.0),
    "without the drift of the mean": (1.0, 0.0, 1.0, 1.0),
    "without the drift of the noise": (1.0, 1.0, 0.0, 1.0),
    "first order, as printed": (0.0, 0.0, 0.0, 1.0),
    "first order, corrected": (0.0, 0.0, 1.0, 1.0),
    "ballistic": (0.0, 0.0, 0.0, 0.0),
}
#: Steps of an equation, and states that are moved together, there and in a chain.
DEPTHS, CHUNK, STATES = (3, 6), 81, 20_000


def two_heads() -> FiniteHeads:
    """Both heads."""
    mean, other = np.array(MEAN), np.array(OTHER)
    scores = np.stack([np.eye(3), np.array(TURN)])
    return describe.FiniteHeads(V=np.stack([mean + other, mean - other]), A=scores, beta=1.0)


def exact_mean(step: float, heads: int, *, tangent: bool = False) -> float:
    """The mean overlap of the chain at paper time 1 over all sequences of heads, written out.

    Args:
        step: residual step, 1 over an integer.
        heads: of a layer.
        tangent: whether updates are projected to the tangent space first.
    """
    law = two_heads()
    chances = np.array([math.comb(heads, k) for k in range(heads + 1)]) / 2**heads

    def layer(x: Tokens) -> Float[np.ndarray, "more 3 3"]:
        outputs = []
        for V, A in zip(np.asarray(law.V), np.asarray(law.A), strict=True):
            weights = np.exp((x @ A.T) @ x.swapaxes(-1, -2))
            weights /= weights.sum(axis=-1, keepdims=True)
            outputs.append(step * weights @ x @ V.T)
        first, second = outputs
        share = np.arange(heads + 1)[:, None, None, None] / heads
        update = share * first + (1.0 - share) * second
        if tangent:
            update = update - np.sum(update * x, axis=-1, keepdims=True) * x
        moved = (x + update).reshape(-1, 3, 3)
        return moved / np.linalg.norm(moved, axis=-1, keepdims=True)

    def mean(x: Tokens, weights: Float[np.ndarray, " states"], layers: int) -> float:
        if layers == 0:
            return float(weights @ observe.mean_overlap(x))
        if len(x) > STATES:
            parts = range(0, len(x), STATES)
            return sum(mean(x[p : p + STATES], weights[p : p + STATES], layers) for p in parts)
        return mean(layer(x), np.outer(chances, weights).ravel(), layers - 1)

    return mean(core.SPHERE.project(np.array(ROWS))[None], np.ones(1), round(1.0 / step))


def equation_means(
    step: float, heads: int
) -> tuple[Float[np.ndarray, " equation"], Float[np.ndarray, " equation"]]:
    """Mean overlaps of all equations at paper time 1, and errors of their steps.

    A step is half a flow of the drift (less that of Stratonovich's noise), the flow of the noise
    along a Gauss point, half a flow of the drift; two depths are extrapolated.
    """
    import jax
    import jax.numpy as jnp

    law, sphere, drifts = two_heads(), core.SPHERE, limits.homogenized.drifts
    pair = tuple(zip(jnp.asarray(law.V), jnp.asarray(law.A), strict=True))

    def noise(x: jax.Array) -> jax.Array:
        one, two = (attention.head_output(V, A, 1.0, x, causal=False) for V, A in pair)
        return sphere.tangent(x, (step / heads) ** 0.5 * (one - two) / 2)

    def drift(x: jax.Array, weights: jax.Array) -> jax.Array:
        b = drifts.ballistic_drift(law, x)
        chains = core.Retraction.TANGENT, core.Retraction.AMBIENT
        tangent, ambient = (drifts.modified_drift(law, x, step, one) for one in chains)
        along = jax.jvp(noise, (x,), (noise(x),))[1]
        ito = -0.5 * sphere.tangent(x, along)
        own = tangent - b, ambient - tangent, drifts.noise_drift(law, x, step, heads), ito
        return b + jnp.tensordot(weights, jnp.stack(own), 1)

    def flow(field: Callable[[jax.Array], jax.Array], x: jax.Array, time: jax.Array) -> jax.Array:
        """One step of Runge and Kutta."""

        def stage(k: jax.Array, part: jax.Array) -> tuple[jax.Array, jax.Array]:
            k = field(x + part * time * k)
            return k, k

        _, ks = jax.lax.scan(stage, jnp.zeros_like(x), jnp.array([0.0, 0.5, 0.5, 1.0]))
        return sphere.project(x + time * jnp.tensordot(jnp.array([1, 2, 2, 1]) / 6, ks, 1))

    drifted = jax.jit(jax.vmap(lambda x, t, w: flow(lambda y: drift(y, w), x, t), (0, None, None)))
    kicked = jax.jit(jax.vmap(lambda x, t: flow(noise, x, t)))

    def mean(weights: Float[np.ndarray, " 4"], depth: int) -> float:
        states, chances = sphere.project(np.array(ROWS))[None], np.ones(1)
        points = weights[3] * math.sqrt(3.0 / depth) * np.array([-1.0, 0.0, 1.0])
        for _ in range(depth):
            kicks = np.repeat(points, len(states))
            states, chances = np.tile(states, (3, 1, 1)), np.outer([1, 4, 1], chances / 6).ravel()
            parts = []
            for start in range(0, len(states), CHUNK):
                x = np.resize(states[start : start + CHUNK], (CHUNK, 3, 3))
                x = kicked(
                    drifted(x, 0.5 / depth, weights), np.resize(kicks[start:][:CHUNK], CHUNK)
                )
                parts.append(np.asarray(drifted(x, 0.5 / depth, weights)))
            states = np.concatenate(parts)[: len(states)]
        return float(np.sum(chances * observe.mean_overlap(states)))

    with jax.enable_x64(True):
        rows = [[mean(np.array(one), n) for n in DEPTHS] for one in EQUATIONS.values()]
    coarse, fine = np.array(rows).T
    # Of second order in the depth; what is left after extrapolation is smaller still.
    shift = (fine - coarse) / ((DEPTHS[1] / DEPTHS[0]) ** 2 - 1)
    return fine + shift, np.abs(shift) / 4
