r"""Linear attention: Gamma_mu(x) = int s(x,y) V y dmu(y) = V (int y y^T dmu) A x.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention.arguments import AffineField, refuse_causal_closure, require_mean_and_cov
from translimit.attention.one_head import AbstractKernelHead
from translimit.attention.prefix import prefix_moment_product
from translimit.attention.products import matmul
from translimit.core import ArrayInput


@final
class Linear(AbstractKernelHead):
    r"""Linear attention with one head, in its plain and its causal form.

    Gamma_mu(x) = c V sum_j w_j y_j <K y_j, Q x>; causal: over the tokens with s_j <= s(x), divided
    by the mass that `normalisation` names.

    One velocity costs O((queries + tokens) dim^2) operations: through the moment matrix of the
    cloud, causal through moment matrices of its prefixes. Mean and covariance follow the closure
    exactly for *every* initial law, finite clouds included. Both can blow up.
    """

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = c V sum_j w_j y_j <K y_j, Q x_i>, row i of the result."""
        queries, keys = self.queries(x), self.keys(cloud)
        weighted = jnp.exp(log_weights)[:, None] * cloud
        if x_positions is None or positions is None:
            return self.values(matmul(queries, matmul(keys.T, weighted)))
        total = prefix_moment_product(queries, keys, weighted, x_positions, positions)
        return self.per_mass(total, log_weights, x_positions, positions)

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> AffineField:
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
        M = jnp.multiply(self.score_scale, matmul(matmul(self.V, moments), self.Q))
        return matmul(M, mean), M
