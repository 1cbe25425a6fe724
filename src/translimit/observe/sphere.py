r"""The interaction energy of tokens on the sphere, which attention increases.

    E_beta = (1 / (2 beta)) sum_ij w_i w_j e^{beta <x_i, x_j>}        (w_i = 1/n by default)

Along USA E_beta' = sum_i w_i |x_i'|^2, along SA E_beta' = sum_i w_i Z_i |x_i'|^2 with the partition
function Z_i = sum_j w_j e^{beta <x_i, x_j>}, both for Q = K = V = I. Its plateaus and jumps are
the metastable states and the mergers of clusters.

Reference: Geshkovski, Letrouit, Polyanskiy and Rigollet, arXiv 2312.10794; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import (
    NOT_NEGATIVE,
    ArgumentError,
    ArrayInput,
    as_float64,
    fractions_of,
    require_real,
)


def partition_function(
    tokens: ArrayInput,
    beta: float,
    *,
    weights: ArrayInput | None = None,
    rescaled: bool = False,
) -> Float[np.ndarray, "*batch tokens"]:
    """Z_i = sum_j w_j e^{beta <x_i, x_j>} of every token.

    Args:
        tokens: clouds [..., tokens, dim].
        beta: inverse temperature, not negative.
        weights: non-negative, summing to one [tokens]; equal weights by default.
        rescaled: with the factor e^{-beta}, which keeps every term at most one on the sphere.

    Raises:
        ArgumentError: shapes that do not match, beta negative, not finite or so large that an
            exponential is beyond float64, weights that are negative or do not sum to one.
    """
    tokens, weights = _cloud(tokens, weights)
    require_real(beta, "beta", NOT_NEGATIVE)
    scores = tokens @ np.swapaxes(tokens, -1, -2)
    with np.errstate(over="ignore"):
        partition = np.exp(beta * (scores - 1.0 if rescaled else scores)) @ weights
    if np.isinf(partition).any() and np.isfinite(tokens).all():
        raise ArgumentError(
            "beta",
            f"got {beta:g}: an exponential of beta <x_i, x_j> is beyond float64",
            "pass rescaled=True for tokens of the sphere, or smaller tokens",
        )
    return partition


def interaction_energy(
    tokens: ArrayInput,
    beta: float,
    *,
    weights: ArrayInput | None = None,
    rescaled: bool = False,
) -> Float[np.ndarray, "*batch"]:
    """E_beta = (1 / (2 beta)) sum_ij w_i w_j e^{beta <x_i, x_j>} of every cloud.

    Args:
        tokens: clouds [..., tokens, dim].
        beta: inverse temperature, positive.
        weights: non-negative, summing to one [tokens]; equal weights by default.
        rescaled: with the factor e^{-beta} that some authors write; then the largest value, of
            tokens that all agree, is 1 / (2 beta).

    Raises:
        ArgumentError: as `partition_function`, and beta = 0.
    """
    if beta == 0:
        raise ArgumentError("beta", "got 0, where E_beta is not defined", "pass a positive number")
    partition = partition_function(tokens, beta, weights=weights, rescaled=rescaled)
    _, weights = _cloud(tokens, weights)
    return np.asarray(partition @ weights / (2.0 * beta))


def _cloud(tokens: ArrayInput, weights: ArrayInput | None) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.asarray(as_float64(tokens, "tokens"))
    if tokens.ndim < 2 or 0 in tokens.shape[-2:]:
        raise ArgumentError("tokens", f"has shape {tokens.shape}", "pass [..., tokens, dim]")
    return tokens, fractions_of(weights, tokens.shape[-2])
