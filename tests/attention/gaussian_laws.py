"""Points, canonical parameters, and the quadrature cloud of a Gaussian law."""

import numpy as np
from tests.limits.meanfield.canonical import K, Q, V

X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.5, -1.5]])
QKV = {"Q": Q, "K": K, "V": V}


def quadrature(mean, cov, nodes=40):
    """A weighted cloud [nodes^2, 2] that integrates against N(mean, cov)."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
    return mean + grid @ np.linalg.cholesky(cov).T, np.outer(weights, weights).ravel() / (2 * np.pi)
