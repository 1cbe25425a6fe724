r"""Softmax attention: Gamma_mu(x) = int e^{s(x,y)} V y dmu(y) / int e^{s(x,y)} dmu(y).

| symbol | name here | shape |
|---|---|---|
| Q, K | `Q`, `K` | [head_dim, dim] |
| V | `V` | [dim, dim] |
| c | `score_scale`, often 1 / sqrt(head_dim) | number |
| A = c K^T Q, not symmetric in general | `A` | [dim, dim] |
| s(x, y) = c <Qx, Ky> = <Ax, y>, x the query | the scores | [queries, tokens] |

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import Any, final

import equinox as eqx
from jaxtyping import Array, Float

from translimit.attention.arguments import refuse_causal_closure, require_maps, require_mean_and_cov
from translimit.attention.base import AbstractAttention
from translimit.attention.products import matmul
from translimit.attention.tiles import softmax_average
from translimit.core import ArrayInput, require_flag


@final
class Softmax(AbstractAttention):
    r"""Softmax attention with one head, in its plain and its causal form.

    Gamma_mu(x) = V sum_j softmax_j(c <Qx, K y_j> + log w_j) y_j; causal: over the tokens with
    s_j <= s(x), a token itself and ties included.

    One velocity costs O(queries tokens (head_dim + dim)) operations and memory
    O((queries + tokens) (head_dim + dim)): the scores are made and used tile by tile.

    Attributes:
        Q: query map [head_dim, dim].
        K: key map [head_dim, dim].
        V: value map [dim, dim].
        score_scale: c, the positive factor of the scores.
        causal: whether a token sees only tokens at or before its position.

    Examples:
        >>> import numpy as np
        >>> from translimit.attention import Softmax
        >>> attention = Softmax(Q=np.eye(2), K=np.eye(2), V=np.eye(2))
        >>> cloud = np.array([[1.0, 0.0], [-1.0, 0.0]])
        >>> attention(np.array([[0.0, 3.0]]), cloud)  # both tokens score 0: their mean
        array([[0., 0.]])
    """

    Q: Any
    K: Any
    V: Any
    score_scale: Any
    causal: bool = eqx.field(static=True)

    def __init__(
        self,
        Q: ArrayInput,
        K: ArrayInput,
        V: ArrayInput,
        score_scale: ArrayInput = 1.0,
        causal: bool = False,
    ):
        """Validate the parameters.

        Args:
            Q: query map [head_dim, dim].
            K: key map [head_dim, dim].
            V: value map [dim, dim].
            score_scale: the positive factor c of the scores; 1 by default,
                1 / sqrt(head_dim) is usual in networks.
            causal: restrict keys to positions at or before the query's.

        Raises:
            ArgumentError: shapes that do not match, NaN or infinite entries, a `score_scale` not
                positive.
            ArgumentTypeError: a parameter that is not numeric, a `causal` that is not a bool.
        """
        self.Q, self.K, self.V, self.score_scale = require_maps(Q, K, V, score_scale)
        self.causal = require_flag(causal, "causal")

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
        """Yes: the velocity is an average of the cloud, mapped."""
        return True

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = V sum_j softmax_j(c <Q x_i, K y_j> + log w_j) y_j, row i of the result."""
        queries = self.score_scale * matmul(x, self.Q.T)
        keys = matmul(cloud, self.K.T)
        average = softmax_average(queries, keys, cloud, log_weights, x_positions, positions)
        return matmul(average, self.V.T)

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> tuple[Any, Any]:
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
        M = self.score_scale * matmul(of_keys, self.Q)
        return matmul(self.V, mean) + matmul(M, mean), M
