"""The canonical parameters of the acceptance figures of the Transformer PDE."""

import numpy as np

Q = np.array([[0.7, 0.2], [-0.3, 0.5]])
K = np.array([[0.4, -0.3], [0.2, 0.8]])
V = np.array([[0.9, 0.3], [-0.4, 0.6]])
MEAN = np.array([0.5, -0.3])
COV = np.array([[0.8, 0.2], [0.2, 0.5]])
T1 = 0.8
