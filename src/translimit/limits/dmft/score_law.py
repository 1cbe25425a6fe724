"""The law of attention scores over heads at every evaluation: samples, quantiles, moments."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float


class ScoreLaw(eqx.Module):
    """Scores of sampled heads during training; with head_dim = inf one head stands for all.

    Attributes:
        scores: A [steps, heads, inputs, query, key].
        causal: whether keys after the query are masked.
    """

    scores: Float[np.ndarray, "steps heads inputs query key"]
    causal: bool = eqx.field(static=True, default=False)

    def quantiles(
        self, probabilities: Sequence[float] = (0.01, 0.1, 0.5, 0.9, 0.99)
    ) -> Float[np.ndarray, "probabilities steps inputs query key"]:
        """Quantiles of the scores over heads; robust where moments are not."""
        return np.quantile(self.scores, probabilities, axis=1)

    @property
    def mean(self) -> Float[np.ndarray, "steps inputs query key"]:
        """Mean scores over heads."""
        return self.scores.mean(axis=1)

    @property
    def variance(self) -> Float[np.ndarray, "steps inputs query key"]:
        """Variance of the scores over heads."""
        return self.scores.var(axis=1)

    @property
    def excess_kurtosis(self) -> Float[np.ndarray, "steps inputs query key"]:
        """Excess kurtosis over heads; 6 / head_dim at initialisation, 0 where nothing varies."""
        square = np.square(self.scores - self.scores.mean(axis=1, keepdims=True))
        variance = square.mean(axis=1)
        fourth = np.square(square, out=square).mean(axis=1)
        varies = variance > 0
        return np.where(varies, fourth / np.where(varies, variance, 1.0) ** 2 - 3, 0.0)

    @property
    def attention(self) -> Float[np.ndarray, "steps heads inputs query key"]:
        """Softmax of the scores over keys."""
        scores = self.scores
        if self.causal:
            allowed = np.tril(np.ones(scores.shape[-2:], bool))
            scores = np.where(allowed, scores, -np.inf)
        unnormalised = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return unnormalised / unnormalised.sum(axis=-1, keepdims=True)
