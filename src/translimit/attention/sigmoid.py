r"""Sigmoid attention: Gamma_mu(x) = int sigma(s(x,y) + b) V y dmu(y), sigma(z) = 1 / (1 + e^{-z}).

| symbol | name here | shape |
|---|---|---|
| Q, K | `Q`, `K` | [head_dim, dim] |
| V | `V` | [dim, dim] |
| c | `score_scale` | number |
| b | `bias` | number |
| A = c K^T Q, s(x, y) = <Ax, y> | `A` | [dim, dim] |

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention.arguments import refuse_causal_closure, require_maps, require_mean_and_cov
from translimit.attention.logistic_integrals import logistic_normal
from translimit.attention.moments import (
    AbstractMomentField,
    field_of_moments,
    logistic_moments,
    scores_of,
)
from translimit.attention.normalisation import Normalisation, divide_by_mass, require_normalisation
from translimit.attention.products import matmul
from translimit.attention.tiles import kernel_sum
from translimit.core import (
    ArgumentError,
    ArrayInput,
    NoSuchLimitError,
    as_float,
    following_inputs,
    require_flag,
)


@final
class Sigmoid(AbstractMomentField):
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
        Q: query map [head_dim, dim].
        K: key map [head_dim, dim].
        V: value map [dim, dim].
        score_scale: c, the positive factor of the scores.
        bias: b, added to every score.
        causal: whether a token sees only tokens at or before its position.
        normalisation: what a causal sum is divided by.
    """

    Q: Any
    K: Any
    V: Any
    score_scale: Any
    bias: Any
    causal: bool = eqx.field(static=True)
    normalisation: Normalisation = eqx.field(static=True)

    def __init__(
        self,
        Q: ArrayInput,
        K: ArrayInput,
        V: ArrayInput,
        score_scale: ArrayInput = 1.0,
        bias: ArrayInput = 0.0,
        causal: bool = False,
        normalisation: Normalisation = Normalisation.TOTAL,
    ):
        """Validate the parameters.

        Args:
            Q: query map [head_dim, dim].
            K: key map [head_dim, dim].
            V: value map [dim, dim].
            score_scale: the positive factor c of the scores.
            bias: b, one number; see the note on -log(n) above.
            causal: restrict keys to positions at or before the query's.
            normalisation: in the causal form, divide by the mass of all tokens (the default) or
                of those at or before the query.

        Raises:
            ArgumentError: shapes that do not match, NaN or infinite entries, a `score_scale` not
                positive, PREFIX without causal.
            ArgumentTypeError: a parameter that is not numeric, a `causal` that is not a bool, a
                `normalisation` that is no member of `Normalisation`.
        """
        self.Q, self.K, self.V, self.score_scale = require_maps(Q, K, V, score_scale)
        self.bias = as_float(bias, "bias")
        if self.bias.ndim != 0:
            raise ArgumentError("bias", f"has shape {self.bias.shape}", "pass one number")
        self.causal = require_flag(causal, "causal")
        self.normalisation = require_normalisation(normalisation, causal)

    @property
    def dim(self) -> int:
        """Dimension of the tokens."""
        return self.Q.shape[1]

    @property
    def A(self) -> Any:
        """The score matrix A = c K^T Q [dim, dim]: s(x, y) = <Ax, y>."""
        return self.score_scale * matmul(self.K.T, self.Q)

    @property
    def bounded(self) -> bool:
        """Yes: |Gamma(x)| <= ||V|| max_j |x_j|, weights being below one."""
        return True

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = V sum_j w_j sigma(c <Q x_i, K y_j> + b) y_j, row i of the result."""
        weights = jnp.exp(log_weights)
        total = kernel_sum(
            jax.nn.sigmoid,
            self.score_scale * matmul(x, self.Q.T),
            matmul(cloud, self.K.T),
            weights[:, None] * cloud,
            jnp.full(cloud.shape[0], self.bias, cloud.dtype),
            x_positions,
            positions,
        )
        total = divide_by_mass(total, self.normalisation, weights, x_positions, positions)
        return matmul(total, self.V.T)

    def gaussian_velocity(self, x: ArrayInput, mean: ArrayInput, cov: ArrayInput) -> Any:
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
        self._refuse_causal()
        mean, cov = require_mean_and_cov(mean, cov, self.dim)
        x = as_float(x, "x")
        if x.ndim < 1 or x.shape[-1] != self.dim:
            raise ArgumentError("x", f"has shape {x.shape}", f"pass points [..., {self.dim}]")
        return following_inputs(_gaussian_velocity, (x, mean, cov), (self.A, self.V, self.bias))

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> tuple[Any, Any]:
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
        self._refuse_causal()
        scores = scores_of(self, mean, factor)
        moments = logistic_moments(scores, jnp.asarray(self.bias, mean.dtype))
        return field_of_moments(self, mean, factor, scores, moments)

    def _refuse_causal(self) -> None:
        refuse_causal_closure(self.causal)


@jax.jit
def _gaussian_velocity(data: tuple[Array, Array, Array], parameters: Any) -> Array:
    (x, mean, cov), (A, V, bias) = data, parameters
    slope = matmul(x, A.T)
    shift = matmul(slope, cov)
    centre = bias + matmul(slope, mean)
    variance = jnp.sum(slope * shift, axis=-1)
    # Of a singular covariance it may be negative by rounding.
    variance = jnp.where(variance < 0, 0.0, variance)
    first = logistic_normal(centre, variance, 0)[..., None]
    second = logistic_normal(centre, variance, 1)[..., None]
    return matmul(mean * first + shift * second, V.T)
