r"""Uncoupled modes at the edge of stability: where a best rate sits on a cliff, transfer is slow.

Mode k is a network of L layers with one weight, f_k = (1 + w_k / L)^L, trained on a target y_k by
gradient descent without noise,

    w_k <- w_k - eta lambda_k (f_k - y_k) (1 + w_k / L)^{L-1},
    loss = 1/2 sum_k lambda_k (f_k - y_k)^2,

from w_k = 0, with lambda_k = k^{-1.2} and y_k = 1 + 1.5 k^{-0.3}. In the limit f_k = exp(w_k). The
best stable rate is the largest one, eta lambda_1 y_1^{2 - 2/L} = 2, which moves by
2 log10(y_1) / L: the limit's rate costs a network of size L an amount of order 1 / L, not 1 / L^2.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

#: Modes, rates of a scan, and scans, each of two points of the one before.
_MODES, _SCAN, _SCANS = 40, 41, 6
_CURVATURE = np.arange(1, _MODES + 1) ** -1.2
_TARGET = 1 + 1.5 * np.arange(1, _MODES + 1) ** -0.3


def edge(layers: int | None) -> float:
    """The largest stable rate.

    Args:
        layers: L, or None for the limit.
    """
    power = 2.0 if layers is None else 2 - 2 / layers
    return 2 / float(_CURVATURE[0] * _TARGET[0] ** power)


def losses(
    layers: int | None, rates: Float[np.ndarray, " rates"], steps: int
) -> Float[np.ndarray, " rates"]:
    """Losses at the end of runs; infinite where they diverge.

    Args:
        layers: L, or None for the limit.
        rates: constant ones.
        steps: of the run.
    """
    w = np.zeros((len(rates), _MODES))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            f, slope = _network(w, layers)
            w -= rates[:, None] * _CURVATURE * (f - _TARGET) * slope
        f, _ = _network(w, layers)
        told = 0.5 * np.sum(_CURVATURE * (f - _TARGET) ** 2, axis=1)
    return np.where(np.isfinite(told), told, np.inf)


def optimum(layers: int | None, steps: int) -> float:
    """log10 of the best rate below the edge, by scans that close in on it.

    Args:
        layers: L, or None for the limit.
        steps: of the run.
    """
    high = math.log10(edge(layers))
    low = high - 1
    for _ in range(_SCANS):
        places = np.linspace(low, high, _SCAN)
        best = int(np.argmin(losses(layers, 10**places, steps)))
        low, high = places[max(best - 1, 0)], places[min(best + 1, _SCAN - 1)]
    return float(0.5 * (low + high))


def _network(w: np.ndarray, layers: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and their derivatives."""
    if layers is None:
        return np.exp(w), np.exp(w)
    return (1 + w / layers) ** layers, (1 + w / layers) ** (layers - 1)
