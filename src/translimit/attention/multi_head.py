r"""Multi-head softmax attention: a sum of softmax attentions with their own maps.

    Gamma_mu(x) = sum_h W_h int e^{s_h(x,y)} V_h y dmu(y) / int e^{s_h(x,y)} dmu(y).

| symbol | name here | shape |
|---|---|---|
| H | `heads` | number |
| Q_h, K_h | `Q`, `K` | [heads, head_dim, dim] |
| V_h | `V` | [heads, value_dim, dim] |
| W_h, output maps | `W` | [heads, dim, value_dim] |
| A_h = c K_h^T Q_h | `A` | [heads, dim, dim] |
| W_h V_h | `effective_V` | [heads, dim, dim] |

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from translimit.attention.arguments import (
    AffineField,
    refuse_causal_closure,
    require_matrix,
    require_mean_and_cov,
    require_stack,
)
from translimit.attention.base import AbstractAttention
from translimit.attention.fields import flag, floats, positive
from translimit.attention.products import matmul
from translimit.attention.tiles import over_heads, softmax_average
from translimit.core import (
    AnyArray,
    ArgumentError,
    ArrayInput,
    require_count,
)


@final
class MultiHead(AbstractAttention):
    r"""Softmax attention with several heads, in its plain and its causal form.

    Gamma_mu(x) = sum_h W_h V_h sum_j softmax_j(c <Q_h x, K_h y_j> + log w_j) y_j.

    One velocity costs `heads` times that of `Softmax`; memory is
    O((queries + tokens) heads (head_dim + value_dim)).

    Attributes:
        Q: query maps [heads, head_dim, dim].
        K: key maps [heads, head_dim, dim].
        V: value maps [heads, value_dim, dim].
        W: output maps [heads, dim, value_dim].
        score_scale: c, the positive factor of the scores of all heads.
        causal: whether a token sees only tokens at or before its position.

    Raises:
        ArgumentError: shapes that do not match, NaN or infinite entries, a `score_scale` that is
            not positive.
        ArgumentTypeError: a parameter that is not numeric, a `causal` that is not a bool.
    """

    Q: Float[AnyArray, "heads head_dim dim"] = eqx.field(converter=floats("Q"))
    K: Float[AnyArray, "heads head_dim dim"] = eqx.field(converter=floats("K"))
    V: Float[AnyArray, "heads value_dim dim"] = eqx.field(converter=floats("V"))
    W: Float[AnyArray, "heads dim value_dim"] = eqx.field(converter=floats("W"))
    score_scale: Float[AnyArray, ""] = eqx.field(default=1.0, converter=positive("score_scale"))
    causal: bool = eqx.field(default=False, static=True, converter=flag("causal"), kw_only=True)

    def __check_init__(self):
        heads, head_dim, dim = require_stack(self.Q, "Q", (None, None, None)).shape
        require_stack(self.K, "K", (heads, head_dim, dim))
        require_stack(self.V, "V", (heads, None, dim))
        require_stack(self.W, "W", (heads, dim, self.V.shape[1]))

    @classmethod
    def from_matrices(
        cls,
        Q: ArrayInput,
        K: ArrayInput,
        V: ArrayInput,
        heads: int,
        score_scale: ArrayInput = 1.0,
        causal: bool = False,
    ) -> MultiHead:
        """Heads cut out of square matrices, with the identity as output map.

        With k = dim / heads, head h has rows h k, ..., h k + k - 1 of Q, K and V, and writes to
        these components of the token: its effective value map keeps these rows of V.

        Args:
            Q: query maps, one below the other [dim, dim].
            K: key maps, one below the other [dim, dim].
            V: value maps, one below the other [dim, dim].
            heads: number of heads, a divisor of dim.
            score_scale: as in `MultiHead`.
            causal: as in `MultiHead`.

        Raises:
            ArgumentError: heads that do not divide dim, or Q and K whose rows are not `heads`
                heads of dim / heads rows (other sizes go through `MultiHead` itself).
            ArgumentTypeError: heads that is not an integer.
        """
        heads = require_count(heads, "heads")
        value = require_matrix(V, "V", (None, None))
        dim = value.shape[1]
        value = require_matrix(value, "V", (dim, dim))
        if dim % heads:
            raise ArgumentError(
                "heads", f"{heads} does not divide the dimension {dim}", f"pass a divisor of {dim}"
            )
        query, key = require_matrix(Q, "Q", (None, dim)), require_matrix(K, "K", (None, dim))
        for name, matrix in (("Q", query), ("K", key)):
            if matrix.shape[0] != dim:
                raise ArgumentError(
                    name,
                    f"has shape {matrix.shape}, and heads * head_dim is {heads} * {dim // heads}",
                    f"pass [{dim}, {dim}], or maps [heads, head_dim, dim] to MultiHead",
                )
        cut = (heads, dim // heads, dim)
        return cls(
            Q=query.reshape(cut),
            K=key.reshape(cut),
            V=value.reshape(cut),
            W=np.eye(dim).reshape(dim, *cut[:2]).transpose(1, 0, 2),
            score_scale=score_scale,
            causal=causal,
        )

    @property
    def dim(self) -> int:
        """Dimension of the tokens."""
        return self.Q.shape[-1]

    @property
    def heads(self) -> int:
        """Number of heads."""
        return self.Q.shape[0]

    @property
    def A(self) -> Float[AnyArray, "heads dim dim"]:
        """The score matrices A_h = c K_h^T Q_h [heads, dim, dim]."""
        return self.score_scale * matmul(self.K.swapaxes(1, 2), self.Q)

    @property
    def effective_V(self) -> Float[AnyArray, "heads dim dim"]:
        """The value maps W_h V_h from token to token [heads, dim, dim]."""
        return matmul(self.W, self.V)

    @property
    def bounded(self) -> bool:
        """Yes: each head's velocity is an average of the cloud, mapped."""
        return True

    def velocity(
        self,
        x: Float[Array, "queries dim"],
        cloud: Float[Array, "tokens dim"],
        log_weights: Float[Array, " tokens"],
        x_positions: Float[Array, " queries"] | None,
        positions: Float[Array, " tokens"] | None,
    ) -> Float[Array, "queries dim"]:
        """Gamma(x_i) = sum_h W_h sum_j softmax_j(c <Q_h x_i, K_h y_j> + log w_j) V_h y_j."""
        queries = jnp.multiply(self.score_scale, matmul(x, jnp.swapaxes(self.Q, 1, 2)))
        keys = matmul(cloud, jnp.swapaxes(self.K, 1, 2))
        values = matmul(cloud, jnp.swapaxes(self.V, 1, 2))

        def one_head(queries: Array, keys: Array, values: Array) -> Array:
            return softmax_average(queries, keys, values, log_weights, x_positions, positions)

        averages = over_heads(one_head, (queries, keys, values), x.shape[0] * cloud.shape[0])
        return jnp.einsum("hnv,hdv->nd", averages, self.W, precision=lax.Precision.HIGHEST)

    def gaussian_field(self, mean: ArrayInput, cov: ArrayInput) -> AffineField:
        """The field of a Gaussian: M = sum_h W_h V_h cov A_h, g = sum_h W_h V_h mean + M mean.

        Raises:
            NoSuchLimitError: the causal form, whose prefix laws are mixtures.
            ArgumentError: shapes that do not match.
        """
        refuse_causal_closure(self.causal)
        mean, cov = require_mean_and_cov(mean, cov, self.dim)
        V = self.effective_V
        M = matmul(matmul(V, cov), self.A).sum(axis=0)
        return matmul(V.sum(axis=0), mean) + matmul(M, mean), M

    def factor_field(
        self, mean: Float[Array, " dim"], factor: Float[Array, "dim rank"]
    ) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        """The field (g, M) of N(mean, F F^T), M = c sum_h W_h V_h F (K_h F)^T Q_h."""
        refuse_causal_closure(self.causal)
        V = self.effective_V
        of_keys = matmul(matmul(V, factor), jnp.swapaxes(matmul(self.K, factor), 1, 2))
        M = jnp.multiply(self.score_scale, matmul(of_keys, self.Q).sum(axis=0))
        return matmul(V.sum(axis=0), mean) + matmul(M, mean), M
