"""Tokens, values and a law of heads that have a mean effect."""

import numpy as np

ROWS = np.array([[1.0, 0.2, 0.0], [0.3, 1.0, 0.4], [-0.2, 0.1, 1.0]])
X = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
V = np.array([[1.0, 0.3, 0.0], [-0.2, 0.8, 0.1], [0.0, 0.4, 0.6]])
