r"""Gaussian expectations of functions of the score s(x, y) = c <Qx, Ky>, x and y independent.

A field sum_j phi(s(x, y_j)) V y_j is not affine on a Gaussian law N(alpha, F F^T). Its projection
on affine fields has (by Stein's identity, M = E[Gamma(x) (x - alpha)^T] Sigma^{-1} = E grad Gamma)

    g = V E[phi(s) y],        M = c V E[phi'(s) y (Ky)^T] Q,

which needs no inverse of Sigma. With y = alpha + F eta and eta standard normal, x integrates under
e^{z s}, z = 1 or z = i w, and leaves a law of eta that is Gaussian too:

    N = c (QF)^T KF,    l = c (QF)^T K alpha,    e = c (KF)^T Q alpha,    s_0 = s(alpha, alpha),

    E_x e^{z s} = exp(z s_0 + z <e, eta> + z^2 |l + N eta|^2 / 2),

of precision I - z^2 N^T N. Of the law only alpha, F and its scores QF, KF enter, never F F^T: what
stays bounded beside a direction that diverges keeps its digits in all axes. The logistic function
is an integral of such tilts,

    sigma(s) = 1/2 + int_0^inf sin(w s) / sinh(pi w) dw,

so its expectations are one-dimensional integrals in every dimension of the tokens, smooth and
decaying like e^{-pi w}.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention.arguments import AffineField, require_mean_and_cov
from translimit.attention.base import AbstractAttention
from translimit.attention.one_head import AbstractOneHead
from translimit.attention.products import matmul
from translimit.core import ArrayInput, following_inputs, psd_sqrt

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
    def moment_factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The affine field nearest to Gamma under N(mean, F F^T): g = E Gamma, M = E grad Gamma.

        A pure function of JAX arrays that makes M from K F and Q F and never from F F^T; nothing is
        checked. NaN where the expectations are infinite or not resolved.

        Raises:
            NoSuchLimitError: the causal form.
        """

    def moment_field(self, mean: ArrayInput, cov: ArrayInput) -> AffineField:
        """The affine field nearest to Gamma under N(mean, cov): g = E Gamma, M = E grad Gamma.

        The moment closure built on it is approximate: the law does not stay Gaussian. Which laws
        are resolved `moment_factor_field` says; beyond them the entries are NaN.

        Args:
            mean: mean of the Gaussian [dim].
            cov: its covariance [dim, dim], symmetric positive semi-definite.

        Returns:
            g [dim] and M [dim, dim].

        Raises:
            NoSuchLimitError: the causal form, or an attention with an exact closure.
            ArgumentError: shapes that do not match.
        """
        law = require_mean_and_cov(mean, cov, self.dim)
        return following_inputs(_field_of_covariance, law, self)


@eqx.filter_jit
def _field_of_covariance(
    law: tuple[Array, Array], attention: AbstractMomentField
) -> tuple[Array, Array]:
    mean, cov = law
    return attention.moment_factor_field(mean, psd_sqrt(cov))


class Scores(NamedTuple):
    """What the expectations need of a law N(alpha, F F^T) and of the maps of a head.

    Attributes:
        queries: c Q F [head_dim, rank].
        keys: K F [head_dim, rank].
        query: c Q alpha [head_dim].
        key: K alpha [head_dim].
    """

    queries: Float[Array, "head_dim rank"]
    keys: Float[Array, "head_dim rank"]
    query: Float[Array, " head_dim"]
    key: Float[Array, " head_dim"]

    @property
    def coupling(self) -> Float[Array, "rank rank"]:
        """N = c (QF)^T KF."""
        return matmul(self.queries.T, self.keys)


class EtaMoments(NamedTuple):
    """Expectations of phi(s) and phi'(s) against y = alpha + F eta.

    Attributes:
        mass: E phi(s).
        first: E[phi(s) eta] [rank].
        slope: E phi'(s).
        slope_first: E[phi'(s) eta] [rank].
        slope_second: E[phi'(s) eta eta^T] [rank, rank].
    """

    mass: Float[Array, ""]
    first: Float[Array, " rank"]
    slope: Float[Array, ""]
    slope_first: Float[Array, " rank"]
    slope_second: Float[Array, "rank rank"]


def scores_of(attention: AbstractOneHead, mean: Array, factor: Array) -> Scores:
    """The scores of N(mean, F F^T) under the maps of an attention."""
    c, Q, K = attention.score_scale, attention.Q, attention.K
    queries, query = (jnp.multiply(c, matmul(Q, one)) for one in (factor, mean))
    return Scores(queries, matmul(K, factor), query, matmul(K, mean))


