"""The acceptance cases of the training dynamics, as problems of the library."""

import math
from typing import Any

import numpy as np
from tests.limits.dmft.network import RING4, RING4_Y, inputs_with_kernel

from translimit.describe import Activation
from translimit.limits.dmft import Architecture, TrainingDynamics

X = inputs_with_kernel(RING4, 2)
Y = RING4_Y[:, 0]
BASE: dict[str, Any] = {"beta0": 2.0, "gamma0": 2.0, "steps": 12, "eta0": 0.03}
RICH: dict[str, Any] = {"beta0": 1.5, "gamma0": 1.5}
#: Every ingredient at once: the test of the responses at equal times.
FULL: dict[str, Any] = {
    "head_dim": 2,
    "layers": 2,
    "alpha_A": 0.75,
    "beta0": 1.5,
    "gamma0": 1.0,
    "mlp": Activation.TANH,
    "norm": "rms",
    "causal": True,
    "steps": 8,
    "eta0": 0.06,
    "momentum": 0.5,
}


def ring4(
    *,
    steps: int,
    eta0: float,
    head_dim: float = math.inf,
    momentum: float = 0.0,
    inputs: Any = X,
    targets: Any = Y,
    weights: Any = None,
    schedule: Any = None,
    loss: Any = None,
    optimizer: Any = None,
    **architecture: Any,
) -> TrainingDynamics:
    """Two inputs of two tokens."""
    return TrainingDynamics(
        architecture=Architecture(head_dim=head_dim, **architecture),
        inputs=inputs,
        targets=targets,
        steps=steps,
        eta0=eta0,
        momentum=momentum,
        weights=weights,
        schedule=schedule,
        loss=loss,
        optimizer=optimizer,
    )


def last_kernel(solution: Any, t: int) -> float:
    """H^out_00(t, t)."""
    return float(solution.kernel(solution.layers)[t, 0, 0, t, 0, 0])


def score_head_var(solution: Any, t: int) -> float:
    """Variance of A over heads, averaged over the entries of input 0."""
    return float(np.mean(solution.score_law(0).variance[t, 0]))
