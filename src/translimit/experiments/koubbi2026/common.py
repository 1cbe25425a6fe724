"""What the experiments on random heads share: clock, estimates over replicas, plain chains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit.core import Estimate, standard_error

if TYPE_CHECKING:
    from translimit.core import Key

TAU = r"unit diffusive time $\tau$"


def mean_and_stderr(
    values: Float[np.ndarray, ...], axis: int = 0
) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """Mean and standard error over independent replicas along one axis, in float64."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(values.mean(axis)), standard_error(values, axis)


def estimate(values: Float[np.ndarray, " samples"], discretisation: float = 0.0) -> Estimate:
    """The mean of independent values, in float64."""
    return Estimate.from_samples(np.asarray(values, np.float64), discretisation=discretisation)


def generator(key: Key) -> np.random.Generator:
    """NumPy's generator of a key."""
    import jax

    return np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32).tolist())


def plain_chain(
    tokens: int, dim: int, step: float, layers: int, replicas: int, rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "replicas tokens dim"]]:
    """Layers of one head without scores, from orthonormal tokens, after each layer.

    Every head adds V m to all tokens, m their mean: given m a normal vector of variance |m|^2 / d.

    Args:
        tokens: at most dim.
        dim: of the tokens.
        step: diffusive time of a layer.
        layers: how many.
        replicas: independent networks.
        rng: of the heads.
    """
    x = np.repeat(np.eye(tokens, dim, dtype=np.float32)[None], replicas, axis=0)
    for _ in range(layers):
        mean = x.mean(axis=1)
        size = np.linalg.norm(mean, axis=1, keepdims=True) * np.float32((step / dim) ** 0.5)
        x = x + (size * rng.standard_normal((replicas, dim), np.float32))[:, None]
        x /= np.linalg.norm(x, axis=2, keepdims=True)
        yield x


def mean_overlaps(x: Float[np.ndarray, "replicas tokens dim"]) -> Float[np.ndarray, " replicas"]:
    """The mean overlap of different tokens of every replica, in float64."""
    n = x.shape[1]
    square = np.sum(x.sum(axis=1, dtype=np.float64) ** 2, axis=1)
    return (square / n - 1.0) / (n - 1)


def extrapolated(
    fine: Float[np.ndarray, " one"], coarse: Float[np.ndarray, " two"], discretisation: float = 0.0
) -> Estimate:
    """The mean for a step to zero, from independent samples at a step and at its double."""
    (a, a_error), (b, b_error) = (mean_and_stderr(one) for one in (fine, coarse))
    error = float(np.hypot(2.0 * a_error, b_error))
    return Estimate(float(2.0 * a - b), error, fine.size, discretisation)


def overlap_products(R: Float[np.ndarray, "sample n n"]) -> Float[np.ndarray, "sample moment"]:
    """Per sample: mean overlap, and averages of products of two overlaps about the grand mean."""
    n = R.shape[1]
    off = R - np.eye(n)
    mean = off.sum(axis=(1, 2)) / (n * (n - 1))
    X = (R - mean.mean()) * (1.0 - np.eye(n))
    squares, rows, total = (X**2).sum(axis=(1, 2)), X.sum(axis=2), X.sum(axis=(1, 2))
    shared = ((rows**2).sum(axis=1) - squares) / (n * (n - 1) * (n - 2))
    apart = (total**2 - 4 * (rows**2).sum(axis=1) + 2 * squares) / (n * (n - 1) * (n - 2) * (n - 3))
    return np.stack([mean, squares / (n * (n - 1)), shared, apart], axis=1)
