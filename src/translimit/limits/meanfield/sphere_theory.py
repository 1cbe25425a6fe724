r"""What is known in closed form about tokens on the sphere.

- n tokens with equal cosines rho keep them equal, and
  rho' = 2 e^{beta rho} (1 - rho) (1 + (n - 1) rho) / D,
  D = e^beta + (n - 1) e^{beta rho} (SA), D = n (USA).
- On the circle the uniform law is a fixed point, and a small perturbation of mode k grows like
  e^{rate t}, rate = k^2 I_k(beta) / beta (USA), the same divided by I_0(beta) (SA), with I_k the
  modified Bessel functions. USA at beta = 0 is the Kuramoto model.
- The fastest mode k* = argmax_k k^2 I_k(beta), about (2 beta)^(1/2), predicts the number of
  metastable clusters.

Reference: Geshkovski, Koubbi, Polyanskiy and Rigollet, arXiv 2410.06833; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import NOT_NEGATIVE, ArgumentError, require_count, require_real


def equal_cosine_rate(
    overlap: float, beta: float, tokens: int, *, normalised: bool = True, shift: float = 0.0
) -> float:
    """The rate rho' at which the common cosine of equiangular tokens grows.

    Args:
        overlap: the common cosine, between -1 / (tokens - 1) and 1.
        beta: inverse temperature.
        tokens: how many tokens, at least 2.
        normalised: SA or USA.
        shift: as in `SphereFlow`, for USA.

    Raises:
        ArgumentError: fewer than two tokens, or a cosine that so many tokens cannot share.
    """
    require_count(tokens, "tokens", 2)
    if not -1.0 / (tokens - 1) - 1e-12 <= overlap <= 1.0 + 1e-12:
        raise ArgumentError(
            "overlap",
            f"got {overlap:g}",
            f"pass a number in [-1/{tokens - 1}, 1], as {tokens} tokens can share",
        )
    product = 2.0 * (1.0 - overlap) * (1.0 + (tokens - 1) * overlap)
    if normalised:
        # e^{beta rho} / (e^beta + (n - 1) e^{beta rho}), without overflow.
        return product / (np.exp(beta * (1.0 - overlap)) + tokens - 1)
    return product * np.exp(beta * overlap - shift) / tokens


def growth_rates(
    beta: float, modes: int = 32, *, normalised: bool = True, shift: float = 0.0
) -> Float[np.ndarray, " modes"]:
    """Growth rates of the modes 1, ..., modes about the uniform law on the circle.

    USA: k^2 I_k(beta) e^{-shift} / beta; SA: k^2 I_k(beta) / (beta I_0(beta)).

    Args:
        beta: inverse temperature, not negative; at 0 the limit, 1/2 for mode 1 and 0 beyond.
        modes: how many modes.
        normalised: SA or USA.
        shift: as in `SphereFlow`, for USA.

    Raises:
        ArgumentError: beta negative or not finite, fewer than one mode.
    """
    from scipy.special import ive  # scipy is not loaded until it is needed

    _require_beta(beta)
    if modes < 1:
        raise ArgumentError("modes", f"got {modes}", "pass at least 1")
    k = np.arange(1, modes + 1)
    scale = 1.0 / ive(0, beta) if normalised else np.exp(beta - shift)
    if beta == 0:
        return np.where(k == 1, 0.5, 0.0) * scale
    return k**2 * ive(k, beta) / beta * scale


def metastable_clusters(beta: float) -> int:
    """The predicted number of metastable clusters on the circle, k* = argmax_k k^2 I_k(beta).

    Args:
        beta: inverse temperature, not negative.

    Raises:
        ArgumentError: beta negative or not finite.
    """
    _require_beta(beta)
    # The maximum lies near (2 beta)^(1/2); beyond twice that the rates fall.
    modes = int(3 + 2.0 * np.sqrt(2.0 * beta))
    return 1 + int(np.argmax(growth_rates(beta, modes)))


def _require_beta(beta: float) -> None:
    require_real(beta, "beta", NOT_NEGATIVE)
