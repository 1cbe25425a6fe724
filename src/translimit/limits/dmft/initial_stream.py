r"""The stream of a network that did not train: a diffusion along depth, layered or continuous.

At the start each block adds an increment that is independent of all others: over coordinates the
stream is Gaussian, and its kernel K obeys

    K <- K + e^2 V(K),  V(K) = E[sigma K sigma^T],  e = beta_0 L^(-alpha_L),

with the attention sigma of a head whose keys and queries are N copies of N(0, K). At alpha_L = 1/2
this is the Euler scheme of dK/dtau = beta_0^2 V(K): the stream is the diffusion
dh = beta_0 dW, <dW dW> = V(K) dtau, and layers reach it with an error of order 1 / L. At
alpha_L > 1/2 the limit is no motion at all.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArrayInput,
    Bounds,
    as_float64,
    require_count,
    require_covariance,
    require_real,
)

#: Independent groups of heads, for standard errors.
GROUPS = 8


def initial_stream_kernel(
    kernel: ArrayInput,
    inputs: int,
    *,
    head_dim: int,
    layers: int | float,
    alpha_A: float = 1.0,
    alpha_L: float = 1.0,
    beta0: float = 1.0,
    heads: int = 16_000,
    steps: int = 16,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "fields fields"], Float[np.ndarray, "fields fields"]]:
    """The kernel of the stream after all blocks at the start, and its standard errors.

    Attention without norm or MLP. Heads are drawn once, and the same draws serve all depths, so
    that the flow along depth is smooth; layers are taken one by one, infinite depth by Runge and
    Kutta's scheme of fourth order.

    Args:
        kernel: of the inputs' tokens [fields, fields], fields flattened with tokens fastest.
        inputs: P, which divides the fields.
        head_dim: N.
        layers: L; `math.inf` too, at alpha_L = 1/2.
        alpha_A: exponent of the scores, in [1/2, 1].
        alpha_L: exponent of the branches, in [1/2, 1].
        beta0: branch multiplier.
        heads: sampled heads, in eight independent groups.
        steps: of the scheme at infinite depth.
        seed: of the draws.

    Raises:
        ArgumentError: infinite depth at another exponent than 1/2, where nothing moves; not a
            covariance, fields that are not a multiple of inputs, numbers out of range.
    """
    start = np.asarray(require_covariance(as_float64(kernel, "kernel"), "kernel"))
    count = require_count(inputs, "inputs", 1)
    if len(start) % count:
        raise ArgumentError(
            "inputs", f"got {count} for {len(start)} fields", f"pass a divisor of {len(start)}"
        )
    half = Bounds(0.5, 1.0)
    alpha = require_real(alpha_A, "alpha_A", half)
    depth_exponent = require_real(alpha_L, "alpha_L", half)
    square = require_real(beta0, "beta0", POSITIVE) ** 2
    N, each = (
        require_count(head_dim, "head_dim", 1),
        require_count(heads, "heads", GROUPS) // GROUPS,
    )
    infinite = math.isinf(layers)
    if infinite and depth_exponent > 0.5:
        raise ArgumentError(
            "layers", f"is infinite at alpha_L = {depth_exponent:g}", "pass alpha_L = 0.5"
        )
    total = require_count(steps if infinite else layers, "layers", 1)
    rng = np.random.default_rng(seed)
    ends = []
    for _ in range(GROUPS):
        draws = rng.standard_normal((2, each, N, len(start)))

        def rate(now: np.ndarray, draws: np.ndarray = draws) -> np.ndarray:
            return square * _attended(now, draws, count, alpha)

        now = start
        for _ in range(total):
            if not infinite:
                now = now + total ** (-2 * depth_exponent) * rate(now)
                continue
            one = rate(now)
            two = rate(now + one / (2 * total))
            three = rate(now + two / (2 * total))
            four = rate(now + three / total)
            now = now + (one + 2 * two + 2 * three + four) / (6 * total)
        ends.append(now)
    return np.mean(ends, axis=0), np.std(ends, axis=0, ddof=1) / GROUPS**0.5


def _attended(
    kernel: Float[np.ndarray, "fields fields"],
    draws: Float[np.ndarray, "2 heads N fields"],
    inputs: int,
    alpha_A: float,
) -> Float[np.ndarray, "fields fields"]:
    """E[sigma K sigma^T] over heads with these standard normal draws."""
    values, basis = np.linalg.eigh(kernel)
    root = basis * np.sqrt(np.maximum(values, 0.0)) @ basis.T
    queries, keys = (draws @ root).reshape(*draws.shape[:3], inputs, -1)
    scores = np.einsum("hips,hipt->hpst", queries, keys) / draws.shape[2] ** alpha_A
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    blocks = kernel.reshape(*weights.shape[1:3], *weights.shape[1:3])
    mixed = np.einsum("hpst,ptqr->hpsqr", weights, blocks)
    moved = np.einsum("hpsqr,hqur->psqu", mixed, weights) / len(weights)
    return moved.reshape(kernel.shape)
