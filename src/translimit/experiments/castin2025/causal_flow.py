r"""Clouds under causal softmax attention with the canonical parameters, along depth.

A token at position s sees the tokens at positions up to s.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit import attention, core, limits
from translimit.experiments.castin2025.canonical import K, Q, V

if TYPE_CHECKING:
    from translimit.core import AnyArray, Key, Number

#: Runge-Kutta steps of a flow, and how many depths are kept, ends included.
STEPS, SAVES = 12, 6
#: One pair of tokens in one evaluation of the field, on one core.
SECONDS_PER_PAIR = 8e-9

Clouds = Float[np.ndarray, "clouds tokens 2"]


def seconds(pairs: float | int) -> float:
    """Of flows with so many pairs of tokens in all clouds, with their compilation."""
    return 8.0 + 2.5 * STEPS * SECONDS_PER_PAIR * pairs


def softmax(scale: Number = 1.0, *, causal: bool = True) -> attention.Softmax:
    """The canonical attention at a scale of its scores."""
    return attention.Softmax(Q=Q, K=K, V=V, score_scale=scale, causal=causal)


def gaussian(
    key: Key, clouds: int, tokens: int, mean: Float[np.ndarray, 2], cov: Float[np.ndarray, "2 2"]
) -> Clouds:
    """Clouds of a Gaussian law, in float64 where that is enabled."""
    import jax

    noise = np.asarray(jax.random.normal(key, (clouds, tokens, 2), dtype=np.float64))
    return mean + noise @ np.linalg.cholesky(cov).T


def flow_clouds(
    clouds: Clouds, positions: Float[np.ndarray, " tokens"], t1: float, scale: float = 1.0
) -> Float[np.ndarray, "clouds times tokens 2"]:
    """Clouds at `SAVES` depths up to t1."""
    return np.asarray(_compiled()(clouds, positions, np.linspace(0.0, t1, SAVES), scale))


@functools.cache
def _compiled() -> Callable[[AnyArray, AnyArray, AnyArray, float], AnyArray]:
    import jax

    def flow(cloud: AnyArray, positions: AnyArray, ts: AnyArray, scale: Number) -> AnyArray:
        problem = limits.meanfield.ParticleFlow(
            attention=softmax(scale), initial=cloud, t1=ts[-1], positions=positions
        )
        return core.solve(problem, limits.meanfield.FixedODE(steps=STEPS), save=ts).tokens

    def batched(clouds: AnyArray, positions: AnyArray, ts: AnyArray, scale: Number) -> AnyArray:
        return jax.lax.map(lambda cloud: flow(cloud, positions, ts, scale), clouds)

    return jax.jit(batched)
