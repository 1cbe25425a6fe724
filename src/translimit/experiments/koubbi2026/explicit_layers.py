"""Single layers of explicit weights from equal overlaps: the mean step of an overlap.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import numpy as np

from translimit.core import Estimate
from translimit.experiments.koubbi2026 import common

#: Diffusive time of the layer, and layers that are drawn at once.
STEP, BLOCK = 1e-3, 2000


def layer_drift(
    gamma: float, tokens: int, dim: int, score_std: float, layers: int, rng: np.random.Generator
) -> Estimate:
    """Mean of (R' - R) / step over tokens and layers of one head, step the diffusive time.

    Every head is taken with V and with -V: the steps of order one half cancel in pairs. The layer's
    own step adds a relative error of its order.

    Args:
        gamma: the common overlap.
        tokens: n, at most dim.
        dim: of the tokens, and of W and W'.
        score_std: deviation of the scores of two tokens.
        layers: that are drawn.
        rng: of the heads.
    """
    overlaps = gamma + (1.0 - gamma) * np.eye(tokens)
    x = np.zeros((tokens, dim))
    x[:, :tokens] = np.linalg.cholesky(overlaps)
    entry = (score_std / dim**0.5) ** 0.5
    found = []
    for _ in range(max(layers // BLOCK, 2)):
        queries, keys = (x @ (entry * rng.standard_normal((BLOCK, dim, dim))) for _ in range(2))
        scores = queries @ keys.swapaxes(1, 2)
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        values = rng.standard_normal((BLOCK, dim, dim)) / dim**0.5
        update = STEP**0.5 * (weights @ x) @ values
        moved = []
        for sign in (1.0, -1.0):
            y = x + sign * update
            y /= np.linalg.norm(y, axis=2, keepdims=True)
            moved.append(common.mean_overlaps(y))
        found.append((0.5 * (moved[0] + moved[1]) - gamma) / STEP)
    steps = np.concatenate(found)
    return common.estimate(steps, discretisation=float(abs(steps.mean())) * STEP)
