import math

import numpy as np

from translimit import solve
from translimit.limits.dmft import Architecture, TrainingDynamics

inputs = np.random.default_rng(0).normal(size=(4, 3, 8))
network = Architecture(head_dim=math.inf, layers=2, beta0=1.0, gamma0=1.0)
targets = [1.0, -1.0, 1.0, -1.0]
problem = TrainingDynamics(
    architecture=network, inputs=inputs, targets=targets, steps=20, eta0=0.05
)
print(solve(problem).loss[[0, 5, 10, 19]].round(4))
