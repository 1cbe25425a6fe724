r"""The kernel of the overlaps near a simplex: its derivatives, as functions of the common overlap.

With d_k to infinity s_ij = Phi(R, R_ij) and s_ii = Phi(R, 1), where Phi(R, rho) = E[pi^T R pi'] for
two queries whose scores have the covariance score_std^2 R over keys and the cross-covariance rho
score_std^2 R. At the simplex Phi(gamma, rho) = gamma + (1 - gamma) G_n(sigma; rho), sigma =
score_std (1 - gamma)^{1/2}. Exchangeable maps of the overlaps R_ij, i < j, are diagonal in three
parts: 0 (all of them, multiplicity 1), 1 (n - 1) and 2 (n (n - 3) / 2). The first derivative of Phi
in R sees part 0 only, the second one has an eigenvalue kappa_k on every part.

With X = s e^u, Y = t e^v and (u, v) normal of deviation sigma and correlation rho, everything is a
sum over log s and log t of products of M_ab = E[d^a/du^a e^{-X} d^b/dv^b e^{-Y}], a, b <= 5: by
Price's theorem a derivative in the covariances is one in u and v.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import AnyArray, Floats, Numbers, in_float64, is_traced
from translimit.describe import AbstractIsotropicHeads
from translimit.limits.homogenized.averages import AverageSizes, averages, sizes_of, tabulate
from translimit.limits.homogenized.interpolation import chebyshev, interpolate

#: Scores up to here, where the second derivatives are known; beyond, and for infinite scores, the
#: closures of second moments are refused.
LARGEST_STD = 8.0
#: Overlaps in the table, nodes of a standard normal, nodes of log t, terms of the Hermite series:
#: accurate to 1e-6 for scores up to 2, and to 1e-3 beyond.
MILD, SHARP = (16, 80, 96, 40), (24, 128, 160, 64)
MILD_STD = 2.0
#: Standard normals are summed over [-WIDTH, WIDTH].
WIDTH = 9.0
#: Highest derivative.
ORDER = 5


class Kernel(NamedTuple):
    """The kernel at simplices and its derivatives, every entry an array over overlaps.

    s = Phi(gamma, 1), p = Phi(gamma, gamma); slopes are along part 0, where all overlaps move
    alike; rho is the overlap of the two queries.
    """

    s: AnyArray
    p: AnyArray
    slope_s: AnyArray
    slope_p: AnyArray
    p_rho: AnyArray
    p_rho_rho: AnyArray
    p_gamma_rho: AnyArray
    p_gamma_gamma: AnyArray
    s_gamma_gamma: AnyArray
    p_kappa_1: AnyArray
    p_kappa_2: AnyArray
    s_kappa_1: AnyArray
    s_kappa_2: AnyArray


class KernelTable(eqx.Module):
    """The kernel between the least overlap of a simplex and one.

    Attributes:
        tokens: n.
        values: of every entry of `Kernel` at Chebyshev points.
    """

    tokens: int = eqx.field(static=True)
    values: Float[AnyArray, "13 nodes"]

    def __call__(self, overlap: AnyArray) -> Kernel:
        """The kernel at overlaps in [-1 / (tokens - 1), 1]."""
        low = -1.0 / (self.tokens - 1)
        place: Any = (overlap - low) / (1.0 - low)  # of NumPy or JAX, as it came
        found = interpolate(place, self.values)
        return Kernel(*(found[..., k] for k in range(len(Kernel._fields))))


class AtSimplex(eqx.Module):
    """The kernel at simplices alone, for scores beyond the tables: its derivatives are left out.

    Attributes:
        tokens: n.
        averages: f and g by overlap.
    """

    tokens: int = eqx.field(static=True)
    averages: Callable[[Array], tuple[Array, Array]]

    def __call__(self, overlap: AnyArray) -> Kernel:
        """The s and p at overlaps; all else is zero."""
        overlap = jnp.asarray(overlap)
        f, g = self.averages(overlap)
        s, p = overlap + (1.0 - overlap) * f, overlap + (1.0 - overlap) * g
        return Kernel(s, p, *(len(Kernel._fields) - 2) * [jnp.zeros_like(s)])


def at_simplex(law: AbstractIsotropicHeads, tokens: int) -> AtSimplex:
    """The s and p of a law at the simplices of so many tokens.

    Args:
        law: of the heads.
        tokens: n, at least 2.
    """
    low = np.float64(-0.999 / (tokens - 1))
    return AtSimplex(tokens, in_float64(tabulate, low, law.score_std, sizes_of(law, tokens)))


def kernel_table(law: AbstractIsotropicHeads, tokens: int) -> KernelTable:
    """The kernel of a law at the simplices of so many tokens.

    For a finite head dimension s, p and their slopes average over the queries; derivatives that
    count only at the next order are those of wide heads.

    Args:
        law: of the heads; its finite scores are at most `LARGEST_STD`.
        tokens: n, at least 2.
    """
    sizes = sizes_of(law, tokens)
    if is_traced(law.score_std):
        return KernelTable(tokens, in_float64(_traced, law.score_std, sizes))
    return _cached(float(law.score_std), sizes)


@functools.lru_cache(maxsize=64)
def _cached(score_std: float, sizes: AverageSizes) -> KernelTable:
    """By NumPy, which has nothing to compile."""
    nodes, *_ = sums = MILD if score_std <= MILD_STD else SHARP
    std = np.float64(score_std)
    overlaps = _overlaps(sizes, nodes)
    values = np.array([_wide(one, std, sizes.tokens, sums) for one in overlaps]).T
    if not math.isinf(sizes.key_dim):
        values[:4] = np.asarray(in_float64(_over_queries, std, sizes, nodes))
    return KernelTable(sizes.tokens, values)


@eqx.filter_jit
def _traced(score_std: Array, sizes: AverageSizes) -> Float[Array, "13 nodes"]:
    nodes = SHARP[0]
    gamma = jnp.asarray(_overlaps(sizes, nodes))
    rows = jax.lax.map(lambda one: _wide(one, score_std, sizes.tokens, SHARP), gamma)
    if math.isinf(sizes.key_dim):
        return jnp.stack(rows)
    return jnp.concatenate([_over_queries(score_std, sizes, nodes), jnp.stack(rows[4:])])


def _overlaps(sizes: AverageSizes, nodes: int) -> Float[np.ndarray, " nodes"]:
    low = -1.0 / (sizes.tokens - 1)
    return low + (1.0 - low) * chebyshev(nodes)


@eqx.filter_jit
def _over_queries(score_std: Array, sizes: AverageSizes, nodes: int) -> Float[Array, "4 nodes"]:
    """The s, p and their slopes for a finite head dimension."""
    gamma = jnp.asarray(_overlaps(sizes, nodes))
    found = jax.lax.map(lambda one: averages(one, score_std, sizes), gamma[:-1])
    # At overlap one there are no scores: both averages are 1 / tokens.
    end = jnp.full((2, 1), 1.0 / sizes.tokens)
    values = gamma + (1.0 - gamma) * jnp.concatenate([jnp.stack(found), end], axis=1)
    return jnp.concatenate([values, values @ jnp.asarray(_differences(nodes)).T / (1.0 - gamma[0])])


@functools.cache
def _differences(nodes: int) -> np.ndarray:
    """The matrix that differentiates at the Chebyshev points of [0, 1]."""
    x = chebyshev(nodes)
    weights = (-1.0) ** np.arange(nodes)
    weights[[0, -1]] /= 2
    gap = x[:, None] - x[None, :] + np.eye(nodes)
    matrix = weights[None, :] / weights[:, None] / gap
    np.fill_diagonal(matrix, 0.0)
    return matrix - np.diag(matrix.sum(axis=1))


@functools.cache
def _normal(nodes: int, terms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes z, their weights, and h_k(z) times them [terms, nodes], h_k orthonormal Hermite."""
    z = np.linspace(-WIDTH, WIDTH, nodes)
    root = np.exp(-(z**2) / 4) / (2 * np.pi) ** 0.25
    rows = [root, z * root]
    for k in range(2, terms):
        rows.append((z * rows[-1] - np.sqrt(k - 1) * rows[-2]) / np.sqrt(k))
    weights = root**2 * (z[1] - z[0])
    return z, weights, np.stack(rows) * root * (z[1] - z[0])


