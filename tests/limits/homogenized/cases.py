"""Overlaps and laws of heads that several files look at."""

import numpy as np

from translimit.describe import GaussianHeads, ShiftedHeads

R = np.array([[1.0, 0.3, -0.2], [0.3, 1.0, 0.5], [-0.2, 0.5, 1.0]])
LAW = GaussianHeads.of_score_std(1.5, dim=8)


def law_with(mean: float, noise: float = 0.0) -> ShiftedHeads:
    return ShiftedHeads(mean_v=mean * np.eye(32), mean_a=np.eye(32), beta=1.0, sigma_v=noise)
