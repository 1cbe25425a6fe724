r"""Gaussian expectations of functions of the score s(x, y) = <Ax, y>, x and y independent.

A field sum_j phi(s(x, y_j)) V y_j is not affine on a Gaussian law N(alpha, Sigma). Its projection
on affine fields has (by Stein's identity, M = E[Gamma(x) (x - alpha)^T] Sigma^{-1} = E grad Gamma)

    g = V E[phi(s) y],        M = V E[phi'(s) y y^T] A,

which needs no inverse of Sigma. Under e^{z s} with z = 1 or z = i w the pair (x, y) stays Gaussian
in y: x integrates to e^{<h, y> - <Py, y> / 2} with h = z A alpha, P = -z^2 A Sigma A^T, and that
tilts N(alpha, Sigma) to covariance R Sigma and mean R (alpha + Sigma h), R = (I + Sigma P)^{-1}.
The logistic function is an integral of such tilts,

    sigma(s) = 1/2 + int_0^inf sin(w s) / sinh(pi w) dw,

so its expectations are one-dimensional integrals in every dimension of the tokens, smooth and
decaying like e^{-pi w}.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention.base import AbstractAttention
from translimit.core import ArrayInput, psd_sqrt

#: Frequencies are integrated up to this: e^{-pi w} w is below 1e-16 there.
_LAST = 13.0
#: Panels [13, 6.5], [6.5, 3.25], ..., the last one down to zero: for wide laws the integrand lives
#: at w of the order of one over the spread of the scores; for scores around m it turns as e^{imw}.
_PANELS = 12
_ORDER = 64
#: Mean scores beyond this are not resolved by the nodes; beyond so many standard deviations of the
#: score the logistic function is a constant on all of the law.
_RESOLVED_SCORE = 60.0
#: A deviation of the score beyond this puts the integrand below the last panel.
_RESOLVED_SPREAD = 1e4
_SATURATED = 20.0


class AbstractMomentField(AbstractAttention):
    """A field that is not affine on Gaussians, but whose affine projection can be computed."""

    @abc.abstractmethod
    def moment_field(self, mean: ArrayInput, cov: ArrayInput) -> tuple[Any, Any]:
        """The affine field nearest to Gamma under N(mean, cov): g = E Gamma, M = E grad Gamma.

        The moment closure built on it is approximate: the law does not stay Gaussian.

        Args:
            mean: mean of the Gaussian [dim].
            cov: its covariance [dim, dim], symmetric positive semi-definite.

        Returns:
            g [dim] and M [dim, dim].

        Raises:
            NoSuchLimitError: the causal form.
        """


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Nodes w and weights of the integral over (0, infinity), Gauss-Legendre on each panel."""
    nodes, weights = np.polynomial.legendre.leggauss(_ORDER)
    edges = np.concatenate([[0.0], _LAST * 2.0 ** np.arange(1 - _PANELS, 1)])
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (nodes + 1)).ravel(), (half * weights).ravel()


@jax.jit
def logistic_moments(
    data: tuple[Float[Array, " dim"], Float[Array, "dim dim"]],
    parameters: tuple[Float[Array, "dim dim"], Float[Array, ""]],
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """E[sigma(s + b) y] and E[sigma'(s + b) y y^T] for data = (mean, cov), parameters = (A, b).

    To 1e-10 for mean scores E s + b up to 60 in absolute value and deviations of s up to 1e4. For
    larger ones the limit of a saturated sigma where the mean exceeds 20 standard deviations of s,
    and NaN where it does not.
    """
    (mean, cov), (A, bias) = data, parameters
    drift = A @ mean
    spread = A @ cov @ A.T
    eye = jnp.eye(mean.shape[0], dtype=mean.dtype)

    def at_frequency(w: Array) -> tuple[Array, Array]:
        # E[e^{iw(s+b)}] = e^{decay + i phase}; the tilted law has mean p + iq, covariance C.
        matrix = eye + w**2 * cov @ spread
        solved = jnp.linalg.solve(matrix, jnp.concatenate([mean[:, None], cov], axis=1))
        p, C = solved[:, 0], solved[:, 1:]
        q = w * C @ drift
        phase = w * (drift @ p + bias)
        decay = -(w**2) * (mean @ spread @ p + drift @ C @ drift) / 2
        decay = decay - jnp.linalg.slogdet(matrix)[1] / 2
        amplitude = jnp.exp(decay) / jnp.sinh(jnp.pi * w)
        sine, cosine = jnp.sin(phase), jnp.cos(phase)
        even = C + jnp.outer(p, p) - jnp.outer(q, q)
        odd = jnp.outer(p, q) + jnp.outer(q, p)
        return amplitude * (p * sine + q * cosine), amplitude * w * (even * cosine - odd * sine)

    nodes, weights = (jnp.asarray(a, mean.dtype) for a in _frequencies())
    by_node = jax.vmap(at_frequency)(nodes)
    first, second = mean / 2 + weights @ by_node[0], jnp.tensordot(weights, by_node[1], axes=1)
    centre = drift @ mean + bias
    variance = jnp.trace(cov @ spread) + mean @ spread @ mean + drift @ cov @ drift
    resolved = (jnp.abs(centre) <= _RESOLVED_SCORE) & (variance <= _RESOLVED_SPREAD**2)
    saturated = centre**2 > _SATURATED**2 * variance
    limit = jnp.where(saturated, 0.0, jnp.nan)
    first = jnp.where(resolved, first, limit + mean * (centre > 0))
    return first, jnp.where(resolved, second, limit)


@jax.jit
def exponential_moments(
    data: tuple[Float[Array, " dim"], Float[Array, "dim dim"]],
    parameters: tuple[Float[Array, "dim dim"]],
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """E[e^s y] and E[e^s y y^T] for data = (mean, cov), parameters = (A,).

    NaN where the expectation is infinite: unless the largest eigenvalue of Sigma A Sigma A^T is
    below one.
    """
    (mean, cov), (A,) = data, parameters
    drift = A @ mean
    spread = A @ cov @ A.T
    root = psd_sqrt(cov)
    # A Cholesky factor of a matrix that is not positive definite is NaN.
    factor = jnp.linalg.cholesky(jnp.eye(mean.shape[0], dtype=mean.dtype) - root @ spread @ root)
    half = jax.scipy.linalg.solve_triangular(factor, root, lower=True)
    C = half.T @ half
    slope = drift + spread @ mean
    tilted = mean + C @ slope
    exponent = drift @ mean + (mean @ spread @ mean + slope @ C @ slope) / 2
    mass = jnp.exp(exponent - jnp.sum(jnp.log(jnp.diagonal(factor))))
    return mass * tilted, mass * (C + jnp.outer(tilted, tilted))
