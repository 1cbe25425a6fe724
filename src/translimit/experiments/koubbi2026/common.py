"""What the experiments on random heads share: their clock, and estimates over replicas."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import Estimate, standard_error

TAU = r"unit diffusive time $\tau$"


def mean_and_stderr(
    values: Float[np.ndarray, ...], axis: int = 0
) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """Mean and standard error over independent replicas along one axis, in float64."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(values.mean(axis)), standard_error(values, axis)


def estimate(values: Float[np.ndarray, " samples"], discretisation: float = 0.0) -> Estimate:
    """The mean of independent values, in float64."""
    return Estimate.from_samples(np.asarray(values, np.float64), discretisation=discretisation)
