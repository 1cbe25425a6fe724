r"""Linear attention: Gamma_mu(x) = int s(x,y) V y dmu(y) = V (int y y^T dmu) A x.

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

from translimit.attention.arguments import refuse_causal_closure, require_maps, require_mean_and_cov
from translimit.attention.base import AbstractAttention
from translimit.attention.normalisation import Normalisation, divide_by_mass, require_normalisation
from translimit.attention.prefix import prefix_moment_product
from translimit.attention.products import matmul
from translimit.core import ArrayInput, require_flag


@final
class Linear(AbstractAttention):
    r"""Linear attention with one head, in its plain and its causal form.

    Gamma_mu(x) = c V sum_j w_j y_j <K y_j, Q x>; causal: over the tokens with s_j <= s(x), divided
    by the mass that `normalisation` names.

    One velocity costs O((queries + tokens) dim^2) operations: through the moment matrix of the
    cloud, causal through moment matrices of its prefixes. Mean and covariance follow the closure
    exactly for *every* initial law, finite clouds included. Both can blow up.

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
        """Gamma(x_i) = c V sum_j w_j y_j <K y_j, Q x_i>, row i of the result."""
        queries = self.score_scale * matmul(x, self.Q.T)
        keys = matmul(cloud, self.K.T)
        weights = jnp.exp(log_weights)
        weighted = weights[:, None] * cloud
        if x_positions is None or positions is None:
            return matmul(matmul(queries, matmul(keys.T, weighted)), self.V.T)
        total = prefix_moment_product(queries, keys, weighted, x_positions, positions)
        total = divide_by_mass(total, self.normalisation, weights, x_positions, positions)
        return matmul(total, self.V.T)

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> tuple[Any, Any]:
        """The field of a Gaussian: M = V (cov + mean mean^T) A and g = M mean.

        The same for every law with this mean and covariance: the field is linear.

        Raises:
            NoSuchLimitError: the causal form, whose prefix laws are mixtures.
            ArgumentError: shapes that do not match.
        """
        refuse_causal_closure(self.causal)
        alpha, Sigma = require_mean_and_cov(mean, cov, self.dim)
        second_moment = Sigma + alpha[:, None] * alpha[None, :]
        M = matmul(matmul(self.V, second_moment), self.A)
        return matmul(M, alpha), M

    def factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The field (g, M) of N(mean, F F^T), M = c V (F (K F)^T + mean (K mean)^T) Q."""
        refuse_causal_closure(self.causal)
        moments = matmul(factor, matmul(self.K, factor).T)
        moments = moments + mean[:, None] * matmul(self.K, mean)[None, :]
        M = self.score_scale * matmul(matmul(self.V, moments), self.Q)
        return matmul(M, mean), M
