"""Depths at which chains collapse, predicted and measured; designs at a fixed update of a token.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, limits, models
from translimit.core import Estimate
from translimit.experiments.koubbi2026 import common
from translimit.figures import Row

if TYPE_CHECKING:
    from translimit.core import Key
    from translimit.describe import WideHeads
    from translimit.limits.homogenized import CollapseDepth

#: The mean overlap of different tokens that counts as collapsed.
THRESHOLD = 0.5
#: How many predicted depths a chain is followed; what has not collapsed then is counted.
PATIENCE = 5
#: The trade-off: dimension, tokens, mean square update, temperatures of the curve and of chains.
DIM, TOKENS, UPDATE = 64, 16, 0.02
CURVE = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
SIMULATED = (0.0, 2.0, 4.0)


@dataclass(frozen=True)
class TradeOff(ex.Arrays):
    """Predicted depths at a fixed update over temperatures, and those of chains."""

    simulated: Float[np.ndarray, " simulated"]
    score_std: Annotated[Float[np.ndarray, " score_std"], "standard deviation of the scores"]
    layers: Annotated[Float[np.ndarray, "simulated replica"], "collapse depth (layers)"]
    predicted: Float[np.ndarray, " score_std"]
    spread: Float[np.ndarray, " score_std"]
    step: Float[np.ndarray, " score_std"]

    @property
    def gain(self) -> Estimate:
        """Depth at the lowest temperature over that without scores, relative to the prediction."""
        gains = self.layers[-1] / self.layers[0].mean()
        predicted = float(self.predicted[-1] / self.predicted[0])
        error = float(np.std(gains, ddof=1) / np.sqrt(gains.size) / predicted) * 1.5
        return Estimate(float(np.mean(gains) / predicted), error, gains.size)

    def rows(self) -> Iterator[Row]:
        """Score deviation, step, depth, its spread, ends of the band; mean and error of chains."""
        chains: dict[float, tuple[float, float]] = {}
        for std, layers in zip(self.simulated.tolist(), self.layers, strict=True):
            mean, stderr = common.mean_and_stderr(layers[np.isfinite(layers)])
            chains[std] = float(mean), float(stderr)
        columns = (self.score_std, self.step, self.predicted, self.spread)
        for std, step, depth, spread in zip(*(one.tolist() for one in columns), strict=True):
            measured = chains.get(std, (None, None))
            yield (std, step, depth, spread, depth - spread, depth + spread, *measured)


def trade_off(replicas: int, key: Key) -> TradeOff:
    """The prediction at every temperature of the curve, and chains at some, in single precision."""
    chosen, rows = designs(), []
    for std in SIMULATED:
        law, step, depth = chosen[std]
        layers = int(PATIENCE * float(depth.layers))
        own = core.named_key(key, f"{std:g}")
        rows.append(crossings(law, TOKENS, 1, step, layers, replicas, own))
    return TradeOff(
        simulated=np.array(SIMULATED),
        score_std=np.array(CURVE),
        layers=np.array(rows),
        predicted=np.array([float(depth.layers) for _, _, depth in chosen.values()]),
        spread=np.array([float(depth.spread) for _, _, depth in chosen.values()]),
        step=np.array([step for _, step, _ in chosen.values()]),
    )


def predicted_depth(law: WideHeads, tokens: int, heads: int, step: float) -> CollapseDepth:
    """The depth at which the simplex equation crosses the threshold."""
    return limits.homogenized.collapse_depth(
        law, tokens=tokens, step=step, heads=heads, threshold=THRESHOLD
    )


def crossings(
    law: WideHeads, tokens: int, heads: int, step: float, layers: int, replicas: int, key: Key
) -> Float[np.ndarray, " replica"]:
    """The layer after which the mean overlap exceeds the threshold; NaN where it never does."""
    chain = models.RandomHeadChain(law=law, step=step, heads=heads, layers=layers)
    start = np.eye(tokens, dtype=np.float32)
    crossed = chain.first_crossing(start, THRESHOLD, replicas=replicas, key=key)
    return np.asarray(crossed, np.float64)


def designs() -> dict[float, tuple[WideHeads, float, CollapseDepth]]:
    """Law, step and predicted depth at the update of the trade-off, by score deviation."""
    found = {}
    for std in CURVE:
        law = describe.WideHeads(dim=DIM, score_std=std)
        unit = float(limits.homogenized.designs.token_update(law, tokens=TOKENS, step=1.0, heads=1))
        step = (UPDATE / unit) ** 0.5
        found[std] = law, step, predicted_depth(law, TOKENS, 1, step)
    return found
