r"""Softmax attention: Gamma_mu(x) = int e^{s(x,y)} V y dmu(y) / int e^{s(x,y)} dmu(y).

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention.arguments import AffineField, refuse_causal_closure, require_mean_and_cov
from translimit.attention.one_head import AbstractOneHead
from translimit.attention.products import matmul
from translimit.attention.tiles import softmax_average
from translimit.core import ArrayInput


@final
class Softmax(AbstractOneHead):
    r"""Softmax attention with one head, in its plain and its causal form.

    Gamma_mu(x) = V sum_j softmax_j(c <Qx, K y_j> + log w_j) y_j; causal: over the tokens with
    s_j <= s(x), a token itself and ties included.

    One velocity costs O(queries tokens (head_dim + dim)) operations and memory
    O((queries + tokens) (head_dim + dim)): the scores are made and used tile by tile.

    Examples:
        >>> import numpy as np
        >>> from translimit.attention import Softmax
        >>> attention = Softmax(Q=np.eye(2), K=np.eye(2), V=np.eye(2))
        >>> cloud = np.array([[1.0, 0.0], [-1.0, 0.0]])
        >>> attention(np.array([[0.0, 3.0]]), cloud)  # both tokens score 0: their mean
        array([[0., 0.]])
    """

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = V sum_j softmax_j(c <Q x_i, K y_j> + log w_j) y_j, row i of the result."""
        queries, keys = self.queries(x), self.keys(cloud)
        return self.values(
            softmax_average(queries, keys, cloud, log_weights, x_positions, positions)
        )

    @property
    def bounded(self) -> bool:
        """Yes: the velocity is an average of the cloud, mapped."""
        return True

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> AffineField:
        """The field of a Gaussian: g = V mean + M mean and M = V cov A.

        Tilting N(mean, cov) by e^{<Ax, y>} shifts its mean to mean + cov A x.

        Raises:
            NoSuchLimitError: the causal form, whose prefix laws are mixtures.
            ArgumentError: shapes that do not match.
        """
        refuse_causal_closure(self.causal)
        mean, cov = require_mean_and_cov(mean, cov, self.dim)
        M = matmul(matmul(self.V, cov), self.A)
        return matmul(self.V, mean) + matmul(M, mean), M

    def factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The field (g, M) of N(mean, F F^T), M = c V F (K F)^T Q."""
        refuse_causal_closure(self.causal)
        of_keys = matmul(matmul(self.V, factor), matmul(self.K, factor).T)
        M = jnp.multiply(self.score_scale, matmul(of_keys, self.Q))
        return matmul(self.V, mean) + matmul(M, mean), M
