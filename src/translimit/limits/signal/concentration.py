r"""How much softmax weights of Gaussian scores concentrate: F_n = E sum_k p_k^2.

For n independent scores of deviation sigma,

    F_n(sigma) = n int_0^inf t E[e^{2 u - t e^u}] (E e^{-t e^u})^{n - 1} dt,     u = sigma z,

by the trapezoid rule in z and in log t. F_n -> 1 / n without scores, and 1 where one takes all.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import Bounds, require_count, require_real

#: Spacing of z in [-12, 12] and of log t: what is summed is analytic, and as smooth as e^{-t e^u}
#: is in log t, so that the rule's error is far below that of a float.
STEP_Z, STEP = 0.1, 0.25
#: Above this deviation the rule is not resolved.
LARGEST = 25.0


def concentration(n: int, score_std: float | int) -> float:
    """F_n: the mean sum of squared softmax weights of n independent Gaussian scores.

    Args:
        n: how many, at least 1.
        score_std: their standard deviation, at most 25.

    Raises:
        ArgumentError: a count below 1, a deviation outside [0, 25].
        ArgumentTypeError: a count that is no integer.

    Examples:
        >>> round(concentration(48, 1.0), 6)
        0.050556
    """
    n = require_count(n, "n", 1)
    sigma = require_real(score_std, "score_std", Bounds(0.0, LARGEST))
    z, weights = gaussian(sigma)
    log_t = np.arange(-8 * sigma - 40, 8 * sigma + 20, STEP)
    total = np.empty(len(log_t))
    for part in np.array_split(np.arange(len(log_t)), 12):  # a few rows at a time, for the cache
        shifted = log_t[part, None] + sigma * z
        decay = np.exp(-np.exp(np.minimum(shifted, 700.0)))
        first = (np.exp(2 * np.minimum(shifted, 300.0)) * decay) @ weights
        total[part] = first * (decay @ weights) ** (n - 1)
    return float(n * np.trapezoid(total, log_t)) if n > 1 else 1.0


def gaussian(std: float) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Points of a standard normal variable z, and their weights, fine enough for e^{-t e^{std z}}.

    Args:
        std: the standard deviation of the exponent.
    """
    count = round(12.0 / min(STEP_Z, STEP / max(std, 1e-9)))
    z = np.linspace(-12.0, 12.0, 2 * count + 1)
    weights = np.exp(-(z**2) / 2)
    return z, weights / weights.sum()
