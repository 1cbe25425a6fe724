"""Single layers of explicit weights from equal overlaps: the mean step of an overlap.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import translimit.experiments as ex
from translimit import describe, limits
from translimit.core import Estimate
from translimit.experiments.koubbi2026 import common

#: Diffusive time of the layer, and layers that are drawn at once.
STEP, BLOCK = 1e-3, 2000


@dataclass(frozen=True)
class Drift(ex.Arrays):
    """Drift of an overlap at a simplex: of single layers, and by forms of the theory."""

    measured: float
    stderr: float
    exact: float
    printed: float
    one_query: float
    plain: float
    layers: int

    @property
    def ratio(self) -> Estimate:
        """Measured over exact."""
        return Estimate(self.measured / self.exact, self.stderr / self.exact, self.layers)


def drift_at(
    gamma: float, tokens: int, dim: int, score_std: float, layers: int, rng: np.random.Generator
) -> Drift:
    """Single layers at one simplex, and forms of the theory; see `layer_drift`."""
    law = describe.GaussianHeads.of_score_std(score_std, dim=dim)
    drift = limits.homogenized.simplex.simplex_drift
    measured = layer_drift(gamma, tokens, dim, score_std, layers, rng)
    f = float(limits.homogenized.concentration(tokens, score_std * (1.0 - gamma) ** 0.5))
    same = gamma + (1.0 - gamma) * f
    large = limits.homogenized.Dimension.LARGE
    return Drift(
        measured=measured.value,
        stderr=measured.floor,
        exact=float(drift(law, gamma, tokens)),
        printed=float(drift(law, gamma, tokens, dimension=large)),
        one_query=(1 - (2 - gamma**2) / dim) * same - (1 - 1 / dim) * gamma * same,
        plain=float(drift(describe.WideHeads(dim=dim, score_std=0.0), gamma, tokens)),
        layers=layers,
    )


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
