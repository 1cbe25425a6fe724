r"""A quantity at infinite size from several sizes: a truncated series with a Gaussian prior.

With x = (n_1 / n)^p for each axis, n_1 its smallest size,

    y(n) = y_inf + sum_A sum_k a_{A,k} x_A^k + sum_{A<B} c_{AB} x_A x_B,   k = 1..6

y_inf is free, a_{A,1} ~ N(0, 100 s_A^2), a_{A,k>=2} ~ N(0, s_A^2), c_{AB} ~ N(0, s_A s_B), with
s_A^2 the squared least-squares slope in x_A: at the smallest size orders beyond the first are as
large as the first. With F the terms at the sizes, P the prior variances, C the noise of the means,
and K = F P F^T + C, a functional f . a + c y_inf has the estimate w . y and the variance

    w = K^-1 q + K^-1 1 (c - 1 . K^-1 q) / w_0,   q = F P f,   w_0 = 1 . K^-1 1
    sigma^2 = f . P f - q . K^-1 q + (c - 1 . K^-1 q)^2 / w_0

of which w . C w comes from the seeds; the rest is the error of not knowing the series. A law that
is fitted with a free power instead is worse: four sizes do not tell a power.

Reference: documentation, "From small runs to the infinite network".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from jaxtyping import Float

#: Terms of the series in each axis, and the variance of the first in units of the others'.
ORDERS = 6
FIRST = 100.0
#: The largest correlation between sizes that paired seeds are credited with.
LARGEST_CORRELATION = 0.9


def noise_of_means(
    values: Float[np.ndarray, "points seeds steps"], *, paired: bool = True
) -> Float[np.ndarray, "steps points points"]:
    """The covariance of the means over seeds between sizes, at every step.

    Variances are halfway between those of each size and their mean over sizes; the correlation is
    one number, the mean over steps and pairs of sizes.

    Args:
        values: seed by seed; NaN where a size has fewer seeds.
        paired: seed s has the same data at all sizes.
    """
    count = np.isfinite(values[:, :, 0]).sum(axis=1)
    own = np.nanvar(values, axis=1, ddof=1) / count[:, None]
    own = ((own + own.mean(axis=0)) / 2).T
    points = len(values)
    share = correlation(values) if paired else 0.0
    root = np.sqrt(own)
    alike = share + (1 - share) * np.eye(points)
    return root[:, :, None] * root[:, None, :] * alike


def correlation(values: Float[np.ndarray, "points seeds steps"]) -> float:
    """The mean correlation between two sizes over seeds, over all steps, within [0, 0.9].

    Args:
        values: paired seeds.
    """
    points, seeds, _ = values.shape
    away = values - values.mean(axis=1, keepdims=True)
    spread = np.sqrt((away**2).mean(axis=1, keepdims=True))
    unit = away / np.where(spread > 0, spread, 1.0)
    # The sum over pairs is the square of the sum, without the squares.
    together = (unit.sum(axis=0) ** 2).sum(axis=0) / seeds
    alone = (unit**2).sum(axis=(0, 1)) / seeds
    mean = float(((together - alone) / (points * (points - 1))).mean())
    return min(max(mean, 0.0), LARGEST_CORRELATION)


def terms(x: Float[np.ndarray, "points axes"]) -> Float[np.ndarray, "points terms"]:
    """The powers of every axis, and the products of two axes.

    Args:
        x: (n_1 / n)^p by axis, 0 at infinite size.
    """
    powers = [x[:, [axis]] ** np.arange(1, ORDERS + 1) for axis in range(x.shape[1])]
    crossed = [x[:, [a]] * x[:, [b]] for a, b in combinations(range(x.shape[1]), 2)]
    return np.concatenate([*powers, *crossed], axis=1)


def slopes(
    means: Float[np.ndarray, "points steps"], x: Float[np.ndarray, "points axes"]
) -> Float[np.ndarray, "axes steps"]:
    """Least-squares slopes of the means in x, by axis.

    Args:
        means: over seeds.
        x: see `terms`.
    """
    design = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    return np.linalg.lstsq(design, means, rcond=None)[0][1:]


def prior(
    means: Float[np.ndarray, "points steps"], x: Float[np.ndarray, "points axes"]
) -> Float[np.ndarray, "steps terms"]:
    """Variances of all terms: squared slopes, averaged over a step and its two neighbours.

    Args:
        means: over seeds.
        x: see `terms`.
    """
    squares = slopes(means, x) ** 2
    padded = np.pad(squares, ((0, 0), (1, 1)), constant_values=np.nan)
    scales = np.nanmean(np.stack([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]]), axis=0)
    orders = np.concatenate([[FIRST], np.ones(ORDERS - 1)])
    axes = [scale[:, None] * orders for scale in scales]
    pairs = combinations(scales, 2)
    crossed = [np.sqrt(first * second)[:, None] for first, second in pairs]
    return np.concatenate([*axes, *crossed], axis=1)


@dataclass(frozen=True)
class Answer:
    """A functional of the series, by step.

    Attributes:
        value: its estimate.
        error: one standard error.
        seed_error: the part of it that comes from the seeds.
    """

    value: Float[np.ndarray, " steps"]
    error: Float[np.ndarray, " steps"]
    seed_error: Float[np.ndarray, " steps"]

    @property
    def misspecification(self) -> Float[np.ndarray, " steps"]:
        """The part that comes from not knowing the series."""
        return np.sqrt(np.maximum(self.error**2 - self.seed_error**2, 0.0))


@dataclass(frozen=True)
class Series:
    """Values at several sizes, and what the truncated series makes of them.

    Attributes:
        sizes: by point and axis.
        means: over seeds.
        noise: covariance of the means at every step.
        power: p.
    """

    sizes: Float[np.ndarray, "points axes"]
    means: Float[np.ndarray, "points steps"]
    noise: Float[np.ndarray, "steps points points"]
    power: float

    def x(self, sizes: Float[np.ndarray, "some axes"]) -> Float[np.ndarray, "some axes"]:
        """(n_1 / n)^p of any sizes; 0 for infinite ones.

        Args:
            sizes: by point and axis.
        """
        return (self.sizes.min(axis=0) / sizes) ** self.power

    @cached_property
    def design(self) -> Float[np.ndarray, "points terms"]:
        """The terms at the sizes."""
        return terms(self.x(self.sizes))

    @cached_property
    def variances(self) -> Float[np.ndarray, "steps terms"]:
        """Prior variances of the terms."""
        return prior(self.means, self.x(self.sizes))

    @cached_property
    def covariance(self) -> Float[np.ndarray, "steps points points"]:
        """K: prior and noise together."""
        K = np.einsum("ik,tk,jk->tij", self.design, self.variances, self.design) + self.noise
        # Without noise and with many sizes K is singular up to rounding.
        ridge = 1e-12 * np.trace(K, axis1=1, axis2=2) + np.finfo(float).tiny
        return K + ridge[:, None, None] * np.eye(len(self.sizes))

    @cached_property
    def _inverse(self) -> Float[np.ndarray, "steps points points"]:
        return np.linalg.inv(self.covariance)

    def at(self, sizes: Float[np.ndarray, " axes"]) -> Answer:
        """The value at some sizes, infinite ones among them.

        Args:
            sizes: by axis.
        """
        return self.functional(terms(self.x(sizes[None]))[0], 1.0)

    def excess(self, axis: int) -> Answer:
        """What the smallest size of an axis has above the infinite one, the others infinite.

        Args:
            axis: its place.
        """
        x = np.zeros((1, self.sizes.shape[1]))
        x[0, axis] = 1.0
        return self.functional(terms(x)[0], 0.0)

    def functional(self, f: Float[np.ndarray, " terms"], constant: float) -> Answer:
        """A functional f . a + constant y_inf.

        Args:
            f: weights of the terms.
            constant: weight of the value at infinite size.
        """
        w, q, Kq, lack, w0 = self._solved(f, constant)
        variance = (self.variances @ f**2) - (q * Kq).sum(axis=1) + lack**2 / w0
        seeds = np.einsum("ti,tij,tj->t", w, self.noise, w)
        return Answer(
            (w * self.means.T).sum(axis=1),
            np.sqrt(np.maximum(variance, seeds)),
            np.sqrt(np.maximum(seeds, 0.0)),
        )

    def weights(
        self, f: Float[np.ndarray, " terms"], constant: float
    ) -> Float[np.ndarray, "steps points"]:
        """The weights of the means in a functional.

        Args:
            f: see `functional`.
            constant: see `functional`.
        """
        return self._solved(f, constant)[0]

    def _solved(self, f: np.ndarray, constant: float) -> tuple[np.ndarray, ...]:
        q = np.einsum("ik,tk->ti", self.design * f, self.variances)
        Kq = np.einsum("tij,tj->ti", self._inverse, q)
        K1 = self._inverse.sum(axis=2)
        w0 = K1.sum(axis=1)
        lack = constant - Kq.sum(axis=1)
        return Kq + K1 * (lack / w0)[:, None], q, Kq, lack, w0

    @property
    def chi_square(self) -> Float[np.ndarray, " steps"]:
        """How well the sizes agree with prior and noise; about points - 1 where they do."""
        limit = np.full(self.sizes.shape[1], np.inf)
        rest = self.means.T - self.at(limit).value[:, None]
        return np.einsum("ti,tij,tj->t", rest, self._inverse, rest)

    def without(self, points: Sequence[int]) -> Series:
        """The same without some points.

        Args:
            points: their places.
        """
        kept = np.setdiff1d(np.arange(len(self.sizes)), points)
        noise = self.noise[:, kept[:, None], kept[None, :]]
        return Series(self.sizes[kept], self.means[kept], noise, self.power)