@functools.cache
def _polynomials() -> tuple[tuple[float, ...], ...]:
    """Coefficients of p_a with d^a/du^a e^{-X} = p_a(X) e^{-X}, X = s e^u."""
    one = np.polynomial.Polynomial([1.0])
    x = np.polynomial.Polynomial([0.0, 1.0])
    found = [one]
    for _ in range(ORDER):
        found.append(x * found[-1].deriv() - x * found[-1])
    return tuple(tuple(p.coef.tolist()) for p in found)


def _wide(
    gamma: Numbers, score_std: Numbers, tokens: int, sums: tuple[int, int, int, int]
) -> tuple[Numbers, ...]:
    """Every entry of `Kernel` at a simplex, for d_k to infinity."""
    xp = jnp if is_traced(gamma, score_std) else np
    _, nodes, times, terms = sums
    z, weights, hermite = _normal(nodes, terms)
    sigma = score_std * xp.sqrt(1.0 - gamma)
    low = -6.0 * sigma - xp.log(float(tokens)) - 24.0
    log_t = low + xp.linspace(0.0, 1.0, times) * (6.0 * sigma + 6.0 - low)
    spacing = log_t[1] - log_t[0]
    x = xp.exp(xp.minimum(log_t[:, None] + sigma * z, 700.0))
    decay = xp.exp(-x)
    x = xp.minimum(x, 800.0)  # where nothing is left of the exponential
    derivatives = [decay * _horner(coefficients, x) for coefficients in _polynomials()]
    mean = [one @ weights for one in derivatives]

    # Of one query with itself the normal is shared; of two of them Mehler's series.
    root = np.sqrt(weights)
    same = _Moments([one * root for one in derivatives], np.ones(nodes), 1.0)
    series = [one @ hermite.T for one in derivatives]
    two = _Moments(series, gamma ** np.arange(terms), gamma)
    F, G = same.average(tokens, spacing), two.average(tokens, spacing)
    G_rho, G_rho_rho, G_var, G_var_var, G_var_rho = two.slopes(tokens, sigma, spacing)
    _, _, F_var, F_var_var, _ = same.slopes(tokens, sigma, spacing)
    # d sigma^2 / d gamma = -score_std^2.
    square, rest = score_std**2, 1.0 - gamma

    def along(G: Numbers, G_var: Numbers, G_var_var: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        value = gamma + rest * G
        first = 1.0 - G - rest * square * G_var
        return value, first, 2.0 * square * G_var + rest * square**2 * G_var_var

    s, slope_s, s_gamma_gamma = along(F, F_var, F_var_var)
    p, p_gamma, p_gamma_gamma = along(G, G_var, G_var_var)
    p_rho = rest * G_rho
    p_gamma_rho = -G_rho - rest * square * G_var_rho
    curvatures = [
        one
        for moments in (two, same)
        for one in moments.curvatures(tokens, score_std, gamma, spacing, mean)
    ]
    return (
        *(s, p, slope_s, p_gamma + p_rho, p_rho, rest * G_rho_rho, p_gamma_rho),
        *(p_gamma_gamma, s_gamma_gamma, *curvatures),
    )


def _horner(coefficients: tuple[float, ...], x: Numbers) -> Numbers:
    value = 0.0 * x + coefficients[-1]
    for one in coefficients[-2::-1]:
        value = value * x + one
    return value


def _turned(values: Numbers) -> Numbers:
    """The transpose."""
    return values.T  # pyright: ignore[reportAttributeAccessIssue]


def _product(left: Numbers, right: Numbers) -> Floats:
    """Of two matrices."""
    return left @ right  # pyright: ignore[reportOperatorIssue]


def _sum(values: Numbers) -> Numbers:
    """Of all entries."""
    return values.sum()  # pyright: ignore[reportAttributeAccessIssue]


class _Moments:
    """M_ab over log s and log t, and the sums that are made of them."""

    def __init__(self, factors: Sequence[Numbers], powers: Numbers, rho: Numbers | float):
        upper = {
            (a, b): _product(factors[a] * powers, _turned(factors[b]))
            for a in range(ORDER + 1)
            for b in range(a, ORDER + 1)
        }
        upper[0, 0] = upper[0, 0].clip(0.0, 1.0)
        self._M = upper | {(b, a): _turned(one) for (a, b), one in upper.items()}
        self.rho = rho

    def at(self, a: int, b: int, both: int = 0) -> Numbers:
        """<d_1^a d_2^b 1>, or of XY."""
        return self._M[a + both, b + both]

    def spread(self, both: int, power: int = 1) -> Numbers:
        """<Lambda^power 1>, or of XY, with Lambda = d_1^2 + 2 rho d_1 d_2 + d_2^2."""
        rho, at = self.rho, functools.partial(self.at, both=both)
        if power == 1:
            return at(2, 0) + 2 * rho * at(1, 1) + at(0, 2)
        return at(4, 0) + at(0, 4) + 4 * rho * (at(3, 1) + at(1, 3)) + (2 + 4 * rho**2) * at(2, 2)

    def average(self, n: int, spacing: Numbers) -> Numbers:
        """G_n."""
        return n * _sum(self.at(0, 0, 1) * self.at(0, 0) ** (n - 1)) * spacing**2

    def slopes(self, n: int, sigma: Numbers, spacing: Numbers) -> tuple[Numbers, ...]:
        """Derivatives of G_n: in rho, rho rho, sigma^2, sigma^2 sigma^2, sigma^2 rho."""
        one, both = self.at(0, 0), self.at(0, 0, 1)
        square = sigma**2
        # Derivatives of E F(u, v): sigma^2 d_1 d_2 in rho, Lambda / 2 in sigma^2.
        by_rho = [square * self.at(1, 1, k) for k in (0, 1)]
        by_rho_2 = [square**2 * self.at(2, 2, k) for k in (0, 1)]
        by_var = [0.5 * self.spread(k) for k in (0, 1)]
        by_var_2 = [0.25 * self.spread(k, 2) for k in (0, 1)]
        mixed = [
            self.at(1, 1, k)
            + 0.5 * square * (self.at(3, 1, k) + 2 * self.rho * self.at(2, 2, k) + self.at(1, 3, k))
            for k in (0, 1)
        ]
        power = [one ** max(n - 1 - k, 0) for k in range(3)]

        def first(d: Sequence[Numbers]) -> Numbers:
            return n * _sum(d[1] * power[0] + (n - 1) * both * d[0] * power[1]) * spacing**2

        def second(d: Sequence[Numbers], e: Sequence[Numbers], de: Sequence[Numbers]) -> Numbers:
            terms = de[1] * power[0] + (n - 1) * (d[1] * e[0] + e[1] * d[0]) * power[1]
            terms += (n - 1) * both * (de[0] * power[1] + (n - 2) * d[0] * e[0] * power[2])
            return n * _sum(terms) * spacing**2

        return (
            first(by_rho),
            second(by_rho, by_rho, by_rho_2),
            first(by_var),
            second(by_var, by_var, by_var_2),
            second(by_var, by_rho, mixed),
        )

    def curvatures(
        self, n: int, score_std: Numbers, gamma: Numbers, spacing: Numbers, mean: Sequence[Numbers]
    ) -> tuple[Numbers, Numbers]:
        """kappa_1 and kappa_2: of the second derivative of Phi in the overlaps."""
        if n < 3:
            return np.zeros(()), np.zeros(())
        square, rest, rho = score_std**2, 1.0 - gamma, self.rho
        one, both = self.at(0, 0), self.at(0, 0, 1)
        L1, L = self.spread(0), self.spread(1)
        twice = self.spread(1, 2) * one + both * self.spread(0, 2) - 2 * L * L1
        terms = twice * one ** (n - 2)
        terms += (n - 2) * both * (self.spread(0, 2) * one - L1**2) * one ** (n - 3)
        alone = (-mean[3] * mean[0] + mean[1] * mean[2]) * mean[0] ** (n - 2)
        cross = (L * one - both * L1) * one ** (n - 2)
        first = rest * square**2 * _sum(terms) * spacing**2
        first -= 4 * square * (_sum(alone) * spacing - _sum(cross) * spacing**2)
        if n < 4:
            return first / (n - 2), np.zeros(())

        def mixed(k: int, a: int, b: int) -> Numbers:
            """W^P_ab."""
            da, db = ((1, 0), (0, 1))[a], ((1, 0), (0, 1))[b]
            dab = da[0] + db[0], da[1] + db[1]
            P = self.at(0, 0, k)
            return (
                self.at(*dab, k) * one
                + P * self.at(*dab)
                - self.at(*da, k) * self.at(*db)
                - self.at(*db, k) * self.at(*da)
            )

        def contract(W: Sequence[Numbers], V: Sequence[Numbers]) -> Numbers:
            """sum_ab W_ab (c V c)_ab, c = ((1, rho), (rho, 1)); entries 11, 12, 22."""
            v11 = V[0] + 2 * rho * V[1] + rho**2 * V[2]
            v12 = rho * V[0] + (1 + rho**2) * V[1] + rho * V[2]
            v22 = rho**2 * V[0] + 2 * rho * V[1] + V[2]
            return W[0] * v11 + 2 * W[1] * v12 + W[2] * v22

        W0, W1 = ([mixed(k, 0, 0), mixed(k, 0, 1), mixed(k, 1, 1)] for k in (0, 1))
        terms = 4 * contract(W1, W0) * one ** (n - 4)
        if n > 4:
            terms += (n - 4) * both * contract(W0, W0) * one ** (n - 5)

        def single(X: int, Y: int, a: int) -> Numbers:
            """K^P_a with P = X or Y; the signs of both factors cancel."""
            da = ((1, 0), (0, 1))[a]
            return self._M[X + da[0], Y + da[1]] * one - self._M[X, Y] * self.at(*da)

        KX, KY = [single(1, 0, a) for a in (0, 1)], [single(0, 1, a) for a in (0, 1)]
        ends = KX[0] * KY[0] + KX[1] * KY[1] + rho * (KX[0] * KY[1] + KX[1] * KY[0])
        second = 0.25 * rest * square**2 * _sum(terms)
        second += 4 * square * _sum(ends * one ** (n - 4))
        return first / (n - 2), second * spacing**2
