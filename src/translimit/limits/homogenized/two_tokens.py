r"""Two tokens: expectations of their overlap by a backward equation, and antipodal pairs.

For n = 2 with s_11 = s_22 = s and s_12 = p the overlap is a one-dimensional diffusion,

    dR = ((d - 2 + R^2) p - (d - 1) R s) dtau / d + (2 (1 - R^2) (s - R p) / d)^{1/2} dB,

and in y = artanh R its coefficients are bounded:

    drift        ((d - 1) (p - R s) / (1 - R^2) - p + 2 R (s - R p) / (1 - R^2)) / d,
    half squared volatility        (s - R p) / (d (1 - R^2)).

Crank-Nicolson steps of the backward equation are an oracle for the stochastic integrators.

With deterministic scores beta <x, y> and random centred values, antipodal pairs attract with
positive probability if and only if tanh^2 beta > (d - 3) / (d - 1).

Reference: documentation, "Which limit is my network in?"; the transition is that of Fedorov,
Sander, Elie, Marion and Lauriere, arXiv 2601.21942, up to normalisations that were not checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from translimit.attention import logistic_normal
from translimit.core import POSITIVE, ArgumentError, in_float64, require_count, require_number
from translimit.describe import require_cosine

#: The backward equation is solved on |y| <= EDGE.
EDGE = 9.0
#: The least rate (drift over half squared volatility) of an end that attracts.
SETTLING = 1e-5

Kernel = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def without_scores(overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S and p without scores: both are the mean of all overlaps, (1 + R) / 2."""
    mean = 0.5 * (1.0 + overlap)
    return mean, mean


