r"""Exact laws of the linear part alone, dV = sigma L dS L^T (tau0 = infinity, no MLP).

Norms are log-normal, so is det V, second moments follow a linear system, and arcsin of a
correlation is a martingale, which gives the law of its limit.

Reference: documentation, "The shaped Transformer".
"""

from __future__ import annotations

import math

import numpy as np

from translimit.core import ArgumentError, ArrayInput, Bounds, require_real
from translimit.limits.shaped.block import Block
from translimit.limits.shaped.coefficients import (
    linear_variance,
    require_linear,
    require_tokens_cov,
)


def linear_norm_law(block: Block, norm: float, t: float) -> tuple[float, float]:
    """Mean and variance of log V_aa at time t, which is Gaussian.

    Args:
        block: with tau0 = inf and no MLP.
        norm: V_aa at time 0, positive.
        t: time, layers / dim.

    Raises:
        ArgumentError: a norm that is not positive or a negative time.
        NoSuchLimitError: the block is not linear.
    """
    require_linear(block)
    _require_time(t)
    if not norm > 0:
        raise ArgumentError("norm", f"got {norm}", "pass a positive squared norm")
    variance = float(linear_variance(block))
    return math.log(norm) - variance * t, 2 * variance * t


def linear_log_det_law(block: Block, cov: ArrayInput, t: float) -> tuple[float, float]:
    """Mean and variance of log det V at time t, which is Gaussian.

    Args:
        block: with tau0 = inf and no MLP.
        cov: V at time 0 [tokens, tokens], positive definite.
        t: time, layers / dim.

    Raises:
        ArgumentError: not a covariance, a singular one, or a negative time.
        NoSuchLimitError: the block is not linear.
    """
    require_linear(block)
    _require_time(t)
    start = np.asarray(require_tokens_cov(block, cov))
    sign, log_det = np.linalg.slogdet(start)
    if sign <= 0:
        raise ArgumentError("cov", "is singular", "pass a positive definite covariance")
    tokens, variance = len(start), float(linear_variance(block))
    return log_det - variance / 2 * tokens * (tokens + 1) * t, 2 * tokens * variance * t


def linear_second_moments(block: Block, cov: ArrayInput, t: float) -> tuple[float, float, float]:
    """E V_12^2, E V_11 V_22 and E V_11^2 of two tokens at time t.

    Args:
        block: with tau0 = inf and no MLP.
        cov: V at time 0 [2, 2].
        t: time, layers / dim.

    Raises:
        ArgumentError: not a covariance of two tokens, or a negative time.
        NoSuchLimitError: the block is not linear.
    """
    require_linear(block)
    _require_time(t)
    start = np.asarray(require_tokens_cov(block, cov))
    if start.shape != (2, 2):
        raise ArgumentError("cov", f"has shape {start.shape}", "pass that of two tokens, [2, 2]")
    cross, norms = start[0, 1] ** 2, start[0, 0] * start[1, 1]
    # u' = sigma^2 (u + w), w' = 2 sigma^2 u: growth at 2 sigma^2 and decay at sigma^2.
    variance = float(linear_variance(block))
    grown = (2 * cross + norms) / 3 * math.exp(2 * variance * t)
    decayed = (cross - norms) / 3 * math.exp(-variance * t)
    return grown + decayed, grown - 2 * decayed, start[0, 0] ** 2 * math.exp(2 * variance * t)


def aligned_probability(correlation: float) -> float:
    """Probability that the correlation of two tokens tends to 1 and not to -1.

    1/2 + arcsin(rho) / pi, since arcsin(rho_t) is a bounded martingale that ends at +-pi/2.

    Raises:
        ArgumentError: a correlation outside [-1, 1].
    """
    correlation = require_real(correlation, "correlation", Bounds(-1.0, 1.0))
    return 0.5 + math.asin(correlation) / math.pi


def _require_time(t: float) -> None:
    if not (t >= 0 and math.isfinite(t)):
        raise ArgumentError("t", f"got {t}", "pass a time of at least 0")