def field_of_moments(
    attention: AbstractOneHead,
    mean: Array,
    factor: Array,
    scores: Scores,
    moments: EtaMoments,
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """The field (g, M) = (V E[phi y], c V E[phi' y (Ky)^T] Q) from expectations in eta."""
    g = mean * moments.mass + matmul(factor, moments.first)
    of_mean = moments.slope * scores.key + matmul(scores.keys, moments.slope_first)
    of_factor = jnp.outer(moments.slope_first, scores.key)
    of_factor = of_factor + matmul(moments.slope_second, scores.keys.T)
    values = jnp.outer(matmul(attention.V, mean), of_mean)
    values = values + matmul(matmul(attention.V, factor), of_factor)
    M = jnp.multiply(attention.score_scale, matmul(values, attention.Q))
    return matmul(attention.V, g), M


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Nodes w and weights of the integral over (0, infinity), Gauss-Legendre on each panel."""
    nodes, weights = np.polynomial.legendre.leggauss(_ORDER)
    edges = np.concatenate([[0.0], _LAST * 2.0 ** np.arange(1 - _PANELS, 1)])
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (nodes + 1)).ravel(), (half * weights).ravel()


def logistic_moments(scores: Scores, bias: Float[Array, ""]) -> EtaMoments:
    """The expectations of phi(s) = sigma(s + bias).

    To 1e-10 for mean scores E s + bias up to 60 in absolute value and deviations of s up to 1e4.
    For larger ones the limit of a saturated sigma where the mean exceeds 20 standard deviations of
    s, and NaN where it does not.
    """
    N = scores.coupling
    of_key = matmul(scores.queries.T, scores.key)  # l
    of_query = matmul(scores.keys.T, scores.query)  # e
    centre = scores.query @ scores.key + bias
    rank = N.shape[0]
    eye = jnp.eye(rank, dtype=N.dtype)

    def at_frequency(w: Array) -> EtaMoments:
        # The tilted law of eta has mean p + iq and covariance C = (I + w^2 N^T N)^{-1}. By the
        # orthogonal factorisation of I above wN, C = top top^T and w C N^T = top low^T.
        orthogonal, upper = jnp.linalg.qr(jnp.concatenate([eye, w * N]))
        top, low = orthogonal[:rank], orthogonal[rank:]
        along, across = top.T @ of_query, low.T @ of_key
        p, q = -w * (top @ across), w * (top @ along)
        phase = w * centre - w**2 * (along @ across)
        # l^T (I + w^2 N N^T)^{-1} l is the squared distance of (0, l) from the range of (I, wN).
        distance = jnp.sum((top @ across) ** 2) + jnp.sum((of_key - low @ across) ** 2)
        decay = -(w**2) * (jnp.sum(along**2) + distance) / 2
        decay = decay - jnp.sum(jnp.log(jnp.abs(jnp.diagonal(upper))))
        amplitude = jnp.exp(decay) / jnp.sinh(jnp.pi * w)
        sine, cosine = amplitude * jnp.sin(phase), amplitude * jnp.cos(phase)
        even = top @ top.T + jnp.outer(p, p) - jnp.outer(q, q)
        odd = jnp.outer(p, q) + jnp.outer(q, p)
        return EtaMoments(
            mass=sine,
            first=p * sine + q * cosine,
            slope=w * cosine,
            slope_first=w * (p * cosine - q * sine),
            slope_second=w * (even * cosine - odd * sine),
        )

    nodes, weights = (jnp.asarray(a, N.dtype) for a in _frequencies())
    by_node = jax.vmap(at_frequency)(nodes)
    total = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=1), by_node)
    total = total._replace(mass=total.mass + 0.5)
    variance = jnp.sum(N**2) + jnp.sum(of_key**2) + jnp.sum(of_query**2)
    resolved = (jnp.abs(centre) <= _RESOLVED_SCORE) & (variance <= _RESOLVED_SPREAD**2)
    limit = jnp.where(centre**2 > _SATURATED**2 * variance, 0.0, jnp.nan)
    constant = jax.tree.map(lambda leaf: jnp.full_like(leaf, limit), total)
    constant = constant._replace(mass=limit + (centre > 0))
    return jax.tree.map(lambda one, other: jnp.where(resolved, one, other), total, constant)


def exponential_moments(scores: Scores) -> EtaMoments:
    """The expectations of phi(s) = e^s, in closed form.

    NaN where they are infinite: unless the largest singular value of N is below one.
    """
    N = scores.coupling
    of_key = matmul(scores.queries.T, scores.key)
    eye = jnp.eye(N.shape[0], dtype=N.dtype)
    # A Cholesky factor of a matrix that is not positive definite is NaN.
    factor = jnp.linalg.cholesky(eye - matmul(N.T, N))
    half = jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
    C = half.T @ half
    slope = matmul(scores.keys.T, scores.query) + matmul(N.T, of_key)
    tilted = C @ slope
    exponent = scores.query @ scores.key + (jnp.sum(of_key**2) + slope @ tilted) / 2
    mass = jnp.exp(exponent - jnp.sum(jnp.log(jnp.diagonal(factor))))
    second = mass * (C + jnp.outer(tilted, tilted))
    return EtaMoments(mass, mass * tilted, mass, mass * tilted, second)
