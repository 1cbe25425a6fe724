"""What the experiments on random heads share: clock, estimates over replicas, plain chains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit.core import Estimate, standard_error

if TYPE_CHECKING:
    from translimit.core import Key

TAU = r"unit diffusive time $\tau$"


@dataclass(frozen=True)
class Paths(ex.Arrays):
    """Mean overlaps along depth, by one route; by a coarser solver too, if it is extrapolated."""

    time: Annotated[Float[np.ndarray, " time"], TAU]
    overlap: Annotated[Float[np.ndarray, "replica time"], "mean overlap of two tokens"]
    discretisation: float
    coarse: Float[np.ndarray, "replica time"] | None = None

    def statistic(self, name: str, time: int = -1) -> Estimate:
        """Mean or standard deviation over replicas at a time, extrapolated in the step."""
        value, parts = _statistic(name, self.overlap[:, time])
        step = self.discretisation
        if self.coarse is not None:
            other, other_parts = _statistic(name, self.coarse[:, time])
            # What the extrapolation leaves is of the next order; a third of what it moved.
            step = abs(value - other) / 3
            value, parts = 2 * value - other, 2 * parts - other_parts
        return Estimate(value, float(standard_error(parts)), len(parts), step)


def _statistic(
    name: str, values: Float[np.ndarray, " replica"]
) -> tuple[float, Float[np.ndarray, " replica"]]:
    """Mean or standard deviation, and what every replica adds to it."""
    mean, std = float(values.mean()), float(values.std(ddof=1))
    if name == "mean":
        return mean, values
    return std, (values - mean) ** 2 / (2 * std)


def difference(one: Estimate, two: Estimate) -> Estimate:
    """The difference of two independent numbers."""
    error, step = np.hypot(one.stderr, two.stderr), np.hypot(one.discretisation, two.discretisation)
    return Estimate(one.value - two.value, float(error), one.count, float(step))


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
