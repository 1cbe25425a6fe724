r"""Strong scores and infinitely many tokens: the slow law of the overlap, and where it ends.

For a law of tokens with a density on the whole sphere and beta_operator to infinity the attention
output is A x / |A x|, and the overlap u of two tokens moves on the slow clock t = tau / d:

    du = -kappa u (1 - u^2) dt + 2^{1/2} (1 - u^2) dB,        kappa = 3/2 + d / (2 d_k).

In y = artanh u: dy = (2 - kappa) tanh(y) dt + 2^{1/2} dB, with bounded coefficients; u = +-1 is
never reached in finite time. For kappa < 2 the overlap ends at +-1, for kappa = 2 it never settles,
for kappa > 2 it has the stationary density (1 - u^2)^{kappa/2 - 2}.

!!! warning "Erratum"
    The paper prints kappa = 1, and the mean cosine after one Gaussian layer with the coefficient
    1 / (2 d). A = W W'^T has two layers, so that the mean cosine is
    R - (1 / (2 d) + 1 / (2 d_k)) R (1 - R^2); with d_k = d this gives kappa = 2, which simulation
    confirms. `SlowOverlap(drift_coefficient=1)` solves the printed equation.

!!! warning "Not a statement about finitely many tokens"
    At a fixed number of tokens the drift is of order one on the diffusive clock. The limit needs a
    token near A x / |A x|, that is, a number of tokens exponential in the dimension.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from translimit.attention import logistic_normal
from translimit.core import (
    ArgumentError,
    ArrayInput,
    Number,
    Numbers,
    in_float64,
    require_count,
    require_number,
)
from translimit.describe import require_cosine
from translimit.limits.homogenized.two_tokens import Kernel, artanh_expectation

#: Nodes of the law of an angle, and the change with half of them beyond which they are too few.
ANGLES, RESOLVED = 4000, 1e-5
#: From so many rows on the series of the mean cosine is summed here.
SERIES_FROM = 20
#: Levels of the continued fraction of a ratio of Bessel functions.
LEVELS = 200
#: Chebyshev points, in the squared overlap, of the kernel at a finite head dimension.
SQUARES = 12


def mean_cosine(overlap: Numbers, rows: int) -> Numbers:
    """Mean cosine of two unit vectors with this overlap after one Gaussian matrix.

    c_q(R) = (2 / q) (Gamma((q + 1) / 2) / Gamma(q / 2))^2 R 2F1(1/2, 1/2; q / 2 + 1; R^2).

    Args:
        overlap: R, in [-1, 1]; an array is welcome.
        rows: q, output dimension of the matrix, at least 1.
    """
    from scipy.special import gammaln, hyp2f1

    q = require_count(rows, "rows", 1)
    R = np.asarray(overlap, dtype=np.float64)
    if np.any(~(np.abs(R) <= 1)):
        raise ArgumentError("overlap", f"got {overlap}", "pass numbers in [-1, 1]")
    ratio = math.exp(2.0 * (gammaln((q + 1) / 2) - gammaln(q / 2)))
    if q < SERIES_FROM:
        return 2.0 / q * ratio * R * hyp2f1(0.5, 0.5, q / 2 + 1, R**2)
    # scipy's function is NaN near one for large parameters, where the series falls like k^{-q/2-1}.
    total, term = np.ones_like(R), np.ones_like(R)
    for k in range(400):
        term = term * (k + 0.5) ** 2 / ((q / 2 + 1 + k) * (k + 1)) * R**2
        total = total + term
    return 2.0 / q * ratio * R * total


def output_cosine(overlap: Number, dim: int, head_dim: int | None = None) -> float:
    """c(R) = E <Ax / |Ax|, Ay / |Ay|> for A = W W'^T, exactly: two Gaussian layers.

    The cosine after the first layer has the law of a sample correlation of head_dim pairs; the
    second layer is averaged over it by quadrature of its angle.

    Args:
        overlap: R, in [-1, 1].
        dim: d, rows of W, at least 1.
        head_dim: d_k, columns of W'; `dim` by default.

    Raises:
        ArgumentError: outside these ranges, or so close to one, or for so many columns, that the
            sums with half as many nodes differ by more than 1e-5.
    """
    R = float(require_cosine(overlap, "overlap"))
    dim = require_count(dim, "dim", 1)
    q = dim if head_dim is None else require_count(head_dim, "head_dim", 2)
    if abs(R) == 1.0:
        return R

    def average(nodes: int) -> float:
        angles, density = _correlation_density(R, q, nodes)
        values = mean_cosine(np.cos(angles), dim)
        return float(np.sum(density * values) / np.sum(density))

    value, coarse = average(ANGLES), average(ANGLES // 2)
    if not abs(value - coarse) <= RESOLVED:
        raise ArgumentError(
            "overlap",
            f"got {R:g} with head_dim = {q}, whose law of angles the quadrature does not resolve",
            "take R - (1 / (2 dim) + 1 / (2 head_dim)) R (1 - R^2), its expansion",
        )
    return value


def _correlation_density(R: float, q: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles, and the unnormalised density of the angle a between two Gaussian vectors in R^q.

    sin^{q-2}(a) int_0^inf (cosh w - R cos a)^{-q} dw for entries of correlation R (Fisher's law of
    the sample correlation), summed in logarithms.
    """
    a = (np.arange(nodes) + 0.5) * np.pi / nodes
    # Beyond that the integrand is below e^-100 of its value at zero, as 1 - R cos a <= 2.
    w = np.linspace(0.0, min(12.0, math.sqrt(400.0 / q)), 3 * nodes // 10)
    logs = (q - 2) * np.log(np.sin(a))[:, None]
    logs = logs - q * np.log(np.cosh(w)[None, :] - R * np.cos(a)[:, None])
    terms = np.exp(logs - logs.max())
    return a, np.sum(terms, axis=1) - 0.5 * terms[:, 0]


def sharp_kernel(dim: int, head_dim: int | float | None = None) -> Kernel:
    """S = 1 and p = c(R) of two tokens under sharp heads, for the functions of `two_tokens`.

    With it the pair is a diffusion at a finite dimension: on the slow clock with the drift
    (d - 2 + u^2) c(u) - (d - 1) u and half the squared volatility (1 - u^2) (1 - u c(u)).
    `SlowOverlap` is its limit for d to infinity.

    Args:
        dim: d, at least 4.
        head_dim: d_k, at least 4, or infinity for A with independent entries; `dim` by default.

    Raises:
        ArgumentError: outside these ranges.
    """
    dim = require_count(dim, "dim", 4)
    columns = dim if head_dim is None else head_dim
    wide = columns == math.inf
    q = 0 if wide else require_count(columns, "head_dim", 4)
    faster = (dim - 1) / (dim - 2) * (1.0 if wide else (q - 1) / (q - 2))
    # (R - c) / (R (1 - R^2)) is smooth in R^2. At one it is half of how much faster than linear
    # small angles are averaged; at other points c gives it without cancellation.
    squares = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, SQUARES + 1) / (SQUARES + 0.5))
    squares[-1] = 1.0
    lost = np.full(SQUARES, 0.5 * (faster - 1.0))
    for place, r in enumerate(np.sqrt(squares[:-1]).tolist()):
        cosine = float(mean_cosine(r, dim)) if wide else output_cosine(r, dim, q)
        lost[place] = (r - cosine) / (r * (1.0 - r**2))
    fit = np.polynomial.Chebyshev.fit(squares, lost, SQUARES - 1, domain=[0, 1])

    def kernel(overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        square = overlap**2
        return np.ones_like(overlap), overlap * (1.0 - (1.0 - square) * fit(square))

    return kernel


def default_drift_coefficient(dim: int, head_dim: int | None = None) -> float:
    """Kappa = 3/2 + dim / (2 head_dim); 2 where both agree."""
    return 1.5 + dim / (2.0 * (dim if head_dim is None else head_dim))


def slow_expectation(
    observable: Callable[[np.ndarray], np.ndarray],
    drift_coefficient: float,
    *,
    initial: float,
    t1: float,
    nodes: int = 1600,
) -> float:
    """E observable(u(t1)) of the slow equation at any kappa, by its backward equation.

    Args:
        observable: a smooth function of overlaps [nodes]; see `two_tokens.artanh_expectation`.
        drift_coefficient: kappa, the coefficient; 1 for the printed equation.
        initial: u(0), in (-1, 1).
        t1: slow time, positive.
        nodes: of artanh u in [-9, 9].

    Raises:
        ArgumentError: numbers out of range.
    """
    kappa = float(require_number(drift_coefficient, "drift_coefficient"))
    return artanh_expectation(
        observable,
        lambda y: ((2.0 - kappa) * np.tanh(y), np.ones_like(y)),
        initial=initial,
        t1=t1,
        nodes=nodes,
    )


def hitting_probability(initial: float, drift_coefficient: float) -> float:
    """P[u_inf = 1] for kappa < 2, by the scale function.

    int_{-pi/2}^{asin u_0} cos^{1 - kappa} / int_{-pi/2}^{pi/2} cos^{1 - kappa}; for kappa = 1 it is
    1/2 + asin(u_0) / pi, for kappa = 0 it is (1 + u_0) / 2.

    Args:
        initial: u_0, in [-1, 1].
        drift_coefficient: kappa, not negative, below 2.

    Raises:
        ArgumentError: outside these ranges: for kappa >= 2 the overlap does not settle.
    """
    from scipy.special import betainc

    u = float(require_cosine(initial, "initial"))
    kappa = float(require_number(drift_coefficient, "drift_coefficient"))
    if kappa >= 2:
        raise ArgumentError(
            "drift_coefficient",
            f"got {kappa:g}: the overlap does not settle at +-1",
            "pass less than 2",
        )
    # Symmetric: the incomplete beta function of (1 + u) / 2 with both exponents 1 - kappa / 2.
    return float(betainc(1.0 - kappa / 2, 1.0 - kappa / 2, 0.5 * (1.0 + u)))


def stationary_square(drift_coefficient: float) -> float:
    """E u^2 = 1 / (kappa - 1) of the stationary law, kappa > 2.

    Raises:
        ArgumentError: kappa of at most 2, for which there is no stationary law.
    """
    kappa = float(require_number(drift_coefficient, "drift_coefficient"))
    if kappa <= 2:
        raise ArgumentError(
            "drift_coefficient", f"got {kappa:g}: no stationary law", "pass more than 2"
        )
    return 1.0 / (kappa - 1.0)


def marginal_square(ts: ArrayInput, initial: float = 0.0) -> Numbers:
    """E u(t)^2 for kappa = 2, where u = tanh(artanh u_0 + (2 t)^{1/2} Z), at all times to 1e-13.

    tanh^2(y) = 1 - 4 sigma'(2 y): a logistic-normal integral.
    """
    u = float(require_cosine(initial, "initial", ends=False))
    variance = 8.0 * np.asarray(ts, dtype=np.float64)
    mean = np.full_like(variance, 2.0 * np.arctanh(u))
    return 1.0 - 4.0 * in_float64(logistic_normal, mean, variance, 1)


def settling_exponent(
    dim: int,
    head_dim: int | float | None = None,
    *,
    heads: int | float = math.inf,
    step: float = 0.0,
) -> float:
    """Almost sure rate of log(1 - |u|) per unit of slow time, near +-1, under sharp heads.

    (d - 3) (K - 1) - 2, K = (d - 1) (d_k - 1) / ((d - 2) (d_k - 2)), in continuous time; a chain
    with H fresh heads a layer adds (1 - 4 / H) step / (1 + step)^2, for d_k = d and to leading
    order in 1 / d. So few heads make a pair settle that the limit never settles.

    Args:
        dim: d, at least 4.
        head_dim: d_k, at least 4, or infinity; `dim` by default.
        heads: H of a layer.
        step: unit diffusive time of a layer.
    """
    d = require_count(dim, "dim", 4)
    q = float(d if head_dim is None else head_dim)
    columns = 1.0 if math.isinf(q) else (q - 1) / (q - 2)
    rate = (d - 3) * ((d - 1) / (d - 2) * columns - 1.0) - 2.0
    return rate + (1.0 - 4.0 / heads) * step / (1.0 + step) ** 2


def barycentre_length(strength: Numbers, dim: int) -> Numbers:
    """|m| for tokens uniform on the sphere: m_A(x) = a_d(k) Ax / |Ax|, k = beta |Ax|, exactly.

    a_d = I_{d/2} / I_{d/2-1}, a ratio of modified Bessel functions, by its continued fraction.

    Args:
        strength: k, not negative; an array is welcome.
        dim: d, at least 2.
    """
    k = np.asarray(strength, dtype=np.float64)
    d = require_count(dim, "dim", 2)
    # a_d = k / (d + k a_{d+2}), downwards from between the bounds of Amos.
    last = d + 2 * LEVELS
    value = k / (0.5 * (last - 1) + np.sqrt(0.25 * last**2 + k**2))
    for order in range(last - 2, d - 2, -2):
        value = k / (order + k * value)
    return value


def large_barycentre(ratio: float) -> float:
    """|m| = 2 r / (1 + (1 + 4 r^2)^{1/2}) at beta_operator = r d, for d to infinity.

    So the limit of sharp heads needs beta_operator far above d: what is lost, 1 - |m|^2, is of the
    order d / beta_operator.

    Args:
        ratio: r, not negative.

    !!! warning "Erratum"
        The paper prints errors of order d^{-3/2} and beta_operator^{-1/2} with a constant that does
        not depend on d; at a fixed r both vanish with d, what is lost does not.
    """
    r = float(require_number(ratio, "ratio"))
    return 2.0 * r / (1.0 + math.sqrt(1.0 + 4.0 * r * r))
