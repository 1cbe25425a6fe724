r"""Unnormalised exponential attention: Gamma_mu(x) = int e^{s(x,y)} V y dmu(y).

| symbol | name here | shape |
|---|---|---|
| Q, K | `Q`, `K` | [head_dim, dim] |
| V | `V` | [dim, dim] |
| c | `score_scale` | number |
| A = c K^T Q, s(x, y) = <Ax, y> | `A` | [dim, dim] |

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention.arguments import refuse_causal_closure, require_maps
from translimit.attention.moments import (
    AbstractMomentField,
    exponential_moments,
    field_of_moments,
    scores_of,
)
from translimit.attention.normalisation import Normalisation, divide_by_mass, require_normalisation
from translimit.attention.products import matmul
from translimit.attention.tiles import kernel_sum
from translimit.core import ArrayInput, NoSuchLimitError, require_flag


@final
class Unnormalized(AbstractMomentField):
    r"""Attention without a denominator, in its plain and its causal form.

    Gamma_mu(x) = V sum_j w_j e^{c <Qx, K y_j>} y_j: softmax attention times its denominator.
    Causal: over the tokens with s_j <= s(x), divided by the mass that `normalisation` names.

    The cost is that of `Softmax`. Nothing bounds the velocity: e^s overflows at scores of 88
    (float32) or 709 (float64), and finite clouds can blow up.

    Note:
        This is the mean-field limit of sigmoid attention with bias -log(n) and a sum over the n
        tokens, sum_j sigma(z_j - log n) V y_j, with relative error O(1 / n).

    Attributes:
        Q: query map [head_dim, dim].
        K: key map [head_dim, dim].
        V: value map [dim, dim].
        score_scale: c, the positive factor of the scores.
        causal: whether a token sees only tokens at or before its position.
        normalisation: what a causal sum is divided by.
    """

    Q: Any
    K: Any
    V: Any
    score_scale: Any
    causal: bool = eqx.field(static=True)
    normalisation: Normalisation = eqx.field(static=True)

    def __init__(
        self,
        Q: ArrayInput,
        K: ArrayInput,
        V: ArrayInput,
        score_scale: ArrayInput = 1.0,
        causal: bool = False,
        normalisation: Normalisation = Normalisation.TOTAL,
    ):
        """Validate the parameters.

        Args:
            Q: query map [head_dim, dim].
            K: key map [head_dim, dim].
            V: value map [dim, dim].
            score_scale: the positive factor c of the scores.
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

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = V sum_j w_j e^{c <Q x_i, K y_j>} y_j, row i of the result."""
        total = kernel_sum(
            jnp.exp,
            self.score_scale * matmul(x, self.Q.T),
            matmul(cloud, self.K.T),
            cloud,
            log_weights,
            x_positions,
            positions,
        )
        weights = jnp.exp(log_weights)
        total = divide_by_mass(total, self.normalisation, weights, x_positions, positions)
        return matmul(total, self.V.T)

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> tuple[Any, Any]:
        """No such field: Gamma of a Gaussian is not affine.

        Raises:
            NoSuchLimitError: always.
        """
        raise NoSuchLimitError(
            "attention",
            "the field of unnormalised attention is not affine on a Gaussian law, so that no "
            "exact Gaussian closure exists",
            "use limits.meanfield.MomentClosure, which is approximate, or ParticleFlow",
        )

    def moment_factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The projection in closed form: g = V E[e^s y] and M = V E[e^s y y^T] A.

        NaN where the expectations are infinite: unless the largest eigenvalue of cov A cov A^T is
        below one.

        Raises:
            NoSuchLimitError: the causal form.
        """
        refuse_causal_closure(self.causal)
        scores = scores_of(self, mean, factor)
        return field_of_moments(self, mean, factor, scores, exponential_moments(scores))
