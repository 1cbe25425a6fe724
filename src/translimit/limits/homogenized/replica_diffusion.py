r"""Equal overlaps, with their fluctuations: the mean overlap of a replica as a diffusion.

The large fluctuation is that of a replica's mean overlap r. In y = log(m / (1 - m)), with
m = 1 / n + q r and q = 1 - 1 / n, its noise is nearly the same everywhere (4 / d to leading order
without scores). So the density rho of y is kept, and of the spread within a replica two second
moments: with Q = 1 - r, C_k = Q^2 W_k on the parts k = 1, 2 of `simplex_moments`, w_k = rho W_k,

    rho' = -(b rho)_y + (nu rho)_yy / 2,
    w_k' = -(b w_k)_y + (nu w_k)_yy / 2 + 2 (a_k + D / Q) w_k + B_k rho / Q^2,
    b = (D + h_1 C_1 + h_2 C_2) / (m Q) - (1 - 2 m) nu / 2,        nu = V_r / (m Q)^2,

V_r the noise of r. The error of the mean is of order d^{-2}, with a small constant; for two tokens
the equation is exact. Finite volumes and Crank-Nicolson steps, from a normal law of y at early
times, where the density is narrow.

Reference: documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.core import AnyArray, Number
from translimit.limits.homogenized.simplex_kernel import AtSimplex, KernelTable
from translimit.limits.homogenized.simplex_moments import (
    MomentTerms,
    covariances,
    moment_terms,
    multiplicities,
    noise_eigenvalues,
    pairs,
)

#: Overlaps closer to one, and m closer to zero, than this take the coefficients found here.
EDGE = 1e-4
#: Share of the noise of a simplex that is left in the tails.
LEAST_NOISE = 0.2
#: Densities below this are nothing.
NOTHING = 1e-14
#: The y beyond which a replica has collapsed.
COLLAPSED = 14.0
#: Where the ratio of moments to the density is trusted, in its maximum.
BULK = 1e-3
#: Nodes of the normal law, steps along it.
HERMITE, EARLY_STEPS = 21, 24

Moments = tuple[float, float, float, float]


@dataclass
class Coordinates:
    """The coefficients at values of y, of NumPy or JAX.

    Attributes:
        y: log(m / (1 - m)).
        table: of the kernel.
        dim: d, or infinity.
        terms: coefficients of the moments.
    """

    y: Float[AnyArray, " nodes"]
    table: KernelTable | AtSimplex
    dim: Number
    terms: MomentTerms = field(init=False)

    def __post_init__(self):
        n, xp = self.table.tokens, np if isinstance(self.y, np.ndarray) else jnp
        q = 1.0 - 1.0 / n
        m = 1.0 / (1.0 + xp.exp(-self.y))
        self.true_m, self.true_Q = m, (1.0 - m) / q
        self.m = m.clip(EDGE, 1.0 - q * EDGE)
        self.Q = (1.0 - self.m) / q
        self.overlap = 1.0 - self.Q
        self.kernel = self.table(self.overlap)
        self.terms = moment_terms(self.kernel, self.overlap, n, self.dim)
        D = self.terms.drift
        self.growth = [2.0 * (self.terms.rates[k] + D / self.Q) for k in (1, 2)]
        self.source = [self.terms.noises[k] / self.Q**2 for k in (1, 2)]

    def noise_and_drift(
        self, W: tuple[AnyArray, AnyArray]
    ) -> tuple[Float[AnyArray, " nodes"], Float[AnyArray, " nodes"]]:
        """The variance nu and the drift b, given the spread within replicas."""
        n, terms, k = self.table.tokens, self.terms, self.kernel
        N, inverse, m, Q, r = pairs(n), 1.0 / self.dim, self.m, self.Q, self.overlap
        C = [Q**2 * one for one in W]
        plain = terms.noises[0] / N
        variance = plain
        if n > 2:
            s = k.s + sum(terms.s_curvatures[i + 1] * C[i] for i in (0, 1))
            p = k.p + sum(terms.p_curvatures[i + 1] * C[i] for i in (0, 1))
            E = (n - 2) * (n - 1) * C[0]
            spread = -k.s - k.p * (2 * (n - 1) - 2 * n * m + r) + 2 * k.p_rho * n * m * (r - 2)
            within = (n - 1) * C[0] + multiplicities(n)[2] * C[1]
            more = E * spread + 2 * k.p_rho * (n * m) ** 2 * within
            variance = noise_eigenvalues(r, s, p, n, inverse)[0] / N
            variance = variance + 4 * inverse / (n * (n - 1)) ** 2 * more
        xp = np if isinstance(self.y, np.ndarray) else jnp
        variance = xp.maximum(variance, LEAST_NOISE * plain)
        nu = variance / (m * Q) ** 2
        drift = terms.drift + sum(terms.curvatures[i + 1] * C[i] for i in (0, 1))
        return nu, drift / (m * Q) - 0.5 * (1.0 - 2.0 * self.true_m) * nu


def _early(moments: Moments, table: KernelTable, dim: float, time: float, steps: int) -> Moments:
    """The normal law of y after a time: mean, variance, W_1 and W_2, by Runge-Kutta steps."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(HERMITE)
    weights = weights / weights.sum()

    def rate(state: np.ndarray) -> np.ndarray:
        mean, variance, *W = state
        y = mean + np.sqrt(max(variance, 0.0)) * nodes
        here = Coordinates(y, table, dim)
        nu, b = here.noise_and_drift((W[0] + 0.0 * y, W[1] + 0.0 * y))
        spread = 2.0 * weights @ ((y - mean) * b) + weights @ nu
        inner = [W[k] * weights @ here.growth[k] + weights @ here.source[k] for k in (0, 1)]
        return np.array([weights @ b, spread, *inner])

    state, h = np.array(moments), time / steps
    for _ in range(steps):
        k1 = rate(state)
        k2 = rate(state + 0.5 * h * k1)
        k3 = rate(state + 0.5 * h * k2)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(state + h * k3))
    return tuple(state.tolist())


