r"""The best shape of a budget: head dimension, heads and layers of one number of parameters.

Blocks have P = kappa N^2 H^2 L parameters, kappa = 4 + 2 r with the MLP ratio r (4 + 3 r gated).
The excess a / N + b / H + c / L over the infinite network is least at

    N = a / (2 mu),  H = b / (2 mu),  L = c / mu,  mu = (kappa a^2 b^2 c / (16 P))^(1/5)

where it is 5 mu, in the parts 2 : 2 : 1. All this is at a fixed number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from translimit.core import ArgumentError, DataError, Estimate, brief, with_error
from translimit.extrapolate.fitted import Fitted

#: The sizes of a shape, in the order of the coefficients.
SHAPE = ("head_dim", "heads", "layers")
#: FLOPs of training for a parameter and a token.
FLOPS = 6.0
#: The relative error above which an axis is not known to limit the loss.
LARGEST_ERROR = 0.5
#: Integer shapes that are told.
BEST = 3
#: Head dimensions, and heads, that are looked at, over the real optimum.
_WIDEST, _MOST = 4.0, 1000


@dataclass(frozen=True)
class OptimalShape:
    """The real shape with the least excess.

    Attributes:
        head_dim: N.
        heads: H.
        layers: L.
        excess: of the log loss over the infinite network.
    """

    head_dim: float
    heads: float
    layers: float
    excess: float


@dataclass(frozen=True)
class Coefficients:
    """Excess of an axis times its size, after the last step.

    Attributes:
        values: by axis: the log loss of the smallest size over that of an infinite one, the other
            axes infinite, times the smallest size (to the power of the series).
        power: of 1/n.
    """

    values: Mapping[str, Estimate]
    power: float

    def limits(self, axis: str) -> bool:
        """Whether an axis is known to limit the loss.

        Args:
            axis: its name.
        """
        one = self.values[axis]
        return bool(one.value > 0 and one.floor <= LARGEST_ERROR * one.value)


@dataclass(frozen=True)
class IntegerShape:
    """A shape that can be trained.

    Attributes:
        head_dim: N.
        heads: H.
        layers: L.
        parameters: of its blocks.
        log_loss: predicted.
    """

    head_dim: int
    heads: int
    layers: int
    parameters: float
    log_loss: Estimate

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Head dimension, heads, layers."""
        return self.head_dim, self.heads, self.layers

    def __str__(self) -> str:
        one, loss = self.log_loss, math.exp(self.log_loss.value)
        return (
            f"head_dim={self.head_dim}, heads={self.heads}, layers={self.layers}: loss {loss:.4g} "
            f"(within a factor {math.exp(2 * one.floor):.3g} at two errors), "
            f"{self.parameters:.3g} parameters"
        )


@dataclass(frozen=True)
class Shapes:
    """The best shapes of a budget.

    Attributes:
        parameters: the budget.
        optimum: the real shape with the least excess.
        best: the integer shapes with the least excess within the budget, best first.
        coefficients: behind them.
    """

    parameters: float
    optimum: OptimalShape
    best: tuple[IntegerShape, ...]
    coefficients: Coefficients

    def __str__(self) -> str:
        one = self.optimum
        head = (
            f"best shape of {self.parameters:.4g} parameters in the blocks, at fixed steps: "
            f"head_dim {one.head_dim:.1f}, heads {one.heads:.1f}, layers {one.layers:.1f}"
        )
        return "\n".join([head, *(f"  {shape}" for shape in self.best)])


def optimal_shape(
    coefficients: Sequence[float | int],
    *,
    parameters: float | int,
    mlp_ratio: float | int = 4,
    gated: bool = False,
) -> OptimalShape:
    """The real shape with the least excess a / N + b / H + c / L of a number of parameters.

    Args:
        coefficients: a, b, c, positive.
        parameters: of the blocks, P = kappa N^2 H^2 L.
        mlp_ratio: r, hidden units of the MLP over the width; kappa = 4 + 2 r, 4 + 3 r if gated.
        gated: whether the MLP has a gate.

    Raises:
        ArgumentError: numbers that are not positive.

    Examples:
        >>> best = optimal_shape((3, 1, 5), parameters=1e6)
        >>> print(f"{best.head_dim:.2f} {best.heads:.2f} {best.layers:.2f} {best.excess:.5f}")
        11.76 3.92 39.20 0.63771
    """
    if len(coefficients) != 3 or not all(0 < one < math.inf for one in coefficients):
        raise ArgumentError("coefficients", f"got {brief(coefficients)}", "pass three above 0")
    for name, value in (("parameters", parameters), ("mlp_ratio", mlp_ratio)):
        if not 0 < value < math.inf:
            raise ArgumentError(name, f"got {value}", "pass a positive number")
    a, b, c = coefficients
    mu = (_kappa(mlp_ratio, gated) * a**2 * b**2 * c / (16 * parameters)) ** 0.2
    return OptimalShape(a / (2 * mu), b / (2 * mu), c / mu, 5 * mu)


