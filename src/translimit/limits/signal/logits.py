r"""Softmax over logits at initialisation, capped or not: what its loss and gradient are made of.

A cap makes u = phi(z) = c tanh(z / c) of a Gaussian logit z of deviation sigma (Gemma 2). With
phi' = 1 - (u / c)^2, the gradient of a loss with respect to z_v is phi'(z_v) (p_v - 1[v = target]).
For two tokens whose Gaussian logits have correlation rho the means over readouts are

    G(rho) = E phi'(z) phi'(z')                   of two targets,
    X(rho) = V E phi'(z) phi'(z') p'              of a target and a softmax,
    A(rho) = E sum_v phi'(z_v) phi'(z'_v) p_v p'_v    of two softmaxes,

all at one word. Without a cap G = X = 1, and A is the overlap of `partition`. By Price's theorem
sigma^2 int_0^rho of G, X / V and A are the covariances of two capped logits, of a logit and a log
partition, and of two log partitions. By Stein's lemma a softmax pulls its token along itself by
sigma^2 (Y - A(1)), Y = E sum_v (phi'^2 + phi'')(z_v) p_v.

A and X come from integrals over log t as in `partition`, for 1 / Z = int e^{-t Z} dt. The common
part of z = a + b and z' = +-a + b' is a variable of quadrature of its own.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from translimit.limits.signal.partition import (
    ANGLES,
    NARROW,
    REACH,
    STEP,
    log_partition,
    log_partition_cov,
    softmax_overlap,
    window,
)

#: Spacing of nodes in deviations, in caps and in logits, and the smallest: the trapezoid rule's
#: error is e^{-10} and less, by how far from the real line the integrands have their poles.
SPACING, OF_CAP, OF_LOGIT, FINEST = 0.4, 0.6, 0.7, 0.03

#: A number against the angle.
_Table = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Logits:
    """V logits of a token.

    Attributes:
        words: V.
        std: sigma, of the Gaussian logits before the cap.
        cap: c; None without one.
    """

    words: int
    std: float
    cap: float | None = None

    def value(self, z: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """The logit u of z."""
        return z if self.cap is None else self.cap * np.tanh(z / self.cap)

    def slope(self, z: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """The slope phi' at z."""
        return np.ones_like(z) if self.cap is None else 1 / np.cosh(_bounded(z / self.cap)) ** 2

    def pull(self, z: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """The pull phi'^2 + phi'' at z."""
        slope = self.slope(z)
        return slope**2 - (0.0 if self.cap is None else 2 * self.value(z) * slope / self.cap**2)

    def nodes(self, std: float) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
        """Points of a centred Gaussian of deviation `std`, and weights: fine where a cap is narrow.

        Args:
            std: the deviation.
        """
        return _nodes(std, self.cap)

    @property
    def log_partition(self) -> float:
        """E log sum_v e^{u_v}."""
        return log_partition(self.words, self.std, self.cap)

    @property
    def deviation(self) -> float:
        """The standard deviation of u."""
        z, weights = self.nodes(self.std)
        return float(np.sqrt(self.value(z) ** 2 @ weights))

    @property
    def mean_slope(self) -> float:
        """E phi'."""
        z, weights = self.nodes(self.std)
        return float(self.slope(z) @ weights)

    @property
    def along(self) -> float:
        """Y."""
        return 1.0 if self.cap is None else _along(self.words, self.std, self.cap)

    def targets(self, rho: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """G."""
        return np.ones_like(rho) if self.cap is None else self._tables.targets(np.arccos(rho))

    def crossed(self, rho: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """X."""
        return np.ones_like(rho) if self.cap is None else self._tables.crossed(np.arccos(rho))

    def overlap(self, rho: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """A."""
        if self.cap is None:
            return softmax_overlap(self.words, self.std, rho)
        return self._tables.overlap(np.arccos(rho))

    def targets_cov(self, rho: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """The covariance of two logits of one word."""
        within = rho if self.cap is None else _integral(self._tables.targets, rho)
        return np.asarray(self.std**2 * within)

    def crossed_cov(self, rho: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """V times the covariance of a logit and a log partition."""
        within = rho if self.cap is None else _integral(self._tables.crossed, rho)
        return np.asarray(self.std**2 * within)

    def partition_cov(self, rho: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """The covariance of two log partitions."""
        if self.cap is None:
            return log_partition_cov(self.words, self.std, rho)
        return np.asarray(self.std**2 * _integral(self._tables.overlap, rho))

    @property
    def _tables(self) -> _Tables:
        assert self.cap is not None
        return _tables(self.words, self.std, self.cap)


class _Tables(NamedTuple):
    """G, X and A against the angle arccos(rho)."""

    targets: _Table
    crossed: _Table
    overlap: _Table


@functools.lru_cache(maxsize=32)
def _tables(words: int, std: float, cap: float) -> _Tables:
    from scipy.interpolate import PchipInterpolator  # scipy is not loaded until it is needed

    near = math.pi / 2 * (np.arange(ANGLES) / ANGLES) ** 1.5
    angles = np.concatenate([near, np.linspace(math.pi / 2, math.pi, ANGLES // 2 + 1)])
    law = Logits(words, std, cap)
    values = np.array([_of_pair(law, math.cos(one)) for one in angles]).T
    return _Tables(*(PchipInterpolator(angles, one) for one in values))


def _of_pair(law: Logits, rho: float) -> tuple[float, float, float]:
    """G, X and A."""
    words, std = law.words, law.std
    a, of_a = law.nodes(std * math.sqrt(abs(rho)))
    b, of_b = law.nodes(std * math.sqrt(1.0 - abs(rho)))
    z = a[:, None] + b
    u, slope = law.value(z), law.slope(z)
    turned = slice(None) if rho >= 0 else slice(None, None, -1)  # nodes are symmetric
    mean = slope @ of_b
    targets = float(of_a @ (mean * mean[turned]))
    share = _share(law)
    if share is not None:  # a sum over words has its mean
        push = (slope * np.exp(u)) @ of_b
        crossed, both = of_a @ (push * mean[turned]), of_a @ (push * push[turned])
        return targets, float(crossed) / share, float(both) / share**2 / words
    start, stop = window(words, std, law.cap)
    log_t = np.arange(start, stop + STEP, STEP)
    lost, pull = np.empty((2, len(log_t), len(a)))
    for index, one in enumerate(log_t):
        rate = np.exp(np.minimum(u + one, 300.0))
        left = np.exp(-rate)
        lost[index] = (1.0 - left) @ of_b if one > -20 else -np.expm1(-rate) @ of_b
        pull[index] = (slope * rate * left) @ of_b
    alone = lost @ of_a
    others = np.exp((words - 1) * np.log1p(-np.minimum(alone, 1 - 1e-15)))
    crossed = words * STEP * float((pull * of_a @ mean[turned]) @ others)
    either = alone[:, None] + alone[None, :] - (lost * of_a) @ lost[:, turned].T
    others = np.exp((words - 1) * np.log1p(-np.minimum(either, 1 - 1e-15)))
    both = (pull * of_a) @ pull[:, turned].T
    return targets, crossed, words * STEP**2 * float(np.sum(both * others))


def _share(law: Logits) -> float | None:
    """E e^u, where the sum over words varies by less than half a per cent; else None."""
    z, weights = law.nodes(law.std)
    u = law.value(z)
    top = u.max()
    mean, square = np.exp(u - top) @ weights, np.exp(2 * (u - top)) @ weights
    narrow = square / mean**2 < NARROW * law.words
    return float(mean * np.exp(top)) if narrow else None


@functools.lru_cache(maxsize=32)
def _along(words: int, std: float, cap: float) -> float:
    law = Logits(words, std, cap)
    z, weights = law.nodes(std)
    u, pull, share = law.value(z), law.pull(z), _share(law)
    if share is not None:
        return float((pull * np.exp(u)) @ weights) / share
    start, stop = window(words, std, cap)
    log_t = np.arange(start, stop + STEP, STEP)
    rate = np.exp(np.minimum(u + log_t[:, None], 300.0))
    lost = np.minimum(-np.expm1(-rate) @ weights, 1 - 1e-15)
    others = np.exp((words - 1) * np.log1p(-lost))
    return words * STEP * float(((pull * rate * np.exp(-rate)) @ weights) @ others)


def _nodes(std: float, cap: float | None) -> tuple[np.ndarray, np.ndarray]:
    if std == 0:
        return np.zeros(1), np.ones(1)
    narrow = SPACING if cap is None else min(SPACING, OF_CAP * cap / std)
    count = math.ceil(REACH / max(min(narrow, OF_LOGIT / std), FINEST))
    z = np.linspace(-REACH, REACH, 2 * count + 1)
    weights = np.exp(-(z**2) / 2)
    return std * z, weights / weights.sum()


def _integral(table: _Table, rho: np.ndarray) -> np.ndarray:
    """Int of a table over the correlation, from 0."""
    grid = np.linspace(0.0, math.pi, 4001)
    values = table(grid) * np.sin(grid)
    steps = (values[1:] + values[:-1]) / 2 * (grid[1] - grid[0])
    below = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(below[2000] - np.interp(np.arccos(rho), grid, below))


def _bounded(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -300.0, 300.0)
