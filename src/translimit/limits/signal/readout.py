r"""The loss of a language model at initialisation, and the gradient that it sends down.

Logits lambda W_U y of a readout with fresh weights are Gaussian of variance w_U = D sigma_U^2
lambda^2 for unit tokens y. With V words the mean loss is the mean log partition of V such logits,

    E log sum_v e^{u_v} = int (e^{-t} - (E e^{-t e^u})^V) dt / t      (over log t by the trapezoid)

and for e^{w_U} << V the Gram matrix of its gradient with respect to y, of a mean over n positions
with targets t', is

    B_ij = w_U / n^2 (1[t'_i = t'_j] + (e^{w_U K_ij} - 2) / V + w_U K_ij / D),

K the covariance of the normalised tokens. The last term is the pull of all words on one another.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from translimit.core import (
    ArgumentError,
    ArrayInput,
    Bounds,
    as_float64,
    require_count,
    require_covariance,
    require_real,
)

#: Points of the Gaussian, and of log t.
POINTS, TIMES = 1601, 4000
#: The gradient's expansion needs e^{w_U} below this share of the words.
LARGEST_SHARE = 0.05


def log_partition(words: int, logit_std: float | int) -> float:
    """E log sum_v e^{u_v} of independent Gaussian logits: the mean loss with fresh weights.

    Args:
        words: how many logits.
        logit_std: their standard deviation, at most 40.

    Raises:
        ArgumentError: a count below 1, a deviation outside [0, 40].
        ArgumentTypeError: a count that is no integer.

    Examples:
        >>> round(log_partition(32_128, 8**0.5), 2)
        14.36
    """
    words = require_count(words, "words", 1)
    sigma = require_real(logit_std, "logit_std", Bounds(0.0, 40.0))
    z = np.linspace(-12.0, 12.0, POINTS)
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    log_t = np.linspace(-12 * sigma - math.log(words) - 40, 12 * sigma + 8, TIMES)
    below = np.empty(TIMES)
    for part in np.array_split(np.arange(TIMES), 12):  # a few rows at a time, for the cache
        lost = -np.expm1(-np.exp(np.minimum(log_t[part, None] + sigma * z, 700.0)))
        share = np.minimum(lost @ weights, 1.0)
        with np.errstate(divide="ignore"):
            below[part] = np.exp(words * np.log1p(-share))
    first = np.exp(-np.exp(np.minimum(log_t, 700.0)))
    return float(np.trapezoid(first - below, log_t))


def readout_gradient(
    cov: ArrayInput, targets: ArrayInput, *, words: int, dim: int, logit_std: float | int
) -> Float[np.ndarray, "n n"]:
    """B of the gradient of the mean loss with respect to the tokens that the readout reads.

    Args:
        cov: K, of the normalised tokens [n, n].
        targets: ids of the words to come [n].
        words: V, entries of the vocabulary.
        dim: D, of the tokens.
        logit_std: w_U^(1/2), of logits of unit tokens.

    Raises:
        ArgumentError: no covariance, targets of another number, or logits so wide that the
            expansion fails.
    """
    matrix = require_covariance(as_float64(cov, "cov"), "cov")
    ids = np.asarray(targets)
    if ids.shape != (len(matrix),):
        raise ArgumentError("targets", f"have shape {ids.shape}", f"pass {len(matrix)} ids")
    words, dim = require_count(words, "words", 2), require_count(dim, "dim", 2)
    variance = require_real(logit_std, "logit_std", Bounds(0.0, 40.0)) ** 2
    if math.exp(variance * float(np.diagonal(matrix).max())) > LARGEST_SHARE * words:
        raise ArgumentError(
            "logit_std",
            f"makes exp({variance:.3g}) of {words} words: softmax is not spread over them",
            f"pass at most {math.sqrt(math.log(LARGEST_SHARE * words)):.3g}",
        )
    same = (ids[:, None] == ids[None, :]).astype(float)
    spread = (np.exp(variance * matrix) - 2.0) / words
    return variance / len(ids) ** 2 * (same + spread + variance * matrix / dim)
