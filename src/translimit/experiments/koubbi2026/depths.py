"""Depths at which chains collapse, predicted and measured; designs at a fixed update of a token.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import describe, limits, models
from translimit.core import Estimate
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    from translimit.core import Key
    from translimit.describe import WideHeads
    from translimit.limits.homogenized import CollapseDepth, Dimension

#: The mean overlap of different tokens that counts as collapsed.
THRESHOLD = 0.5
#: How many predicted depths a chain is followed; what has not collapsed then is counted.
PATIENCE = 8
#: The trade-off: dimension, tokens, mean square update, temperatures of the curve and of chains.
DIM, TOKENS, UPDATE = 64, 16, 0.005
CURVE = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
SIMULATED = (0.0, 2.0, 4.0)


@dataclass(frozen=True)
class Depths(ex.Arrays):
    """Depths of chains of one case, NaN where one never collapsed, and what was predicted."""

    layers: Annotated[Float[np.ndarray, " replica"], "collapse depth (layers)"]
    predicted: Annotated[float, "predicted depth (layers)"]
    spread: Annotated[float, "predicted standard deviation of one network (layers)"]
    large: Annotated[float, "predicted depth for d to infinity (layers)"]
    plain: Annotated[float, "predicted depth without scores (layers)"]

    @property
    def relative(self) -> Estimate:
        """Mean depth over its prediction; NaN, and so underpowered, where a chain never crossed."""
        return common.estimate(self.layers / self.predicted)

    @property
    def relative_spread(self) -> Estimate:
        """Deviation of the depths over the predicted one, by a bootstrap."""
        draws = np.random.default_rng(0).choice(self.layers, (400, self.layers.size))
        error = float(np.std(draws.std(axis=1))) / self.spread
        return Estimate(float(np.std(self.layers, ddof=1)) / self.spread, error, self.layers.size)


def measured_depths(
    law: WideHeads, tokens: int, heads: int, step: float, replicas: int, key: Key
) -> Depths:
    """Chains from orthonormal tokens, in single precision, and what is predicted for them."""
    kinds, plain = limits.homogenized.Dimension, describe.WideHeads(dim=law.dim, score_std=0.0)
    predicted = predicted_depth(law, tokens, heads, step)
    hot, large = (
        predicted_depth(plain, tokens, heads, step),
        predicted_depth(law, tokens, heads, step, kinds.LARGE),
    )
    stretch, plain_stretch = (
        layer_stretch(one, tokens, THRESHOLD, step**2 / heads) for one in (law, plain)
    )
    layers = int(PATIENCE * float(predicted.layers))
    chain = models.RandomHeadChain(law=law, step=step, heads=heads, layers=layers)
    start = np.eye(tokens, dtype=np.float32)
    crossed = chain.first_crossing(start, THRESHOLD, replicas=replicas, key=key)
    return Depths(
        layers=np.asarray(crossed, np.float64),
        predicted=stretch * float(predicted.layers),
        spread=stretch * float(predicted.spread),
        large=stretch * float(large.layers),
        plain=plain_stretch * float(hot.layers),
    )


def watched_threshold(
    law: WideHeads, tokens: int, step: float, threshold: float = THRESHOLD
) -> float:
    """The overlap that a path crosses on average when it is seen above the threshold.

    Seen once a step of diffusive time, a diffusion of variance Q is above a level when, on average,
    it has passed one 0.5826 (Q step)^(1/2) higher (Broadie, Glasserman and Kou; Chernoff's
    constant, -zeta(1/2) / (2 pi)^(1/2)).
    """
    Q = limits.homogenized.simplex.simplex_variation(law, threshold, tokens)
    return threshold + 0.5826 * float(Q * step) ** 0.5


def own_noise_spread(dim: int, tokens: int, overlap: float = 0.25) -> float:
    """The noise of the mean overlap if no two overlaps shared any, relative to the true one.

    Without scores, half of the way to collapse: that of an overlap is 2 m (1 - gamma^2) (1 - gamma)
    / d, and the mean is over n (n - 1) / 2 of them.
    """
    m = overlap + (1.0 - overlap) / tokens
    own = 2.0 * m * (1.0 - overlap**2) * (1.0 - overlap) / dim / (tokens * (tokens - 1) / 2)
    law = describe.WideHeads(dim=dim, score_std=0.0)
    return (own / float(limits.homogenized.simplex.simplex_variation(law, overlap, tokens))) ** 0.5


def first_order_time(law: WideHeads, tokens: int, threshold: float) -> float:
    """The integral of one over the exact drift at the simplex, from orthonormal tokens."""
    overlaps, weights = _nodes(tokens, threshold)
    drift = limits.homogenized.simplex.simplex_drift
    return float(weights @ [1.0 / float(drift(law, one, tokens)) for one in overlaps.tolist()])


def layer_stretch(law: WideHeads, tokens: int, threshold: float, step: float) -> float:
    """How much longer layers of a diffusive time take than the limit, to first order in it.

    For d to infinity a layer makes R of (R + step s_ij) / (1 + step s_ii), so that the time is 1 +
    step (int s_ii / D + log(D_end / D_start) / 2) / int 1 / D, D = s_ij - R s_ii. Without scores a
    layer adds log(1 + step) to log(m / (1 - m)), instead of the step.
    """
    room = limits.homogenized

    def drift(overlap: float) -> float:
        large = room.Dimension.LARGE
        return float(room.simplex.simplex_drift(law, overlap, tokens, dimension=large))

    overlaps, weights = _nodes(tokens, threshold)
    spreads = [law.score_std * (1.0 - one) ** 0.5 for one in overlaps.tolist()]
    s = overlaps + (1.0 - overlaps) * [float(room.concentration(tokens, one)) for one in spreads]
    slow = np.array([1.0 / drift(one) for one in overlaps.tolist()])
    ends = 0.5 * np.log(drift(threshold) / drift(0.0))
    return float(1.0 + step * (weights @ (s * slow) + ends) / (weights @ slow))


def _nodes(
    tokens: int, threshold: float
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Overlaps from 0 to the threshold and weights, on the logarithmic scale of the drift."""
    unit, weights = np.polynomial.legendre.leggauss(24)
    low, high = np.log(1.0 / tokens), np.log(threshold + 1.0 / tokens)
    shifted = np.exp(low + (high - low) * (unit + 1.0) / 2.0)
    return shifted - 1.0 / tokens, weights * shifted * (high - low) / 2.0


def predicted_depth(
    law: WideHeads, tokens: int, heads: int, step: float, dimension: Dimension | None = None
) -> CollapseDepth:
    """The first passage of the mean overlap, the threshold moved for the steps of layers."""
    level = watched_threshold(law, tokens, step**2 / heads)
    kind = dimension or limits.homogenized.Dimension.EXACT
    return limits.homogenized.collapse_depth(
        law, tokens=tokens, step=step, heads=heads, threshold=level, dimension=kind
    )


def designs(stds: tuple[float, ...]) -> dict[float, tuple[WideHeads, float]]:
    """Law and step at the update of the trade-off, by score deviation."""
    found = {}
    for std in stds:
        law = describe.WideHeads(dim=DIM, score_std=std)
        unit = float(limits.homogenized.designs.token_update(law, tokens=TOKENS, step=1.0, heads=1))
        found[std] = law, (UPDATE / unit) ** 0.5
    return found
