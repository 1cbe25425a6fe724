r"""How far a token of a finite system is from itself in an infinite one under the same heads.

Without scores all tokens move by V xbar, xbar the mean token. Two systems that start from the same
n tokens, one of them among infinitely many, have means that differ by a Delta with E |Delta|^2 =
(1 - |int x|^2) / n, and the tokens part at once: propagation of chaos has an error of order 1 / n
even from equal starts. Around the uniform law the difference of the means grows on its own,

    d E |Delta|^2 / dtau = lam E |Delta|^2,      lam = (1 - 1 / d)^2,

because a layer moves the mean token by (I - int x x^T) V xbar; the distance of a token follows with
d E |delta|^2 = (d - 1) / d E |Delta|^2 dtau. Both to leading order in 1 / n.

!!! warning "Erratum"
    The paper bounds the distance by a constant times that of the starts, which is zero for equal
    starts. The sampling of the tokens adds a term of order 1 / n.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978 (the statement); documentation, "Which
limit is my network in?".
"""

from __future__ import annotations

import math

from translimit.core import ArgumentError, Number, require_count


def mean_growth(dim: int) -> float:
    """lam, the rate at which the square of a small mean token grows without scores.

    Args:
        dim: dimension of the tokens, at least 2.

    Raises:
        ArgumentError: another dimension.
    """
    return (1.0 - 1.0 / require_count(dim, "dim", 2)) ** 2


def first_layer_distance(dim: int, size: Number, mean_square: Number) -> Number:
    """N E |delta|^2 after one layer without scores, from equal starts.

    (d - 1) / d size (1 - |int x dmu|^2): exact to first order in the size.

    Args:
        dim: dimension of the tokens, at least 2.
        size: of the layer in unit diffusive time.
        mean_square: |int x dmu|^2 of the law of the tokens, from 0 to 1.

    Raises:
        ArgumentError: another dimension.
    """
    require_count(dim, "dim", 2)
    return (dim - 1) / dim * size * (1.0 - mean_square)


def token_distance(dim: int, time: float, step: float = 0.0) -> float:
    """N E |delta|^2 without scores, for uniform tokens and equal starts, n large.

    (d - 1) / d (e^{lam tau} - 1) / lam with lam of `mean_growth`; of a chain with layers of the
    given size, ((1 + lam step)^{tau / step} - 1) / lam.

    Args:
        dim: dimension of the tokens, at least 2.
        time: unit diffusive time, not negative.
        step: the diffusive time of a layer; 0 for the limit.

    Raises:
        ArgumentError: values outside these ranges.

    Examples:
        >>> round(token_distance(8, 0.5), 4)
        0.533
    """
    if not (time >= 0 and step >= 0):
        raise ArgumentError("time", f"got {time}, step {step}", "pass times that are not negative")
    lam = mean_growth(dim)
    exponent = lam * time if step == 0 else math.log1p(lam * step) * time / step
    return (dim - 1) / dim * math.expm1(exponent) / lam
