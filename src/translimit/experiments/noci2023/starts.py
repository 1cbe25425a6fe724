"""Initial covariances: a synthetic one, and those of real tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from translimit import data

#: Three unit tokens with three different correlations.
THREE = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.0]])
STARTS = ("synthetic", "digits", "text")


def initial_covariance(name: str) -> np.ndarray:
    """Covariance of the tokens across the width [tokens, tokens], of mean norm one.

    `digits` is an image cut into four patches, `text` the first six bytes of a sentence in random
    embeddings: two of them are equal, so that the covariance is singular.
    """
    if name == "synthetic":
        return THREE
    if name == "digits":
        images = data.load_digits().images
        tokens = data.standardise(data.image_patches(images, 4))[0]
    else:
        tokens = data.embed_bytes(data.SENTENCE[:6], 64)
    cov = tokens @ tokens.T / tokens.shape[1]
    return cov / np.mean(np.diagonal(cov))


def correlations(cov: np.ndarray) -> np.ndarray:
    """V_ab / sqrt(V_aa V_bb)."""
    norms = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    return cov / norms[..., :, None] / norms[..., None, :]


def kolmogorov(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """The two-sample Kolmogorov distance, and its mean and spread when both laws are one.

    0.87 and 0.26 are the mean and the standard deviation of Kolmogorov's law.
    """
    from scipy.stats import ks_2samp

    scale = (1 / len(first) + 1 / len(second)) ** 0.5
    result: Any = ks_2samp(first, second)
    return float(result.statistic), 0.87 * scale, 0.26 * scale
