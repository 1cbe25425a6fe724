"""Moments of clouds of tokens, in float64 NumPy, over any leading axes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, as_numpy, common_unit

#: Tokens of this size have squares, and sums of them, that are float64.
LARGEST_UNIT = 1e150


def moments(
    tokens: Float[np.ndarray, "*batch tokens dim"],
) -> tuple[Float[np.ndarray, "*batch dim"], Float[np.ndarray, "*batch dim dim"]]:
    """Empirical mean and covariance of a cloud; the covariance is divided by n, not n - 1.

    Args:
        tokens: tokens [..., tokens, dim].

    Returns:
        Mean [..., dim] and covariance [..., dim, dim].

    Raises:
        ArgumentError: finite tokens whose covariance is beyond float64.
    """
    tokens = as_numpy(tokens, "tokens")
    if not np.isfinite(tokens).all():
        return _moments(tokens)  # NaN where a solution has ended
    unit = common_unit(tokens)
    if unit > LARGEST_UNIT:
        raise ArgumentError(
            "tokens",
            f"have entries of about {unit:.2g}, whose squares are beyond float64",
            "measure the tokens in other units",
        )
    mean, cov = _moments(tokens / unit)
    return mean * unit, cov * unit * unit


def _moments(
    tokens: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    if weights is None:
        mean = tokens.mean(axis=-2)
        centred = tokens - mean[..., None, :]
        return mean, np.einsum("...ni,...nj->...ij", centred, centred) / tokens.shape[-2]
    mean = weights @ tokens
    centred = tokens - mean[..., None, :]
    return mean, np.einsum("n,...ni,...nj->...ij", weights, centred, centred)


def moment_vector(
    mean: Float[np.ndarray, "*batch dim"], cov: Float[np.ndarray, "*batch dim dim"]
) -> Float[np.ndarray, "*batch moments"]:
    """Mean and upper triangle of the covariance in one row: alpha_1, ..., Sigma_11, Sigma_12, ...

    The order is that of `moment_names`.
    """
    rows, columns = np.triu_indices(mean.shape[-1])
    return np.concatenate([mean, cov[..., rows, columns]], axis=-1)


def moment_names(dim: int) -> tuple[str, ...]:
    """Names of the entries of `moment_vector`."""
    rows, columns = np.triu_indices(dim)
    means = [f"alpha_{i + 1}" for i in range(dim)]
    return (*means, *(f"Sigma_{i + 1}{j + 1}" for i, j in zip(rows, columns, strict=True)))


def anisotropy(cov: Float[np.ndarray, "*batch dim dim"]) -> Float[np.ndarray, "*batch"]:
    """The share lambda_max / tr of the largest eigenvalue: 1 / dim if isotropic, 1 on a line.

    Args:
        cov: covariances [..., dim, dim]. One that is zero has no anisotropy, nor has one with NaN:
            the result is NaN.
    """
    cov = as_numpy(cov, "cov")
    cov = cov / common_unit(np.where(np.isfinite(cov), cov, 0.0))
    trace = np.trace(cov, axis1=-2, axis2=-1)
    has = np.isfinite(cov).all(axis=(-2, -1)) & (trace > 0)
    largest = np.linalg.eigvalsh(np.where(has[..., None, None], cov, np.eye(cov.shape[-1])))[
        ..., -1
    ]
    return np.where(has, largest / np.where(has, trace, 1.0), np.nan)


def excess_kurtosis(
    tokens: Float[np.ndarray, "*batch tokens dim"],
    weights: Float[np.ndarray, " tokens"] | None = None,
) -> Float[np.ndarray, "*batch dim"]:
    """Excess kurtosis of a cloud along its principal axes, largest variance first; 0 if Gaussian.

    Args:
        tokens: tokens [..., tokens, dim]; NaN along an axis along which they do not vary.
        weights: of the tokens [tokens], with sum one; equal ones by default.
    """
    tokens = as_numpy(tokens, "tokens")
    if np.isfinite(tokens).all():
        tokens = tokens / common_unit(tokens)  # the kurtosis has no unit
    mean, cov = _moments(tokens, weights)
    _, basis = np.linalg.eigh(cov)
    coordinates = np.einsum("...nd,...dk->...nk", tokens - mean[..., None, :], basis[..., ::-1])
    second, fourth = (
        np.mean(coordinates**power, axis=-2)
        if weights is None
        else np.einsum("n,...nk->...k", weights, coordinates**power)
        for power in (2, 4)
    )
    second = np.where(second > 0, second, np.nan)
    return fourth / second**2 - 3.0
