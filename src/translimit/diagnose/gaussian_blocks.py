r"""What a norm and an MLP make of Gaussian tokens: mean and covariance, in closed form.

**Norm.** x ~ N(alpha, Sigma) in D coordinates, divided by s = (|x|^2 / D + norm_eps)^(1/2); a layer
norm takes the mean over coordinates out of alpha and Sigma first. With Sigma = V diag(lambda) V^T,
mu = V^T alpha, a_i(t) = 1 / (1 + 2 t lambda_i / D) and
Z(t) = prod_i a_i^(1/2) exp(-(t / D) sum_i a_i mu_i^2 - t norm_eps),

    E x / s       = V int_0^inf Z(t) (pi t)^(-1/2) a mu dt,
    E x x^T / s^2 = V int_0^inf Z(t) [diag(a lambda) + (a mu)(a mu)^T] dt V^T,

one integral each, by the trapezoid rule in y = log(t s-^2), s-^2 = E s^2. The integrand ends like
e^(-r y / 2) for rank r, so that few directions need a longer range. With norm_eps = 0 the trace
of the second is D: how far it is from that is the error of the quadrature, told for free.

**MLP.** h = W_1^T v + b_1 has means m_i and deviations s_i; with the probabilists' Hermite
coefficients c_k(i) = E[phi(m_i + s_i z) He_k(z)] / k! and the correlations rho of h,

    Cov phi = sum_{1 <= k <= K} k! c_k c_k^T rho^k  (entrywise), the rest of the variance on the
              diagonal,     Cov(v, phi) = Sigma W_1 diag(c_1 / s).

Sources: derived here; Castin et al., arXiv 2501.18322 (tokens as a Gaussian law); documentation,
"Diagnosing a checkpoint".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, require_count
from translimit.describe import Activation, Norm
from translimit.diagnose.passing import active

#: Orders of the Hermite series, nodes of its quadrature.
ORDERS, NODES = 8, 64
#: Range of y, nodes on it, and the largest spacing.
RANGE, STEPS, SPACING = (-44.0, 7.0), 100, 0.5
#: Directions below this share of the largest have no variance.
RANK = 1e-12


class GaussianNorm(NamedTuple):
    """Tokens after a norm without gain and bias.

    Attributes:
        mean: E x / s [D].
        second: E x x^T / s^2 [D, D].
        error: relative difference of the trace of `second` from its exact bound, without epsilon:
            of the quadrature.
    """

    mean: Float[np.ndarray, " D"]
    second: Float[np.ndarray, "D D"]
    error: float

    @property
    def cov(self) -> Float[np.ndarray, "D D"]:
        """The covariance of the tokens."""
        return self.second - np.outer(self.mean, self.mean)


class GaussianMLP(NamedTuple):
    """What an MLP makes of Gaussian tokens.

    Attributes:
        mean: E f [D].
        cov: of f [D, D].
        cross: Cov(v, f) [D, D].
    """

    mean: Float[np.ndarray, " D"]
    cov: Float[np.ndarray, "D D"]
    cross: Float[np.ndarray, "D D"]


def norm_of_gaussian(
    mean: Float[np.ndarray, " D"],
    cov: Float[np.ndarray, "D D"],
    kind: Norm,
    norm_eps: float = 0.0,
    *,
    steps: int = STEPS,
) -> GaussianNorm:
    """Mean and second moment of Gaussian tokens after a norm.

    Args:
        mean: alpha.
        cov: Sigma, positive semidefinite.
        kind: of the norm.
        norm_eps: added to the mean square.
        steps: nodes of the quadrature; a range beyond the usual one has as many as it needs.

    Raises:
        ArgumentError: tokens that are all zero.
    """
    steps = require_count(steps, "steps", 2)
    alpha, sigma, dim = np.asarray(mean, float), np.asarray(cov, float), len(mean)
    if kind is Norm.LAYER:
        alpha = alpha - alpha.mean()
        sigma = sigma - sigma.mean(axis=0)
        sigma = sigma - sigma.mean(axis=1, keepdims=True)
    lam, v = np.linalg.eigh((sigma + sigma.T) / 2)
    lam = np.where(lam > RANK * max(lam[-1], 0.0), lam, 0.0)
    mu = v.T @ alpha
    square = float((lam.sum() + mu @ mu) / dim + norm_eps)
    if square <= 0:
        raise ArgumentError("mean", "and cov are zero: no norm divides them", "pass other tokens")
    # Beyond alpha's own decay the end falls like e^(-r y / 2).
    end = max(RANGE[1], 50.0 / max(np.count_nonzero(lam), 1)) if norm_eps == 0 else RANGE[1]
    width = min((RANGE[1] - RANGE[0]) / (steps - 1), SPACING * 100 / max(steps, 100) * 1.05)
    y = np.arange(RANGE[0], end + width / 2, width)
    t = np.exp(y) / square
    a = 1 / (1 + 2 * t[:, None] * lam / dim)
    log_z = 0.5 * np.log(a).sum(axis=1) - t / dim * (a * mu**2).sum(axis=1) - t * norm_eps
    weight = np.exp(log_z) * t * width  # dt = t dy
    am = a * mu
    first = v @ ((weight / np.sqrt(np.pi * t)) @ am)
    inner = np.diag(weight @ a * lam) + (am * weight[:, None]).T @ am
    second = v @ inner @ v.T
    bound = dim - norm_eps * float(weight.sum()) * dim  # E |x|^2 / s^2 = D (1 - norm_eps E 1 / s^2)
    return GaussianNorm(first, second, abs(float(np.trace(second)) / bound - 1))


def mlp_of_gaussian(
    mean: Float[np.ndarray, " D"],
    cov: Float[np.ndarray, "D D"],
    activation: Activation,
    w_in: Float[np.ndarray, "D units"],
    w_out: Float[np.ndarray, "units D"],
    b_in: Float[np.ndarray, " units"] | float = 0.0,
    b_out: Float[np.ndarray, " D"] | float = 0.0,
    *,
    orders: int = ORDERS,
) -> GaussianMLP:
    """Moments of f = W_2^T phi(W_1^T v + b_1) + b_2 for v ~ N(mean, cov), without gates.

    Args:
        mean: of v.
        cov: of v.
        activation: phi.
        w_in: W_1.
        w_out: W_2.
        b_in: b_1.
        b_out: b_2.
        orders: K, of the Hermite series.
    """
    orders = require_count(orders, "orders", 1)
    m = mean @ w_in + b_in
    h_cov = w_in.T @ cov @ w_in
    s = np.sqrt(np.maximum(np.diagonal(h_cov), 0.0))
    z, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / math.sqrt(2 * math.pi)
    values = active(activation, m[:, None] + s[:, None] * z)
    # He_k by their recursion, all of them at the nodes.
    polynomials = [np.ones_like(z), z]
    for k in range(1, orders):
        polynomials.append(z * polynomials[k] - k * polynomials[k - 1])
    c = np.stack([values @ (weights * p) / math.factorial(k) for k, p in enumerate(polynomials)])
    moving = s > 0
    scale = np.where(moving, s, 1.0)
    rho = np.clip(h_cov / np.outer(scale, scale), -1.0, 1.0) * np.outer(moving, moving)
    power, phi_cov = np.ones_like(rho), np.zeros_like(rho)
    for k in range(1, orders + 1):
        power = power * rho
        phi_cov += math.factorial(k) * np.outer(c[k], c[k]) * power
    variance = values**2 @ weights - c[0] ** 2
    np.fill_diagonal(phi_cov, np.where(moving, np.maximum(variance, 0.0), 0.0))
    slope = np.where(moving, c[1] / scale, 0.0)
    cross = (cov @ w_in * slope) @ w_out
    return GaussianMLP(c[0] @ w_out + b_out, w_out.T @ phi_cov @ w_out, cross)
