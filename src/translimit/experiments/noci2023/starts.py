"""Initial covariances: synthetic ones, and those of real tokens."""

from __future__ import annotations

import numpy as np

import translimit.experiments as ex
from translimit import data

#: Tokens of unequal norms, so that no part of the drift vanishes.
UNEQUAL = {
    "three unequal": np.array([[2.0, 0.6, -0.4], [0.6, 1.0, 0.3], [-0.4, 0.3, 1.0]]),
    "four unequal": np.diag([2.2, 0.7, 0.7, 0.7]) + 0.3,
    "eight unequal": np.diag([2.75] * 2 + [0.75] * 6) + 0.25,
}
STARTS = (*UNEQUAL, "digits", "text")


def initial_covariance(name: str) -> np.ndarray:
    """Covariance of the tokens across the width [tokens, tokens]; of mean norm one for real ones.

    `digits` is an image cut into four patches, `text` the first six bytes of a sentence in random
    embeddings: two of them are equal, so that the covariance is singular.
    """
    if name in UNEQUAL:
        return UNEQUAL[name]
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


def generator(keys: ex.Keys) -> np.random.Generator:
    """The random numbers of a cell for NumPy."""
    import jax

    return np.random.default_rng(np.asarray(jax.random.key_data(keys.own)).tolist())
