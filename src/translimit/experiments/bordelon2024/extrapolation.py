"""Networks at infinite size from ensembles of finite ones, each size twice the one before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.core import Estimate

#: Weights of one, two or three sizes, each twice the one before, at infinite size.
EXTRAPOLATIONS = {1: (1.0,), 2: (-1.0, 2.0), 3: (1 / 3, -2.0, 8 / 3)}


@dataclass(frozen=True)
class Extrapolated:
    """Means over networks at infinite size.

    Attributes:
        mean: of every entry.
        cov: of the sampling errors of these means, entries in one row.
        left: roughly the bias that the extrapolation leaves.
        count: networks of the smallest ensemble.
    """

    mean: Float[np.ndarray, "*entries"]
    cov: Float[np.ndarray, "flat flat"]
    left: Float[np.ndarray, "*entries"]
    count: int

    def estimate(self, shift: float = 0.0, floor: float = 0.0) -> Estimate:
        """The only entry, minus a number that has an error of its own.

        Args:
            shift: the number.
            floor: its standard error.
        """
        stderr = math.hypot(self.cov[0, 0] ** 0.5, floor)
        return Estimate(float(self.mean) - shift, stderr, self.count, float(self.left))


def extrapolated(samples: Sequence[Float[np.ndarray, " _seeds *entries"]]) -> Extrapolated:
    """Means over networks at infinite size, from one to three sizes, each twice the one before.

    With E f_n = f + b / n + c / n^2 two sizes leave a bias of order 1 / n^2, three of 1 / n^3. Half
    of what the smallest size changes stands for it.

    Args:
        samples: network by network, of growing size; the last three count.
    """
    some = samples[-3:]
    powers = EXTRAPOLATIONS[len(some)]
    mean = _weighted(powers, some)
    fewer = _weighted(EXTRAPOLATIONS[len(some) - 1], some[1:]) if len(some) > 1 else mean
    flat = [one.reshape(len(one), -1) for one in some]
    cov = sum(
        w**2 * np.atleast_2d(np.cov(one, rowvar=False)) / len(one)
        for w, one in zip(powers, flat, strict=True)
    )
    return Extrapolated(
        mean, np.asarray(cov), np.asarray(abs(mean - fewer) / 2), min(map(len, some))
    )


def _weighted(powers: Sequence[float], samples: Sequence[np.ndarray]) -> np.ndarray:
    """Means over networks, summed with the weights of an extrapolation."""
    return np.asarray(sum(w * one.mean(axis=0) for w, one in zip(powers, samples, strict=True)))


def last_exponent(values: Float[np.ndarray, " sizes"]) -> Estimate:
    """The power of a size, exact up to terms of order 1 / size, of values that carry no noise.

    Extrapolated in 1 / size; what is left is a third of what the last doubling changed.

    Args:
        values: at four sizes or more, each twice the one before.
    """
    slopes = np.diff(np.log2(values))
    ends = 2 * slopes[1:] - slopes[:-1]
    return Estimate(float(ends[-1]), discretisation=float(abs(ends[-1] - ends[-2])) / 3)
