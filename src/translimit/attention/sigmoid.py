r"""Sigmoid attention: Gamma_mu(x) = int sigma(s(x,y) + b) V y dmu(y), sigma(z) = 1 / (1 + e^{-z}).

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import NoReturn, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention.arguments import refuse_causal_closure, require_mean_and_cov
from translimit.attention.fields import number
from translimit.attention.logistic_integrals import logistic_normal
from translimit.attention.moments import (
    AbstractMomentField,
    field_of_moments,
    logistic_moments,
    scores_of,
)
from translimit.attention.one_head import AbstractKernelHead
from translimit.attention.products import matmul
from translimit.attention.tiles import kernel_sum
from translimit.core import (
    AnyArray,
    ArgumentError,
    ArrayInput,
    NoSuchLimitError,
    as_float,
    following_inputs,
)


@final
class Sigmoid(AbstractKernelHead, AbstractMomentField):
    r"""Sigmoid attention with one head, in its plain and its causal form.

    Gamma_mu(x) = V sum_j w_j sigma(c <Qx, K y_j> + b) y_j: a mean over the tokens. Causal: over
    the tokens with s_j <= s(x), divided by the mass that `normalisation` names.

    The cost is that of `Softmax`. A Gaussian law does not stay Gaussian; `MomentClosure` follows
    its first two moments approximately.

    Note:
        A bias of -log(n) with a *sum* over the n tokens is common in practice. It is no member of
        this family with a limit of its own: sum_j sigma(z_j - log n) V y_j tends, with relative
        error O(1 / n), to int e^z V y dmu, so its mean-field limit is `Unnormalized`.

    Attributes:
        bias: b, added to every score; one number, 0 by default.
    """

    bias: Float[AnyArray, ""] = eqx.field(default=0.0, converter=number("bias"), kw_only=True)

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = V sum_j w_j sigma(c <Q x_i, K y_j> + b) y_j, row i of the result."""
        queries, keys = self.queries(x), self.keys(cloud)
        weighted = jnp.exp(log_weights)[:, None] * cloud
        bias = jnp.full(cloud.shape[0], self.bias, cloud.dtype)
        total = kernel_sum(jax.nn.sigmoid, queries, keys, weighted, bias, x_positions, positions)
        return self.per_mass(total, log_weights, x_positions, positions)

    @property
    def bounded(self) -> bool:
        """Yes: |Gamma(x)| <= ||V|| max_j |x_j|, weights being below one."""
        return True

    def gaussian_velocity(
        self, x: ArrayInput, mean: ArrayInput, cov: ArrayInput
    ) -> Float[AnyArray, "*points dim"]:
        """The velocity at points x of a Gaussian law, by Stein's identity in one dimension.

        With u ~ N(b + <Ax, mean>, <Ax, cov Ax>),
        Gamma(x) = V (mean E sigma(u) + cov A x E sigma'(u)). Absolute error of both expectations
        below 1e-14 in float64, for scores of any mean and spread, by
        `translimit.attention.logistic_normal`; they can be differentiated everywhere.

        Args:
            x: points [..., dim].
            mean: mean of the Gaussian [dim].
            cov: its covariance [dim, dim].

        Raises:
            NoSuchLimitError: the causal form.
            ArgumentError: shapes that do not match.
        """
        refuse_causal_closure(self.causal)
        mean, cov = require_mean_and_cov(mean, cov, self.dim)
        x = as_float(x, "x")
        if x.ndim < 1 or x.shape[-1] != self.dim:
            raise ArgumentError("x", f"has shape {x.shape}", f"pass points [..., {self.dim}]")
        return following_inputs(_gaussian_velocity, (x, mean, cov), (self.A, self.V, self.bias))

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> NoReturn:
        """No such field: Gamma of a Gaussian is not affine.

        Raises:
            NoSuchLimitError: always.
        """
        raise NoSuchLimitError(
            "attention",
            "the field of sigmoid attention is not affine on a Gaussian law, so that no exact "
            "Gaussian closure exists",
            "use limits.meanfield.MomentClosure, which is approximate, or ParticleFlow",
        )

    def moment_factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The projection: g = V E[sigma(s + b) y] and M = V E[sigma'(s + b) y y^T] A.

        By a one-dimensional integral, whatever the dimension of the tokens. NaN where the mean
        score E s + b exceeds 60 in absolute value but not 20 standard deviations of s, or where
        these exceed 1e4.

        Raises:
            NoSuchLimitError: the causal form.
        """
        refuse_causal_closure(self.causal)
        scores = scores_of(self, mean, factor)
        moments = logistic_moments(scores, jnp.asarray(self.bias, mean.dtype))
        return field_of_moments(self, mean, factor, scores, moments)


@jax.jit
def _gaussian_velocity(
    data: tuple[Array, Array, Array], parameters: tuple[Array, Array, Array]
) -> Array:
    (x, mean, cov), (A, V, bias) = data, parameters
    slope = matmul(x, A.T)
    shift = matmul(slope, cov)
    centre = bias + matmul(slope, mean)
    variance = jnp.sum(slope * shift, axis=-1)
    # Of a singular covariance it may be negative by rounding.
    variance = jnp.where(variance < 0, 0.0, variance)
    first: Array = logistic_normal(centre, variance, 0)[..., None]
    second: Array = logistic_normal(centre, variance, 1)[..., None]
    return matmul(mean * first + shift * second, V.T)
