"""Tokens on the circle."""

import numpy as np


def circle(angles) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)
