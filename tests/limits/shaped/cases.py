"""Blocks, covariances, ends of paths, and distances in standard errors."""

import jax
import numpy as np

from translimit import solve
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    ShapedMLP,
)

FULL = Block(gamma=0.5, tau0=2.0, mlp=ShapedMLP(gamma=0.5, c_plus=0.0, c_minus=-1.0))
THREE = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.0]])


def ends(block, initial, t1, method, seed=0, **problem):
    sde = CovarianceSDE(block=block, initial=initial, t1=t1, **problem)
    return solve(sde, method, key=jax.random.key(seed), save=[t1])


def z(samples: np.ndarray, expected: float) -> float:
    """Distance in standard errors."""
    return (samples.mean() - expected) / (samples.std(ddof=1) / len(samples) ** 0.5)