def _kappa(mlp_ratio: float | int, gated: bool) -> float:
    """P / (N^2 H^2 L): four matrices of attention, and those of the MLP."""
    return 4.0 + (3 if gated else 2) * mlp_ratio


def coefficients_of(extrapolation: Fitted) -> Coefficients:
    """The coefficients of an extrapolation by axis, after its last step.

    Args:
        extrapolation: along any axes.
    """
    series = extrapolation.series[0]
    seeds = len(extrapolation.runs.seeds)
    values = {}
    for place, axis in enumerate(extrapolation.axes):
        one, size = series.excess(place), series.sizes[:, place].min() ** series.power
        values[axis] = Estimate(
            float(size * one.value[-1]),
            float(size * one.seed_error[-1]),
            seeds,
            float(size * one.misspecification[-1]),
        )
    return Coefficients(values, series.power)


def best_shapes(
    extrapolation: Fitted,
    parameters: float | int | None,
    flops: float | int | None,
    tokens: float | int | None,
    mlp_ratio: float | int,
    gated: bool,
) -> Shapes:
    """See `Extrapolation.shape`."""
    extrapolation.require_backtest()
    if (parameters is None) == (flops is None) or (flops is None) != (tokens is None):
        raise ArgumentError(
            "parameters", "not exactly one budget is given", "pass parameters, or flops and tokens"
        )
    if flops is not None and tokens is not None:
        parameters = flops / (FLOPS * tokens)
    if set(extrapolation.axes) != set(SHAPE):
        raise DataError(
            "axis", f"got {', '.join(extrapolation.axes)}", f"a shape needs {', '.join(SHAPE)}"
        )
    found = coefficients_of(extrapolation)
    if found.power != 1:
        raise DataError(
            "rate", f"the runs follow n^-{found.power:g}", "the best shape is known for 1/n only"
        )
    for axis in SHAPE:
        if not found.limits(axis):
            one = found.values[axis]
            raise DataError(
                axis,
                f"its coefficient is {with_error(one.value, one.floor, '.3g', '.2g')}: this axis "
                "does not limit the loss, as far as the runs tell",
                "add runs in which it is smaller, or in which two axes change, or more seeds",
            )
    kappa = _kappa(mlp_ratio, gated)
    a, b, c = (found.values[axis].value for axis in SHAPE)
    assert parameters is not None
    best = optimal_shape((a, b, c), parameters=parameters, mlp_ratio=mlp_ratio, gated=gated)
    shapes = _integers((a, b, c), float(parameters), kappa, best)
    told = tuple(
        IntegerShape(
            *sizes,
            kappa * sizes[0] ** 2 * sizes[1] ** 2 * sizes[2],
            extrapolation.predict(**dict(zip(SHAPE, map(float, sizes), strict=True))).estimate(),
        )
        for sizes in shapes
    )
    return Shapes(float(parameters), best, told, found)


def _integers(
    coefficients: tuple[float, float, float], parameters: float, kappa: float, best: OptimalShape
) -> list[tuple[int, int, int]]:
    """The integer shapes within the budget with the least excess: for each N and H all layers."""
    a, b, c = coefficients
    N, H = (
        np.arange(1, min(_MOST, math.ceil(_WIDEST * size) + 1) + 1)
        for size in (best.head_dim, best.heads)
    )
    L = np.floor(parameters / (kappa * np.outer(N, H) ** 2) * (1 + 1e-12))
    with np.errstate(divide="ignore"):
        excess = np.where(L >= 1, a / N[:, None] + b / H + c / L, np.inf)
    places = np.argsort(excess, axis=None)[:BEST]
    found = [np.unravel_index(place, excess.shape) for place in places]
    if not np.isfinite(excess.min()):
        raise DataError(
            "parameters", f"{parameters:g} are less than one block of width 1", "pass a larger one"
        )
    return [(int(N[i]), int(H[j]), int(L[i, j])) for i, j in found if np.isfinite(excess[i, j])]