def _normal_moments(moments: Moments, table: KernelTable) -> Float[np.ndarray, " 4"]:
    """Mean overlap, v, c_1 and c_2 of a normal law of y."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(HERMITE)
    y = moments[0] + np.sqrt(max(moments[1], 0.0)) * nodes
    W = tuple(one + 0.0 * y for one in moments[2:])
    return _moments_of(Coordinates(y, table, np.inf).true_Q, weights / weights.sum(), W, table)


def _moments_of(
    Q: AnyArray, weights: np.ndarray, W: tuple[np.ndarray, ...], table: KernelTable | AtSimplex
) -> Float[np.ndarray, " 4"]:
    Q = np.asarray(Q)
    mean = weights @ Q
    C0 = pairs(table.tokens) * (weights @ Q**2 - mean**2)
    inner = [np.float64(weights @ (Q**2 * one)) for one in W]
    return np.array([1.0 - mean, *covariances((C0, inner[0], inner[1]), table.tokens)])


def replica_moments(
    table: KernelTable,
    dim: float,
    initial: float,
    ts: Float[np.ndarray, " times"],
    *,
    nodes: int,
    max_step: float,
) -> Float[np.ndarray, "times 4"]:
    """Mean overlap, variance and the two covariances of overlaps along unit diffusive time.

    Args:
        table: of the kernel, with the number of tokens.
        dim: of the tokens, or infinity.
        initial: the common overlap at time 0.
        ts: increasing times, from 0 on.
        nodes: finite volumes.
        max_step: largest step of time up to time one, and in its proportion beyond.
    """
    n = table.tokens
    m0 = 1.0 / n + (1.0 - 1.0 / n) * initial
    start: Moments = (float(np.log(m0 / (1.0 - m0))), 0.0, 0.0, 0.0)
    end = float(ts[-1])
    # Seven deviations to both sides: below, of the times before the drift has passed them; above,
    # not beyond collapse, where mass leaves.
    reach = 0.5 + 14.0 * np.sqrt(end / dim)
    low = start[0] - min(reach, 1.0 + 160.0 / dim)
    high = min(start[0] + end + reach, max(COLLAPSED, start[0] + 3.0))
    spacing = (high - low) / nodes
    # A density of a few volumes' width, within which it starts as a normal one.
    early = min(max(min(0.05, 1.0 / dim), 6.25 * spacing**2 * dim), end)
    found = np.empty((len(ts), 4))
    time, state = 0.0, start
    first = [t for t in ts if t < early]
    for place, t in enumerate([*first, early]):
        if t > time:
            state = _early(state, table, dim, t - time, _count(t - time, early))
            time = t
        if place < len(ts):
            found[place] = _normal_moments(state, table) if t > 0 else (initial, 0.0, 0.0, 0.0)
    if len(first) == len(ts) or early >= end:
        found[len(first) :] = _normal_moments(state, table)
        return found
    grid = low + spacing * (np.arange(nodes) + 0.5)
    density = np.exp(-((grid - state[0]) ** 2) / (2.0 * state[1]))
    density /= density.sum() * spacing
    W = [np.full(nodes, one) for one in state[2:]]
    return _march(Coordinates(grid, table, dim), density, W, time, ts, found, max_step)


def _count(span: float, early: float) -> int:
    return max(2, int(np.ceil(EARLY_STEPS * span / early)))


def _march(
    here: Coordinates,
    density: np.ndarray,
    W: list[np.ndarray],
    time: float,
    ts: np.ndarray,
    found: np.ndarray,
    max_step: float,
) -> np.ndarray:
    """Crank-Nicolson steps of density and spread to the remaining times."""
    from scipy.linalg import solve_banded

    n, h = here.table.tokens, here.y[1] - here.y[0]
    parts = [k for k in (0, 1) if multiplicities(n)[k + 1] > 0]

    def bands(W: list[np.ndarray]) -> np.ndarray:
        """The generator that moves a density between volumes: upper, middle, lower."""
        nu, b = here.noise_and_drift((W[0], W[1]))
        half = nu / (2 * h**2)
        right, left = half + b / (2 * h), half - b / (2 * h)
        rows = np.zeros((3, len(b)))
        rows[0, 1:], rows[2, :-1] = left[1:], right[:-1]
        rows[1, :-1] -= right[:-1]
        rows[1, 1:] -= left[1:]
        rows[1, -1] -= max(b[-1], 0.0) / h  # what leaves has collapsed
        return rows

    def times(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        out = rows[1] * values
        out[:-1] += rows[0, 1:] * values[1:]
        out[1:] += rows[2, :-1] * values[:-1]
        return out

    def implicit(rows: np.ndarray, values: np.ndarray, dt: float) -> np.ndarray:
        system = -0.5 * dt * rows
        system[1] += 1.0
        return solve_banded((1, 1), system, values, check_finite=False)

    def step(density: np.ndarray, W: list[np.ndarray], dt: float) -> tuple[np.ndarray, list]:
        new = [one.copy() for one in W]
        after = density
        for _ in range(2):
            rows = bands([0.5 * (a + b) for a, b in zip(W, new, strict=True)])
            after = implicit(rows, density + 0.5 * dt * times(rows, density), dt)
            inside = np.flatnonzero(after > NOTHING)
            if len(inside) == 0:
                return 0.0 * after, W
            low, high, bulk = inside[0], inside[-1], after > BULK * after.max()
            for k in parts:
                own = rows.copy()
                own[1] += here.growth[k]
                w = density * W[k]
                w = w + 0.5 * dt * (times(own, w) + here.source[k] * (density + after))
                w = implicit(own, w, dt)
                new[k] = w / np.where(after > NOTHING, after, 1.0)
                # Where the density is nearly nothing their ratio is rounding.
                new[k] = new[k].clip(0.0, 10.0 * new[k][bulk].max())
                new[k][:low], new[k][high + 1 :] = new[k][low], new[k][high]
        return after, new

    for place in np.flatnonzero(ts >= time):
        span = float(ts[place]) - time
        # A step moves the density by less than half of its width.
        largest = min(max_step * max(1.0, time), 0.5 * (time / here.dim) ** 0.5)
        count = int(np.ceil(span / largest - 1e-9))
        for _ in range(count):
            density, W = step(density, W, span / count)
        time = float(ts[place])
        found[place] = _moments_of(here.true_Q, density * h, tuple(W), here.table)
    return found
