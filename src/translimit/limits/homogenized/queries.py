"""Gauss nodes of the law of two queries: a pair of Gaussian vectors of head_dim entries.

Bartlett: a_i = c e_1 and a_j = gamma c e_1 + (1 - gamma^2)^{1/2} (w e_1 + c' e_2) with c and c' chi
of d_k and d_k - 1 degrees of freedom and w standard normal. The density of the angle phi between
the two is

    p(phi) = const sin^{d_k - 2}(phi) int_0^inf (cosh w - gamma cos phi)^{-d_k} dw        (Fisher).
"""

from __future__ import annotations

import functools
import math

import numpy as np


@functools.cache
def chi(degrees: int, count: int, scale: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`count` Gauss nodes of chi_degrees / scale^{1/2} and their weights.

    Args:
        degrees: of freedom, at least 1.
        count: of nodes.
        scale: `degrees` by default.
    """
    # Golub-Welsch for the generalised Laguerre weight; scipy's overflows from 340 degrees on.
    alpha, k = degrees / 2 - 1, np.arange(count)
    off = np.sqrt(k[1:] * (k[1:] + alpha))
    x, vectors = np.linalg.eigh(np.diag(2 * k + 1 + alpha) + np.diag(off, 1) + np.diag(off, -1))
    return np.sqrt(2 * np.maximum(x, 0.0) / (scale or degrees)), vectors[0] ** 2


@functools.cache
def wishart(degrees: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes (c, w, c') over head_dim^{1/2} [nodes, 3], `count` of each, and weights."""
    from scipy.special import roots_hermitenorm

    c, c_weights = chi(degrees, count)
    w, w_weights = roots_hermitenorm(count)
    if degrees == 1:
        last, last_weights = np.zeros(1), np.ones(1)
    else:
        last, last_weights = chi(degrees - 1, count, degrees)
    mesh = np.meshgrid(c, w / math.sqrt(degrees), last, indexing="ij")
    weights = np.einsum("i,j,k->ijk", c_weights, w_weights / w_weights.sum(), last_weights)
    return np.stack([axis.ravel() for axis in mesh], axis=1), weights.ravel()


def sample_angles(theta: np.ndarray, degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles between queries of correlation cos(theta) [angles, 1 or nodes], and weights.

    Equal spacings in log tan(phi / 2) and in log w; exact to rounding from 2 to about 30 degrees.

    Args:
        theta: in (0, pi) [angles].
        degrees: of freedom, at least 2.
    """
    x, y = np.linspace(-45.0, 45.0, 901), np.linspace(-25.0, 6.0, 250)
    phi = 2.0 * np.arctan(np.exp(x))
    sine = 1.0 / np.cosh(x)
    weights = np.empty((len(theta), len(x)))
    for row, angle in enumerate(theta):
        # cosh w - cos(theta) cos(phi), without cancellation where both angles are small.
        gap = np.sin((phi - angle) / 2) ** 2 + np.sin((phi + angle) / 2) ** 2
        gap = gap[:, None] + 2.0 * np.sinh(np.exp(y) / 2) ** 2
        # d phi = sin(phi) dx, dw = w dy.
        logs = (degrees - 1) * np.log(sine)[:, None] - degrees * np.log(gap) + y
        weights[row] = np.exp(logs - logs.max()).sum(axis=1)
    return phi[None], weights / weights.sum(axis=1, keepdims=True)