def pair_coefficients(
    y: Float[np.ndarray, " nodes"], kernel: Kernel, dim: int
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Drift and half squared volatility of y = artanh R."""
    R = np.tanh(y)
    s, p = kernel(R)
    rest = 1.0 / np.cosh(y) ** 2  # 1 - R^2 without cancellation
    # (d - 2 + R^2) p - (d - 1) R s = (d - 1) (p - R s) - (1 - R^2) p; the volatility adds
    # 2 R (s - R p) to it, all over d (1 - R^2).
    slow = (s - R * p) / rest
    drift = ((dim - 1) * (p - R * s) / rest - p + 2.0 * R * slow) / dim
    return drift, slow / dim


def pair_expectation(
    observable: Callable[[np.ndarray], np.ndarray],
    kernel: Kernel,
    *,
    initial: float,
    t1: float,
    dim: int,
    nodes: int = 1600,
    time_steps: int = 800,
) -> float:
    """E observable(R(t1)) from R(0) = initial, accurate to about 5e-5.

    Args:
        observable: a smooth function of overlaps [nodes].
        kernel: from overlaps [nodes] to s and p [nodes].
        initial: in (-1, 1).
        t1: unit diffusive time, positive.
        dim: dimension of the tokens, at least 2.
        nodes: of y in [-9, 9].
        time_steps: equal steps of time; the first two are split into implicit halves.

    Raises:
        ArgumentError: numbers out of range.
    """
    dim = require_count(dim, "dim", 2)
    return artanh_expectation(
        observable,
        lambda y: pair_coefficients(y, kernel, dim),
        initial=initial,
        t1=t1,
        nodes=nodes,
        time_steps=time_steps,
    )


def artanh_expectation(
    observable: Callable[[np.ndarray], np.ndarray],
    coefficients: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    *,
    initial: float,
    t1: float,
    nodes: int = 1600,
    time_steps: int = 800,
) -> float:
    """E observable(R(t1)) of a diffusion of y = artanh R, by its backward equation.

    Args:
        observable: a smooth function of overlaps [nodes]; where it jumps at zero an odd number of
            nodes puts one there.
        coefficients: from y [nodes] to drift and half squared volatility [nodes].
        initial: R(0), in (-1, 1).
        t1: final time, positive.
        nodes: of y in [-9, 9].
        time_steps: equal steps of time; the first two are split into implicit halves.

    Raises:
        ArgumentError: numbers out of range.
    """
    from scipy.linalg import solve_banded

    initial = float(require_cosine(initial, "initial", ends=False))
    t1 = float(require_number(t1, "t1", POSITIVE))
    y = np.linspace(-EDGE, EDGE, require_count(nodes, "nodes", 3))
    h, dt = y[1] - y[0], t1 / require_count(time_steps, "time_steps", 1)
    drift, half = coefficients(y)
    lower, upper = half / h**2 - drift / (2 * h), half / h**2 + drift / (2 * h)
    middle = -2 * half / h**2
    # At the edges the value is carried by the drift, outward differences left out.
    lower[0] = upper[-1] = 0.0
    upper[0], lower[-1] = max(drift[0], 0.0) / h, max(-drift[-1], 0.0) / h
    middle[0], middle[-1] = -upper[0], -lower[-1]

    def implicit(values: np.ndarray, size: float) -> np.ndarray:
        bands = np.zeros((3, len(y)))
        bands[0, 1:], bands[1], bands[2, :-1] = (
            -size * upper[:-1],
            1.0 - size * middle,
            -size * lower[1:],
        )
        return solve_banded((1, 1), bands, values)

    def explicit(values: np.ndarray, size: float) -> np.ndarray:
        out = (1.0 + size * middle) * values
        out[:-1] += size * upper[:-1] * values[1:]
        out[1:] += size * lower[1:] * values[:-1]
        return out

    values = np.asarray(observable(np.tanh(y)), dtype=np.float64)
    for step in range(time_steps):
        if step < 2:
            values = implicit(implicit(values, dt / 2), dt / 2)
        else:
            values = implicit(explicit(values, dt / 2), dt / 2)
    return float(np.interp(np.arctanh(initial), y, values))


def deterministic_kernel(beta: float) -> Kernel:
    """S and p of two tokens with the deterministic scores beta <x, y>.

    w = (1 + e^{-beta (1 - R)})^{-1}, q = 2 w (1 - w), s = 1 - q + q R, p = q + (1 - q) R.
    """
    beta = float(require_number(beta, "beta"))

    def kernel(overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = 1.0 / (1.0 + np.exp(-beta * (1.0 - overlap)))
        q = 2.0 * w * (1.0 - w)
        return 1.0 - q + q * overlap, q + (1.0 - q) * overlap

    return kernel


def critical_beta(dim: int) -> float:
    """beta_c = artanh ((d - 3) / (d - 1))^{1/2}, above which antipodal pairs attract.

    Zero for d = 3; for d = 2 they attract at every beta.

    Raises:
        ArgumentError: a dimension below 2.
    """
    dim = require_count(dim, "dim", 2)
    return math.atanh(math.sqrt((dim - 3) / (dim - 1))) if dim > 2 else 0.0


def antipodal_exponent(beta: float, dim: int) -> float:
    """Almost sure rate of log(1 + R) near antipodal pairs: ((d - 3) - (d - 1) tanh^2 beta) / d."""
    dim = require_count(dim, "dim", 2)
    return ((dim - 3) - math.tanh(beta) ** 2 * (dim - 1)) / dim


def collapse_exponent(dim: int) -> float:
    """Almost sure rate of log(1 - R) near collapse, -(d - 1) / d at every temperature."""
    dim = require_count(dim, "dim", 2)
    return -(dim - 1) / dim


def random_antipodal_exponent(score_std: float, dim: int) -> float:
    """The rate of log(1 + R) of two tokens near antipodal for random scores, head_dim infinite.

    ((d - 3) (1 + k) - (d - 1) a) / d with a = E tanh^2(b z) and k = 16 b^2 E sigma'(2 b z)^2. As
    tanh^2(v) = 1 - 4 sigma'(2 v) and 6 sigma'^2 = sigma' - sigma^(3), both are logistic-normal
    integrals, for scores of any spread.
    """
    b, dim = float(require_number(score_std, "score_std")), require_count(dim, "dim", 2)
    first, third = (
        float(in_float64(logistic_normal, np.float64(0.0), np.float64(4.0 * b**2), order))
        for order in (1, 3)
    )
    a, k = 1.0 - 4.0 * first, 16.0 * b**2 * (first - third) / 6.0
    return float(((dim - 3) * (1.0 + k) - (dim - 1) * a) / dim)


def antipodal_probability(beta: float, dim: int, *, initial: float = 0.0) -> float:
    """Probability that two tokens with scores beta <x, y> end antipodal; 0 where these repel.

    Args:
        beta: not negative.
        dim: dimension of the tokens, at least 2.
        initial: overlap at the start, in (-1, 1).

    Raises:
        ArgumentError: numbers out of range, or a beta too close to the transition.
    """
    beta = float(require_number(beta, "beta"))
    require_cosine(initial, "initial", ends=False)
    exponent = antipodal_exponent(beta, dim)
    if exponent >= 0:
        return 0.0
    if exponent > -SETTLING:
        raise ArgumentError(
            "beta",
            f"got {beta:g}, too close to the transition for the quadrature",
            "pass one further from the zero of antipodal_exponent",
        )
    return 1.0 - joining_probability(deterministic_kernel(beta), dim, initial=initial)


def joining_probability(kernel: Kernel, dim: int, *, initial: float) -> float:
    """Probability that the overlap of two tokens ends at 1 and not at -1, by the scale function.

    int_{-inf}^{y_0} e^{-I} / int e^{-I} with I = int drift / (half squared volatility), in
    y = artanh R, for a kernel with which both ends attract.

    Args:
        kernel: from overlaps [nodes] to s and p [nodes].
        dim: dimension of the tokens, at least 2.
        initial: overlap at the start, in (-1, 1).

    Raises:
        ArgumentError: numbers out of range, or an end that does not attract, or hardly.
    """
    initial = float(require_cosine(initial, "initial", ends=False))
    edge, count = 60.0, 400_001
    y = np.linspace(-edge, edge, count)
    # Beyond the edge of the backward equation the coefficients are constant to 1e-7.
    drift, half = pair_coefficients(np.clip(y, -EDGE, EDGE), kernel, require_count(dim, "dim", 2))
    rate = drift / half
    h = y[1] - y[0]
    exponent = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * h)])
    exponent -= exponent[count // 2]
    density = np.exp(-exponent)
    total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * h)])
    if not min(-rate[0], rate[-1]) > SETTLING:
        raise ArgumentError(
            "kernel",
            "has an end that does not attract, or hardly, for the quadrature",
            "pass one further from the zero of the exponents",
        )
    # Exponential tails beyond the edges.
    left, right = density[0] / -rate[0], density[-1] / rate[-1]
    below = left + float(np.interp(math.atanh(initial), y, total))
    return below / (left + float(total[-1]) + right)
