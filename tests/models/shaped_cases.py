"""Blocks and covariances, ensembles of networks, correlations."""

import jax
import numpy as np

from translimit.describe import Block, ShapedMLP

THREE = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.0]])
FULL = Block(gamma=0.5, tau0=2.0, mlp=ShapedMLP(gamma=0.5, c_plus=0.0, c_minus=-1.0))


def run(model, initial, seeds, seed=0, **options):
    paths = model.simulate(initial, key=jax.random.key(seed), seeds=seeds, **options)
    return np.asarray(paths.cov)


def correlations(cov: np.ndarray) -> np.ndarray:
    norms = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    return cov / norms[..., :, None] / norms[..., None, :]
